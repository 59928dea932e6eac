// The example web page in a headless browser, against a running `cipherloom dev`: Alice deploys the token, mints, sends Bob an encrypted amount and
// reads her balance; Bob reads his, and is refused Alice's; Carol uses a wallet extension. Then parts of the stack are not there.
//
// usage: node drive.mjs STACK PAGE BUILT BROWSER isolated|plain SCREENSHOT
//   STACK       a file with the summary of `cipherloom dev --json`
//   PAGE        the folder of the page's sources, with its packages installed
//   BUILT       the folder of the built page
//   BROWSER     the executable of Chromium
//   isolated    serve the page with COOP and COEP, so that it may use threads; `plain` serves it without
//   SCREENSHOT  the file to write the page's picture to

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [stackFile, source, built, executablePath, isolation, screenshot] = process.argv.slice(2);
assert(screenshot && ["isolated", "plain"].includes(isolation), "usage: node drive.mjs STACK PAGE BUILT BROWSER isolated|plain SCREENSHOT");
const stack = JSON.parse(readFileSync(stackFile, "utf8"));
const isolated = isolation === "isolated";

/** Encrypting and decrypting take seconds; on a busy machine many. */
const PATIENCE_MS = 240_000;

/** Serves the built page as the example's own `npm run preview` does, on a free port. */
async function serve() {
  const { preview } = await import(pathToFileURL(createRequire(`${source}/package.json`).resolve("vite")).href);
  const server = await preview({
    root: source,
    logLevel: "warn",
    build: { outDir: built },
    preview: { host: "127.0.0.1", port: 0, ...(isolated ? {} : { headers: { "Cross-Origin-Opener-Policy": "unsafe-none", "Cross-Origin-Embedder-Policy": "unsafe-none" } }) },
  });
  return { server, url: `http://127.0.0.1:${server.httpServer.address().port}` };
}

/**
 * Runs in the page: a wallet extension for one account. It starts on another chain and does not know ours; signatures and transactions it gets from
 * the development chain, which has the accounts' keys.
 */
function installWallet({ rpcUrl, account }) {
  const known = new Set(["0x1"]);
  let chain = "0x1";
  const fail = (code, message) => {
    throw Object.assign(new Error(message), { code });
  };
  globalThis.ethereum = {
    async request({ method, params }) {
      if (["eth_requestAccounts", "eth_accounts"].includes(method)) return [account.toLowerCase()];
      if (method === "eth_chainId") return chain;
      if (method === "wallet_switchEthereumChain") {
        if (!known.has(params[0].chainId)) fail(4902, "Unrecognized chain");
        chain = params[0].chainId;
        return null;
      }
      if (method === "wallet_addEthereumChain") {
        known.add(params[0].chainId);
        chain = params[0].chainId;
        return null;
      }
      if (chain === "0x1") fail(4900, "The wallet is on another chain");
      const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params: params ?? [] });
      const answer = await fetch(rpcUrl, { method: "POST", headers: { "content-type": "application/json" }, body });
      const { result, error } = await answer.json();
      if (error) fail(error.code, error.message);
      return result;
    },
  };
}

/** The page as a person uses it: by the names of its controls. */
class Page {
  constructor(page) {
    this.page = page;
  }

  button(name) {
    return this.page.getByRole("button", { name, exact: true });
  }

  /** Presses a button, and waits until what it does is over. Returns the complaint, if there is one. */
  async press(name) {
    await this.button(name).click();
    await this.page.locator("body:not([data-busy])").waitFor({ timeout: PATIENCE_MS });
    const alert = this.page.getByRole("alert");
    return (await alert.isVisible()) ? (await alert.innerText()).replace(/\s+/g, " ") : undefined;
  }

  /** As `press`, where nothing may go wrong. */
  async succeed(name) {
    assert.equal(await this.press(name), undefined, name);
  }

  async connect(name) {
    await this.page.getByLabel("Who are you?").selectOption(name);
    await this.succeed("Connect");
  }

  async decrypt(whose) {
    await this.page.getByLabel("Whose?").fill(whose);
    return this.press("Decrypt");
  }

  balance() {
    return this.page.locator("#balance").innerText();
  }

  handle() {
    return this.page.locator("#handle").innerText();
  }

  /** The steps that the page shows, in the order in which they began. */
  async steps() {
    const rows = await this.page.locator("#steps > li").all();
    const read = rows.map(async (row) => ({
      name: await row.locator(".name").innerText(),
      state: await row.getAttribute("data-state"),
      seconds: Number(await row.getAttribute("data-seconds")),
      shown: await row.locator(".time").innerText(),
    }));
    return (await Promise.all(read)).reverse();
  }
}

async function picture(opened, path) {
  await opened.evaluate(() => globalThis.scrollTo(0, 0));
  await opened.screenshot({ path, fullPage: true });
}

async function fitsPhone(opened) {
  const usual = opened.viewportSize();
  await opened.setViewportSize({ width: 360, height: 740 });
  const fits = await opened.evaluate(() => document.documentElement.scrollWidth <= globalThis.innerWidth);
  await opened.setViewportSize(usual);
  return fits;
}

/** What a person does with the page. */
async function story(page, opened) {
  await opened.locator("#threads[data-threads]").waitFor({ timeout: PATIENCE_MS });
  assert.equal(await opened.evaluate(() => globalThis.crossOriginIsolated), isolated);
  const threads = Number(await opened.locator("#threads").getAttribute("data-threads"));
  assert(isolated ? threads > 1 || navigator.hardwareConcurrency === 1 : threads === 1, `${threads} threads`);

  assert.match(await page.press("Deploy a new one"), /Not connected/);
  await page.connect("Alice");
  await page.succeed("Deploy a new one");
  assert.equal(await page.decrypt(""), undefined);
  assert.equal(await page.balance(), "0 CTK");
  await page.succeed("Mint");
  const minted = await page.handle();
  assert.match(minted, /^0x[0-9a-f]{64}$/);

  await opened.getByLabel("Amount").first().fill("5");
  await opened.getByLabel("For").fill("Carol");
  await page.succeed("Mint");

  await opened.getByLabel("Amount").last().fill("250.5");
  await opened.getByLabel("To", { exact: true }).fill("Bob");
  await page.succeed("Encrypt and send");
  const left = await page.handle();
  assert.match(left, /^0x[0-9a-f]{64}$/);
  assert.notEqual(left, minted);
  assert.equal(await page.decrypt(""), undefined);
  assert.equal(await page.balance(), "749.5 CTK");
  await picture(opened, screenshot);
  assert(await fitsPhone(opened), "on a narrow screen the page is wider than the screen");

  await page.connect("Bob");
  await page.succeed("Find the newest");
  assert.equal(await page.decrypt("Bob"), undefined);
  assert.equal(await page.balance(), "250.5 CTK");
  assert.match(await page.decrypt("Alice"), /Not yours to read.*Bob may not decrypt this balance/);
  assert.equal(await page.balance(), "not decrypted");
  assert.match(await page.press("Mint"), /Only the owner may do this/);
  await picture(opened, screenshot.replace(/\.png$/, "-refused.png"));

  await page.connect("Browser wallet");
  assert.match(await opened.locator("#account-result").innerText(), /^Connected as Carol/);
  assert.equal(await page.decrypt(""), undefined);
  assert.equal(await page.balance(), "5 CTK");
  await page.succeed("Deploy a new one");
  assert.match(await opened.locator("#token-result").innerText(), /deployed by Carol/);

  const steps = await page.steps();
  for (const { name, shown } of steps) assert.match(shown, /^\d+\.\d\d s$/, name);
  const failed = steps.filter(({ state }) => state !== "done").map(({ name }) => name);
  assert.deepEqual(failed, ["Decrypt: wait for the KMS, open its answer", "Mint 5 CTK for Carol"]);
  return { threads, steps };
}

/** A port on which nothing listens. */
async function deadUrl() {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address();
  listener.close();
  await once(listener, "close");
  return `http://127.0.0.1:${port}`;
}

/** What the page says when a part of the stack does not run. */
async function outages(opened, url) {
  const dead = await deadUrl();
  const visit = async (rpc, gateway) => {
    await opened.goto(address(url, rpc, gateway));
    const alert = opened.getByRole("alert");
    await alert.waitFor({ timeout: PATIENCE_MS });
    return (await alert.innerText()).replace(/\s+/g, " ");
  };
  assert.match(await visit(stack.rpcUrl, dead), /The gateway does not answer.*Is `cipherloom dev` running/);
  assert.match(await visit(dead, stack.gatewayUrl), /The chain does not answer.*Is `cipherloom dev` running/);
}

const address = (url, rpc, gateway) => `${url}/?rpc=${encodeURIComponent(rpc)}&gateway=${encodeURIComponent(gateway)}`;

const { server, url } = await serve();
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const errors = [];
let code = 1;
try {
  const opened = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  opened.on("pageerror", (error) => errors.push(error));
  opened.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  try {
    await opened.addInitScript(installWallet, { rpcUrl: stack.rpcUrl, account: stack.accounts[2].address });
    await opened.goto(address(url, stack.rpcUrl, stack.gatewayUrl));
    const { threads, steps } = await story(new Page(opened), opened);
    await outages(opened, url);
    for (const { name, state, seconds } of steps) console.error(`${seconds.toFixed(2).padStart(8)} s  ${name}${state === "done" ? "" : " (refused, as it should be)"}`);
    console.log(`${isolated ? "with" : "without"} COOP and COEP, ${threads} ${threads === 1 ? "thread" : "threads"}: ${steps.length} steps as they should be`);
    code = 0;
  } catch (error) {
    await opened.screenshot({ path: screenshot, fullPage: true });
    throw error;
  }
} catch (error) {
  console.error(error);
  for (const seen of errors) console.error("the page has reported:", seen);
} finally {
  await browser.close();
  await server.close();
}
process.exit(code);

// Tells the story in headless Chromium: builds nothing, serves the built page with or without the headers for threads, and opens it.
//
// usage: node drive.mjs relayer-v2|relayer-v1|fhevm|zama STACK BUILT BROWSER isolated|plain
//   STACK    a file with the summary of `cipherloom dev --json`
//   BUILT    the folder of the built page
//   BROWSER  the executable of Chromium

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { preview } from "vite";
import { check, equal } from "../check.mjs";
import { meddle } from "../meddler.mjs";

const [which, stackFile, built, executablePath, isolation] = process.argv.slice(2);
check(["isolated", "plain"].includes(isolation), "usage: node drive.mjs SDK STACK BUILT BROWSER isolated|plain");
const stack = JSON.parse(readFileSync(stackFile, "utf8"));
const isolated = isolation === "isolated";

/** The whole story on a busy machine. */
const PATIENCE_MS = 600_000;

async function serve() {
  const without = { "Cross-Origin-Opener-Policy": "unsafe-none", "Cross-Origin-Embedder-Policy": "unsafe-none" };
  const server = await preview({
    root: fileURLToPath(new URL(".", import.meta.url)),
    logLevel: "warn",
    build: { outDir: built },
    preview: { host: "127.0.0.1", port: 0, ...(isolated ? {} : { headers: without }) },
  });
  return { server, url: `http://127.0.0.1:${server.httpServer.address().port}` };
}

/**
 * Answers for the public address from which `RelayerWeb` of @zama-fhe/sdk loads relayer-sdk: with the files of that package on npm. Those are built
 * to be served from the root of a page's own address, and what is there to be served from that public address; so the paths in it are completed.
 */
async function serveDownloads(page) {
  const bundle = (name) => fileURLToPath(new URL(`../node_modules/@zama-fhe/relayer-sdk/bundle/${name}`, import.meta.url));
  const headers = { "access-control-allow-origin": "*", "cross-origin-resource-policy": "cross-origin" };
  await page.context().route("https://cdn.zama.org/**", async (route) => {
    const address = new URL(route.request().url());
    const name = address.pathname.split("/").at(-1);
    const base = address.href.slice(0, -name.length);
    const type = name.endsWith(".wasm") ? "application/wasm" : "text/javascript";
    let body = readFileSync(bundle(name));
    if (name.endsWith("js") || name.endsWith("cjs")) body = body.toString().replaceAll(/"\/(tfhe_bg\.wasm|kms_lib_bg\.wasm|workerHelpers\.js)"/g, `"${base}$1"`);
    await route.fulfill({ body, contentType: type, headers });
  });
}

/**
 * Fetches the reference string as a page does that was opened again: the browser has it from its cache then, and where it asks the gateway whether
 * it has changed, the gateway sends nothing but that it has not. Not with the page of the story, whose requests do not go through the cache.
 */
async function checkKeyCache(url) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${url}/`);
  const session = await context.newCDPSession(page);
  await session.send("Network.enable");
  const cached = [];
  session.on("Network.responseReceived", ({ response }) => response.url.includes("/keys/") && cached.push(response.fromDiskCache));
  const seen = await page.evaluate(async (gateway) => {
    const { response } = await (await fetch(`${gateway}/v2/keyurl`)).json();
    const [address] = response.crs["2048"].urls;
    const first = await fetch(address);
    const size = (await first.arrayBuffer()).byteLength;
    const again = (await (await fetch(address)).arrayBuffer()).byteLength;
    const asked = await fetch(address, { cache: "no-store", headers: { "if-none-match": first.headers.get("etag") } });
    return { size, again, status: asked.status };
  }, stack.gatewayUrl);
  equal(seen, { size: 4_571_368, again: 4_571_368, status: 304 }, "what the browser got of the reference string");
  equal(cached, [false, true, false], "what came from the browser's cache");
  await context.close();
}

const meddler = await meddle(stack);
const { server, url } = await serve();
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const complaints = [];
let result = { part: which, ok: false, failure: "the page does not start", steps: [] };
try {
  const page = await browser.newPage();
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  await serveDownloads(page);
  const told = encodeURIComponent(JSON.stringify({ stack, meddled: meddler.stack }));
  await page.goto(`${url}/?sdk=${which}#${told}`);
  const finished = await page.waitForFunction(() => globalThis.result, undefined, { timeout: PATIENCE_MS });
  result = await finished.jsonValue();
  equal(result.isolated, isolated, "whether the page is isolated");
  if (result.ok) await checkKeyCache(url);
} catch (error) {
  result.failure = error.message;
  result.ok = false;
} finally {
  await browser.close();
  await server.close();
  meddler.close();
}
for (const { name, seconds, refused } of result.steps) {
  console.error(`${seconds.toFixed(2).padStart(8)} s  ${name}${refused ? `: ${refused.error}${refused.label ? ` (${refused.label})` : ""}` : ""}`);
}
if (!result.ok) console.error(`failed: ${result.failure}\n${complaints.join("\n")}`);
console.log(JSON.stringify({ ...result, part: `${which}, ${isolated ? "threads" : "no threads"}` }));
process.exit(result.ok ? 0 : 1);

// The page: what each button does, step by step.

import { type Address, type EIP1193Provider, type Hex, formatUnits, parseUnits } from "viem";
import { NO_GATEWAY, PageError, explain } from "./errors";
import { FheError, type Permission, fhe, within } from "./fhe";
import { developmentAccounts, gatewayUrl, nameOf, rpcUrl, sdkConfiguration } from "./stack";
import { clearSteps, step } from "./steps";
import * as chain from "./token";
import { DECIMALS, type Token, type User } from "./token";

/** Loading takes a second or two; when it takes this long, something is missing. */
const LOADING_SECONDS = 120;

const $ = <Kind extends HTMLElement = HTMLElement>(id: string) => document.getElementById(id) as Kind;
const field = (id: string) => $<HTMLInputElement>(id).value.trim();

let user: User | undefined;
let token: Token | undefined;
const wallets = new Map<string, EIP1193Provider>();
/** Permissions to decrypt that were signed in this session, by user and token. */
const permissions = new Map<string, Permission & { signature: Hex }>();

function connected(): User {
  if (!user) throw new PageError("Not connected", "Choose an account and connect first.");
  return user;
}

function opened(): Token {
  if (!token) throw new PageError("No token yet", "Deploy a token, or open one that is there.");
  return token;
}

function readAmount(text: string): bigint {
  if (!/^\d+(\.\d{1,6})?$/.test(text)) throw new PageError("Not an amount", `“${text}” is not a number with at most ${DECIMALS} decimal places.`);
  const amount = parseUnits(text, DECIMALS);
  if (amount >= 2n ** 64n) throw new PageError("Too much", "The token counts with 64 bits; this amount needs more.");
  return amount;
}

const written = (amount: bigint) => `${formatUnits(amount, DECIMALS)} CTK`;

// ---- The SDK: it loads while the person reads the page, and again if that failed.

let loading: Promise<void> | undefined;

function sdk(): Promise<void> {
  loading ??= load().catch((error: unknown) => {
    loading = undefined;
    throw error;
  });
  return loading;
}

async function load(): Promise<void> {
  try {
    const threads = await step("Load the SDK's WebAssembly", () => within(LOADING_SECONDS, "Loading the WebAssembly", fhe.load()));
    report("threads", "good", threads > 1 ? `Proofs use ${threads} threads` : "Proofs use 1 thread: the server does not send COOP and COEP headers");
    $("threads").dataset.threads = String(threads);
  } catch (error) {
    report("threads", "bad", "WebAssembly does not load");
    throw error;
  }
  await step("Fetch the public key, check the contracts", () => asking(fhe.start(sdkConfiguration)));
}

async function checkGateway(): Promise<void> {
  const answer = await fetch(`${gatewayUrl}/liveness`).catch(() => undefined);
  if (!answer?.ok) throw new PageError(...NO_GATEWAY);
}

/** Waits for something that the SDK asks for over the network. Of an outage the SDK does not say what is out, so the page looks itself. */
async function asking<Result>(answer: Promise<Result>): Promise<Result> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof FheError && error.label === undefined) {
      await chain.checkChain();
      await checkGateway();
    }
    throw error;
  }
}

// ---- What the buttons do.

async function connect(): Promise<void> {
  const chosen = $<HTMLSelectElement>("account").value;
  const wallet = wallets.get(chosen);
  user = await step(`Connect ${wallet ? "the wallet" : chosen}`, async () => {
    await chain.checkChain();
    return wallet ? chain.walletUser(wallet) : chain.developmentUser(chosen);
  });
  $("account-result").textContent = `Connected as ${nameOf(user.address)}, ${user.address}`;
  forgetBalance();
}

function use(found: Token): void {
  token = found;
  $<HTMLInputElement>("token").value = found.address;
  $("token-result").textContent = `Using ${found.address}, deployed by ${nameOf(found.owner)}`;
  forgetBalance();
}

async function deploy(): Promise<void> {
  const me = connected();
  const hash = await step("Send the token's code", () => chain.sendDeployment(me));
  const address = await step("Wait for the block", () => chain.included(hash));
  if (!address) throw new PageError("No contract", "The transaction has created no contract.");
  use(await chain.openToken(address));
}

async function mint(): Promise<void> {
  const [me, it, amount] = [connected(), opened(), readAmount(field("mint-amount"))];
  const to = field("mint-to") ? chain.readAddress(field("mint-to")) : me.address;
  const hash = await step(`Mint ${written(amount)} for ${nameOf(to)}`, () => chain.sendMint(me, it, to, amount));
  await step("Wait for the block", () => chain.included(hash));
  await showHandle();
}

async function transfer(): Promise<void> {
  const [me, it, amount] = [connected(), opened(), readAmount(field("transfer-amount"))];
  const to = chain.readAddress(field("transfer-to"));
  await sdk();
  const proof = await step("Encrypt the amount, prove that you know it", () => fhe.prove(it.address, me.address, amount));
  const { handle, inputProof } = await step("Have the proof verified", () => asking(fhe.verify(proof)));
  const hash = await step(`Send the transfer to ${nameOf(to)}`, () => chain.sendTransfer(me, it, to, handle, inputProof));
  await step("Wait for the block", () => chain.included(hash));
  $("transfer-result").textContent = `Sent to ${nameOf(to)} in transaction ${hash}`;
  await showHandle();
}

function forgetBalance(): void {
  $("handle").textContent = "unknown";
  $("balance").textContent = "not decrypted";
}

/** Reads and shows the handle of the balance that is asked for. */
async function showHandle(): Promise<Hex | undefined> {
  const it = opened();
  const owner: Address = field("balance-of") ? chain.readAddress(field("balance-of")) : connected().address;
  const handle = await chain.balanceHandle(it, owner);
  forgetBalance();
  $("handle").textContent = handle ?? "none: this account never had tokens";
  return handle;
}

async function decrypt(): Promise<void> {
  const [me, it] = [connected(), opened()];
  const handle = await step("Read the balance's handle", showHandle);
  if (!handle) {
    $("balance").textContent = written(0n);
    return;
  }
  await sdk();
  const { publicKey, signature, start, days } = await permission(me, it);
  const balance = await step("Decrypt: wait for the KMS, open its answer", () =>
    asking(fhe.decrypt(handle, it.address, me.address, publicKey, signature, start, days)),
  );
  $("balance").textContent = written(balance);
}

/** A permission that is signed once and serves for a day. */
async function permission(me: User, it: Token): Promise<Permission & { signature: Hex }> {
  const key = `${me.address} ${it.address}`;
  const known = permissions.get(key);
  if (known && Date.now() / 1000 < known.start + known.days * 86_400 - 60) return known;
  const signed = await step("Make a key pair, sign the permission to decrypt", async () => {
    const permit = await fhe.permit(it.address);
    const { UserDecryptRequestVerification } = permit.types;
    const signature = await me.client.signTypedData({
      domain: permit.domain,
      types: { UserDecryptRequestVerification },
      primaryType: "UserDecryptRequestVerification",
      message: typed(permit.message),
    });
    return { ...permit, signature };
  });
  permissions.set(key, signed);
  return signed;
}

/** The SDK writes numbers as text and types hexadecimal text loosely; viem signs the same either way. */
function typed(message: Permission["message"]) {
  const { publicKey, contractAddresses, startTimestamp, durationDays, extraData } = message;
  return {
    publicKey: publicKey as Hex,
    contractAddresses: contractAddresses as readonly Address[],
    startTimestamp: BigInt(startTimestamp),
    durationDays: BigInt(durationDays),
    extraData: extraData as Hex,
  };
}

// ---- Wiring.

function report(id: "chain" | "gateway" | "threads", state: "good" | "bad", text: string): void {
  $(id).textContent = text;
  $(`${id}-dot`).dataset.state = state;
}

function complain(error: unknown): void {
  console.error(error);
  const { title, text, details } = explain(error);
  $("alert-title").textContent = title;
  $("alert-text").textContent = text;
  $("alert-cause").textContent = details;
  $("alert").hidden = false;
}

/** Runs what a button does: one at a time, and what goes wrong is shown. */
async function act(action: () => Promise<unknown>): Promise<void> {
  const buttons = [...document.querySelectorAll<HTMLButtonElement>(".cards button")];
  if (buttons.some((button) => button.disabled)) return;
  $("alert").hidden = true;
  const focused = document.activeElement as HTMLElement | null;
  for (const button of buttons) button.disabled = true;
  document.body.dataset.busy = "true";
  try {
    await action();
  } catch (error) {
    complain(error);
  } finally {
    for (const button of buttons) button.disabled = false;
    delete document.body.dataset.busy;
    // A button that was disabled has lost the focus, which keyboards need back.
    if (document.activeElement === document.body) focused?.focus();
  }
}

function onSubmit(id: string, action: () => Promise<unknown>): void {
  $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    void act(action);
  });
}

function offer(list: string, value: string, text: string): void {
  $(list).append(new Option(text, value));
}

function offerWallets(): void {
  const add = (name: string, provider: EIP1193Provider) => {
    if (wallets.has(name) || [...wallets.values()].includes(provider)) return;
    wallets.set(name, provider);
    offer("account", name, name);
  };
  // Wallets answer with an event each (EIP-6963); old ones are in `window.ethereum`.
  window.addEventListener("eip6963:announceProvider", (event) => {
    const { info, provider } = (event as CustomEvent<{ info: { name: string }; provider: EIP1193Provider }>).detail;
    add(`Wallet: ${info.name}`, provider);
  });
  window.dispatchEvent(new Event("eip6963:requestProvider"));
  const { ethereum } = window as { ethereum?: EIP1193Provider };
  if (ethereum) add("Browser wallet", ethereum);
}

async function look(): Promise<void> {
  await chain.checkChain().then(
    () => report("chain", "good", `Chain at ${rpcUrl}`),
    (error: unknown) => report("chain", "bad", explain(error).title),
  );
  await checkGateway().then(
    () => report("gateway", "good", `Gateway at ${gatewayUrl}`),
    (error: unknown) => report("gateway", "bad", explain(error).title),
  );
}

$<HTMLInputElement>("setting-rpc").value = rpcUrl;
$<HTMLInputElement>("setting-gateway").value = gatewayUrl;
for (const { name, account } of developmentAccounts) {
  offer("account", name, `${name} (development account)`);
  offer("people", account.address, name);
}
offerWallets();
onSubmit("connect-form", connect);
onSubmit("token-form", async () => use(await chain.openToken(chain.readAddress(field("token")))));
onSubmit("mint-form", mint);
onSubmit("balance-form", decrypt);
onSubmit("transfer-form", transfer);
$("deploy").addEventListener("click", () => void act(deploy));
$("find").addEventListener("click", () => void act(async () => use(await step("Look for tokens", chain.findToken))));
$("show").addEventListener("click", () => void act(showHandle));
$("clear").addEventListener("click", clearSteps);
$("alert-close").addEventListener("click", () => ($("alert").hidden = true));
void look();
sdk().catch(complain);

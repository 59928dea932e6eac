// The development chain through the libraries that dApps use, ethers 6 and viem, over HTTP and WebSocket.
//
// usage: node libraries.mjs <summary of `cipherloom dev --json`, or a file with it>

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { Contract, WebSocketProvider } from "ethers";
import { createPublicClient, createWalletClient, defineChain, http, webSocket } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import artifact from "../../examples/confidential-token/artifacts/ConfidentialToken.json" with { type: "json" };
import { Steps } from "./steps.mjs";
import { MINTED, World } from "./world.mjs";

/** Waits for something, and fails when it does not come: a lost event must not hang the test. */
function within(seconds, what, promise) {
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error(`${what} did not come within ${seconds} s`)), seconds * 1000));
  return Promise.race([promise, late]);
}

async function withEthers(stack) {
  const { provider, alice, bob, token, address } = await World.open(stack);
  const [chain, code, balance, head] = await Promise.all([
    provider.getNetwork(),
    provider.getCode(address),
    provider.getBalance(alice.address),
    provider.getBlockNumber(),
  ]);
  assert.equal(chain.chainId, BigInt(stack.chainId));
  assert.equal(code.length, artifact.deployedBytecode.length);
  assert(balance > 0n && head > 0);
  await assert.rejects(token.connect(bob).mint.staticCall(bob.address, 1n), (error) => error.revert?.name === "OnlyOwner");

  const socket = new WebSocketProvider(stack.wsUrl);
  const watched = new Contract(address, artifact.abi, socket);
  let see;
  const seen = new Promise((resolve) => (see = resolve));
  await watched.on("Transfer", (from, to, amount) => see({ to, amount }));
  // The subscription was sent before this on the same connection, so it stands when the answer is here.
  await socket.send("eth_chainId", []);
  const receipt = await (await token.mint(bob.address, MINTED)).wait();
  const pushed = await within(20, "the event over WebSocket", seen);
  const logs = await token.queryFilter("Transfer", receipt.blockNumber, receipt.blockNumber);
  assert.equal(logs.length, 1);
  assert.deepEqual(pushed, { to: logs[0].args.to, amount: logs[0].args.amount });
  assert.equal(pushed.to, bob.address);
  assert.equal((await token.queryFilter("Transfer", 0, "latest")).length, 2);
  await socket.destroy();
}

async function withViem(stack) {
  const chain = defineChain({
    id: stack.chainId,
    name: "Cipherloom development",
    nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
    rpcUrls: { default: { http: [stack.rpcUrl], webSocket: [stack.wsUrl] } },
  });
  const [alice, bob] = stack.accounts.map(({ privateKey }) => privateKeyToAccount(privateKey));
  const reader = createPublicClient({ chain, transport: http(undefined, { batch: true }), pollingInterval: 100 });
  const writer = createWalletClient({ chain, transport: http(), account: alice });
  const { abi, bytecode } = artifact;
  const included = async (hash) => {
    const receipt = await reader.waitForTransactionReceipt({ hash });
    assert.equal(receipt.status, "success");
    return receipt;
  };
  const { contractAddress: address } = await included(await writer.deployContract({ abi, bytecode }));

  // These go out as one batch.
  const [owner, symbol, chainId] = await Promise.all([
    reader.readContract({ address, abi, functionName: "owner" }),
    reader.readContract({ address, abi, functionName: "symbol" }),
    reader.getChainId(),
  ]);
  assert.deepEqual([owner, symbol, chainId], [alice.address, "CTK", stack.chainId]);
  await assert.rejects(
    reader.simulateContract({ account: bob, address, abi, functionName: "mint", args: [bob.address, 1n] }),
    (error) => error.walk((cause) => cause.name === "ContractFunctionRevertedError")?.data?.errorName === "OnlyOwner",
  );

  const socket = createPublicClient({ chain, transport: webSocket() });
  const pushed = new Promise((resolve, reject) => {
    socket.watchContractEvent({ address, abi, eventName: "Transfer", onLogs: resolve, onError: reject });
  });
  // As above.
  await socket.getChainId();
  const { blockNumber } = await included(await writer.writeContract({ address, abi, functionName: "mint", args: [bob.address, MINTED] }));
  const [log] = await within(20, "the event over WebSocket", pushed);
  const [queried, ...more] = await reader.getContractEvents({ address, abi, eventName: "Transfer", fromBlock: 0n });
  assert.equal(more.length, 0);
  assert.equal(queried.blockNumber, blockNumber);
  assert.deepEqual(log.args, queried.args);
  assert.equal(log.args.to, bob.address);
}

const [given] = process.argv.slice(2);
assert(given, "usage: node libraries.mjs <summary of `cipherloom dev --json`, or a file with it>");
const stack = JSON.parse(given.startsWith("{") ? given : readFileSync(given, "utf8"));
const steps = new Steps(({ name, seconds }) => console.error(`${seconds.toFixed(2).padStart(8)} s  ${name}`));
let failure;
try {
  await steps.run("ethers: deploy, call, send, logs, WebSocket", () => withEthers(stack));
  await steps.run("viem: deploy, call, send, logs, WebSocket", () => withViem(stack));
} catch (error) {
  console.error(error);
  failure = error.message;
}
console.log(JSON.stringify({ part: "libraries", ok: failure === undefined, failure, steps: steps.list }));
// WebSockets keep the process alive.
process.exit(failure === undefined ? 0 : 1);

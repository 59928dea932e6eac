// The confidential token of the examples on a running `cipherloom dev`, as a dApp sees it: with ethers only. What needs an FHE SDK is in the
// scripts that import this.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { Contract, ContractFactory, JsonRpcProvider, Wallet } from "ethers";

export const MINTED = 1_000n;
export const SENT = 250n;

export const artifact = JSON.parse(
  readFileSync(new URL("../../examples/confidential-token/artifacts/ConfidentialToken.json", import.meta.url), "utf8"),
);

/** Reads what `cipherloom dev --json` has printed: the first argument, as JSON or as a file's name. */
export function readStack() {
  const [given] = process.argv.slice(2);
  assert(given, "usage: node SCRIPT.mjs <summary of `cipherloom dev --json`, or a file with it>");
  return JSON.parse(given.startsWith("{") ? given : readFileSync(given, "utf8"));
}

/** Measures steps, so that the result says how long each took. */
export class Steps {
  seconds = {};

  async run(name, step) {
    const start = performance.now();
    try {
      return await step();
    } catch (error) {
      throw new Error(`step "${name}" failed`, { cause: error });
    } finally {
      this.seconds[name] = Number(((performance.now() - start) / 1000).toFixed(2));
      console.error(`${this.seconds[name].toFixed(2).padStart(8)} s  ${name}`);
    }
  }
}

/** Deploys the token and mints for Alice. Alice owns the token, Bob is the other person. */
export async function deployToken(stack) {
  // Without its cache ethers gives two transactions that follow each other within 250 ms the same nonce.
  const provider = new JsonRpcProvider(stack.rpcUrl, undefined, { cacheTimeout: -1 });
  const [alice, bob] = stack.accounts.map((account) => new Wallet(account.privateKey, provider));
  const deployed = await new ContractFactory(artifact.abi, artifact.bytecode, alice).deploy();
  await deployed.waitForDeployment();
  const address = await deployed.getAddress();
  const token = new Contract(address, artifact.abi, alice);
  const minted = await (await token.mint(alice.address, MINTED)).wait();
  assert.equal(minted.status, 1);
  return { provider, alice, bob, token, address };
}

/** Sends the transfer of an encrypted amount from Alice to Bob. */
export async function transfer({ token, alice, bob }, handle, inputProof) {
  const receipt = await (await token.transfer(bob.address, handle, inputProof)).wait();
  assert.equal(receipt.status, 1);
  const events = receipt.logs.map((log) => token.interface.parseLog(log)).filter((event) => event?.name === "Transfer");
  assert.equal(events.length, 1);
  assert.deepEqual([events[0].args.from, events[0].args.to], [alice.address, bob.address]);
}

/** Lets Alice read for a day what Bob may read in the token. */
export async function delegate(stack, { token, bob, alice, address }) {
  const acl = new Contract(stack.contracts.ACL, ["function delegateForUserDecryption(address delegate, address contractAddress, uint64 expirationDate)"], bob);
  const { timestamp } = await token.runner.provider.getBlock("latest");
  await (await acl.delegateForUserDecryption(alice.address, address, timestamp + 86_400)).wait();
}

/** Makes the total supply public, and returns its handle. */
export async function publishTotal({ token }) {
  await (await token.makeTotalSupplyPublic()).wait();
  return token.publishedTotalSupply();
}

/** Has the contract check the KMS's signatures: first with a wrong total, which it must refuse. */
export async function verifyTotal({ token, bob }, total, proof) {
  await assert.rejects(token.connect(bob).verifyTotalSupply.staticCall(total + 1n, proof), { code: "CALL_EXCEPTION" });
  await (await token.connect(bob).verifyTotalSupply(total, proof)).wait();
  assert.equal(await token.verifiedTotalSupply(), total);
}

/** Runs a story, prints its result as one line of JSON, and ends the process: SDKs leave threads and timers behind. */
export async function main(story) {
  const steps = new Steps();
  try {
    const result = await story(readStack(), steps);
    console.log(JSON.stringify({ ok: true, ...result, seconds: steps.seconds }, (_, value) => (typeof value === "bigint" ? value.toString() : value)));
    process.exit(0);
  } catch (error) {
    console.error(error);
    process.exit(1);
  }
}

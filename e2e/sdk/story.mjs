// What every SDK has to do against a stack, and what it has to refuse. It is the same in Node.js and in a browser, for every SDK: what differs is in
// `sdks/`, and how refusals look is in refusals.mjs.

import { hexlify } from "ethers";
import { equal, refused } from "./check.mjs";
import { MINTED, SENT, World, valuesOfEveryType } from "./world.mjs";

const DAY = 86_400;
const now = () => Math.floor(Date.now() / 1000);

/**
 * Runs it.
 *
 * - `open(stack)` opens the SDK on a stack;
 * - `stack` is the summary of `cipherloom dev --json`, and `meddled` the same through meddler.mjs;
 * - `expected` says how this SDK shows refusals;
 * - `slowClock` says whether the SDK runs in this thread, so that its clock can be set back.
 */
export async function tell({ open, stack, meddled, expected, slowClock, steps }) {
  const world = await steps.run("deploy the contracts, mint", () => World.open(stack));
  const { alice, bob, carol, token, address, drawerAddress } = world;
  const sdk = await steps.run("open the SDK: WebAssembly, keys, chain", () => open(stack));
  const permitOf = (user, more) => sdk.permit({ user, contracts: [address], start: now(), days: 1, ...more });

  // One value, used in a transaction.
  const amount = await steps.run("encrypt one value, have the proof verified", () => sdk.encrypt(address, alice.address, [{ type: "uint64", value: SENT }]));
  equal(amount.handles.length, 1, "the number of handles");
  await steps.run("use it in a transaction", () => world.transfer(amount.handles[0], amount.inputProof));

  // The results, each for whom it is for.
  const [alices, bobs] = [await token.balanceOf(alice.address), await token.balanceOf(bob.address)];
  const [alicePermit, bobPermit] = [await permitOf(alice), await permitOf(bob)];
  const sent = await steps.run("user decryption, first", () => sdk.decrypt(bobPermit, [bobs], address));
  equal(sent, [SENT], "Bob's balance");
  const left = await steps.run("user decryption, second", () => sdk.decrypt(alicePermit, [alices], address));
  equal(left, [MINTED - SENT], "Alice's balance");

  // Several values of every type under one proof.
  const values = valuesOfEveryType(bob.address);
  const inputs = await steps.run("encrypt six values of six types in one proof", () => sdk.encrypt(drawerAddress, alice.address, values));
  equal(inputs.handles.length, values.length, "the number of handles");
  const handles = await steps.run("use them in a transaction", () => world.put(inputs.handles, inputs.inputProof));
  const clear = values.map(({ type, value }) => (type === "bool" ? !value : value));
  const drawerPermit = await permitOf(alice, { contracts: [drawerAddress] });
  equal(await steps.run("user decryption of six values", () => sdk.decrypt(drawerPermit, handles, drawerAddress)), clear, "the values");

  // Public decryption, and the contract's check of it.
  await steps.refuse("refused: public decryption of what is not public", () => refused(sdk.publicDecrypt(handles), expected.notPublic));
  await world.included(world.drawer.publish());
  const published = await steps.run("public decryption of six values", () => sdk.publicDecrypt(handles));
  equal(published.values, clear, "the published values");
  const cleartexts = await steps.run("verify them on chain", () => world.verify(clear, published.proof));
  equal(published.cleartexts, cleartexts, "the values as the contract takes them");

  await contractWallet();
  if (sdk.canDelegate) await delegation();
  await refusals();
  sdk.close();

  /** A wallet that is a contract cannot sign; what its owner signs counts (ERC-1271). Some SDKs take signatures of accounts alone. */
  async function contractWallet() {
    const wallet = await world.contractWallet();
    const balance = await token.balanceOf(wallet);
    const read = async (signer) => sdk.decrypt(await permitOf({ address: wallet }, { signer }), [balance], address);
    if (expected.contractWallet) {
      await steps.refuse("refused: a permit that a contract has signed", () => refused(read(carol), expected.contractWallet));
    } else {
      equal(await steps.run("user decryption for a wallet that is a contract", () => read(carol)), [SENT], "the wallet's balance");
      await steps.refuse("refused: a permit that is not signed by the wallet's owner", () => refused(read(bob), expected.wrongSignature));
    }
  }

  async function delegation() {
    const read = async () => sdk.decrypt(await permitOf(alice, { delegator: bob.address }), [bobs], address);
    await steps.refuse("refused: reading for somebody who has not delegated", () => refused(read(), expected.notDelegated));
    await world.delegate();
    equal(await steps.run("delegated user decryption", read), [SENT], "Bob's balance, read by Alice");
    await world.revoke();
    await steps.refuse("refused: reading after the delegation was revoked", () => refused(read(), expected.notDelegated));
  }

  async function refusals() {
    const refuse = (name, promise, how) => steps.refuse(`refused: ${name}`, () => refused(promise(), how));

    // The SDK looks at the chain by itself.
    await refuse("somebody else's value", () => sdk.decrypt(alicePermit, [bobs], address), expected.notMine);
    const past = await permitOf(bob, { start: now() - 3 * DAY });
    await refuse("an expired permit", () => sdk.decrypt(past, [bobs], address), expected.expired);
    await refuse("a permit that is not valid yet", async () => sdk.decrypt(await permitOf(bob, { start: now() + DAY }), [bobs], address), expected.notYet);
    const elsewhere = `0x${bobs.slice(2, 46)}${(stack.chainId + 1).toString(16).padStart(16, "0")}${bobs.slice(62)}`;
    await refuse("a value of another chain", () => sdk.decrypt(bobPermit, [elsewhere], address), expected.otherChain);
    const misconfigured = (wrong) => open({ ...stack, ...wrong }).then((other) => other.publicDecrypt(handles));
    await refuse("the configuration of another chain", () => misconfigured({ chainId: stack.chainId + 1 }), expected.wrongHostChain);
    await refuse("the configuration of another gateway", () => misconfigured({ gatewayChainId: stack.gatewayChainId + 1 }), expected.wrongGatewayChain);

    // The gateway and the KMS look again.
    await refuse("a permit that somebody else has signed", async () => sdk.decrypt(await permitOf(bob, { signer: carol }), [bobs], address), expected.wrongSignature);
    await refuse("a contract that the permit does not name", () => sdk.decrypt(alicePermit, [handles[0]], drawerAddress), expected.otherContract);
    if (slowClock) await refuse("an expired permit, with the SDK's clock behind", () => behind(3 * DAY, () => sdk.decrypt(past, [bobs], address)), expected.expiredDeceived);
    const deceived = await steps.run("open the SDK on a node that lies", () => open(meddled));
    await refuse("somebody else's value, the node having lied", () => deceived.decrypt(alicePermit, [bobs], address), expected.notMineDeceived);
    await refuse("a value of another chain, the node having lied", () => deceived.decrypt(bobPermit, [elsewhere], address), expected.otherChainDeceived);
    await refuse("public decryption, the node having lied", () => deceived.publicDecrypt([alices]), expected.notPublicDeceived);
    if (sdk.canDelegate) {
      const permit = await permitOf(alice, { delegator: bob.address });
      await refuse("reading without delegation, the node having lied", () => deceived.decrypt(permit, [bobs], address), expected.notDelegatedDeceived);
    }
    const one = [{ type: "bool", value: true }];
    if (!sdk.encryptor) await refuse("a proof that was altered on its way", () => deceived.encrypt(address, alice.address, one), expected.tampered);
    deceived.close();

    // The chain looks at proofs of inputs: this one is for Alice, and the other was altered. On a native chain nobody signs: proofs end in handles.
    const [notForHim, changed] = stack.native ? ["InputNotDeposited", "InvalidInputHandle"] : ["InvalidSigner", "InvalidSigner"];
    const [handle, proof] = [amount.handles[0], hexlify(amount.inputProof)];
    equal(await steps.run("refused by the chain: an input of another account", () => world.transferError(bob, handle, proof)), notForHim);
    const altered = `${proof.slice(0, -20)}${proof.at(-20) === "0" ? "1" : "0"}${proof.slice(-19)}`;
    equal(await steps.run("refused by the chain: an altered signature", () => world.transferError(alice, handle, altered)), changed);
  }
}

/** Runs something with the clock set back. */
async function behind(seconds, run) {
  const real = Date.now;
  Date.now = () => real() - seconds * 1000;
  try {
    return await run();
  } finally {
    Date.now = real;
  }
}

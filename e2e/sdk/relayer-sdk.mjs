// An encrypted transfer with the published @zama-fhe/relayer-sdk, unmodified and configured only.
//
// usage: node relayer-sdk.mjs <summary of `cipherloom dev --json`, or a file with it> [version of the routes: 1 or 2]

import assert from "node:assert/strict";
import { createInstance } from "@zama-fhe/relayer-sdk/node";
import { MINTED, SENT, delegate, deployToken, main, publishTotal, transfer, verifyTotal } from "./token.mjs";

const routes = Number(process.argv[3] ?? 2);
assert([1, 2].includes(routes), "the version of the routes is 1 or 2");

/** The configuration that docs/sdks.md shows. */
function configuration(stack) {
  return {
    chainId: stack.chainId,
    network: stack.rpcUrl,
    relayerUrl: `${stack.gatewayUrl}/v${routes}`,
    relayerRouteVersion: routes,
    gatewayChainId: stack.gatewayChainId,
    aclContractAddress: stack.contracts.ACL,
    kmsContractAddress: stack.contracts.KMSVerifier,
    inputVerifierContractAddress: stack.contracts.InputVerifier,
    verifyingContractAddressDecryption: stack.verifyingContracts.Decryption,
    verifyingContractAddressInputVerification: stack.verifyingContracts.InputVerification,
  };
}

/** A key pair and the user's signature that lets the KMS answer to it. */
async function permit(sdk, user, contracts, start = Math.floor(Date.now() / 1000)) {
  const keys = sdk.generateKeypair();
  const days = 1;
  const typed = sdk.createEIP712(keys.publicKey, contracts, start, days);
  const { UserDecryptRequestVerification } = typed.types;
  const signature = await user.signTypedData(typed.domain, { UserDecryptRequestVerification }, typed.message);
  return { keys, contracts, start, days, signature: signature.slice(2) };
}

async function decrypt(sdk, user, handle, address, { keys, contracts, start, days, signature }) {
  const pairs = [{ handle, contractAddress: address }];
  const values = await sdk.userDecrypt(pairs, keys.privateKey, keys.publicKey, signature, contracts, user.address, start, days);
  assert.deepEqual(Object.keys(values), [handle]);
  return values[handle];
}

/** Lets a delegate read what another account may read. */
async function decryptAsDelegate(sdk, reader, owner, handle, address) {
  const keys = sdk.generateKeypair();
  const contracts = [address];
  const start = Math.floor(Date.now() / 1000);
  const days = 1;
  const typed = sdk.createDelegatedUserDecryptEIP712(keys.publicKey, contracts, owner.address, start, days);
  const { DelegatedUserDecryptRequestVerification } = typed.types;
  const signature = await reader.signTypedData(typed.domain, { DelegatedUserDecryptRequestVerification }, typed.message);
  const pairs = [{ handle, contractAddress: address }];
  const values = await sdk.delegatedUserDecrypt(
    pairs, keys.privateKey, keys.publicKey, signature.slice(2), contracts, owner.address, reader.address, start, days,
  );
  return values[handle];
}

/** Asks for a value like a client that leaves out the SDK's own look at the access list; returns the gateway's label of the refusal. */
async function askUnchecked(stack, user, handle, address, { keys, contracts, start, days, signature }) {
  const url = `${stack.gatewayUrl}/v2/user-decrypt`;
  const body = {
    handleContractPairs: [{ handle, contractAddress: address }],
    requestValidity: { startTimestamp: String(start), durationDays: String(days) },
    contractsChainId: String(stack.chainId),
    contractAddresses: contracts,
    userAddress: user.address,
    signature,
    publicKey: keys.publicKey,
    extraData: "0x00",
  };
  const posted = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  assert.equal(posted.status, 202, await posted.clone().text());
  const { jobId } = (await posted.json()).result;
  for (;;) {
    const answer = await fetch(`${url}/${jobId}`);
    const json = await answer.json();
    if (answer.status !== 202) {
      assert.equal(answer.status, 400, JSON.stringify(json));
      return json.error.label;
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** All that an error of the SDK says, its causes included. */
function explain(error) {
  const causes = [];
  for (let cause = error; cause; cause = cause.cause) causes.push(cause.message, JSON.stringify(cause.relayerApiError ?? ""));
  return causes.join("\n");
}

await main(async (stack, steps) => {
  const world = await steps.run("deploy the token, mint", () => deployToken(stack));
  const { alice, bob, token, address } = world;

  const sdk = await steps.run("createInstance", () => createInstance(configuration(stack)));
  // Several values of every kind share one proof; the token uses the first.
  const input = sdk.createEncryptedInput(address, alice.address).add64(SENT).addBool(true).addAddress(bob.address).add256(2n ** 255n + 1n);
  const { handles, inputProof } = await steps.run("encrypt four values, prove, have them verified", () => input.encrypt());
  assert.equal(handles.length, 4);
  await steps.run("transfer", () => transfer(world, handles[0], inputProof));

  await steps.run("refuse a proof to another account", () =>
    assert.rejects(token.connect(bob).transfer.staticCall(alice.address, handles[0], inputProof), { code: "CALL_EXCEPTION" }),
  );

  const alicePermit = await permit(sdk, alice, [address]);
  const bobPermit = await permit(sdk, bob, [address]);
  const bobsHandle = await token.balanceOf(bob.address);
  const bobs = await steps.run("user decryption for Bob", () => decrypt(sdk, bob, bobsHandle, address, bobPermit));
  assert.equal(bobs, SENT);
  const alicesHandle = await token.balanceOf(alice.address);
  const alices = await steps.run("user decryption for Alice", () => decrypt(sdk, alice, alicesHandle, address, alicePermit));
  assert.equal(alices, MINTED - SENT);

  await steps.run("refuse Alice the balance of Bob", async () => {
    await assert.rejects(decrypt(sdk, alice, bobsHandle, address, alicePermit), /not authorized to user decrypt/);
    assert.equal(await askUnchecked(stack, alice, bobsHandle, address, alicePermit), "not_allowed_on_host_acl");
  });
  await steps.run("refuse a permit that Bob has not signed", () =>
    assert.rejects(decrypt(sdk, bob, bobsHandle, address, { ...bobPermit, signature: alicePermit.signature }), (error) =>
      // With routes of version 1 the SDK keeps nothing of the answer but its status.
      (routes === 1 ? /HTTP code 400/ : /not signed by/).test(explain(error)),
    ),
  );
  await steps.run("refuse to decrypt publicly what is not public", () =>
    assert.rejects(sdk.publicDecrypt([bobsHandle]), { name: "ACLPublicDecryptionError" }),
  );

  // The SDK has no delegated decryption with routes of version 1.
  if (routes === 2) {
    await steps.run("refuse Alice to read for Bob", () =>
      assert.rejects(decryptAsDelegate(sdk, alice, bob, bobsHandle, address), (error) => /not.allowed/i.test(explain(error))),
    );
    await delegate(stack, world);
    const read = await steps.run("delegated user decryption", () => decryptAsDelegate(sdk, alice, bob, bobsHandle, address));
    assert.equal(read, SENT);
  }

  const totalHandle = await publishTotal(world);
  const published = await steps.run("public decryption of the total", () => sdk.publicDecrypt([totalHandle]));
  const total = published.clearValues[totalHandle];
  assert.equal(total, MINTED);
  await steps.run("verify the total on chain", () => verifyTotal(world, total, published.decryptionProof));

  return { sdk: "@zama-fhe/relayer-sdk", routes, balances: { alice: alices, bob: bobs }, total };
});

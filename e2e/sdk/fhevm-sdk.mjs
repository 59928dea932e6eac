// An encrypted transfer with the published @fhevm/sdk, unmodified and configured only. Needs Node.js 22.
//
// usage: node fhevm-sdk.mjs <summary of `cipherloom dev --json`, or a file with it>

import assert from "node:assert/strict";
import { defineFhevmChain } from "@fhevm/sdk/chains";
import { createFhevmClient, setFhevmRuntimeConfig } from "@fhevm/sdk/ethers";
import { MINTED, SENT, delegate, deployToken, main, publishTotal, transfer, verifyTotal } from "./token.mjs";

/** The configuration that docs/sdks.md shows. */
function configuration(stack) {
  return defineFhevmChain({
    id: stack.chainId,
    fhevm: {
      contracts: {
        acl: { address: stack.contracts.ACL },
        inputVerifier: { address: stack.contracts.InputVerifier },
        kmsVerifier: { address: stack.contracts.KMSVerifier },
      },
      relayerUrl: stack.gatewayUrl,
      gateway: {
        id: stack.gatewayChainId,
        contracts: {
          decryption: { address: stack.verifyingContracts.Decryption },
          inputVerification: { address: stack.verifyingContracts.InputVerification },
        },
      },
    },
  });
}

/** A key pair and the user's signature that lets the KMS answer to it. */
async function permit(sdk, user, contract, delegatorAddress) {
  const transportKeyPair = await sdk.generateTransportKeyPair();
  const signedPermit = await sdk.signDecryptionPermit({
    contractAddresses: [contract],
    startTimestamp: Math.floor(Date.now() / 1000),
    durationDays: 1,
    signerAddress: user.address,
    signer: user,
    transportKeyPair,
    delegatorAddress,
  });
  return { transportKeyPair, signedPermit };
}

async function decrypt(sdk, handle, contractAddress, permit) {
  const { type, value } = await sdk.decryptValue({ encryptedValue: handle, contractAddress, ...permit });
  assert.equal(type, "uint64");
  return value;
}

await main(async (stack, steps) => {
  const world = await steps.run("deploy the token, mint", () => deployToken(stack));
  const { provider, alice, bob, token, address } = world;

  setFhevmRuntimeConfig({});
  const sdk = createFhevmClient({ chain: configuration(stack), provider });
  await steps.run("init: keys and WebAssembly", async () => {
    await sdk.init();
    await sdk.ready;
  });
  // Several values of every kind share one proof; the token uses the first.
  const values = [
    { type: "uint64", value: SENT },
    { type: "bool", value: true },
    { type: "address", value: bob.address },
    { type: "uint256", value: 2n ** 255n + 1n },
  ];
  const { encryptedValues, inputProof } = await steps.run("encrypt four values, prove, have them verified", () =>
    sdk.encryptValues({ values, contractAddress: address, userAddress: alice.address }),
  );
  assert.equal(encryptedValues.length, values.length);
  await steps.run("transfer", () => transfer(world, encryptedValues[0], inputProof));

  const alicePermit = await permit(sdk, alice, address);
  const bobPermit = await permit(sdk, bob, address);
  const bobsHandle = await token.balanceOf(bob.address);
  const bobs = await steps.run("user decryption for Bob", () => decrypt(sdk, bobsHandle, address, bobPermit));
  assert.equal(bobs, SENT);
  const alicesHandle = await token.balanceOf(alice.address);
  const alices = await steps.run("user decryption for Alice", () => decrypt(sdk, alicesHandle, address, alicePermit));
  assert.equal(alices, MINTED - SENT);

  await steps.run("refuse Alice the balance of Bob", () => assert.rejects(decrypt(sdk, bobsHandle, address, alicePermit), /not authorized/i));
  await steps.run("refuse to decrypt publicly what is not public", () =>
    assert.rejects(sdk.readPublicValue({ encryptedValue: bobsHandle }), /not allowed/i),
  );

  const delegated = await permit(sdk, alice, address, bob.address);
  await steps.run("refuse Alice to read for Bob", () =>
    assert.rejects(decrypt(sdk, bobsHandle, address, delegated), /delegat/i),
  );
  await delegate(stack, world);
  const read = await steps.run("delegated user decryption", () => decrypt(sdk, bobsHandle, address, delegated));
  assert.equal(read, SENT);

  const totalHandle = await publishTotal(world);
  const published = await steps.run("public decryption of the total", () =>
    sdk.readPublicValuesWithSignatures({ encryptedValues: [totalHandle] }),
  );
  const total = published.clearValues[0].value;
  assert.equal(total, MINTED);
  await steps.run("verify the total on chain", () => verifyTotal(world, total, published.checkSignaturesArgs.decryptionProof));

  return { sdk: "@fhevm/sdk", balances: { alice: alices, bob: bobs }, total };
});

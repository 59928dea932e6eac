// An encrypted transfer with the published @zama-fhe/sdk in Node.js, unmodified and configured only. Needs Node.js 22.
//
// usage: node zama-sdk.mjs <summary of `cipherloom dev --json`, or a file with it>

import assert from "node:assert/strict";
import { RelayerNode } from "@zama-fhe/sdk/node";
import { hexlify } from "ethers";
import { MINTED, SENT, deployToken, main, publishTotal, transfer, verifyTotal } from "./token.mjs";

/** The configuration that docs/sdks.md shows. */
function configuration(stack) {
  return {
    getChainId: async () => stack.chainId,
    poolSize: 1,
    transports: {
      [stack.chainId]: {
        chainId: stack.chainId,
        network: stack.rpcUrl,
        relayerUrl: `${stack.gatewayUrl}/v2`,
        gatewayChainId: stack.gatewayChainId,
        aclContractAddress: stack.contracts.ACL,
        kmsContractAddress: stack.contracts.KMSVerifier,
        inputVerifierContractAddress: stack.contracts.InputVerifier,
        verifyingContractAddressDecryption: stack.verifyingContracts.Decryption,
        verifyingContractAddressInputVerification: stack.verifyingContracts.InputVerification,
      },
    },
  };
}

async function decrypt(sdk, user, handle, contractAddress) {
  const { publicKey, privateKey } = await sdk.generateKeypair();
  const startTimestamp = Math.floor(Date.now() / 1000);
  const durationDays = 1;
  const { domain, types, message } = await sdk.createEIP712(publicKey, [contractAddress], startTimestamp, durationDays);
  const { EIP712Domain: _, ...signed } = types;
  const signature = await user.signTypedData(domain, signed, message);
  const values = await sdk.userDecrypt({
    handles: [handle],
    contractAddress,
    signedContractAddresses: [contractAddress],
    privateKey,
    publicKey,
    signature,
    signerAddress: user.address,
    startTimestamp,
    durationDays,
  });
  assert.deepEqual(Object.keys(values), [handle]);
  return values[handle];
}

await main(async (stack, steps) => {
  const world = await steps.run("deploy the token, mint", () => deployToken(stack));
  const { alice, bob, token, address } = world;

  const sdk = new RelayerNode(configuration(stack));
  await steps.run("start the worker", () => sdk.generateKeypair());
  const values = [{ value: SENT, type: "euint64" }];
  const { handles, inputProof } = await steps.run("encrypt, prove, have it verified", () =>
    sdk.encrypt({ values, contractAddress: address, userAddress: alice.address }),
  );
  await steps.run("transfer", () => transfer(world, handles[0], inputProof));

  const bobsHandle = await token.balanceOf(bob.address);
  const bobs = await steps.run("user decryption for Bob", () => decrypt(sdk, bob, bobsHandle, address));
  assert.equal(bobs, SENT);
  const alicesHandle = await token.balanceOf(alice.address);
  const alices = await steps.run("user decryption for Alice", () => decrypt(sdk, alice, alicesHandle, address));
  assert.equal(alices, MINTED - SENT);
  await steps.run("refuse Alice the balance of Bob", () => assert.rejects(decrypt(sdk, alice, bobsHandle, address), /not authorized/));

  const totalHandle = await publishTotal(world);
  const published = await steps.run("public decryption of the total", () => sdk.publicDecrypt([totalHandle]));
  const total = published.clearValues[totalHandle];
  assert.equal(total, MINTED);
  await steps.run("verify the total on chain", () => verifyTotal(world, total, published.decryptionProof));

  sdk.terminate();
  return { sdk: "@zama-fhe/sdk", balances: { alice: alices, bob: bobs }, total };
});

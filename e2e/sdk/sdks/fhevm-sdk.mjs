// All that the story needs of @fhevm/sdk, with its ethers adapter, and what it is told about a stack.

import { defineFhevmChain } from "@fhevm/sdk/chains";
import { createFhevmClient, setFhevmRuntimeConfig } from "@fhevm/sdk/ethers";
import { JsonRpcProvider } from "ethers";

/** The chain that the SDK is told about. docs/sdks.md shows it, and `cipherloom sdk-config` prints it. */
export function configuration(stack) {
  return {
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
  };
}

/** Small numbers come as numbers from this SDK, and as integers of any size from the others. */
const plain = ({ value }) => (typeof value === "number" ? BigInt(value) : value);

export class FhevmSdk {
  static package = "@fhevm/sdk";

  /** It wants a coprocessor's signature on inputs, and on a native chain nobody signs: there, applications encrypt with another SDK, which `encryptor` opens. */
  static async open(stack, encryptor) {
    setFhevmRuntimeConfig({});
    const provider = new JsonRpcProvider(stack.rpcUrl);
    const client = createFhevmClient({ chain: defineFhevmChain(configuration(stack)), provider });
    await client.init();
    await client.ready;
    return Object.assign(new FhevmSdk(), { client, canDelegate: true, encryptor });
  }

  async encrypt(contractAddress, userAddress, values) {
    if (this.encryptor) return (await this.encryptor()).encrypt(contractAddress, userAddress, values);
    const { encryptedValues, inputProof } = await this.client.encryptValues({ values, contractAddress, userAddress });
    return { handles: encryptedValues, inputProof };
  }

  async permit({ user, signer = user, contracts, start, days, delegator }) {
    const transportKeyPair = await this.client.generateTransportKeyPair();
    const signedPermit = await this.client.signDecryptionPermit({
      contractAddresses: contracts,
      startTimestamp: start,
      durationDays: days,
      signerAddress: user.address,
      signer,
      transportKeyPair,
      delegatorAddress: delegator,
    });
    return { transportKeyPair, signedPermit };
  }

  async decrypt(permit, encryptedValues, contractAddress) {
    return (await this.client.decryptValues({ encryptedValues, contractAddress, ...permit })).map(plain);
  }

  async publicDecrypt(encryptedValues) {
    const { clearValues, checkSignaturesArgs } = await this.client.readPublicValuesWithSignatures({ encryptedValues });
    return { values: clearValues.map(plain), cleartexts: checkSignaturesArgs.abiEncodedCleartexts, proof: checkSignaturesArgs.decryptionProof };
  }

  close() {}
}

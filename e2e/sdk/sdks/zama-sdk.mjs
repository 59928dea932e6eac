// All that the story needs of @zama-fhe/sdk 3.x, and what it is told about a stack.

import { configuration as transport } from "./relayer-sdk.mjs";

/** What `RelayerNode` and `RelayerWeb` are told. docs/sdks.md shows it, and `cipherloom sdk-config` prints it. */
export function configuration(stack) {
  const { relayerRouteVersion: _, ...config } = transport(stack);
  return { getChainId: async () => stack.chainId, transports: { [stack.chainId]: config } };
}

const TYPES = { bool: "ebool", uint8: "euint8", uint64: "euint64", uint128: "euint128", address: "eaddress", uint256: "euint256" };

export class ZamaSdk {
  static package = "@zama-fhe/sdk";

  /** `Relayer` is the class from the package: `RelayerNode` or `RelayerWeb`. */
  static async open(Relayer, stack, options = {}) {
    // It keeps the keys, and before everything it does asks the gateway whether they are still the same.
    const relayer = new Relayer({ ...configuration(stack), fheArtifactCacheTTL: 0, ...options });
    // The worker starts with the first thing that it is asked for.
    await relayer.getPublicKey();
    await relayer.getPublicParams(2048);
    return Object.assign(new ZamaSdk(), { relayer, canDelegate: true });
  }

  encrypt(contractAddress, userAddress, values) {
    const typed = values.map(({ type, value }) => ({ type: TYPES[type], value }));
    return this.relayer.encrypt({ values: typed, contractAddress, userAddress });
  }

  async permit({ user, signer = user, contracts, start, days, delegator }) {
    const { publicKey, privateKey } = await this.relayer.generateKeypair();
    const typed = delegator
      ? await this.relayer.createDelegatedUserDecryptEIP712(publicKey, contracts, delegator, start, days)
      : await this.relayer.createEIP712(publicKey, contracts, start, days);
    const { EIP712Domain: _, ...types } = typed.types;
    const signature = await signer.signTypedData(typed.domain, types, typed.message);
    return { user: user.address, delegator, publicKey, privateKey, signature, signedContractAddresses: contracts, startTimestamp: start, durationDays: days };
  }

  async decrypt({ user, delegator, ...permit }, handles, contractAddress) {
    const values = delegator
      ? await this.relayer.delegatedUserDecrypt({ handles, contractAddress, delegatorAddress: delegator, delegateAddress: user, ...permit })
      : await this.relayer.userDecrypt({ handles, contractAddress, signerAddress: user, ...permit });
    return handles.map((handle) => values[handle]);
  }

  async publicDecrypt(handles) {
    const { clearValues, abiEncodedClearValues, decryptionProof } = await this.relayer.publicDecrypt(handles);
    return { values: handles.map((handle) => clearValues[handle]), cleartexts: abiEncodedClearValues, proof: decryptionProof };
  }

  close() {
    this.relayer.terminate();
  }
}

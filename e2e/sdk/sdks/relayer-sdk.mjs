// All that the story needs of @zama-fhe/relayer-sdk 0.4.x, and what it is told about a stack.

/** What `createInstance` is told. docs/sdks.md shows it, and `cipherloom sdk-config` prints it. */
export function configuration(stack, routes = 2) {
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

const ADDERS = { bool: "addBool", uint8: "add8", uint64: "add64", uint128: "add128", address: "addAddress", uint256: "add256" };

export class RelayerSdk {
  static package = "@zama-fhe/relayer-sdk";

  /** `library` is what was imported from the package: its Node.js or its web build, loaded with `initSDK`. */
  static async open(library, stack, routes = 2) {
    const instance = await library.createInstance(configuration(stack, routes));
    return Object.assign(new RelayerSdk(), { instance, routes, canDelegate: routes === 2 });
  }

  async encrypt(contract, user, values) {
    const input = this.instance.createEncryptedInput(contract, user);
    for (const { type, value } of values) input[ADDERS[type]](value);
    return input.encrypt();
  }

  /** A key pair, and the signature of `signer` that lets the KMS answer to it; `delegator` is the owner if it is not the user. */
  async permit({ user, signer = user, contracts, start, days, delegator }) {
    const keys = this.instance.generateKeypair();
    const typed = delegator
      ? this.instance.createDelegatedUserDecryptEIP712(keys.publicKey, contracts, delegator, start, days)
      : this.instance.createEIP712(keys.publicKey, contracts, start, days);
    const { EIP712Domain: _, ...types } = typed.types;
    const signature = await signer.signTypedData(typed.domain, types, typed.message);
    return { user: user.address, keys, contracts, start, days, delegator, signature: signature.slice(2) };
  }

  async decrypt({ user, keys, contracts, start, days, delegator, signature }, handles, contractAddress) {
    const pairs = handles.map((handle) => ({ handle, contractAddress }));
    const values = delegator
      ? await this.instance.delegatedUserDecrypt(
          pairs, keys.privateKey, keys.publicKey, signature, contracts, delegator, user, start, days,
        )
      : await this.instance.userDecrypt(pairs, keys.privateKey, keys.publicKey, signature, contracts, user, start, days);
    return handles.map((handle) => values[handle]);
  }

  async publicDecrypt(handles) {
    const { clearValues, abiEncodedClearValues, decryptionProof } = await this.instance.publicDecrypt(handles);
    return { values: handles.map((handle) => clearValues[handle]), cleartexts: abiEncodedClearValues, proof: decryptionProof };
  }

  close() {}
}

// The FHE SDK in a worker of its own. Making a proof keeps a processor busy for seconds; here that does not freeze the page, and the worker may
// block on the threads that help it, which a page's main thread must not.

import { type FhevmInstance, type FhevmInstanceConfig, createInstance, initSDK } from "@zama-fhe/relayer-sdk/web";
import type { Answer, Operations, Request } from "./fhe";

let instance: FhevmInstance | undefined;
/** The private keys of the session, by public key. They never leave this worker. */
const privateKeys = new Map<string, string>();

function started(): FhevmInstance {
  if (!instance) throw new Error("the SDK has not started");
  return instance;
}

const operations: Operations = {
  /** Loads the WebAssembly; gives back how many threads it uses. */
  async load() {
    await initSDK();
    return self.crossOriginIsolated ? navigator.hardwareConcurrency : 1;
  },

  /** Fetches the keys, and checks the configuration against the chain. */
  async start(configuration) {
    instance = await createInstance(configuration as FhevmInstanceConfig);
  },

  /** Encrypts an amount for a token and a user, with a proof that the user knows it. */
  async prove(token, user, amount) {
    const proof = started().createEncryptedInput(token, user).add64(amount).generateZKProof();
    // What a class keeps behind getters does not survive being posted, so its values are taken out.
    const { chainId, aclContractAddress, contractAddress, userAddress, ciphertextWithZKProof, encryptionBits } = proof;
    return { chainId, aclContractAddress, contractAddress, userAddress, ciphertextWithZKProof, encryptionBits: [...encryptionBits] };
  },

  /** Has the coprocessor verify a proof; its signature is what the token accepts. */
  async verify(proof) {
    const { handles, inputProof } = await started().requestZKProofVerification(proof);
    const [handle] = handles;
    if (!handle) throw new Error("the gateway has accepted the proof and named no value");
    return { handle, inputProof };
  },

  /** Makes a key pair for a day, and what the user has to sign so that the KMS answers to it. */
  async permit(token) {
    const sdk = started();
    const keys = sdk.generateKeypair();
    privateKeys.set(keys.publicKey, keys.privateKey);
    const start = Math.floor(Date.now() / 1000);
    const days = 1;
    const { domain, types, message } = sdk.createEIP712(keys.publicKey, [token], start, days);
    return { publicKey: keys.publicKey, start, days, domain, types, message };
  },

  /** Decrypts a value that the user may read. */
  async decrypt(handle, token, user, publicKey, signature, start, days) {
    const privateKey = privateKeys.get(publicKey);
    if (!privateKey) throw new Error("the key pair of this permission is gone");
    const pairs = [{ handle, contractAddress: token }];
    const unprefixed = signature.replace(/^0x/, "");
    const values = await started().userDecrypt(pairs, privateKey, publicKey, unprefixed, [token], user, start, days);
    const value = Object.values(values)[0];
    if (typeof value !== "bigint") throw new Error("the decrypted value is not a number");
    return value;
  },
};

/** All that an error and its causes say: errors lose that when they are posted. */
function describe(error: unknown): { message: string; label?: string } {
  const messages: string[] = [];
  let label: string | undefined;
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    messages.push(cause.message);
    const { relayerApiError } = cause as { relayerApiError?: { label?: string } };
    label ??= relayerApiError?.label;
  }
  const message = messages.length > 0 ? messages.join("\n") : String(error);
  return label === undefined ? { message } : { message, label };
}

self.onmessage = async ({ data: { id, operation, values } }: MessageEvent<Request>) => {
  let answer: Answer;
  try {
    const run = operations[operation] as (...values: unknown[]) => Promise<unknown>;
    answer = { id, result: await run(...values) };
  } catch (error) {
    answer = { id, error: describe(error) };
  }
  self.postMessage(answer);
};

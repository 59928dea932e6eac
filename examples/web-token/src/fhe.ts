// The page's side of the worker that runs the FHE SDK: each operation is a function that returns a promise.

import type { FhevmInstanceConfig, KmsUserDecryptEIP712Type, ZKProofLike } from "@zama-fhe/relayer-sdk/web";

/** What a user signs so that the KMS encrypts answers to the session's key. */
export interface Permission {
  publicKey: string;
  /** From when on it holds, in seconds since 1970. */
  start: number;
  /** For how many days. */
  days: number;
  domain: KmsUserDecryptEIP712Type["domain"];
  types: KmsUserDecryptEIP712Type["types"];
  message: KmsUserDecryptEIP712Type["message"];
}

export interface Operations {
  load(): Promise<number>;
  start(configuration: FhevmInstanceConfig): Promise<void>;
  prove(token: string, user: string, amount: bigint): Promise<ZKProofLike>;
  verify(proof: ZKProofLike): Promise<{ handle: Uint8Array; inputProof: Uint8Array }>;
  permit(token: string): Promise<Permission>;
  decrypt(
    handle: string, token: string, user: string, publicKey: string, signature: string, start: number, days: number,
  ): Promise<bigint>;
}

export interface Request {
  id: number;
  operation: keyof Operations;
  values: unknown[];
}

export interface Answer {
  id: number;
  result?: unknown;
  error?: { message: string; label?: string };
}

/** What the SDK or the gateway has against an operation. */
export class FheError extends Error {
  override name = "FheError";

  constructor(
    message: string,
    /** The gateway's label, if the refusal is the gateway's. */
    readonly label?: string,
  ) {
    super(message);
  }
}

const worker = new Worker(new URL("./fhe-worker.ts", import.meta.url), { type: "module" });
const waiting = new Map<number, { resolve: (result: never) => void; reject: (error: Error) => void }>();
let last = 0;

worker.onmessage = ({ data: { id, result, error } }: MessageEvent<Answer>) => {
  const caller = waiting.get(id);
  waiting.delete(id);
  if (error) caller?.reject(new FheError(error.message, error.label));
  else caller?.resolve(result as never);
};
worker.onerror = ({ message }) => {
  for (const { reject } of waiting.values()) reject(new FheError(`The SDK's worker does not run: ${message || "its file does not load"}`));
  waiting.clear();
};

function call<Name extends keyof Operations>(operation: Name): Operations[Name] {
  return ((...values: unknown[]) =>
    new Promise((resolve, reject) => {
      last += 1;
      waiting.set(last, { resolve, reject });
      worker.postMessage({ id: last, operation, values } satisfies Request);
    })) as Operations[Name];
}

export const fhe: Operations = {
  load: call("load"),
  start: call("start"),
  prove: call("prove"),
  verify: call("verify"),
  permit: call("permit"),
  decrypt: call("decrypt"),
};

/** Fails when something takes longer than it ever should: the SDK waits without end for threads whose file is missing. */
export function within<Result>(seconds: number, what: string, promise: Promise<Result>): Promise<Result> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new FheError(`${what} has not finished within ${seconds} seconds.`)), seconds * 1000);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

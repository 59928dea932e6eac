// Errors in words for the person in front of the page. The full text is kept as details for whoever wants it.

import { BaseError, ContractFunctionRevertedError, HttpRequestError, InsufficientFundsError, UserRejectedRequestError } from "viem";
import { FheError } from "./fhe";
import { gatewayUrl, nameOf, rpcUrl } from "./stack";

/** An error whose text is meant for the page. */
export class PageError extends Error {
  override name = "PageError";

  constructor(
    readonly title: string,
    message: string,
  ) {
    super(message);
  }
}

export interface Explanation {
  title: string;
  text: string;
  details: string;
}

const REVERTS: Record<string, [string, string]> = {
  OnlyOwner: ["Only the owner may do this", "Only the account that has deployed the token may mint."],
  ZeroAddress: ["Not to the zero address", "Nobody has the zero address; tokens sent there would be lost."],
  SenderNotAllowedToUseHandle: ["Not your encrypted value", "The amount was encrypted by somebody else, and only they can use it."],
};

const LABELS: Record<string, [string, string]> = {
  not_allowed_on_host_acl: ["Not yours to read", "The chain does not list you among those who may decrypt this value."],
  not_ready_for_decryption: ["Not computed yet", "The coprocessor has not computed this value yet. Try again in a moment."],
  rate_limited: ["Too many requests", "The gateway asks you to slow down. Try again in a moment."],
  protocol_overload: ["The gateway is busy", "Too many people ask at the same time. Try again in a moment."],
  gateway_not_reachable: ["A service is missing", "The gateway runs, but something behind it does not answer."],
  readiness_check_timed_out: ["It takes too long", "The value was not computed in time. Try again later."],
  response_timed_out: ["It takes too long", "There was no answer in time. Try again later."],
};

const NO_CHAIN: [string, string] = ["The chain does not answer", `There is nothing at ${rpcUrl}. Is \`cipherloom dev\` running? Other ports can be chosen in the settings.`];
export const NO_GATEWAY: [string, string] = ["The gateway does not answer", `There is nothing at ${gatewayUrl}. Is \`cipherloom dev\` running? Other ports can be chosen in the settings.`];

/** Says what an error means. */
export function explain(error: unknown): Explanation {
  const [title, text] = describe(error);
  const details = error instanceof Error ? error.message : String((error as { message?: string })?.message ?? error);
  return { title, text, details };
}

function describe(error: unknown): [string, string] {
  if (error instanceof PageError) return [error.title, error.message];
  if (error instanceof FheError) return describeFhe(error);
  if ((error as { code?: number })?.code === 4001) return ["Declined", "You have declined this in the wallet."];
  if (error instanceof BaseError) return describeChain(error);
  return ["That did not work", error instanceof Error ? error.message : String(error)];
}

function describeChain(error: BaseError): [string, string] {
  if (error.walk((cause) => cause instanceof UserRejectedRequestError)) return ["Declined", "You have declined this in the wallet."];
  if (error.walk((cause) => cause instanceof HttpRequestError)) return NO_CHAIN;
  if (error.walk((cause) => cause instanceof InsufficientFundsError)) return ["Not enough Ether", "This account cannot pay for the transaction."];
  const reverted = error.walk((cause) => cause instanceof ContractFunctionRevertedError);
  const name = reverted instanceof ContractFunctionRevertedError ? reverted.data?.errorName : undefined;
  return (name && REVERTS[name]) || ["The chain refuses", error.shortMessage];
}

function describeFhe({ label, message }: FheError): [string, string] {
  const user = /User (?:address )?(0x[0-9a-fA-F]{40}) is not authorized to user decrypt/.exec(message)?.[1];
  if (user) return ["Not yours to read", `${nameOf(user)} may not decrypt this balance: only its owner can, and the KMS checks that on chain.`];
  if (label) return LABELS[label] ?? ["The gateway refuses", message];
  return ["The SDK reports an error", message.split("\n")[0] ?? message];
}

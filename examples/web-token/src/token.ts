// The chain: accounts that sign, and the token. Nothing here knows about FHE; an encrypted amount is a handle and a proof.

import {
  type Account, type Address, type EIP1193Provider, type Hex, type Transport, type WalletClient,
  createPublicClient, createWalletClient, custom, getAddress, http, isAddress, numberToHex, parseAbi, parseAbiItem, toHex,
} from "viem";
import artifact from "../../confidential-token/artifacts/ConfidentialToken.json";
import { PageError } from "./errors";
import { chain, developmentAccounts } from "./stack";

export const DECIMALS = 6;

/** The part of the token that this page uses. On the wire every encrypted value is a handle of 32 bytes. */
const abi = parseAbi([
  "constructor()",
  "function owner() view returns (address)",
  "function symbol() view returns (string)",
  "function balanceOf(address account) view returns (bytes32)",
  "function mint(address to, uint64 amount)",
  "function transfer(address to, bytes32 amount, bytes inputProof) returns (bytes32)",
  "error OnlyOwner()",
  "error ZeroAddress()",
  "error SenderNotAllowedToUseHandle(bytes32 handle, address sender)",
]);
const transferred = parseAbiItem("event Transfer(address indexed from, address indexed to, bytes32 amount)");

const reader = createPublicClient({ chain, transport: http(), pollingInterval: 200, cacheTime: 0 });

export interface User {
  address: Address;
  client: WalletClient<Transport, typeof chain, Account>;
}

export interface Token {
  address: Address;
  /** Who may mint. */
  owner: Address;
}

/** Fails unless the development chain answers. */
export async function checkChain(): Promise<void> {
  const id = await reader.getChainId();
  if (id !== chain.id) throw new PageError("This is another chain", `The chain has the id ${id}; this page is made for ${chain.id}.`);
}

/** Signs with the known key of a development account. */
export function developmentUser(name: string): User {
  const found = developmentAccounts.find((one) => one.name === name);
  if (!found) throw new PageError("Unknown account", `There is no development account ${name}.`);
  const { account } = found;
  return { address: account.address, client: createWalletClient({ account, chain, transport: http() }) };
}

/** Signs with a wallet extension, which is asked for an account and told about the development chain. */
export async function walletUser(wallet: EIP1193Provider): Promise<User> {
  const [account] = await wallet.request({ method: "eth_requestAccounts" });
  if (!account) throw new PageError("No account", "The wallet has not offered an account.");
  if (Number(await wallet.request({ method: "eth_chainId" })) !== chain.id) {
    const chainId = numberToHex(chain.id);
    await wallet
      .request({ method: "wallet_switchEthereumChain", params: [{ chainId }] })
      .catch(async (error: { code?: number }) => {
        // 4001: the user does not want to. Anything else means that the wallet does not know the chain.
        if (error.code === 4001) throw error;
        const { name: chainName, nativeCurrency, rpcUrls } = chain;
        await wallet.request({ method: "wallet_addEthereumChain", params: [{ chainId, chainName, nativeCurrency, rpcUrls: [...rpcUrls.default.http] }] });
      });
  }
  const address = getAddress(account);
  const client = createWalletClient({ account: address, chain, transport: custom(wallet) });
  return { address, client: client as User["client"] };
}

/** Reads an address, or the name of a development account. */
export function readAddress(text: string): Address {
  const trimmed = text.trim();
  const known = developmentAccounts.find(({ name }) => name.toLowerCase() === trimmed.toLowerCase());
  if (known) return known.account.address;
  if (!isAddress(trimmed)) throw new PageError("Not an address", `“${trimmed}” is neither an address nor Alice, Bob or Carol.`);
  return getAddress(trimmed);
}

/** Sends a new token's transaction; gives back its hash. */
export function sendDeployment({ client }: User): Promise<Hex> {
  return client.deployContract({ abi, bytecode: artifact.bytecode as Hex });
}

export function sendMint({ client }: User, { address }: Token, to: Address, amount: bigint): Promise<Hex> {
  return simulated(client, { address, abi, functionName: "mint", args: [to, amount] });
}

export function sendTransfer({ client }: User, { address }: Token, to: Address, handle: Uint8Array, inputProof: Uint8Array): Promise<Hex> {
  return simulated(client, { address, abi, functionName: "transfer", args: [to, toHex(handle), toHex(inputProof)] });
}

/** Tries a call first: the chain says why it fails, which wallets often do not. */
async function simulated(client: User["client"], call: { address: Address; abi: typeof abi; functionName: "mint" | "transfer"; args: unknown[] }): Promise<Hex> {
  const { request } = await reader.simulateContract({ ...call, account: client.account } as Parameters<typeof reader.simulateContract>[0]);
  return client.writeContract(request as Parameters<typeof client.writeContract>[0]);
}

/** Waits until a transaction is in a block; gives back the contract it has created, if it has. */
export async function included(hash: Hex): Promise<Address | undefined> {
  const { status, contractAddress } = await reader.waitForTransactionReceipt({ hash });
  if (status !== "success") throw new PageError("The transaction has failed", `The chain has reverted ${hash}.`);
  return contractAddress ?? undefined;
}

/** Looks whether there is a token at an address. */
export async function openToken(unchecked: Address): Promise<Token> {
  // The SDK takes addresses with their checksum only, and the chain writes them without.
  const address = getAddress(unchecked);
  const code = await reader.getCode({ address });
  if (!code) throw new PageError("No token there", `There is no contract at ${address}.`);
  const [symbol, owner] = await Promise.all([
    reader.readContract({ address, abi, functionName: "symbol" }),
    reader.readContract({ address, abi, functionName: "owner" }),
  ]).catch(() => []);
  if (symbol !== "CTK" || !owner) throw new PageError("No token there", `The contract at ${address} is not a confidential token.`);
  return { address, owner };
}

/** Finds the token that was used last, by its events. */
export async function findToken(): Promise<Token> {
  const events = await reader.getLogs({ event: transferred, fromBlock: 0n });
  for (const address of new Set(events.map((event) => event.address).reverse())) {
    const token = await openToken(address).catch(() => undefined);
    if (token) return token;
  }
  throw new PageError("No token found", "No confidential token has moved on this chain yet. Deploy one.");
}

/** The handle of a balance; `undefined` if the account never had tokens. */
export async function balanceHandle({ address }: Token, account: Address): Promise<Hex | undefined> {
  const handle = await reader.readContract({ address, abi, functionName: "balanceOf", args: [account] });
  return BigInt(handle) === 0n ? undefined : handle;
}

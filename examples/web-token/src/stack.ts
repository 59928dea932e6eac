// Where everything is. With default ports these are the values that `cipherloom dev` prints at its start; the addresses of the contracts are the
// same on every development chain. `?rpc=` and `?gateway=` in the page's address, or the settings on the page, choose other ports.

import { type Hex, defineChain } from "viem";
import { privateKeyToAccount } from "viem/accounts";

const asked = new URLSearchParams(location.search);

export const rpcUrl = asked.get("rpc") || "http://127.0.0.1:8545";
export const gatewayUrl = (asked.get("gateway") || "http://127.0.0.1:8546").replace(/\/+$/, "");

export const chain = defineChain({
  id: 31337,
  name: "Cipherloom development chain",
  nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
  rpcUrls: { default: { http: [rpcUrl] } },
});

/** What the SDK is told; docs/sdks.md explains it. */
export const sdkConfiguration = {
  chainId: chain.id,
  network: rpcUrl,
  relayerUrl: `${gatewayUrl}/v2`,
  gatewayChainId: 10901,
  aclContractAddress: "0x50157CFfD6bBFA2DECe204a89ec419c23ef5755D",
  kmsContractAddress: "0x901F8942346f7AB3a01F6D7613119Bca447Bb030",
  inputVerifierContractAddress: "0x36772142b74871f255CbD7A3e89B401d3e45825f",
  verifyingContractAddressDecryption: "0x5ffdaAB0373E62E2ea2944776209aEf29E631A64",
  verifyingContractAddressInputVerification: "0x812b06e1CDCE800494b79fFE4f925A504a9A9810",
};

/**
 * Accounts that every development chain has. EVERYBODY KNOWS THEIR KEYS: they are for development chains and nothing else.
 */
const PUBLIC_KEYS: [string, Hex][] = [
  ["Alice", "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"],
  ["Bob", "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"],
  ["Carol", "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"],
];

export const developmentAccounts = PUBLIC_KEYS.map(([name, key]) => ({ name, account: privateKeyToAccount(key) }));

/** The name of an account if it is one of the development chain's, else its address in short. */
export function nameOf(address: string): string {
  const known = developmentAccounts.find(({ account }) => account.address.toLowerCase() === address.toLowerCase());
  return known ? known.name : `${address.slice(0, 6)}…${address.slice(-4)}`;
}

// The vault, compiled, and what the scripts for the libraries share.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const solc = createRequire(import.meta.url)("solc");

/** Compiles the vault and returns its ABI and creation code. */
export function compile() {
  const input = {
    language: "Solidity",
    sources: { "Vault.sol": { content: readFileSync(new URL("contracts/Vault.sol", import.meta.url), "utf8") } },
    settings: { evmVersion: "cancun", outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } } },
  };
  const { contracts, errors } = JSON.parse(solc.compile(JSON.stringify(input)));
  if (!contracts) throw new Error(JSON.stringify(errors));
  const { abi, evm } = contracts["Vault.sol"].Vault;
  return { abi, bytecode: `0x${evm.bytecode.object}` };
}

/** Waits for something, and fails when it does not come: a lost event must not hang the test. */
export function within(seconds, what, promise) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`${what} did not come within ${seconds} s`)), seconds * 1000)));
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// The toolbox as `npx hardhat --init` sets it up, with the compiler from npm and one network: the node under test.

import { createRequire } from "node:module";
import hardhatToolboxMochaEthers from "@nomicfoundation/hardhat-toolbox-mocha-ethers";
import { defineConfig } from "hardhat/config";

export default defineConfig({
  plugins: [hardhatToolboxMochaEthers],
  solidity: {
    version: "0.8.29",
    // Hardhat would download a compiler; this is the same one, from npm.
    path: createRequire(import.meta.url).resolve("solc/soljson.js"),
    settings: { evmVersion: "cancun" },
  },
  networks: { embedded: { type: "http", chainType: "l1", url: process.env.NODE_URL } },
});

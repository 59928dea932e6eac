// The toolbox as `npx hardhat init` sets it up, with the compiler from npm and one network: the node under test.

const { subtask } = require("hardhat/config");
const { TASK_COMPILE_SOLIDITY_GET_SOLC_BUILD } = require("hardhat/builtin-tasks/task-names");
require("@nomicfoundation/hardhat-toolbox");

// Hardhat would download a compiler; this is the same one, from npm.
subtask(TASK_COMPILE_SOLIDITY_GET_SOLC_BUILD, async ({ solcVersion }) => ({
  version: solcVersion,
  longVersion: require("solc").version(),
  compilerPath: require.resolve("solc/soljson.js"),
  isSolcJs: true,
}));

module.exports = {
  solidity: { version: "0.8.29", settings: { evmVersion: "cancun" } },
  defaultNetwork: "embedded",
  networks: { embedded: { url: process.env.NODE_URL } },
};

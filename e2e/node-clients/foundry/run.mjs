// forge script and cast, as programs, against a node.
//
// usage: node run.mjs RPC_URL PRIVATE_KEY, in the project's folder

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";

const [rpc, key] = process.argv.slice(2);
const program = (name) => `node_modules/@foundry-rs/${name}-linux-amd64/bin/${name}`;
const env = { ...process.env, ETH_RPC_URL: rpc, DEPLOYER_KEY: key, FOUNDRY_DISABLE_NIGHTLY_WARNING: "1" };

/** Runs a program and returns what it prints, or fails with what it complains about. */
function run(name, ...args) {
  const shown = args.map((argument) => (argument.length > 200 ? `${argument.slice(0, 200)}…` : argument));
  console.log(`+ ${name} ${shown.join(" ").replaceAll(key, "KEY")}`);
  return execFileSync(program(name), args, { env, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] }).trim();
}

const cast = (...args) => run("cast", ...args);
const castJson = (...args) => JSON.parse(cast(...args, "--json"));

/** Runs cast and returns what it complains about. */
function complaint(...args) {
  try {
    execFileSync(program("cast"), args, { env, encoding: "utf8", stdio: "pipe" });
  } catch (error) {
    return error.stderr;
  }
  throw new Error(`cast ${args[0]} works, and should not`);
}

function forgeScript() {
  const chain = cast("chain-id");
  run("forge", "script", "script/Deploy.s.sol:Deploy", "--broadcast", "--rpc-url", rpc);
  const { transactions, receipts } = JSON.parse(readFileSync(`broadcast/Deploy.s.sol/${chain}/run-latest.json`, "utf8"));
  assert.equal(transactions.length, 4);
  assert.deepEqual(receipts.map((receipt) => receipt.status), ["0x1", "0x1", "0x1", "0x1"]);
  const [created, , , second] = transactions;
  assert.equal(created.transactionType, "CREATE");
  assert.equal(second.transactionType, "CREATE2");
  assert.notEqual(cast("code", second.contractAddress), "0x");
  // Everything has a receipt already.
  assert.match(run("forge", "script", "script/Deploy.s.sol:Deploy", "--resume", "--broadcast", "--rpc-url", rpc, "--private-key", key), /SUCCESS|COMPLETE/i);
  return created.contractAddress;
}

function forgeCreate() {
  const output = run("forge", "create", "contracts/Vault.sol:Vault", "--broadcast", "--json", "--rpc-url", rpc, "--private-key", key, "--constructor-args", "5");
  const { deployedTo } = JSON.parse(output);
  assert.equal(cast("call", deployedTo, "opensAt()(uint256)"), "5");
}

function castReads(vault) {
  const deployer = cast("wallet", "address", "--private-key", key);
  assert.equal(cast("call", vault, "total()(uint256)"), "23");
  assert.equal(cast("call", vault, "owner()(address)"), deployer);
  assert.equal(BigInt(cast("storage", vault, "0")), 23n);
  assert.equal(cast("balance", vault), "1023");
  assert.equal(Number(cast("codesize", vault)), (cast("code", vault).length - 2) / 2);
  assert.equal(Number(cast("nonce", deployer)), Number(castJson("tx", castJson("block", "latest").transactions[0]).nonce) + 1);
  const logs = castJson("logs", "--from-block", "0", "--to-block", "latest", "--address", vault, "Deposit(address indexed,uint256,uint256)");
  assert.deepEqual(logs.map((log) => BigInt(log.data.slice(0, 66))), [11n, 12n]);
  const block = castJson("block", "latest");
  assert.equal(BigInt(block.number), BigInt(cast("block-number")));
  assert.equal(cast("age", "latest").length > 0, true);
  assert(Number(cast("gas-price")) > 0 && Number(cast("basefee")) > 0);
  assert(Number(cast("estimate", vault, "deposit()", "--value", "1")) > 21_000);
  assert.equal(castJson("proof", vault, "0").storageProof[0].value, "0x17");
  assert.match(cast("client"), /cipherloom-node/);
  assert.match(cast("access-list", vault, "deposit()", "--value", "1"), new RegExp(vault, "i"));
  assert.equal(Number(cast("find-block", String(Number(block.timestamp)))) <= Number(block.number), true);
  assert.match(complaint("call", vault, "complain()"), /out of order/);
  assert.match(complaint("call", vault, "divide(uint256)", "0"), /0x12|division/);
  assert.match(cast("call", vault, "total()(uint256)", "--trace"), /successfully executed/);
  assert.equal(cast("call", vault, "total()(uint256)", "--override-state-diff", `${vault}:0:0x5`), "5");
}

function castWrites(vault) {
  const receipt = castJson("send", vault, "deposit()", "--value", "4", "--private-key", key);
  assert.equal(receipt.status, "0x1");
  assert.deepEqual(castJson("receipt", receipt.transactionHash).logs, receipt.logs);
  assert.match(cast("run", receipt.transactionHash), /successfully executed/);
  assert.equal(castJson("send", vault, "deposit()", "--value", "1", "--legacy", "--private-key", key).type, "0x0");
  assert.match(complaint("send", vault, "withdraw()", "--private-key", key), /revert/);
  const signed = cast("mktx", vault, "deposit()", "--value", "2", "--private-key", key);
  assert.equal(castJson("publish", signed).status ?? "0x1", "0x1");
  const [unlocked] = JSON.parse(cast("rpc", "eth_accounts"));
  assert.equal(castJson("send", vault, "deposit()", "--value", "3", "--from", unlocked, "--unlocked").status, "0x1");
  assert.equal(cast("call", vault, "total()(uint256)"), "33");
}

function castControls(vault) {
  const snapshot = JSON.parse(cast("rpc", "evm_snapshot"));
  cast("rpc", "anvil_setStorageAt", vault, "0x0", `0x${"0".repeat(62)}63`);
  assert.equal(cast("call", vault, "total()(uint256)"), "99");
  const somebody = "0x00000000000000000000000000000000000000aa";
  cast("rpc", "anvil_setBalance", somebody, "0xde0b6b3a7640000");
  cast("rpc", "anvil_impersonateAccount", somebody);
  assert.equal(castJson("send", vault, "deposit()", "--value", "1", "--from", somebody, "--unlocked").status, "0x1");
  const before = Number(castJson("block", "latest").timestamp);
  cast("rpc", "evm_increaseTime", "3600");
  cast("rpc", "anvil_mine", "3");
  assert(Number(castJson("block", "latest").timestamp) >= before + 3600);
  assert.equal(cast("rpc", "evm_revert", snapshot), "true");
  assert.equal(cast("call", vault, "total()(uint256)"), "33");
  const dump = JSON.parse(cast("rpc", "anvil_dumpState"));
  cast("rpc", "anvil_reset");
  assert.equal(cast("block-number"), "0");
  assert.equal(cast("code", vault), "0x");
  cast("rpc", "anvil_loadState", dump);
  assert.equal(cast("call", vault, "total()(uint256)"), "33");
}

cast("rpc", "anvil_reset");
const vault = forgeScript();
castReads(vault);
castWrites(vault);
castControls(vault);
forgeCreate();

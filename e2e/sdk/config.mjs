// Runs what `cipherloom sdk-config` prints for each SDK: as a person who pastes it.
//
// usage: node config.mjs STACK BINARY
//   STACK   a file with the summary of `cipherloom dev --json`
//   BINARY  the executable `cipherloom`

import { execFileSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { check, equal } from "./check.mjs";
import { configuration as fhevm } from "./sdks/fhevm-sdk.mjs";
import { configuration as relayer } from "./sdks/relayer-sdk.mjs";
import { configuration as zama } from "./sdks/zama-sdk.mjs";
import { Steps } from "./steps.mjs";
import { World } from "./world.mjs";

const [stackFile, binary] = process.argv.slice(2);
check(binary, "usage: node config.mjs STACK BINARY");
const stack = JSON.parse(readFileSync(stackFile, "utf8"));

/** What the command prints for this stack. */
function printed(...options) {
  return execFileSync(binary, ["sdk-config", "--rpc", stack.rpcUrl, "--gateway", stack.gatewayUrl, ...options], { encoding: "utf8" });
}

/** Runs what the command prints, and gives back what it exports. */
async function pasted(...options) {
  // Next to the packages, where it finds them.
  const file = fileURLToPath(new URL(`node_modules/.pasted-${process.pid}-${options.join("-").replaceAll(/[^\w-]/g, "")}.mjs`, import.meta.url));
  writeFileSync(file, printed(...options));
  try {
    return await import(file);
  } finally {
    rmSync(file);
  }
}

/** Members in one order, so that objects can be compared. */
function sorted(value) {
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.keys(value).sort().map((name) => [name, sorted(value[name])]));
}

/** Publishes a balance, for something to be decrypted. */
async function published(world) {
  await world.included(world.token.makeTotalSupplyPublic());
  return world.token.publishedTotalSupply();
}

const steps = new Steps(({ name, seconds }) => console.error(`${seconds.toFixed(2).padStart(8)} s  ${name}`));
let failure;
try {
  const handle = await published(await World.open(stack));
  for (const routes of ["1", "2"]) {
    await steps.run(`sdk-config --sdk relayer-sdk --routes ${routes}`, async () => {
      equal(sorted(JSON.parse(printed("--routes", routes, "--json"))), sorted(relayer(stack, Number(routes))), "the configuration");
      const { instance } = await pasted("--sdk", "relayer-sdk", "--routes", routes);
      equal(Object.values((await instance.publicDecrypt([handle])).clearValues), [1_000n], "the decrypted value");
    });
  }
  await steps.run("sdk-config --sdk fhevm-sdk", async () => {
    equal(sorted(JSON.parse(printed("--sdk", "fhevm-sdk", "--json"))), sorted(fhevm(stack)), "the configuration");
    const { client } = await pasted("--sdk", "fhevm-sdk");
    equal((await client.readPublicValue({ encryptedValue: handle })).value, 1_000n, "the decrypted value");
  });
  await steps.run("sdk-config --sdk zama-sdk", async () => {
    equal(sorted(JSON.parse(printed("--sdk", "zama-sdk", "--json"))), sorted(zama(stack).transports), "the configuration");
    const { relayer: sdk } = await pasted("--sdk", "zama-sdk");
    equal(Object.values((await sdk.publicDecrypt([handle])).clearValues), [1_000n], "the decrypted value");
    sdk.terminate();
  });
  await steps.run("sdk-config --web: what it prints for pages names what they import", async () => {
    check(printed("--web").includes('from "@zama-fhe/relayer-sdk/web"'), "the web build of relayer-sdk");
    check(printed("--web", "--sdk", "zama-sdk").includes("RelayerWeb"), "RelayerWeb of @zama-fhe/sdk");
  });
} catch (error) {
  console.error(error);
  failure = error.message;
}
console.log(JSON.stringify({ part: "config", ok: failure === undefined, failure, steps: steps.list }));
// SDKs leave threads behind.
process.exit(failure === undefined ? 0 : 1);

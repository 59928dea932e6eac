// Tells the story with one SDK in Node.js, unmodified and configured only. Needs Node.js 22.
//
// usage: node node.mjs relayer-v2|relayer-v1|fhevm|zama <summary of `cipherloom dev --json`, or a file with it>

import { readFileSync } from "node:fs";
import { meddle } from "./meddler.mjs";
import { REFUSALS } from "./refusals.mjs";
import { Steps } from "./steps.mjs";
import { tell } from "./story.mjs";

const [which, given] = process.argv.slice(2);

/** How each SDK is opened in Node.js. */
const OPEN = {
  async "relayer-v2"() {
    const library = await import("@zama-fhe/relayer-sdk/node");
    const { RelayerSdk } = await import("./sdks/relayer-sdk.mjs");
    return { open: (stack) => RelayerSdk.open(library, stack), slowClock: true };
  },
  async "relayer-v1"() {
    const library = await import("@zama-fhe/relayer-sdk/node");
    const { RelayerSdk } = await import("./sdks/relayer-sdk.mjs");
    return { open: (stack) => RelayerSdk.open(library, stack, 1), slowClock: true };
  },
  async fhevm() {
    const { FhevmSdk } = await import("./sdks/fhevm-sdk.mjs");
    const encryptor = async (stack) => (await OPEN["relayer-v2"]()).open(stack);
    return { open: (stack) => FhevmSdk.open(stack, stack.native ? () => encryptor(stack) : undefined), slowClock: true };
  },
  async zama() {
    const { RelayerNode } = await import("@zama-fhe/sdk/node");
    const { ZamaSdk } = await import("./sdks/zama-sdk.mjs");
    return { open: (stack) => ZamaSdk.open(RelayerNode, stack, { poolSize: 1 }), slowClock: false };
  },
};

if (!OPEN[which] || !given) {
  console.error(`usage: node node.mjs ${Object.keys(OPEN).join("|")} <summary of \`cipherloom dev --json\`, or a file with it>`);
  process.exit(2);
}
const stack = JSON.parse(given.startsWith("{") ? given : readFileSync(given, "utf8"));
const steps = new Steps(({ name, seconds, refused }) => {
  console.error(`${seconds.toFixed(2).padStart(8)} s  ${name}${refused ? `: ${refused.error}${refused.label ? ` (${refused.label})` : ""}` : ""}`);
});
const meddler = await meddle(stack);
let failure;
try {
  await tell({ ...(await OPEN[which]()), stack, meddled: meddler.stack, expected: REFUSALS[which], steps });
} catch (error) {
  console.error(error);
  failure = error.message;
}
console.log(JSON.stringify({ part: which, ok: failure === undefined, failure, steps: steps.list }));
// SDKs leave threads and timers behind.
process.exit(failure === undefined ? 0 : 1);

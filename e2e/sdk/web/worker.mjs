// The worker in which relayer-sdk and @fhevm/sdk run.

import { REFUSALS } from "../refusals.mjs";
import { Steps } from "../steps.mjs";
import { tell } from "../story.mjs";

/** How each SDK is opened in a browser. */
async function opener(which) {
  if (which === "fhevm") {
    const { FhevmSdk } = await import("../sdks/fhevm-sdk.mjs");
    return (stack) => FhevmSdk.open(stack);
  }
  const library = await import("@zama-fhe/relayer-sdk/web");
  const { RelayerSdk } = await import("../sdks/relayer-sdk.mjs");
  // Once, before anything else.
  await library.initSDK();
  return (stack) => RelayerSdk.open(library, stack, which === "relayer-v1" ? 1 : 2);
}

self.onmessage = async ({ data: { which, stack, meddled } }) => {
  const steps = new Steps((step) => self.postMessage({ step }));
  let failure;
  try {
    const open = await steps.run("load the WebAssembly", () => opener(which));
    await tell({ open, stack, meddled, expected: REFUSALS[which], slowClock: true, steps });
  } catch (error) {
    console.error(error);
    failure = error.message;
  }
  self.postMessage({ result: { failure, steps: steps.list } });
};

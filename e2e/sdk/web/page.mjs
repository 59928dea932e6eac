// The page: tells the story with the SDK that the address names, and shows each step.
//
// `?sdk=` chooses the SDK, `&part=short` leaves the refusals out. What is behind `#` is the summary of `cipherloom dev --json`; without it the
// stack is where `cipherloom dev` starts it by default.

import { Steps } from "../steps.mjs";
import { REFUSALS } from "../refusals.mjs";
import { tell } from "../story.mjs";
import DEFAULT_STACK from "./default-stack.json" with { type: "json" };

const asked = new URLSearchParams(location.search);
const which = asked.get("sdk");
const { stack = DEFAULT_STACK, meddled } = location.hash ? JSON.parse(decodeURIComponent(location.hash.slice(1))) : {};

const state = document.querySelector("#state");
const rows = document.querySelector("#steps");

function show({ name, seconds, refused, failed }) {
  const row = rows.insertRow();
  row.insertCell().textContent = `${seconds.toFixed(2)} s`;
  const cell = row.insertCell();
  cell.textContent = `${failed ? "FAILED: " : ""}${name}`;
  if (refused) cell.append(Object.assign(document.createElement("small"), { textContent: ` – ${refused.error}${refused.label ? ` (${refused.label})` : ""}: ${refused.text}` }));
}

/** Runs the story in a worker: a proof keeps a processor busy for seconds, and threads may be waited for in workers alone. */
function inWorker(options) {
  const worker = new Worker(new URL("./worker.mjs", import.meta.url), { type: "module" });
  return new Promise((resolve, reject) => {
    worker.onerror = (event) => reject(new Error(`the worker does not run: ${event.message}`));
    worker.onmessage = ({ data: { step, result } }) => {
      if (step) show(step);
      if (result) resolve(result);
    };
    worker.postMessage(options);
  });
}

/** `RelayerWeb` starts a worker by itself. It gets the code that runs there from a public address, whose content it can check. */
async function withRelayerWeb() {
  const { RelayerWeb } = await import("@zama-fhe/sdk");
  const { ZamaSdk } = await import("../sdks/zama-sdk.mjs");
  // The check is for one release that npm does not have; the page's server answers with the newest.
  const options = { security: { integrityCheck: false }, ...(crossOriginIsolated ? { threads: navigator.hardwareConcurrency } : {}) };
  const steps = new Steps(show);
  let failure;
  try {
    await tell({ open: (on) => ZamaSdk.open(RelayerWeb, on, options), stack, meddled, expected: REFUSALS.zama, slowClock: false, steps });
  } catch (error) {
    console.error(error);
    failure = error.message;
  }
  return { failure, steps: steps.list };
}

if (which) {
  document.querySelector("#title").textContent = `${which} in a browser`;
  state.textContent = `Running, ${crossOriginIsolated ? "with threads" : "without threads: the page is not isolated from other origins"} …`;
  const result = await (which === "zama" ? withRelayerWeb() : inWorker({ which, stack, meddled })).catch((error) => ({ failure: error.message, steps: [] }));
  state.textContent = result.failure ? `Failed: ${result.failure}` : "Everything is as it should be.";
  globalThis.result = { part: which, isolated: crossOriginIsolated, ok: result.failure === undefined, ...result };
}

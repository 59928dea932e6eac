// What the story asserts with, in Node.js and in browsers alike.

/** Writes values as they are compared and shown: numbers of any size, lists, plain objects. */
function written(value) {
  return JSON.stringify(value, (_, part) => (typeof part === "bigint" ? `${part}n` : part)) ?? String(value);
}

export function check(condition, message) {
  if (!condition) throw new Error(`not as it should be: ${message}`);
}

/** Compares by content. */
export function equal(actual, expected, what = "the value") {
  check(written(actual) === written(expected), `${what} is ${written(actual)}, not ${written(expected)}`);
}

/** The part of an error that a page can act upon: its class, codes, the gateway's label, and all that it and its causes say. */
export function describe(error) {
  const found = { name: error?.name ?? typeof error, class: error?.constructor?.name, text: "" };
  const texts = [];
  for (let cause = error, depth = 0; cause && depth < 8; cause = cause.cause, depth++) {
    texts.push(cause.shortMessage ?? cause.message ?? String(cause));
    found.code ??= cause.code;
    found.status ??= cause.status ?? cause.statusCode;
    found.label ??= cause.relayerApiError?.label;
    for (const detail of cause.relayerApiError?.details ?? []) texts.push(`${detail.field}: ${detail.issue}`);
  }
  found.text = texts.join(" | ");
  return found;
}

/**
 * Waits until something is refused, and checks how: `expected` names the parts of `describe` that have to match, each by equality or by a regular
 * expression.
 */
export async function refused(promise, expected) {
  let result;
  try {
    result = await promise;
  } catch (error) {
    const found = describe(error);
    for (const [part, wanted] of Object.entries(expected)) {
      const matches = wanted instanceof RegExp ? wanted.test(String(found[part])) : found[part] === wanted;
      if (!matches) throw new Error(`refused, but with ${part} = ${written(found[part])} instead of ${wanted}: ${written(found)}`, { cause: error });
    }
    return found;
  }
  throw new Error(`this should have been refused, and gave ${written(result)}`);
}

// What a deployed contract is bound to and reviewers want to see change: its ABI as text, where it keeps what in storage,
// and where its immutables stand in its code.

import { createRequire } from "node:module";

// The compiler's own hash function; it is installed with it.
const { keccak256 } = createRequire(createRequire(import.meta.url).resolve("solc"))("js-sha3");

const NAMESPACE = /@custom:storage-location\s+erc7201:([A-Za-z0-9_.]+)/;

/** Returns the storage slot of an ERC-7201 namespace. */
function namespaceSlot(id) {
  const preimage = BigInt(`0x${keccak256(id)}`) - 1n;
  const hash = BigInt(`0x${keccak256(Buffer.from(preimage.toString(16).padStart(64, "0"), "hex"))}`);
  return `0x${(hash & ~0xffn).toString(16).padStart(64, "0")}`;
}

/** Calls `visit` with every node of a syntax tree. */
function walk(node, visit) {
  if (Array.isArray(node)) return node.forEach((item) => walk(item, visit));
  if (node === null || typeof node !== "object") return;
  if (typeof node.nodeType === "string") visit(node);
  for (const value of Object.values(node)) if (typeof value === "object") walk(value, visit);
}

/** Everything that other parts of a tree refer to by number. */
function index(output) {
  const byId = new Map();
  const sourceOf = new Map();
  for (const [source, { ast }] of Object.entries(output.sources)) {
    walk(ast, (node) => {
      byId.set(node.id, node);
      if (node.nodeType === "ContractDefinition") sourceOf.set(node.id, source);
    });
  }
  return { byId, sourceOf };
}

/** Lists the namespaced structs of a contract and everything it inherits from, in the order of inheritance. */
function namespacedStructs(definition, { byId, sourceOf }, textOf) {
  return definition.linearizedBaseContracts.flatMap((id) => {
    const base = byId.get(id);
    const text = Buffer.from(textOf(sourceOf.get(id)), "utf8");
    return base.nodes
      .filter(({ nodeType }) => nodeType === "StructDefinition")
      .flatMap((struct) => {
        // The comment stands right before the struct.
        const [start] = struct.src.split(":").map(Number);
        const before = text.subarray(0, start).toString("utf8");
        const comment = before.slice(Math.max(before.lastIndexOf("}"), before.lastIndexOf(";"), before.lastIndexOf("{")) + 1);
        const found = NAMESPACE.exec(comment);
        return found ? [{ id: found[1], base: base.name, source: sourceOf.get(id), struct: struct.name }] : [];
      });
  });
}

/** A source with one contract per probed contract, whose variables are the namespaced structs: the compiler lays out only variables. */
function probe(name, structs) {
  const imports = structs.map(({ base, source }, at) => `import {${base} as Base${at}} from "${source}";`);
  const variables = structs.map(({ struct }, at) => `    Base${at}.${struct} internal n${at};`);
  return `// SPDX-License-Identifier: Apache-2.0\npragma solidity ^0.8.24;\n${imports.join("\n")}\nabstract contract Probe${name} {\n${variables.join("\n")}\n}\n`;
}

/** Type names without the compiler's node numbers, which change with every edit of any source. */
const plain = (type) => type.replaceAll(/(t_(?:struct|enum|contract|userDefinedValueType)\([\w$]+\))\d+/g, "$1");

const member = (base) => ({ label, slot, offset, type }) => ({ label, slot: Number(BigInt(slot) - base), offset, type: plain(type) });

/** Takes over the types that `names` reach. */
function collectTypes(types, names, into, fail) {
  for (const name of names) {
    const type = types[name];
    const entry = { encoding: type.encoding, bytes: Number(type.numberOfBytes) };
    if (type.key) Object.assign(entry, { key: plain(type.key), value: plain(type.value) });
    if (type.base) entry.base = plain(type.base);
    if (type.members) entry.members = type.members.map(member(0n));
    const known = into[plain(name)];
    if (known && JSON.stringify(known) !== JSON.stringify(entry)) fail(`two different types are called ${plain(name)}`);
    if (known) continue;
    into[plain(name)] = entry;
    const reached = [type.key, type.value, type.base, ...(type.members ?? []).map(({ type: inner }) => inner)];
    collectTypes(types, reached.filter(Boolean), into, fail);
  }
}

function layout(name, contract, probed, structs, fail) {
  const types = {};
  const namespaces = structs.map(({ id, base, struct }, at) => {
    const variable = probed.storage[at];
    const type = probed.types[variable.type];
    const slot = namespaceSlot(id);
    // Members beyond the first are addressed by sums, and all of them end in another last byte at most.
    const prefix = slot.slice(2, -2).replace(/^(00)+/, "");
    if (!contract.evm.deployedBytecode.object.includes(prefix)) {
      fail(`${name} never uses the slot ${slot} of its namespace ${id} (${base}.${struct})`);
    }
    collectTypes(probed.types, type.members.map(({ type: inner }) => inner), types, fail);
    return { id: `erc7201:${id}`, slot, members: type.members.map(member(0n)) };
  });
  const linear = contract.storageLayout.storage;
  if (linear.length > 0) {
    collectTypes(contract.storageLayout.types, linear.map(({ type }) => type), types, fail);
    namespaces.push({ id: "linear", slot: `0x${"0".repeat(64)}`, members: linear.map(member(0n)) });
  }
  namespaces.sort((a, b) => (a.id < b.id ? -1 : 1));
  const sorted = Object.fromEntries(Object.entries(types).sort(([a], [b]) => (a < b ? -1 : 1)));
  return { contract: name, namespaces, types: sorted };
}

function parameters(list) {
  const one = ({ type, components, name, indexed }) => {
    const spelled = components ? `(${components.map(one).join(", ")})${type.slice("tuple".length)}` : type;
    return [spelled, indexed && "indexed", name].filter(Boolean).join(" ");
  };
  return `(${list.map(one).join(", ")})`;
}

/** One line per item, as ethers and alloy read them, in order of kind and name. */
function readableAbi(abi) {
  const kinds = ["constructor", "receive", "fallback", "function", "event", "error"];
  const line = ({ type, name, inputs, outputs, stateMutability, anonymous }) =>
    [
      type === "constructor" || type === "receive" || type === "fallback" ? type + parameters(inputs ?? []) : `${type} ${name}${parameters(inputs)}`,
      stateMutability && stateMutability !== "nonpayable" && stateMutability,
      outputs?.length > 0 && `returns ${parameters(outputs)}`,
      anonymous && "anonymous",
    ]
      .filter(Boolean)
      .join(" ");
  const lines = kinds.flatMap((kind) =>
    abi
      .filter(({ type }) => type === kind)
      .map(line)
      .sort(),
  );
  return `${lines.join("\n")}\n`;
}

/** Where each immutable stands in the code, by its name. */
function immutables({ evm }, { byId }) {
  const found = Object.entries(evm.deployedBytecode.immutableReferences ?? {}).map(([id, places]) => {
    for (const { length } of places) if (length !== 32) throw new Error(`an immutable of ${length} bytes`);
    return [byId.get(Number(id)).name, places.map(({ start }) => start).sort((a, b) => a - b)];
  });
  return Object.fromEntries(found.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/**
 * Returns what to write: file names below the snapshots' folder and their texts.
 *
 * `output` needs ABI, code, storage layouts and syntax trees; `compile` compiles further sources to storage layouts.
 */
export function snapshots(artifacts, output, textOf, compile, fail) {
  const numbers = index(output);
  const definitions = [...numbers.byId.values()].filter(({ nodeType }) => nodeType === "ContractDefinition");
  const structsOf = new Map(
    artifacts.map(({ sourceName, name }) => {
      const definition = definitions.find((one) => one.name === name && numbers.sourceOf.get(one.id) === sourceName);
      return [name, namespacedStructs(definition, numbers, textOf)];
    }),
  );
  const probes = Object.fromEntries([...structsOf].map(([name, structs]) => [`probes/${name}.sol`, probe(name, structs)]));
  const probed = compile(probes);
  const files = {};
  const code = {};
  for (const { name, contract } of artifacts) {
    const layoutOfProbe = probed.contracts[`probes/${name}.sol`][`Probe${name}`].storageLayout;
    const storage = layout(name, contract, layoutOfProbe, structsOf.get(name), fail);
    files[`storage/${name}.json`] = `${JSON.stringify(storage, null, 2)}\n`;
    files[`abi/${name}.txt`] = readableAbi(contract.abi);
    code[name] = immutables(contract, numbers);
  }
  files["code/immutables.json"] = `${JSON.stringify(code, null, 2)}\n`;
  return files;
}

// Compiles Solidity sources with the pinned compiler and writes one artifact per contract.
//
//   node compile.mjs --root NAME=DIR… --out DIR [--map PREFIX=DIR…] [--modules DIR…] [--only CONTRACT…] [--snapshots DIR]
//
// --root     compile every .sol file below DIR; source names begin with NAME (never with a path of this machine, because
//            source names reach the artifacts)
// --map      imports that begin with PREFIX/ are read below DIR; the longest prefix wins
// --modules  other imports are looked up below these folders, in order (default: node_modules next to this script)
// --only     write only these contracts (default: every contract of the roots that has bytecode)
// --snapshots  write ABI, storage layouts and places of immutables of these contracts below this folder too
//
// The compiler's settings are fixed here, so equal sources give equal bytes everywhere.

import fs from "node:fs";
import path from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { fileURLToPath } from "node:url";
import solc from "solc";
import { snapshots } from "./snapshot.mjs";

const MAX_RUNTIME_BYTES = 24_576; // EIP-170

const SETTINGS = {
  evmVersion: "cancun",
  optimizer: { enabled: true, runs: 800 },
  metadata: { bytecodeHash: "none", appendCBOR: false },
};

const CODE_OUTPUT = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"];
const ARTIFACT_OUTPUT = { "*": { "*": CODE_OUTPUT } };
const SNAPSHOT_OUTPUT = { "*": { "*": [...CODE_OUTPUT, "evm.deployedBytecode.immutableReferences", "storageLayout"], "": ["ast"] } };

// The compiler warns of every use of transient storage; the host contracts use it on purpose and clean it on request.
const IGNORED_WARNINGS = new Set(["2394"]);

const here = path.dirname(fileURLToPath(import.meta.url));

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

/** Splits NAME=DIR. */
function pair(text) {
  const at = text.indexOf("=");
  if (at < 1) fail(`expected NAME=DIR, got ${text}`);
  return [text.slice(0, at), path.resolve(text.slice(at + 1))];
}

function solidityFiles(directory) {
  return fs
    .readdirSync(directory, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const full = path.join(directory, entry.name);
      if (entry.isDirectory()) return entry.name === "node_modules" ? [] : solidityFiles(full);
      return entry.name.endsWith(".sol") ? [full] : [];
    });
}

/** Returns the function with which the compiler asks for a source by its name; `texts` keeps what it got. */
function importer(roots, maps, modules, texts) {
  const prefixes = [...roots, ...maps].sort(([a], [b]) => b.length - a.length);
  return (name) => {
    const mapped = prefixes.find(([prefix]) => name.startsWith(`${prefix}/`));
    const candidates = mapped
      ? [path.join(mapped[1], name.slice(mapped[0].length + 1))]
      : modules.map((folder) => path.join(folder, name));
    const found = candidates.find((candidate) => fs.existsSync(candidate));
    if (!found) return { error: `${name} not found; looked at ${candidates.join(", ")}` };
    texts[name] = fs.readFileSync(found, "utf8");
    return { contents: texts[name] };
  };
}

const { values: options } = parseArgs({
  options: {
    root: { type: "string", multiple: true },
    map: { type: "string", multiple: true, default: [] },
    modules: { type: "string", multiple: true, default: [path.join(here, "node_modules")] },
    only: { type: "string", multiple: true },
    out: { type: "string" },
    snapshots: { type: "string" },
  },
});
if (!options.root || !options.out) fail("--root NAME=DIR and --out DIR are needed");

const roots = options.root.map(pair);
const sources = {};
for (const [name, directory] of roots) {
  for (const file of solidityFiles(directory)) {
    const sourceName = path.posix.join(name, path.relative(directory, file).split(path.sep).join("/"));
    sources[sourceName] = { content: fs.readFileSync(file, "utf8") };
  }
}

const modules = options.modules.map((folder) => path.resolve(folder));
const texts = {};
const findImport = importer(roots, options.map.map(pair), modules, texts);

/** Compiles, or ends the process with the compiler's messages. */
function compile(input, outputSelection) {
  const settings = { ...SETTINGS, outputSelection };
  const output = JSON.parse(solc.compile(JSON.stringify({ language: "Solidity", sources: input, settings }), { import: findImport }));
  const problems = output.errors ?? [];
  const ours = (problem) =>
    problem.severity === "error" || (problem.sourceLocation?.file in input && !IGNORED_WARNINGS.has(problem.errorCode));
  for (const problem of problems.filter(ours)) process.stderr.write(`${problem.formattedMessage}\n`);
  if (problems.some((problem) => problem.severity === "error")) process.exit(1);
  return output;
}

const output = compile(sources, options.snapshots ? SNAPSHOT_OUTPUT : ARTIFACT_OUTPUT);

const artifacts = Object.keys(sources)
  .sort()
  .flatMap((sourceName) => Object.entries(output.contracts?.[sourceName] ?? {}).map(([name, contract]) => ({ sourceName, name, contract })))
  .filter(({ name, contract }) => (options.only ? options.only.includes(name) : contract.evm.bytecode.object !== "" && contract.abi.length > 0));

const missing = (options.only ?? []).filter((name) => !artifacts.some((artifact) => artifact.name === name));
if (missing.length > 0) fail(`no such contract: ${missing.join(", ")}`);
const names = artifacts.map(({ name }) => name);
const twice = names.find((name, index) => names.indexOf(name) !== index);
if (twice) fail(`two contracts are called ${twice}; one artifact cannot hold both`);

fs.mkdirSync(options.out, { recursive: true });
for (const { sourceName, name, contract } of artifacts) {
  const runtimeBytes = contract.evm.deployedBytecode.object.length / 2;
  if (runtimeBytes > MAX_RUNTIME_BYTES) fail(`${name} has ${runtimeBytes} bytes, more than the ${MAX_RUNTIME_BYTES} a chain accepts`);
  const artifact = {
    contractName: name,
    sourceName,
    abi: contract.abi,
    bytecode: `0x${contract.evm.bytecode.object}`,
    deployedBytecode: `0x${contract.evm.deployedBytecode.object}`,
  };
  fs.writeFileSync(path.join(options.out, `${name}.json`), `${JSON.stringify(artifact, null, 2)}\n`);
  process.stdout.write(`${name} ${runtimeBytes}\n`);
}

if (options.snapshots) {
  // Probes import the same sources again, and nothing of those is asked for.
  const layouts = (probes) => {
    const names = Object.keys(probes);
    const selection = Object.fromEntries(names.map((name) => [name, { "*": ["storageLayout"] }]));
    return compile(Object.fromEntries(names.map((name) => [name, { content: probes[name] }])), selection);
  };
  const textOf = (name) => sources[name]?.content ?? texts[name];
  for (const [name, text] of Object.entries(snapshots(artifacts, output, textOf, layouts, fail))) {
    const file = path.join(options.snapshots, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, text);
  }
}

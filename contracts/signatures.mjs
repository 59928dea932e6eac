// Lists what a Solidity library offers to the contracts that import it, one declaration per line.
//
//   node signatures.mjs --package NAME=DIR [--modules DIR…] --source PATH… --declaration NAME…
//
// --package      the library: imports that begin with NAME/ are read below DIR
// --modules      other imports are looked up below these folders
// --source       sources of the library to import, relative to NAME
// --declaration  the libraries and contracts to list; types and structs of those sources are listed always
//
// The list comes from the compiler's syntax tree, so it says what contracts can call and not how it is written.

import fs from "node:fs";
import path from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import solc from "solc";

const { values: options } = parseArgs({
  options: {
    package: { type: "string" },
    modules: { type: "string", multiple: true, default: [] },
    source: { type: "string", multiple: true },
    declaration: { type: "string", multiple: true },
  },
});

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

if (!options.package || !options.source || !options.declaration) fail("--package, --source and --declaration are needed");
const at = options.package.indexOf("=");
const [prefix, directory] = [options.package.slice(0, at), options.package.slice(at + 1)];

function read(name) {
  const candidates = name.startsWith(`${prefix}/`)
    ? [path.join(directory, name.slice(prefix.length + 1))]
    : options.modules.map((folder) => path.join(folder, name));
  const found = candidates.find((candidate) => fs.existsSync(candidate));
  return found ? { contents: fs.readFileSync(found, "utf8") } : { error: `${name} not found` };
}

const imports = options.source.map((source) => `import "${prefix}/${source}";`).join("\n");
const input = {
  language: "Solidity",
  sources: { "all.sol": { content: `pragma solidity ^0.8.24;\n${imports}\n` } },
  settings: { outputSelection: { "*": { "": ["ast"] } } },
};
const output = JSON.parse(solc.compile(JSON.stringify(input), { import: read }));
const errors = (output.errors ?? []).filter((problem) => problem.severity === "error");
if (errors.length > 0) fail(errors.map((problem) => problem.formattedMessage).join("\n"));

function typeName(parameter) {
  const name = parameter.typeDescriptions.typeString.replace(/^(enum|struct) /, "");
  return parameter.storageLocation === "default" ? name : `${name} ${parameter.storageLocation}`;
}
const list = (parameters) => parameters.parameters.map(typeName).join(",");

function* members(contract) {
  yield `${contract.contractKind} ${contract.name}`;
  for (const member of contract.nodes) {
    const name = `${contract.name}.${member.name}`;
    if (member.nodeType === "FunctionDefinition" && member.kind !== "constructor" && member.visibility !== "private") {
      yield `function ${name}(${list(member.parameters)}) ${member.visibility} ${member.stateMutability} returns (${list(member.returnParameters)})`;
    }
    if (member.nodeType === "ErrorDefinition") yield `error ${name}(${list(member.parameters)})`;
    if (member.nodeType === "EventDefinition") {
      const fields = member.parameters.parameters.map((field) => `${typeName(field)}${field.indexed ? " indexed" : ""}`);
      yield `event ${name}(${fields.join(",")})`;
    }
  }
}

const lines = new Set();
for (const source of Object.values(output.sources)) {
  for (const node of source.ast.nodes) {
    if (node.nodeType === "ContractDefinition" && options.declaration.includes(node.name)) {
      for (const line of members(node)) lines.add(line);
    }
    if (node.nodeType === "UserDefinedValueTypeDefinition") lines.add(`type ${node.name} is ${node.underlyingType.name}`);
    if (node.nodeType === "StructDefinition") {
      lines.add(`struct ${node.name} {${node.members.map((field) => `${field.typeDescriptions.typeString} ${field.name}`).join("; ")}}`);
    }
  }
}
process.stdout.write([...lines].sort().map((line) => `${line}\n`).join(""));

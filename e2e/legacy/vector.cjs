// Makes the input list that a test of the fhe crate reads: with the WebAssembly inside fhevmjs 0.6.2, for the small keys that the test has written.
//
// usage: node vector.cjs <folder with public_key.bin and crs.bin> <list to write>

"use strict";
const { readFileSync, writeFileSync } = require("node:fs");
const { join } = require("node:path");
const tfhe = require("node-tfhe");

const [, , folder, target] = process.argv;
const LIMIT = 1n << 29n;
const read = (name) => new Uint8Array(readFileSync(join(folder, name)));
const key = tfhe.TfheCompactPublicKey.safe_deserialize(read("public_key.bin"), LIMIT);
const crs = tfhe.CompactPkePublicParams.safe_deserialize(read("crs.bin"), LIMIT);
const builder = tfhe.CompactCiphertextList.builder(key);
builder.push_u64(42n);
builder.push_boolean(true);
builder.push_u8(7);
const list = builder.build_with_proof_packed(crs, new Uint8Array(92).fill(7), tfhe.ZkComputeLoad.Verify);
writeFileSync(target, list.safe_serialize(LIMIT));

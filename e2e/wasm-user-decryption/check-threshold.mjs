// Opens the committed answers of a committee of four (crates/signcryption/tests/vectors/threshold.json) with the unmodified WebAssembly client that published
// SDKs bundle: all of them, with one wrong, with one missing. With two missing, or one changed on its way, the client must not return a value.
//
// usage: node check-threshold.mjs <threshold.json> <centralised.json>

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import * as tkms from "node-tkms";

const [vector, user] = process.argv.slice(2).map((path) => JSON.parse(readFileSync(path, "utf8")));
const hex = (text) => Uint8Array.from(Buffer.from(text, "hex"));
const publicKey = tkms.u8vec_to_ml_kem_pke_pk(hex(user.publicKey));
const privateKey = () => tkms.u8vec_to_ml_kem_pke_sk(hex(user.privateKeyForWasm));

function open(answers) {
  const chainId = new Uint8Array(32);
  new DataView(chainId.buffer).setUint32(28, 10901);
  const servers = vector.nodes.map((address, index) => tkms.new_server_id_addr(index + 1, address));
  const client = tkms.new_client(servers, vector.user, "default");
  const request = {
    signature: undefined,
    client_address: vector.user,
    enc_key: user.publicKey,
    ciphertext_handles: vector.handles.map((handle) => handle.slice(2)),
    eip712_verifying_contract: vector.decryption,
  };
  const domain = { name: "Decryption", version: "1", chain_id: chainId, verifying_contract: vector.decryption, salt: null };
  const responses = answers.map((answer) => ({ ...answer, extra_data: vector.extraData }));
  return tkms.process_user_decryption_resp_from_js(client, request, domain, responses, publicKey, privateKey(), true);
}

function assertValues(what, opened) {
  assert.equal(opened.length, vector.values.length, what);
  opened.forEach((plaintext, index) => {
    assert.equal(plaintext.fhe_type, parseInt(vector.handles[index].slice(62, 64), 16), `${what}: type of value ${index}`);
    const value = BigInt("0x" + Buffer.from(plaintext.bytes).toString("hex"));
    assert.equal(value, BigInt(vector.values[index]), `${what}: value ${index}`);
  });
}

const [one, two, three, four] = vector.answers;
assertValues("all answers", open([one, two, three, four]));
assertValues("another order", open([four, two, one, three]));
assertValues("party 3 wrong", open([one, two, vector.wrongAnswerOfParty3, four]));
for (const missing of vector.answers) {
  assertValues("one missing", open(vector.answers.filter((answer) => answer !== missing)));
}

const changed = structuredClone(one);
changed.payload = changed.payload.slice(0, 400) + (changed.payload[400] === "0" ? "1" : "0") + changed.payload.slice(401);
for (const [what, answers] of Object.entries({
  "two answers": [one, two],
  "one answer": [three],
  "the same answer three times": [one, one, one],
  "two answers and a changed one": [changed, two, three],
})) {
  assert.throws(() => assertValues(what, open(answers)), `the client accepted ${what}`);
}
console.log(`the published client opened ${vector.values.length} values of a committee of 4, with one wrong and with each one missing, and refused 4 sets of answers`);

// Opens the committed answer (crates/signcryption/tests/vectors/centralised.json) with the unmodified WebAssembly client that published
// SDKs bundle, and checks that the client refuses it once anything is changed.
//
// usage: node check.mjs <centralised.json>

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import * as tkms from "node-tkms";

const vector = JSON.parse(readFileSync(process.argv[2], "utf8"));
const hex = (text) => Uint8Array.from(Buffer.from(text, "hex"));
const publicKey = tkms.u8vec_to_ml_kem_pke_pk(hex(vector.publicKey));
const privateKey = () => tkms.u8vec_to_ml_kem_pke_sk(hex(vector.privateKeyForWasm));

// Our header around the key is the client's own.
assert.equal(Buffer.from(tkms.ml_kem_pke_pk_to_u8vec(publicKey)).toString("hex"), vector.publicKey);
assert.equal(
  Buffer.from(tkms.ml_kem_pke_pk_to_u8vec(tkms.ml_kem_pke_get_pk(privateKey()))).toString("hex"),
  vector.publicKey,
);

function open({ node = vector.node, user = vector.user, handles = vector.handles, payload = vector.payload, signature = vector.signature } = {}) {
  const chainId = new Uint8Array(32);
  new DataView(chainId.buffer).setUint32(28, 10901);
  const client = tkms.new_client([tkms.new_server_id_addr(1, node)], user, "default");
  const request = {
    signature: undefined,
    client_address: user,
    enc_key: vector.publicKey,
    ciphertext_handles: handles.map((handle) => handle.slice(2)),
    eip712_verifying_contract: vector.decryption,
  };
  const domain = { name: "Decryption", version: "1", chain_id: chainId, verifying_contract: vector.decryption, salt: null };
  const response = [{ payload, signature, extra_data: vector.extraData }];
  return tkms.process_user_decryption_resp_from_js(client, request, domain, response, publicKey, privateKey(), true);
}

const opened = open();
assert.equal(opened.length, vector.values.length);
opened.forEach((plaintext, index) => {
  assert.equal(plaintext.fhe_type, parseInt(vector.handles[index].slice(62, 64), 16), `type of value ${index}`);
  const value = BigInt("0x" + Buffer.from(plaintext.bytes).toString("hex"));
  assert.equal(value, BigInt(vector.values[index]), `value ${index}`);
});

const flip = (text, position) => {
  const bytes = Buffer.from(text, "hex");
  bytes[position] ^= 1;
  return bytes.toString("hex");
};
const stranger = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
for (const [what, change] of Object.entries({
  "another node": { node: stranger },
  "another user": { user: stranger },
  "other handles": { handles: vector.handles.toReversed() },
  "a changed payload": { payload: flip(vector.payload, 200) },
  "a changed signature": { signature: flip(vector.signature, 10) },
})) {
  assert.throws(() => open(change), `the client accepted ${what}`);
}
console.log(`the published client opened ${opened.length} values and refused 5 changed answers`);

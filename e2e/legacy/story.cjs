// A dApp of the 0.6 generation on `cipherloom dev --legacy-0.6`: the published contracts, a published token, and fhevmjs 0.6.2, unmodified.
//
// usage: node story.cjs <summary of the stack> <artifact of the token> <answer vector of the signcryption crate>

"use strict";
const assert = require("node:assert/strict");
const { readFileSync } = require("node:fs");
const { Contract, ContractFactory, JsonRpcProvider, NonceManager, Wallet, toBeHex } = require("ethers");
const { createInstance } = require("fhevmjs/node");
const tkms = require("node-tkms");
const { deploy } = require("./deploy.cjs");

const [, , summaryFile, tokenFile, vectorFile] = process.argv;
const json = (file) => JSON.parse(readFileSync(file, "utf8"));
const summary = json(summaryFile);
const site = summary.legacy;
const provider = new JsonRpcProvider(summary.rpcUrl, undefined, { pollingInterval: 100, cacheTimeout: -1 });
const wallet = (index) => new Wallet(summary.accounts.at(index).privateKey, provider);
const [owner, alice, bob, mallory, helper, deployer] = [0, 1, 2, 3, 4, -1].map(wallet);

const MINTED = 1_000_000n;
const SENT = 1234n;

async function step(name, work) {
  const begun = performance.now();
  const result = await work();
  console.log(`${((performance.now() - begun) / 1000).toFixed(1).padStart(7)} s  ${name}`);
  return result;
}

/** Asserts that something fails, with this in its message or in that of a cause. */
async function fails(work, expected) {
  try {
    await work();
  } catch (error) {
    const messages = [];
    for (let cause = error; cause; cause = cause.cause) messages.push(String(cause.message ?? JSON.stringify(cause)));
    assert.match(messages.join("\n"), expected);
    return;
  }
  assert.fail(`this should have failed with ${expected}`);
}

/** Posts to the gateway without fhevmjs, and returns status and body. */
async function post(route, body) {
  const response = await fetch(`${site.gatewayUrl}/${route}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  return [response.status, await response.json()];
}

/** The published WebAssembly opens the committed answer, and no changed one. */
function openVector() {
  const vector = json(vectorFile);
  const hex = (text) => Uint8Array.from(Buffer.from(text, "hex"));
  const open = ({ payload = vector.payload, user = vector.user } = {}) => {
    const chainId = new Uint8Array(32);
    new DataView(chainId.buffer).setUint32(28, vector.chainId);
    const domain = { name: "Authorization token", version: "1", chain_id: chainId, verifying_contract: vector.contract, salt: null };
    const request = {
      signature: "00".repeat(65),
      client_address: user,
      enc_key: vector.publicKey,
      ciphertext_digest: vector.ciphertextDigest,
      eip712_verifying_contract: vector.contract,
    };
    const [publicKey, privateKey] = [tkms.u8vec_to_cryptobox_pk(hex(vector.publicKey)), tkms.u8vec_to_cryptobox_sk(hex(vector.privateKey))];
    const client = tkms.new_client([vector.node], user, "default");
    const answer = [{ payload, signature: vector.signature }];
    return tkms.process_reencryption_resp_from_js(client, request, domain, answer, publicKey, privateKey, true);
  };
  assert.equal(BigInt(`0x${Buffer.from(open()).toString("hex")}`), BigInt(vector.value));
  const middle = vector.payload.length / 2;
  const changed = vector.payload.slice(0, middle) + (vector.payload[middle] === "0" ? "1" : "0") + vector.payload.slice(middle + 1);
  assert.throws(() => open({ payload: changed }));
  assert.throws(() => open({ user: mallory.address }));
}

/** Reads a value as its owner does: a key pair, a signature over its public half, and the gateway's answer. */
async function reencrypt(instance, handle, contract, user, signer = user) {
  const { publicKey, privateKey } = instance.generateKeypair();
  const { domain, types, message } = instance.createEIP712(publicKey, contract, signer === user ? undefined : user.address);
  const signature = await signer.signTypedData(domain, { Reencrypt: types.Reencrypt }, message);
  return instance.reencrypt(handle, privateKey, publicKey, signature, contract, user.address);
}

/** Makes the request that fhevmjs makes, which checks the access list itself before, for an account that may not read. */
async function forbidden(instance, handle, contract, user, signer = user, change = {}) {
  const { publicKey } = instance.generateKeypair();
  const { domain, types, message } = instance.createEIP712(publicKey, contract);
  const signature = await signer.signTypedData(domain, { Reencrypt: types.Reencrypt }, message);
  return post("reencrypt", {
    signature: signature.slice(2),
    client_address: user.address,
    enc_key: publicKey,
    ciphertext_handle: toBeHex(handle, 32).slice(2),
    eip712_verifying_contract: contract,
    ...change,
  });
}

async function main() {
  await step("the published WebAssembly opens the committed answer", openVector);
  const contracts = await step("deploy the published contracts 0.6.1", () => deploy(deployer, site));
  assert.deepEqual([...(await contracts.KMSVerifier.getSigners())], [site.kmsSigner]);

  const artifact = json(tokenFile);
  const config = [site.contracts.ACL, site.contracts.TFHEExecutor, site.contracts.FHEPayment, site.contracts.KMSVerifier];
  const token = await step("deploy the published token 0.2.4", async () => {
    const deployed = await new ContractFactory(artifact.abi, artifact.bytecode, new NonceManager(owner)).deploy(config);
    await deployed.waitForDeployment();
    await (await deployed.mint(alice.address, MINTED)).wait();
    return deployed;
  });
  const address = await token.getAddress();

  const instance = await step("fhevmjs: createInstance reads the public key and the CRS", () =>
    createInstance({
      kmsContractAddress: site.contracts.KMSVerifier,
      aclContractAddress: site.contracts.ACL,
      networkUrl: summary.rpcUrl,
      gatewayUrl: site.gatewayUrl,
    }),
  );

  const balance = await token.balanceOf(alice.address);
  assert.equal(
    await step("fhevmjs: reencrypt a computed value", () => reencrypt(instance, balance, address, alice)),
    MINTED,
  );

  const input = instance.createEncryptedInput(address, alice.address);
  input.add64(SENT).addBool(true).add8(200).addAddress(bob.address).add256(2n ** 255n + 1n);
  const { handles, inputProof } = await step("fhevmjs: encrypt five values, prove, have them verified", () => input.encrypt());
  assert.deepEqual(handles.map((handle) => handle[30]), [5, 0, 2, 7, 8]);
  assert.equal(inputProof.length, 2 + 32 + 5 * 32 + 65 + 65);

  const transfer = token.connect(alice).getFunction("transfer(address,bytes32,bytes)");
  await step("the published InputVerifier refuses what is not signed for the sender, changed, or cut off", async () => {
    const stolen = token.connect(mallory).getFunction("transfer(address,bytes32,bytes)");
    await fails(() => stolen.staticCall(bob.address, handles[0], inputProof), /revert/i);
    for (const at of [40, 34 + 5 * 32 + 3, inputProof.length - 40]) {
      const changed = Uint8Array.from(inputProof);
      changed[at] ^= 1;
      await fails(() => transfer.staticCall(bob.address, handles[0], changed), /revert/i);
    }
    await fails(() => transfer.staticCall(bob.address, handles[0], inputProof.slice(0, -1)), /revert/i);
  });
  await step("the published InputVerifier accepts the proof, and the transfer is made", async () => {
    const receipt = await (await transfer(bob.address, handles[0], inputProof)).wait();
    assert.equal(receipt.status, 1);
  });
  const [left, received] = [await token.balanceOf(alice.address), await token.balanceOf(bob.address)];
  assert.equal(
    await step("fhevmjs: the sender reads what is left", () => reencrypt(instance, left, address, alice)),
    MINTED - SENT,
  );
  assert.equal(await step("fhevmjs: the receiver reads what came", () => reencrypt(instance, received, address, bob)), SENT);

  await step("an account that was let to reads on behalf of another one", async () => {
    await fails(() => reencrypt(instance, left, address, alice, helper), /HTTP code 400/);
    await (await contracts.ACL.connect(alice).delegateAccountForContract(helper.address, address)).wait();
    assert.equal(await reencrypt(instance, left, address, alice, helper), MINTED - SENT);
  });

  await step("who may not read is refused, by fhevmjs and by the KMS", async () => {
    await fails(() => reencrypt(instance, left, address, mallory), /User is not authorized to reencrypt this handle/);
    const cases = [
      [await forbidden(instance, left, address, mallory), new RegExp(`${mallory.address} is not allowed to read handle`, "i")],
      [await forbidden(instance, left, address, alice, mallory), /not signed by/],
      [await forbidden(instance, left, mallory.address, alice), new RegExp(`${mallory.address} is not allowed to read handle`, "i")],
      [await forbidden(instance, left, alice.address, alice), /must not be the same account/],
      [await forbidden(instance, left, address, alice, alice, { enc_key: `2000000000000000${"00".repeat(32)}` }), /X25519/],
      [await forbidden(instance, left, address, alice, alice, { ciphertext_handle: "11".repeat(31) }), /ciphertext_handle has 31 bytes/],
      [await post("reencrypt", "{"), /not what this route takes/],
    ];
    for (const [[status, body], expected] of cases) {
      assert.equal(status, 400, JSON.stringify(body));
      assert.equal(body.status, "failure");
      assert.match(body.response, expected);
    }
  });
  await step("inputs of another form are refused", async () => {
    const keys = instance.getPublicKey();
    const request = {
      contract_address: address,
      caller_address: alice.address,
      key_id: keys.publicKeyId,
      crs_id: instance.getPublicParams(2048).publicParamsId,
      ct_proof: "00".repeat(1000),
    };
    const [status, body] = await post("verify_proven_ct", request);
    assert.deepEqual([status, body.status], [400, "failure"]);
    const [otherStatus, otherBody] = await post("verify_proven_ct", { ...request, key_id: "00".repeat(20) });
    assert.equal(otherStatus, 400);
    assert.match(otherBody.response, /key_id/);
  });
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);

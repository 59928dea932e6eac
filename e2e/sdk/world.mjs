// What the story needs of the chain, with ethers only: the confidential token of the examples, a contract that keeps one value of each kind, and
// the access list.

import { AbiCoder, Contract, ContractFactory, Interface, JsonRpcProvider, Wallet } from "ethers";
import tokenArtifact from "../../examples/confidential-token/artifacts/ConfidentialToken.json" with { type: "json" };
import nativeInputVerifierArtifact from "../../contracts/artifacts/NativeInputVerifier.json" with { type: "json" };
import inputVerifierArtifact from "../../contracts/artifacts/InputVerifier.json" with { type: "json" };
import allTypesArtifact from "./artifacts/AllTypes.json" with { type: "json" };
import walletArtifact from "./artifacts/ContractWallet.json" with { type: "json" };
import { check, equal } from "./check.mjs";

export const MINTED = 1_000n;
export const SENT = 250n;

const ACL = [
  "function delegateForUserDecryption(address delegate, address contractAddress, uint64 expirationDate)",
  "function revokeDelegationForUserDecryption(address delegate, address contractAddress)",
];

/** The errors with which chains refuse proofs of inputs. */
const INPUT_ERRORS = [inputVerifierArtifact, nativeInputVerifierArtifact].map(({ abi }) => new Interface(abi));

/** A value of each kind that contracts take, in the order of the contract's function. The flag comes out turned over. */
export function valuesOfEveryType(account) {
  return [
    { type: "bool", value: true },
    { type: "uint8", value: 200n },
    { type: "uint64", value: 2n ** 63n + 5n },
    { type: "uint128", value: 2n ** 127n + 3n },
    { type: "address", value: account },
    { type: "uint256", value: 2n ** 255n + 1n },
  ];
}

async function deploy(artifact, signer, ...values) {
  const contract = await new ContractFactory(artifact.abi, artifact.bytecode, signer).deploy(...values);
  await contract.waitForDeployment();
  return new Contract(await contract.getAddress(), artifact.abi, signer);
}

export class World {
  static async open(stack) {
    // Without its cache ethers gives two transactions that follow each other within 250 ms the same nonce.
    const provider = new JsonRpcProvider(stack.rpcUrl, undefined, { cacheTimeout: -1 });
    const [alice, bob, carol] = stack.accounts.map((account) => new Wallet(account.privateKey, provider));
    const token = await deploy(tokenArtifact, alice);
    const drawer = await deploy(allTypesArtifact, alice);
    const world = Object.assign(new World(), { stack, provider, alice, bob, carol, token, drawer });
    world.address = await token.getAddress();
    world.drawerAddress = await drawer.getAddress();
    await world.included(token.mint(alice.address, MINTED));
    return world;
  }

  async included(sent) {
    const receipt = await (await sent).wait();
    equal(receipt.status, 1, "the status of the transaction");
    return receipt;
  }

  /** Sends the transfer of an encrypted amount from Alice to Bob. */
  async transfer(handle, inputProof) {
    const { token, alice, bob } = this;
    const receipt = await this.included(token.transfer(bob.address, handle, inputProof));
    const events = receipt.logs.map((log) => token.interface.parseLog(log)).filter((event) => event?.name === "Transfer");
    equal(events.map(({ args }) => [args.from, args.to]), [[alice.address, bob.address]], "what was transferred");
  }

  /** How the chain refuses a transfer with this proof from this account; fails if it does not. */
  async transferError(sender, handle, inputProof) {
    try {
      await this.token.connect(sender).transfer.staticCall(this.carol.address, handle, inputProof);
    } catch (error) {
      const known = error.data && INPUT_ERRORS.map((errors) => errors.parseError(error.data)).find((parsed) => parsed);
      if (!known) throw error;
      return known.name;
    }
    throw new Error("the chain has accepted a proof that it should have refused");
  }

  /** Puts a value of each kind into the drawer, and returns their handles on chain. */
  async put(handles, inputProof) {
    await this.included(this.drawer.put(...handles, inputProof));
    return [...(await this.drawer.handles())];
  }

  /** Has the drawer check the KMS's signatures: first with a wrong value, which it must refuse. */
  async verify(values, proof) {
    const types = ["bool", "uint8", "uint64", "uint128", "address", "uint256"];
    const cleartexts = AbiCoder.defaultAbiCoder().encode(types, values);
    const wrong = AbiCoder.defaultAbiCoder().encode(types, values.with(2, values[2] + 1n));
    const verifier = this.drawer.connect(this.bob);
    const accepted = await verifier.verify.staticCall(wrong, proof).then(() => true, (error) => {
      check(error.code === "CALL_EXCEPTION", String(error));
      return false;
    });
    check(!accepted, "the chain has accepted a wrong value");
    await this.included(verifier.verify(cleartexts, proof));
    equal([...(await this.drawer.verified())], values, "what the contract has verified");
    return cleartexts;
  }

  /** Lets Alice read for a day what Bob may read in the token. */
  async delegate() {
    const acl = new Contract(this.stack.contracts.ACL, ACL, this.bob);
    const { timestamp } = await this.provider.getBlock("latest");
    await this.included(acl.delegateForUserDecryption(this.alice.address, this.address, timestamp + 86_400));
  }

  /** Takes that back. */
  async revoke() {
    const acl = new Contract(this.stack.contracts.ACL, ACL, this.bob);
    await this.included(acl.revokeDelegationForUserDecryption(this.alice.address, this.address));
  }

  /** Gives a wallet that is a contract some tokens; what Carol signs counts as signed by it. */
  async contractWallet() {
    const wallet = await deploy(walletArtifact, this.carol, this.carol.address);
    const address = await wallet.getAddress();
    await this.included(this.token.mint(address, SENT));
    return address;
  }
}

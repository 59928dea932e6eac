//! Encrypted inputs: what the coprocessors must have signed before a contract can use one.

use alloy::{
    primitives::{Address, B256, Signature, U256},
    signers::{SignerSync, local::PrivateKeySigner},
};
use cipherloom_contracts::{
    HostEvent,
    bindings::{ACL, FHEVMExecutor as Executor, InputVerifier},
    development,
};
use cipherloom_primitives::{FheType, Handle, Operation, eip712::SigningDomains, input};

use crate::stage::{Arg, Revert, Script, Stage, assert_reverts};

const TYPES: [FheType; 3] = [FheType::Uint64, FheType::Bool, FheType::Address];

/// What a coprocessor gives a user for an input list.
#[derive(Clone)]
struct Input {
    handles: Vec<Handle>,
    user: Address,
    extra_data: Vec<u8>,
    signatures: Vec<Signature>,
}

impl Input {
    fn proof(&self) -> Vec<u8> {
        input::encode_input_proof(&self.handles, &self.signatures, &self.extra_data).unwrap()
    }
}

fn sign_for(domains: SigningDomains, contract: Address, unsigned: Input, keys: &[&PrivateKeySigner]) -> Input {
    let digest = domains.input_digest(&unsigned.handles, unsigned.user, contract, &unsigned.extra_data);
    let signatures = keys.iter().map(|key| key.sign_hash_sync(&digest).unwrap()).collect();
    Input { signatures, ..unsigned }
}

/// An input list of three values for the batch contract, signed by these keys.
fn signed_input(stage: &Stage, keys: &[&PrivateKeySigner]) -> Input {
    let handles = input::input_handles(b"an encrypted list", &TYPES, stage.host.acl, 31337).unwrap();
    let unsigned = Input {
        handles,
        user: stage.user(1),
        extra_data: vec![0],
        signatures: Vec::new(),
    };
    sign_for(development::signing_domains(), stage.batch, unsigned, keys)
}

fn add_verification(stage: &Stage, script: &mut Script, handle: B256, user: Address, proof: &[u8], ty: FheType) -> Arg {
    let call = Executor::verifyInputCall {
        inputHandle: handle,
        userAddress: user,
        inputProof: proof.to_vec().into(),
        inputType: ty.id(),
    };
    script.typed(stage.host.executor, &call)
}

/// Verifies one value of an input with any proof.
fn verify(stage: &Stage, handle: Handle, user: Address, proof: &[u8]) -> Result<Vec<B256>, Revert> {
    let mut script = stage.script();
    add_verification(stage, &mut script, handle.as_b256(), user, proof, handle.fhe_type());
    stage.run(&script)
}

fn verify_first(stage: &Stage, input: &Input) -> Result<Vec<B256>, Revert> {
    verify(stage, input.handles[0], input.user, &input.proof())
}

#[test]
fn a_signed_input_can_be_used_at_once() {
    let stage = Stage::new();
    let input = signed_input(&stage, &[&stage.coprocessors[0]]);
    let mut script = stage.script();
    for handle in &input.handles {
        add_verification(&stage, &mut script, handle.as_b256(), input.user, &input.proof(), handle.fhe_type());
    }
    script.operation(Operation::Neg, &[Arg::Result(0)]);
    let mined = stage.mine(&script).unwrap();
    let events = stage.events(&mined);
    for (event, handle) in events.iter().zip(&input.handles) {
        let HostEvent::InputVerified {
            caller,
            user,
            handle: verified,
            proof,
        } = event
        else {
            panic!("{event:?}")
        };
        assert_eq!((*caller, *user, *verified), (stage.batch, input.user, *handle));
        assert_eq!(proof.to_vec(), input.proof());
    }
    let negation = stage.computations(&mined).pop().unwrap();
    assert_eq!(negation.inputs, [input.handles[0]]);
}

#[test]
fn an_input_is_bound_to_its_user_contract_chain_and_gateway() {
    let stage = Stage::new();
    let key = &stage.coprocessors[0];
    let good = signed_input(&stage, &[key]);
    let is_refused = |input: &Input, user: Address| {
        verify(&stage, input.handles[0], user, &input.proof())
            .unwrap_err()
            .is_some::<InputVerifier::InvalidSigner>();
    };
    is_refused(&good, stage.user(2));

    let domains = development::signing_domains();
    let unsigned = Input {
        signatures: Vec::new(),
        ..good.clone()
    };
    is_refused(&sign_for(domains, stage.user(3), unsigned.clone(), &[key]), good.user);
    for other in [
        SigningDomains {
            host_chain_id: 1,
            ..domains
        },
        SigningDomains {
            gateway_chain_id: 1,
            ..domains
        },
        SigningDomains {
            input_verification: stage.host.input_verifier,
            ..domains
        },
    ] {
        is_refused(&sign_for(other, stage.batch, unsigned.clone(), &[key]), good.user);
    }
    is_refused(
        &Input {
            extra_data: vec![],
            ..good.clone()
        },
        good.user,
    );
    is_refused(
        &Input {
            extra_data: vec![0, 0],
            ..good.clone()
        },
        good.user,
    );
    verify_first(&stage, &good).unwrap();
}

#[test]
fn proofs_without_valid_signatures_revert() {
    let stage = Stage::new();
    let stranger = PrivateKeySigner::from_bytes(&B256::repeat_byte(9)).unwrap();
    let foreign = signed_input(&stage, &[&stranger]);
    let unknown = InputVerifier::InvalidSigner {
        invalidSigner: stranger.address(),
    };
    assert_reverts(verify_first(&stage, &foreign), unknown);
    assert_reverts(verify_first(&stage, &signed_input(&stage, &[])), InputVerifier::ZeroSignature {});

    let good = signed_input(&stage, &[&stage.coprocessors[0]]);
    let mut high_s = good.clone();
    // The other root of the curve equation: the same message and key, but malleable.
    let order = U256::from_str_radix("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16).unwrap();
    let signature = good.signatures[0];
    high_s.signatures = vec![Signature::new(signature.r(), order - signature.s(), !signature.v())];
    verify_first(&stage, &high_s)
        .unwrap_err()
        .is_some::<InputVerifier::ECDSAInvalidSignatureS>();

    let mut proof = good.proof();
    let last_signature_byte = proof.len() - 2;
    proof[last_signature_byte] = 29;
    let revert = verify(&stage, good.handles[0], good.user, &proof).unwrap_err();
    revert.is_some::<InputVerifier::ECDSAInvalidSignature>();
}

#[test]
fn several_coprocessors_must_reach_the_threshold() {
    let stage = Stage::with_signers(3, 1, 1);
    stage.administer(
        stage.host.input_verifier,
        &InputVerifier::setThresholdCall {
            newThreshold: U256::from(2),
        },
    );
    let [a, b, c] = [0, 1, 2].map(|index| &stage.coprocessors[index]);
    let attempt = |keys: &[&PrivateKeySigner]| verify_first(&stage, &signed_input(&stage, keys));

    attempt(&[a, b]).unwrap();
    attempt(&[c, a]).unwrap();
    attempt(&[a, a, b]).unwrap();
    let too_few = InputVerifier::SignatureThresholdNotReached { numSignatures: U256::ONE };
    assert_reverts(attempt(&[a]), too_few);
    assert_reverts(attempt(&[a, a]), InputVerifier::SignaturesVerificationFailed {});
    assert_reverts(attempt(&[b, b, b]), InputVerifier::SignaturesVerificationFailed {});

    let stranger = PrivateKeySigner::from_bytes(&B256::repeat_byte(9)).unwrap();
    let unknown = || InputVerifier::InvalidSigner {
        invalidSigner: stranger.address(),
    };
    assert_reverts(attempt(&[a, &stranger]), unknown());
    attempt(&[a, b, &stranger]).expect("signatures beyond the threshold are not looked at");
}

#[test]
fn malformed_proofs_and_handles_revert() {
    let stage = Stage::new();
    let input = signed_input(&stage, &[&stage.coprocessors[0]]);
    let (first, user, proof) = (input.handles[0], input.user, input.proof());
    assert_reverts(verify(&stage, first, user, &[]), InputVerifier::EmptyInputProof {});
    assert_reverts(verify(&stage, first, user, &[1]), InputVerifier::DeserializingInputProofFail {});
    for length in [2, 3, 33, 34, 98, 99, proof.len() - 2] {
        let cut = verify(&stage, first, user, &proof[..length]);
        assert_reverts(cut, InputVerifier::DeserializingInputProofFail {});
    }
    assert_reverts(verify(&stage, first, user, &[0, 0]), InputVerifier::InvalidIndex {});

    let derive = |index: u8, chain: u64, ty: FheType| {
        input::input_handle(input::list_digest(b"an encrypted list"), index, ty, stage.host.acl, chain).unwrap()
    };
    let attempt = |handle: Handle| verify(&stage, handle, user, &proof);
    assert_reverts(attempt(derive(0, 1, FheType::Uint64)), InputVerifier::InvalidChainId {});
    assert_reverts(attempt(derive(3, 31337, FheType::Uint64)), InputVerifier::InvalidIndex {});
    assert_reverts(attempt(derive(254, 31337, FheType::Uint64)), InputVerifier::InvalidIndex {});
    assert_reverts(attempt(derive(0, 31337, FheType::Uint32)), InputVerifier::InvalidInputHandle {});
    assert_reverts(attempt(derive(1, 31337, FheType::Uint64)), InputVerifier::InvalidInputHandle {});
    let computed = Handle::computed(first.as_b256(), 31337, FheType::Uint64);
    assert_reverts(attempt(computed), InputVerifier::InvalidIndex {});
}

#[test]
fn the_type_must_be_the_handles() {
    let stage = Stage::new();
    let input = signed_input(&stage, &[&stage.coprocessors[0]]);
    let mut script = stage.script();
    let handle = input.handles[0].as_b256();
    add_verification(&stage, &mut script, handle, input.user, &input.proof(), FheType::Uint32);
    assert_reverts(stage.run(&script), Executor::InvalidType {});
}

#[test]
fn a_handle_of_another_version_is_refused_even_when_signed() {
    let stage = Stage::new();
    let good = signed_input(&stage, &[]);
    let mut words: Vec<B256> = good.handles.iter().map(Handle::as_b256).collect();
    words[1].0[31] = 1;
    let mut proof = vec![3, 1];
    words.iter().for_each(|word| proof.extend_from_slice(word.as_slice()));
    proof.extend_from_slice(&[1; 65]);
    let revert = verify(&stage, good.handles[0], good.user, &proof);
    assert_reverts(revert, InputVerifier::InvalidHandleVersion {});
}

#[test]
fn a_verified_proof_is_remembered_for_the_transaction_and_forgotten_on_request() {
    let stage = Stage::new();
    let input = signed_input(&stage, &[&stage.coprocessors[0]]);
    let with = |verifications: usize, clean: bool| {
        let mut script = stage.script();
        for index in 0..verifications {
            if clean && index > 0 {
                script.call(stage.host.input_verifier, "cleanTransientStorage()", &[]);
            }
            add_verification(
                &stage,
                &mut script,
                input.handles[index].as_b256(),
                input.user,
                &input.proof(),
                input.handles[index].fhe_type(),
            );
        }
        stage.gas(&script)
    };
    let (one, two, three) = (with(1, false), with(2, false), with(3, false));
    let again = with(3, true);
    assert!(
        three - two < one,
        "a repeated proof costs {} gas after {one} for the first",
        three - two
    );
    // One signature check is an ecrecover (3000 gas) and the hashing around it.
    assert!(again > three + 2 * 3000, "cleaned {again}, remembered {three}");

    // The same transaction cannot use what it remembers for another user.
    let mut script = stage.script();
    add_verification(
        &stage,
        &mut script,
        input.handles[0].as_b256(),
        input.user,
        &input.proof(),
        TYPES[0],
    );
    add_verification(
        &stage,
        &mut script,
        input.handles[0].as_b256(),
        stage.user(2),
        &input.proof(),
        TYPES[0],
    );
    stage.run(&script).unwrap_err().is_some::<InputVerifier::InvalidSigner>();
}

#[test]
fn only_the_owner_changes_the_coprocessors() {
    let stage = Stage::new();
    let (verifier, user) = (stage.host.input_verifier, stage.user(1));
    let replacement = PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).unwrap();
    let context = |signers: Vec<Address>, threshold: u64| InputVerifier::defineNewContextCall {
        newSigners: signers,
        newThreshold: U256::from(threshold),
    };
    let define = |signers: Vec<Address>, threshold: u64| stage.send(stage.owner(), verifier, &context(signers, threshold));
    let new = replacement.address();
    let stranger = InputVerifier::NotHostOwner { sender: user };
    assert_reverts(stage.send(user, verifier, &context(vec![new], 1)), stranger);
    assert_reverts(define(vec![], 1), InputVerifier::SignersSetIsEmpty {});
    assert_reverts(define(vec![new], 0), InputVerifier::ThresholdIsNull {});
    assert_reverts(define(vec![new], 2), InputVerifier::ThresholdIsAboveNumberOfSigners {});
    assert_reverts(define(vec![new, new], 1), InputVerifier::AlreadySigner { signer: new });
    assert_reverts(define(vec![Address::ZERO], 1), InputVerifier::SignerNull {});

    define(vec![new], 1).unwrap();
    assert_eq!(stage.read(verifier, &InputVerifier::getCoprocessorSignersCall {}), [new]);
    assert!(!stage.read(
        verifier,
        &InputVerifier::isSignerCall {
            account: stage.coprocessors[0].address()
        }
    ));
    verify_first(&stage, &signed_input(&stage, &[&replacement])).unwrap();
    let old = signed_input(&stage, &[&stage.coprocessors[0]]);
    verify_first(&stage, &old).unwrap_err().is_some::<InputVerifier::InvalidSigner>();
}

#[test]
fn an_input_is_allowed_to_its_contract_for_the_transaction_alone() {
    let stage = Stage::new();
    let input = signed_input(&stage, &[&stage.coprocessors[0]]);
    let mut script = stage.script();
    let handle = input.handles[0];
    add_verification(&stage, &mut script, handle.as_b256(), input.user, &input.proof(), handle.fhe_type());
    stage.mine(&script).unwrap();
    assert!(!stage.read(
        stage.host.acl,
        &ACL::isAllowedCall {
            handle: handle.as_b256(),
            account: stage.batch
        }
    ));
}

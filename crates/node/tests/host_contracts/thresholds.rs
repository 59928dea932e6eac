//! Any set of signers, any threshold, any signatures in any order: accepted exactly when the rules say so.

use alloy::{
    primitives::{Address, B256, U256, keccak256},
    signers::local::PrivateKeySigner,
};
use cipherloom_contracts::{
    bindings::{IInputVerifier::ContextUserInputs, IProtocolConfig::KmsThresholds, InputVerifier, KMSVerifier, ProtocolConfig},
    development,
};
use cipherloom_primitives::{FheType, Handle, input};
use proptest::prelude::*;

use crate::stage::{Revert, Stage, sign};

/// More signers than any set below has, so the last ones are always strangers.
const KEYS: usize = 7;

fn key(number: usize) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&keccak256([b"insecure threshold test".as_slice(), &number.to_be_bytes()].concat())).unwrap()
}

fn addresses(count: usize) -> Vec<Address> {
    (0..count).map(|number| key(number).address()).collect()
}

/// What becomes of signatures, by the rule that both verifiers share (public protocol, section 1.6).
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Accepted,
    None,
    Fewer,
    Stranger(usize),
    TooFewDifferent,
}

fn expected(signers: usize, threshold: usize, signatures: &[usize]) -> Outcome {
    if signatures.is_empty() {
        return Outcome::None;
    }
    if signatures.len() < threshold {
        return Outcome::Fewer;
    }
    let mut different = Vec::new();
    for signature in signatures {
        if different.len() == threshold {
            break;
        }
        if *signature >= signers {
            return Outcome::Stranger(*signature);
        }
        if !different.contains(signature) {
            different.push(*signature);
        }
    }
    if different.len() == threshold {
        Outcome::Accepted
    } else {
        Outcome::TooFewDifferent
    }
}

/// Numbers of signers, a threshold, and who signed, strangers included.
fn cases() -> impl Strategy<Value = (usize, usize, Vec<usize>)> {
    (1..KEYS).prop_flat_map(|signers| {
        let signatures = proptest::collection::vec(0..(signers + 1).min(KEYS), 0..8);
        (Just(signers), 1..=signers, signatures)
    })
}

#[track_caller]
fn is_revert<T: std::fmt::Debug>(result: Result<T, Revert>, error: impl alloy::sol_types::SolError) {
    result.unwrap_err().is(error);
}

fn check_inputs(stage: &Stage, signers: usize, threshold: usize, signatures: &[usize]) {
    let verifier = stage.host.input_verifier;
    let context = InputVerifier::defineNewContextCall {
        newSigners: addresses(signers),
        newThreshold: U256::from(threshold),
    };
    stage.administer(verifier, &context);
    let handles = input::input_handles(b"a list", &[FheType::Uint8], stage.host.acl, 31337).unwrap();
    let digest = development::signing_domains().input_digest(&handles, stage.user(1), stage.batch, &[]);
    let mut proof = vec![1, u8::try_from(signatures.len()).unwrap()];
    proof.extend_from_slice(handles[0].as_slice());
    signatures
        .iter()
        .for_each(|number| proof.extend_from_slice(&sign(&key(*number), digest)));
    let verification = InputVerifier::verifyInputCall {
        context: ContextUserInputs {
            userAddress: stage.user(1),
            contractAddress: stage.batch,
        },
        inputHandle: handles[0].as_b256(),
        inputProof: proof.into(),
    };
    let result = stage.call(stage.user(0), verifier, &verification);
    match expected(signers, threshold, signatures) {
        Outcome::Accepted => assert_eq!(result, Ok(handles[0].as_b256())),
        Outcome::None => is_revert(result, InputVerifier::ZeroSignature {}),
        Outcome::Fewer => is_revert(
            result,
            InputVerifier::SignatureThresholdNotReached {
                numSignatures: U256::from(signatures.len()),
            },
        ),
        Outcome::Stranger(number) => is_revert(
            result,
            InputVerifier::InvalidSigner {
                invalidSigner: key(number).address(),
            },
        ),
        Outcome::TooFewDifferent => is_revert(result, InputVerifier::SignaturesVerificationFailed {}),
    }
}

fn check_decryptions(stage: &Stage, signers: usize, threshold: usize, signatures: &[usize]) {
    let context = ProtocolConfig::defineNewKmsContextCall {
        signers: addresses(signers),
        thresholds: KmsThresholds {
            publicDecryption: U256::from(threshold),
            userDecryption: U256::ONE,
            mpc: U256::ZERO,
        },
    };
    stage.administer(stage.host.protocol_config, &context);
    let handle = Handle::computed(B256::repeat_byte(3), 31337, FheType::Uint8);
    let digest = development::signing_domains().public_decryption_digest(&[handle], b"values", &[]);
    let mut proof = vec![u8::try_from(signatures.len()).unwrap()];
    signatures
        .iter()
        .for_each(|number| proof.extend_from_slice(&sign(&key(*number), digest)));
    let verification = KMSVerifier::verifyDecryptionEIP712KMSSignaturesCall {
        handlesList: vec![handle.as_b256()],
        decryptedResult: b"values".into(),
        decryptionProof: proof.into(),
    };
    let result = stage.call(stage.user(0), stage.host.kms_verifier, &verification);
    match expected(signers, threshold, signatures) {
        Outcome::Accepted => assert_eq!(result, Ok(true)),
        Outcome::TooFewDifferent => assert_eq!(result, Ok(false)),
        Outcome::None => is_revert(result, KMSVerifier::KMSZeroSignature {}),
        Outcome::Fewer => is_revert(
            result,
            KMSVerifier::KMSSignatureThresholdNotReached {
                numSignatures: U256::from(signatures.len()),
            },
        ),
        Outcome::Stranger(number) => is_revert(
            result,
            KMSVerifier::KMSInvalidSigner {
                invalidSigner: key(number).address(),
            },
        ),
    }
}

#[test]
fn the_rule_tells_all_outcomes_apart() {
    assert_eq!(expected(3, 2, &[]), Outcome::None);
    assert_eq!(expected(3, 2, &[1]), Outcome::Fewer);
    assert_eq!(expected(3, 2, &[1, 1]), Outcome::TooFewDifferent);
    assert_eq!(expected(3, 2, &[1, 3, 0]), Outcome::Stranger(3));
    assert_eq!(expected(3, 2, &[1, 0, 3]), Outcome::Accepted);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1, failure_persistence: None, ..ProptestConfig::default() })]

    /// All cases run on one chain, where every one defines contexts of its own.
    #[test]
    fn as_many_different_signers_as_the_threshold_asks_for_and_no_stranger_before_them(
        cases in proptest::collection::vec(cases(), 200..201)
    ) {
        let stage = Stage::new();
        for (signers, threshold, signatures) in cases {
            check_inputs(&stage, signers, threshold, &signatures);
            check_decryptions(&stage, signers, threshold, &signatures);
        }
    }
}

//! Checks of public decryptions, and of handles without a proof.

use alloy::{
    primitives::{B256, Bytes, U256},
    signers::{SignerSync, local::PrivateKeySigner},
    sol,
    sol_types::{SolCall, SolError, SolValue},
};
use cipherloom_contracts::development;
use cipherloom_primitives::{FheType, Handle};

use crate::{
    chain::{TestChain, kms_signers},
    ours, published,
};

sol! {
    function check(bytes32[] handles, bytes cleartexts, bytes proof) external;
    function isValid(bytes32[] handles, bytes cleartexts, bytes proof) external view returns (bool);
    function useStranger(bytes32 input) external returns (bytes32);

    error EmptyDecryptionProof();
    error DeserializingDecryptionProofFail();
    error ECDSAInvalidSignature();
    error InvalidKMSSignatures();
    error KMSInvalidSigner(address invalidSigner);
    error KMSSignatureThresholdNotReached(uint256 numSignatures);
    error KMSZeroSignature();
    error SenderNotAllowedToUseHandle(bytes32 handle, address sender);
}

fn handles() -> Vec<Handle> {
    let handle = |n: u8, ty| Handle::computed(B256::repeat_byte(n), development::HOST_CHAIN_ID, ty);
    vec![handle(1, FheType::Uint64), handle(2, FheType::Bool)]
}

fn words() -> Vec<B256> {
    handles().iter().map(|handle| B256::from_slice(handle.as_slice())).collect()
}

fn cleartexts() -> Vec<u8> {
    (U256::from(42), true).abi_encode()
}

/// A proof over [`cleartexts`] with these signers and extra data.
fn proof(signers: &[&PrivateKeySigner], extra_data: &[u8]) -> Vec<u8> {
    let digest = development::signing_domains().public_decryption_digest(&handles(), &cleartexts(), extra_data);
    let mut proof = vec![u8::try_from(signers.len()).unwrap()];
    for signer in signers {
        proof.extend(signer.sign_hash_sync(&digest).unwrap().as_bytes());
    }
    proof.extend(extra_data);
    proof
}

/// What the check of a proof says: an answer, or the data of the error.
#[derive(Debug)]
enum Verdict {
    Answer(bool),
    Revert(Vec<u8>),
}
use Verdict::{Answer, Revert};

#[test]
fn public_decryptions_are_judged_as_by_the_published_library() {
    let [a, b, c] = kms_signers();
    let stranger = PrivateKeySigner::from_bytes(&B256::repeat_byte(9)).unwrap();
    let context = [&[1u8, 7][..], &[0; 30], &[1]].concat();
    let truncated = proof(&[&a, &b], &[])[..100].to_vec();
    let not_a_signature = [&[2u8][..], &[0; 130]].concat();
    let cases: Vec<(&str, Vec<u8>, Verdict)> = vec![
        ("two of three", proof(&[&a, &b], &[]), Answer(true)),
        ("in another order", proof(&[&c, &a], &[]), Answer(true)),
        ("all three", proof(&[&a, &b, &c], &[]), Answer(true)),
        ("extra data of version 0", proof(&[&b, &c], &[0, 5]), Answer(true)),
        ("the current context, by its number", proof(&[&b, &c], &context), Answer(true)),
        ("the same signer twice", proof(&[&a, &a], &[]), Answer(false)),
        ("the same signer twice, then another", proof(&[&a, &a, &b], &[]), Answer(true)),
        ("no proof", vec![], Revert(EmptyDecryptionProof {}.abi_encode())),
        ("no signature", vec![0], Revert(KMSZeroSignature {}.abi_encode())),
        ("truncated", truncated, Revert(DeserializingDecryptionProofFail {}.abi_encode())),
        ("not a signature", not_a_signature, Revert(ECDSAInvalidSignature {}.abi_encode())),
        (
            "one signature",
            proof(&[&a], &[]),
            Revert(KMSSignatureThresholdNotReached { numSignatures: U256::ONE }.abi_encode()),
        ),
        (
            "a stranger",
            proof(&[&a, &stranger], &[]),
            Revert(
                KMSInvalidSigner {
                    invalidSigner: stranger.address(),
                }
                .abi_encode(),
            ),
        ),
    ];

    for probes in [ours(), published()] {
        let chain = TestChain::new();
        let probe = chain.deploy(&probes.get("DecryptionProbe").creation);
        for (name, proof, verdict) in &cases {
            let (handles, cleartexts, proof) = (words(), Bytes::from(cleartexts()), Bytes::from(proof.clone()));
            let view = isValidCall {
                handles: handles.clone(),
                cleartexts: cleartexts.clone(),
                proof: proof.clone(),
            };
            let checked = chain.call(
                probe,
                checkCall {
                    handles,
                    cleartexts,
                    proof,
                }
                .abi_encode(),
            );
            let answer = chain.call(probe, view.abi_encode());
            match verdict {
                Answer(valid) => {
                    assert_eq!(answer, Ok(Bytes::from(valid.abi_encode())), "{name}");
                    assert_eq!(checked.is_ok(), *valid, "{name}: {checked:?}");
                }
                Revert(data) => {
                    assert_eq!(answer.unwrap_err().as_ref(), data, "{name}");
                    assert!(checked.is_err(), "{name}");
                }
            }
        }
    }
}

#[test]
fn changed_plaintexts_are_not_valid() {
    let [a, b, _] = kms_signers();
    let chain = TestChain::new();
    let probe = chain.deploy(&ours().get("DecryptionProbe").creation);
    let mut changed = cleartexts();
    changed[31] ^= 1;
    let call = isValidCall {
        handles: words(),
        cleartexts: changed.into(),
        proof: proof(&[&a, &b], &[]).into(),
    };

    let error = chain.call(probe, call.abi_encode()).unwrap_err();

    // The signatures recover to other addresses then.
    assert!(error.starts_with(&KMSInvalidSigner::SELECTOR), "{error}");
}

#[test]
fn a_handle_of_someone_else_is_refused_without_a_proof() {
    for probes in [ours(), published()] {
        let chain = TestChain::new();
        let probe = chain.deploy(&probes.get("DelegationProbe").creation);
        let input = words()[0];

        let error = chain.call(probe, useStrangerCall { input }.abi_encode()).unwrap_err();

        let expected = SenderNotAllowedToUseHandle {
            handle: input,
            sender: chain.user(),
        }
        .abi_encode();
        assert_eq!(error.as_ref(), expected);
    }
}

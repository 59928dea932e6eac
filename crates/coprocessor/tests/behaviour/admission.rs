//! Admission of inputs: what is signed, and what is refused.

use std::sync::Arc;

use cipherloom_coprocessor::{CoprocessorError, Fault, HandleStatus, MAX_EXTRA_DATA_BYTES, Progress};
use cipherloom_fhe::FheError;
use cipherloom_primitives::{
    Address, FheType, U256,
    eip712::{ciphertext_attestation_digest, recover_signer},
    input::{InputMetadata, MAX_INPUT_LIST_BYTES, input_handles},
};

use crate::{
    backend::ObservedBackend,
    fixture::{ACL, ALICE, Bench, CHAIN, DOMAINS, TOKEN, metadata, signer},
};

const VALUES: &[(FheType, u64)] = &[(FheType::Uint64, 1000), (FheType::Bool, 1), (FheType::Uint8, 7)];

#[tokio::test]
async fn an_admitted_list_gets_the_protocols_handles_and_a_signature_over_them() {
    let bench = Bench::new().await;
    let list = bench.keys.encrypt(VALUES, &metadata());
    let admitted = bench.coprocessor.admit_input(metadata(), list.clone(), vec![0]).await.unwrap();

    let types: Vec<FheType> = VALUES.iter().map(|(ty, _)| *ty).collect();
    assert_eq!(admitted.handles, input_handles(&list, &types, ACL, CHAIN).unwrap());
    let digest = DOMAINS.input_digest(&admitted.handles, ALICE, TOKEN, &[0]);
    assert_eq!(admitted.signatures.len(), 1);
    assert_eq!(recover_signer(digest, &admitted.signatures[0].as_bytes()), Some(signer().address()));
    assert_eq!(admitted.extra_data, [0]);
}

#[tokio::test]
async fn an_admitted_value_can_be_had_as_a_signed_ciphertext() {
    let bench = Bench::new().await;
    let handles = bench.admit(VALUES).await;
    assert_eq!(bench.status(handles[0]).await, HandleStatus::Computed);
    assert_eq!(bench.value(handles[0]).await, U256::from(1000));
    assert_eq!(bench.value(handles[2]).await, U256::from(7));

    let first = bench.coprocessor.signed_ciphertext(handles[1]).await.unwrap();
    let attested = ciphertext_attestation_digest(handles[1], first.key_set_id, first.digest);
    assert_eq!(recover_signer(attested, &first.signature.as_bytes()), Some(signer().address()));
    assert_eq!(first.digest, alloy::primitives::keccak256(&first.bytes));
    assert_eq!(bench.coprocessor.signed_ciphertext(handles[1]).await.unwrap(), first);
}

#[tokio::test]
async fn handing_in_a_list_again_gives_the_same_handles_without_checking_again() {
    let bench = Bench::new().await;
    let mut progress = bench.coprocessor.progress();
    let list = bench.keys.encrypt(VALUES, &metadata());
    let first = bench.coprocessor.admit_input(metadata(), list.clone(), Vec::new()).await.unwrap();
    let again = bench.coprocessor.admit_input(metadata(), list.clone(), Vec::new()).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(bench.backend.verifications(), 1);
    assert!(matches!(progress.try_recv().unwrap(), Progress::Input { values: 3, .. }));
    assert!(progress.try_recv().is_err());
    // Other extra data is signed anew, over the same handles.
    let other = bench.coprocessor.admit_input(metadata(), list, vec![1]).await.unwrap();
    assert_eq!(other.handles, first.handles);
    assert_ne!(other.signatures, first.signatures);
}

#[tokio::test]
async fn a_proof_for_someone_else_is_refused_even_after_the_list_was_admitted() {
    let bench = Bench::new().await;
    let list = bench.keys.encrypt(VALUES, &metadata());
    for admitted_before in [false, true] {
        for stranger in [
            InputMetadata {
                contract: Address::repeat_byte(9),
                ..metadata()
            },
            InputMetadata {
                user: Address::repeat_byte(9),
                ..metadata()
            },
        ] {
            let error = bench.coprocessor.admit_input(stranger, list.clone(), Vec::new()).await.unwrap_err();
            assert!(
                matches!(error, CoprocessorError::InputRefused(FheError::InvalidProof)),
                "{admitted_before}: {error}"
            );
            assert_eq!((error.fault(), error.is_retryable()), (Fault::Request, false));
        }
        bench.coprocessor.admit_input(metadata(), list.clone(), Vec::new()).await.unwrap();
    }
}

#[tokio::test]
async fn inputs_for_another_chain_or_acl_are_refused_before_any_work() {
    let bench = Bench::new().await;
    let other_chain = InputMetadata { chain_id: 1, ..metadata() };
    let error = bench.coprocessor.admit_input(other_chain, vec![1], Vec::new()).await.unwrap_err();
    assert!(
        matches!(error, CoprocessorError::WrongChain { expected: CHAIN, found: 1 }),
        "{error}"
    );
    let other_acl = InputMetadata { acl: TOKEN, ..metadata() };
    let error = bench.coprocessor.admit_input(other_acl, vec![1], Vec::new()).await.unwrap_err();
    assert!(matches!(error, CoprocessorError::WrongAcl { found: TOKEN, .. }), "{error}");
    assert_eq!(bench.backend.verifications(), 0);
}

#[tokio::test]
async fn oversized_lists_and_extra_data_are_refused_before_any_work() {
    let bench = Bench::new().await;
    let error = bench
        .coprocessor
        .admit_input(metadata(), vec![0; MAX_INPUT_LIST_BYTES + 1], Vec::new())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            CoprocessorError::TooLarge {
                limit: MAX_INPUT_LIST_BYTES,
                ..
            }
        ),
        "{error}"
    );
    let error = bench
        .coprocessor
        .admit_input(metadata(), vec![0], vec![0; MAX_EXTRA_DATA_BYTES + 1])
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            CoprocessorError::TooLarge {
                limit: MAX_EXTRA_DATA_BYTES,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(bench.backend.verifications(), 0);
}

#[tokio::test]
async fn truncated_and_altered_lists_are_refused() {
    let bench = Bench::new().await;
    let list = bench.keys.encrypt(VALUES, &metadata());
    for length in 0..list.len() {
        let error = bench
            .coprocessor
            .admit_input(metadata(), list[..length].to_vec(), Vec::new())
            .await
            .unwrap_err();
        assert!(matches!(error, CoprocessorError::InputRefused(_)), "{length} bytes: {error}");
    }
    for position in 0..list.len() {
        let mut altered = list.clone();
        altered[position] ^= 1;
        let error = bench.coprocessor.admit_input(metadata(), altered, Vec::new()).await.unwrap_err();
        assert!(matches!(error, CoprocessorError::InputRefused(_)), "byte {position}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_proofs_at_once_are_turned_away_and_the_place_is_free_afterwards() {
    let bench = Bench::with(
        |keys| ObservedBackend::gated_after(keys.backend(), 0),
        |config, _| {
            config.concurrent_proofs = 1;
            config.waiting_proofs = 0;
        },
    )
    .await;
    let list = bench.keys.encrypt(VALUES, &metadata());
    let (coprocessor, held) = (bench.coprocessor.clone(), list.clone());
    let first = tokio::spawn(async move { coprocessor.admit_input(metadata(), held, Vec::new()).await });
    let backend = Arc::clone(&bench.backend);
    tokio::task::spawn_blocking(move || backend.wait_until_held()).await.unwrap();

    let error = bench
        .coprocessor
        .admit_input(metadata(), list.clone(), Vec::new())
        .await
        .unwrap_err();
    assert!(matches!(error, CoprocessorError::Busy) && error.is_retryable(), "{error}");
    // Hanging up does not make room while the proof is still being checked.
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let error = bench
        .coprocessor
        .admit_input(metadata(), list.clone(), Vec::new())
        .await
        .unwrap_err();
    assert!(matches!(error, CoprocessorError::Busy), "{error}");
    bench.backend.open_gate();
    tokio::time::timeout(crate::fixture::PATIENCE, async {
        while bench.coprocessor.admit_input(metadata(), list.clone(), Vec::new()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

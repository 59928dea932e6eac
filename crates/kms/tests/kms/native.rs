//! Requests for values of native chains, whose ciphertexts are in the state that validators signed.

use cipherloom_kms::{KmsError, SourceError};
use cipherloom_primitives::{B256, FheType, U256, decryption::abi_words};

use crate::support::{Keys, World};

/// A world whose chain is native; nothing that its coprocessor has counts.
fn native() -> World {
    let world = World::new(Keys::Clear);
    let key_set_id = world.key_set_id();
    world.chain.lock().unwrap().native = Some(key_set_id);
    world
}

#[tokio::test]
async fn what_is_decrypted_is_what_the_chain_has_stored() {
    let world = native();
    // A coprocessor attests another value, which nobody asks it for.
    let handle = world.store(1, FheType::Uint64, U256::from(666));
    world.make_public(handle);
    let bytes = world.encrypt(FheType::Uint64, U256::from(42));
    world.chain.lock().unwrap().in_state.insert(handle, Ok(bytes));
    let answer = world.node.public_decrypt(world.public_request(&[handle])).await.unwrap();
    assert_eq!(answer.decrypted_result, abi_words(&[U256::from(42)]));

    world.allow(handle);
    let request = world.request(&[handle]);
    world.node.user_decrypt(request).await.unwrap();
    assert_eq!(world.audit_text().lines().count(), 2);
}

#[tokio::test]
async fn what_a_coprocessor_attests_is_nothing_on_a_native_chain() {
    let world = native();
    let handle = world.store(1, FheType::Uint64, U256::from(666));
    world.make_public(handle);
    let error = world.node.public_decrypt(world.public_request(&[handle])).await.unwrap_err();
    assert!(
        matches!(
            error,
            KmsError::Ciphertext {
                source: SourceError::Failed(_),
                ..
            }
        ),
        "{error}"
    );
    assert!(!error.is_retryable());
    assert!(world.audit_text().is_empty());
}

#[tokio::test]
async fn what_the_state_proves_is_nothing_on_a_chain_with_coprocessors() {
    let world = World::new(Keys::Clear);
    let handle = world.store(1, FheType::Uint64, U256::from(1));
    world.make_public(handle);
    let bytes = world.encrypt(FheType::Uint64, U256::from(2));
    world.chain.lock().unwrap().in_state.insert(handle, Ok(bytes));
    let answer = world.node.public_decrypt(world.public_request(&[handle])).await.unwrap();
    assert_eq!(answer.decrypted_result, abi_words(&[U256::from(1)]));
}

#[tokio::test]
async fn a_chain_under_another_key_set_is_refused() {
    let world = native();
    let handle = world.store(1, FheType::Uint64, U256::from(1));
    world.make_public(handle);
    let bytes = world.encrypt(FheType::Uint64, U256::from(42));
    {
        let mut chain = world.chain.lock().unwrap();
        chain.native = Some(B256::repeat_byte(0x77));
        chain.in_state.insert(handle, Ok(bytes));
    }
    let error = world.node.public_decrypt(world.public_request(&[handle])).await.unwrap_err();
    assert!(matches!(error, KmsError::Provenance { .. }), "{error}");
    assert!(world.audit_text().is_empty());
}

#[tokio::test]
async fn rights_count_on_native_chains_as_everywhere() {
    let world = native();
    let handle = world.store(1, FheType::Uint64, U256::from(1));
    let bytes = world.encrypt(FheType::Uint64, U256::from(42));
    world.chain.lock().unwrap().in_state.insert(handle, Ok(bytes));
    let error = world.node.public_decrypt(world.public_request(&[handle])).await.unwrap_err();
    assert!(matches!(error, KmsError::NotPublic(_)), "{error}");
    let error = world.node.user_decrypt(world.request(&[handle])).await.unwrap_err();
    assert!(matches!(error, KmsError::NotAllowed { .. }), "{error}");
}

#[tokio::test]
async fn nodes_that_prove_nothing_are_asked_again() {
    let world = native();
    let handle = world.store(1, FheType::Uint64, U256::from(1));
    world.make_public(handle);
    let gone = Err(SourceError::Unavailable("the storage proof is not valid".into()));
    world.chain.lock().unwrap().in_state.insert(handle, gone);
    let error = world.node.public_decrypt(world.public_request(&[handle])).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
}

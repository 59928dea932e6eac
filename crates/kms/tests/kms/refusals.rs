//! What the KMS refuses. Each test starts from a request that is answered and changes one thing.

use crate::support::{CHAIN_ID, CONTRACT, Keys, NOW, World, context_id, epoch_id, key, old_epoch_id};
use cipherloom_kms::{KmsError, KmsLimits, SourceError};
use cipherloom_primitives::{
    Address, B256, Bytes, FheType, Handle, U256,
    decryption::{ClassicPermit, DecryptionPermit, RequestError, UserDecryptionRequest},
    eip712::SigningDomains,
};
use cipherloom_signcryption::node_address;

const DAY: u64 = 86_400;

/// A world in which the user may read, and everyone may publish, one value; checked to be answered.
async fn world() -> (World, Handle) {
    let world = World::new(Keys::Clear);
    let handle = world.store(1, FheType::Uint64, U256::from(42));
    world.allow(handle);
    world.make_public(handle);
    world
        .node
        .user_decrypt(world.request(&[handle]))
        .await
        .expect("the unchanged request is answered");
    world
        .node
        .public_decrypt(world.public_request(&[handle]))
        .await
        .expect("the unchanged request is answered");
    (world, handle)
}

/// Sends a request that must be refused and checks that it leaves no trace in the audit log.
async fn refused(world: &World, request: UserDecryptionRequest) -> KmsError {
    let before = world.node.audit().head();
    let error = world.node.user_decrypt(request).await.expect_err("the request must be refused");
    assert_eq!(world.node.audit().head(), before);
    error
}

/// A request whose permit was changed after it was signed.
fn changed(request: &UserDecryptionRequest, change: impl FnOnce(&mut ClassicPermit)) -> UserDecryptionRequest {
    let mut request = request.clone();
    match &mut request.permit {
        DecryptionPermit::Classic(permit) => change(permit),
        DecryptionPermit::Unified(_) => panic!("the request has a unified permit"),
    }
    request
}

async fn refused_publicly(world: &World, handles: &[Handle]) -> KmsError {
    let before = world.node.audit().head();
    let error = world
        .node
        .public_decrypt(world.public_request(handles))
        .await
        .expect_err("the request must be refused");
    assert_eq!(world.node.audit().head(), before);
    error
}

#[tokio::test]
async fn a_handle_the_user_or_the_contract_may_not_use() {
    let (world, handle) = world().await;
    for account in [world.user_address(), CONTRACT] {
        world.chain.lock().unwrap().allowed.remove(&(handle, account));
        let error = refused(&world, world.request(&[handle])).await;
        assert!(
            matches!(error, KmsError::NotAllowed { account: of, .. } if of == account),
            "{error}"
        );
        assert_eq!(
            (error.label(), error.is_caller_fault(), error.is_retryable()),
            ("not_allowed_on_host_acl", true, false)
        );
        world.allow(handle);
    }
}

#[tokio::test]
async fn one_forbidden_handle_among_allowed_ones() {
    let (world, handle) = world().await;
    let secret = world.store(2, FheType::Uint64, U256::from(43));
    assert!(matches!(refused(&world, world.request(&[handle, secret])).await, KmsError::NotAllowed { handle: of, .. } if of == secret));
    assert!(matches!(refused_publicly(&world, &[handle, secret]).await, KmsError::NotPublic(of) if of == secret));
}

#[tokio::test]
async fn public_permission_does_not_replace_a_users_and_the_other_way_round() {
    let (world, handle) = world().await;
    world.chain.lock().unwrap().public.clear();
    let error = refused_publicly(&world, &[handle]).await;
    assert!(matches!(error, KmsError::NotPublic(_)));
    assert_eq!(error.label(), "not_allowed_on_host_acl");
    world.make_public(handle);
    world.chain.lock().unwrap().allowed.clear();
    assert!(matches!(
        refused(&world, world.request(&[handle])).await,
        KmsError::NotAllowed { .. }
    ));
}

#[tokio::test]
async fn permits_outside_their_window() {
    let (world, handle) = world().await;
    let with = |start_timestamp, duration_days| {
        world.sign(world.unsigned_with(&[handle], |permit| {
            permit.start_timestamp = start_timestamp;
            permit.duration_days = duration_days;
        }))
    };
    let error = refused(&world, with(NOW - 2 * DAY, 1)).await;
    assert!(matches!(error, KmsError::Request(RequestError::Expired { .. })));
    assert_eq!((error.label(), error.field()), ("validation_failed", Some("startTimestamp")));
    assert!(matches!(
        refused(&world, with(NOW + 1, 1)).await,
        KmsError::Request(RequestError::NotYetValid { .. })
    ));
    assert!(matches!(
        refused(&world, with(NOW, 0)).await,
        KmsError::Request(RequestError::Duration(0))
    ));
    assert!(matches!(
        refused(&world, with(NOW, 366)).await,
        KmsError::Request(RequestError::Duration(366))
    ));
}

#[tokio::test]
async fn permits_that_were_invalidated() {
    let (world, handle) = world().await;
    let request = world.request(&[handle]);
    world
        .chain
        .lock()
        .unwrap()
        .invalidated_before
        .insert(world.user_address(), request.permit.start_timestamp() + 1);
    assert!(matches!(refused(&world, request.clone()).await, KmsError::PermitInvalidated { .. }));
    world
        .chain
        .lock()
        .unwrap()
        .invalidated_before
        .insert(world.user_address(), request.permit.start_timestamp());
    world.node.user_decrypt(request).await.expect("a permit from that time on is valid");
}

#[tokio::test]
async fn signatures_by_others_for_others_or_over_something_else() {
    let (world, handle) = world().await;
    let mut attempts = vec![
        (
            "by another user",
            world.sign_with(world.unsigned_request(&[handle]), &key(0x66), &world.domains),
        ),
        (
            "under another chain id",
            world.sign_with(
                world.unsigned_request(&[handle]),
                &world.user,
                &SigningDomains {
                    host_chain_id: 1,
                    ..world.domains
                },
            ),
        ),
        (
            "under the gateway's chain id, which is for answers",
            world.sign_with(
                world.unsigned_request(&[handle]),
                &world.user,
                &SigningDomains {
                    host_chain_id: world.domains.gateway_chain_id,
                    ..world.domains
                },
            ),
        ),
        (
            "under another verifying contract",
            world.sign_with(
                world.unsigned_request(&[handle]),
                &world.user,
                &SigningDomains {
                    decryption: Address::ZERO,
                    ..world.domains
                },
            ),
        ),
        (
            "missing",
            UserDecryptionRequest {
                signature: Bytes::new(),
                ..world.request(&[handle])
            },
        ),
        (
            "too long",
            UserDecryptionRequest {
                signature: Bytes::from([27; 66]),
                ..world.request(&[handle])
            },
        ),
        (
            "with a longer window than signed",
            changed(&world.request(&[handle]), |permit| permit.duration_days = 2),
        ),
        (
            "with a later start than signed",
            changed(&world.request(&[handle]), |permit| permit.start_timestamp = NOW),
        ),
        (
            "with more contracts than signed",
            changed(&world.request(&[handle]), |permit| permit.contracts.push(Address::ZERO)),
        ),
        (
            "with other extra data than signed",
            UserDecryptionRequest {
                extra_data: Bytes::new(),
                ..world.request(&[handle])
            },
        ),
    ];
    let thief = cipherloom_signcryption::UserKeypair::generate().unwrap();
    let stolen = thief.public_key().blob().to_vec().into();
    attempts.push((
        "with another public key than signed",
        UserDecryptionRequest {
            public_key: stolen,
            ..world.request(&[handle])
        },
    ));
    let delegator = Address::repeat_byte(9);
    let mut delegated = changed(&world.request(&[handle]), |permit| permit.delegator = Some(delegator));
    delegated.values[0].owner = delegator;
    attempts.push(("with a delegator that was not signed", delegated));
    for (what, request) in attempts {
        let error = refused(&world, request).await;
        assert!(matches!(error, KmsError::PermitSignature { .. }), "{what}: {error}");
        assert_eq!((error.label(), error.field()), ("validation_failed", Some("signature")));
    }
}

#[tokio::test]
async fn contracts_that_are_not_listed_or_are_the_user() {
    let (world, handle) = world().await;
    let other = world.sign(world.unsigned_with(&[handle], |permit| permit.contracts = vec![Address::ZERO]));
    assert!(matches!(
        refused(&world, other).await,
        KmsError::Request(RequestError::ContractNotInPermit(CONTRACT))
    ));
    let user = world.user_address();
    let mut own = world.unsigned_with(&[handle], |permit| permit.contracts = vec![user]);
    own.values[0].contract_address = user;
    let own = world.sign(own);
    assert!(matches!(
        refused(&world, own).await,
        KmsError::Request(RequestError::UserIsContract(_))
    ));
}

#[tokio::test]
async fn too_many_bits_no_handles_and_handles_of_other_chains() {
    let (world, handle) = world().await;
    let error = refused(&world, world.request(&[handle; 33])).await;
    assert!(matches!(error, KmsError::Request(RequestError::TooManyBits { bits: 2112 })));
    assert!(matches!(
        refused_publicly(&world, &[handle; 33]).await,
        KmsError::Request(RequestError::TooManyBits { .. })
    ));
    assert!(matches!(
        refused(&world, world.request(&[])).await,
        KmsError::Request(RequestError::NoHandles)
    ));
    let foreign = Handle::computed(B256::repeat_byte(1), CHAIN_ID + 1, FheType::Uint64);
    assert!(matches!(
        refused_publicly(&world, &[foreign]).await,
        KmsError::Request(RequestError::WrongChain { .. })
    ));
}

#[tokio::test]
async fn public_keys_that_are_none() {
    let (world, handle) = world().await;
    let with = |public_key: Vec<u8>| {
        world.sign(UserDecryptionRequest {
            public_key: public_key.into(),
            ..world.unsigned_request(&[handle])
        })
    };
    assert!(matches!(
        refused(&world, with(vec![0; 800])).await,
        KmsError::Request(RequestError::PublicKeyLength(800))
    ));
    let error = refused(&world, with(vec![0xff; 869])).await;
    assert!(matches!(error, KmsError::PublicKey(_)));
    assert_eq!(error.field(), Some("publicKey"));
}

#[tokio::test]
async fn other_contexts_epochs_and_versions_of_extra_data() {
    let (world, handle) = world().await;
    let with = |extra_data: Vec<u8>| {
        world.sign(UserDecryptionRequest {
            extra_data: extra_data.into(),
            ..world.unsigned_request(&[handle])
        })
    };
    let error = refused(&world, with([&[1], B256::ZERO.as_slice()].concat())).await;
    assert!(matches!(error, KmsError::Context { .. }));
    assert_eq!((error.label(), error.field()), ("validation_failed", Some("extraData")));
    let no_epoch = [&[2], context_id().as_slice(), context_id().as_slice()].concat();
    assert!(matches!(refused(&world, with(no_epoch)).await, KmsError::Epoch { .. }));
    let other_epoch = [&[2], context_id().as_slice(), old_epoch_id().as_slice()].concat();
    assert!(matches!(refused(&world, with(other_epoch)).await, KmsError::Epoch { .. }));
    let old_context = [&[2], epoch_id().as_slice(), epoch_id().as_slice()].concat();
    assert!(matches!(refused(&world, with(old_context)).await, KmsError::Context { .. }));
    for malformed in [vec![3], vec![1, 7], vec![0; 66]] {
        assert!(matches!(
            refused(&world, with(malformed)).await,
            KmsError::Request(RequestError::ExtraData)
        ));
    }
}

#[tokio::test]
async fn delegations_that_do_not_exist() {
    let (world, handle) = world().await;
    let delegator = node_address(&key(0x55));
    let request = world.sign(world.unsigned_with(&[handle], |permit| permit.delegator = Some(delegator)));
    // The delegate's own permission is not the delegator's.
    assert!(matches!(refused(&world, request.clone()).await, KmsError::NotAllowed { account, .. } if account == delegator));
    world.chain.lock().unwrap().allowed.insert((handle, delegator));
    let error = refused(&world, request.clone()).await;
    assert!(matches!(error, KmsError::NotDelegated { .. }));
    assert_eq!(error.label(), "not_allowed_on_host_acl");
    let other = (delegator, Address::ZERO, CONTRACT);
    world.chain.lock().unwrap().delegated.insert(other, NOW + DAY);
    assert!(matches!(refused(&world, request).await, KmsError::NotDelegated { .. }));
}

#[tokio::test]
async fn ciphertexts_that_are_not_there() {
    let (world, handle) = world().await;
    for (state, label) in [
        (SourceError::NotReady, "not_ready_for_decryption"),
        (SourceError::Unknown, "not_ready_for_decryption"),
        (SourceError::Unavailable("timeout".into()), "gateway_not_reachable"),
        (SourceError::Failed("wrong type".into()), "internal_server_error"),
    ] {
        let retryable = !matches!(state, SourceError::Failed(_));
        world.stored.lock().unwrap().insert(handle, Err(state));
        let error = refused(&world, world.request(&[handle])).await;
        assert_eq!(
            (error.label(), error.is_retryable(), error.is_caller_fault()),
            (label, retryable, false),
            "{error}"
        );
        assert_eq!(refused_publicly(&world, &[handle]).await.label(), label);
    }
}

#[tokio::test]
async fn ciphertexts_that_no_registered_coprocessor_vouches_for() {
    let attacker = key(0x99);
    for what in ["bytes", "no attestation", "stranger", "other handle", "other key set", "swapped"] {
        let (world, handle) = world().await;
        let other = world.store(7, FheType::Uint64, U256::from(1));
        let replaced = world.stored.lock().unwrap().get(&other).unwrap().clone().unwrap();
        world.change(handle, |mut ciphertext| {
            match what {
                "bytes" => *ciphertext.bytes.last_mut().unwrap() ^= 1,
                "no attestation" => ciphertext.attestations.clear(),
                "stranger" => {
                    ciphertext.bytes = world.encrypt(FheType::Uint64, U256::from(666));
                    ciphertext.attestations.clear();
                    ciphertext = world.attest(ciphertext, &attacker);
                }
                // An honest ciphertext of another handle, as it is and under this handle's name.
                "other handle" => ciphertext = replaced,
                "swapped" => ciphertext = cipherloom_kms::SignedCiphertext { handle, ..replaced },
                _ => ciphertext.key_set_id = B256::ZERO,
            }
            ciphertext
        });
        for error in [
            refused(&world, world.request(&[handle])).await,
            refused_publicly(&world, &[handle]).await,
        ] {
            assert!(matches!(error, KmsError::Provenance { .. }), "{what}: {error}");
            assert_eq!((error.label(), error.is_retryable()), ("internal_server_error", false));
        }
    }
}

#[tokio::test]
async fn fewer_attestations_than_the_threshold() {
    let (world, handle) = world().await;
    let second = key(0x22);
    {
        let mut chain = world.chain.lock().unwrap();
        chain.coprocessors.push(node_address(&second));
        chain.threshold = 2;
    }
    assert!(matches!(
        refused(&world, world.request(&[handle])).await,
        KmsError::Provenance { .. }
    ));
    world.change(handle, |mut ciphertext| {
        let again = ciphertext.attestations[0].clone();
        ciphertext.attestations.push(again);
        ciphertext
    });
    assert!(
        matches!(refused(&world, world.request(&[handle])).await, KmsError::Provenance { .. }),
        "the same coprocessor counted twice"
    );
    world.change(handle, |ciphertext| world.attest(ciphertext, &second));
    world
        .node
        .user_decrypt(world.request(&[handle]))
        .await
        .expect("two coprocessors agree");

    {
        let mut chain = world.chain.lock().unwrap();
        chain.threshold = 0;
        chain.coprocessors.clear();
    }
    assert!(
        matches!(refused(&world, world.request(&[handle])).await, KmsError::Provenance { .. }),
        "a threshold of zero counts as one"
    );
}

#[tokio::test]
async fn attested_bytes_that_are_no_ciphertext_of_the_type() {
    for keys in [Keys::Clear, Keys::Toy] {
        let world = World::new(keys);
        let handle = world.store(1, FheType::Uint64, U256::from(42));
        world.allow(handle);
        for bytes in [vec![], vec![1, 2, 3], world.encrypt(FheType::Uint8, U256::from(1))] {
            world.change(handle, |mut ciphertext| {
                ciphertext.bytes = bytes;
                ciphertext.attestations.clear();
                world.attest(ciphertext, &key(0x21))
            });
            let error = refused(&world, world.request(&[handle])).await;
            assert!(matches!(error, KmsError::Decryption { .. }), "{error}");
        }
    }
}

#[tokio::test]
async fn everything_when_the_chain_cannot_be_read_or_the_node_is_not_registered() {
    let (world, handle) = world().await;
    world.chain.lock().unwrap().down = true;
    let error = refused(&world, world.request(&[handle])).await;
    assert_eq!((error.label(), error.is_retryable()), ("gateway_not_reachable", true));
    assert!(matches!(refused_publicly(&world, &[handle]).await, KmsError::Chain(_)));
    assert!(matches!(world.node.check_registration().await, Err(KmsError::Chain(_))));

    world.chain.lock().unwrap().down = false;
    world.node.check_registration().await.unwrap();
    world.chain.lock().unwrap().contexts = vec![(context_id(), vec![Address::ZERO], vec![epoch_id()])];
    assert!(matches!(
        refused(&world, world.request(&[handle])).await,
        KmsError::NotRegistered { .. }
    ));
    assert!(matches!(world.node.check_registration().await, Err(KmsError::NotRegistered { .. })));
}

#[tokio::test]
async fn more_requests_than_the_limit() {
    let world = World::with_limits(
        Keys::Clear,
        KmsLimits {
            requests: 1,
            decryptions: 1,
        },
    );
    let handle = world.store(1, FheType::Uint64, U256::from(42));
    world.make_public(handle);
    let request = world.public_request(&[handle]);
    let (first, second) = tokio::join!(
        world.node.public_decrypt(request.clone()),
        world.node.public_decrypt(request.clone())
    );
    first.unwrap();
    let error = second.unwrap_err();
    assert_eq!((error.label(), error.is_retryable()), ("protocol_overload", true));
    world.node.public_decrypt(request).await.expect("the place is free again");
}

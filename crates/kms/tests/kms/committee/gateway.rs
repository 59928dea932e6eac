//! A malicious gateway, storage or requester: every party refuses by itself, records nothing, and accuses nobody who is honest.

use cipherloom_primitives::eip712::ciphertext_attestation_digest;
use cipherloom_signcryption::UserKeypair;

use super::*;
use crate::support::CONTRACT;

async fn stage_with_value() -> (Stage, Handle) {
    let stage = Stage::new((4, 1));
    let handle = stage.readable(1, FheType::Uint64, U256::from(42));
    (stage, handle)
}

#[tokio::test]
async fn a_handle_the_chain_does_not_allow() {
    let (stage, handle) = stage_with_value().await;
    let bundles = stage.bundles(&stage.public_request(&[handle])).await;
    let secret = stage.store(2, FheType::Uint64, U256::from(43));
    for handles in [vec![secret], vec![handle, secret]] {
        for error in stage.all_refuse_public(&stage.public_request(&handles), &bundles).await {
            assert!(matches!(*error, KmsError::NotPublic(of) if of == secret), "{error}");
            assert_eq!(error.label(), "not_allowed_on_host_acl");
        }
        for error in stage.all_refuse_user(&stage.world.request(&handles)).await {
            assert!(matches!(*error, KmsError::NotAllowed { handle: of, .. } if of == secret), "{error}");
        }
    }
    // One of the two rights is not enough.
    stage.chain().allowed.insert((secret, CONTRACT));
    let user = stage.world.user_address();
    for error in stage.all_refuse_user(&stage.world.request(&[secret])).await {
        assert!(matches!(*error, KmsError::NotAllowed { account, .. } if account == user), "{error}");
    }
    assert_eq!(
        stage
            .storage
            .fetched
            .lock()
            .unwrap()
            .iter()
            .filter(|fetched| **fetched == secret)
            .count(),
        0,
        "its ciphertext was not even fetched"
    );
}

#[tokio::test]
async fn a_users_request_under_another_key_or_for_another_user() {
    let (stage, handle) = stage_with_value().await;
    let request = stage.world.request(&[handle]);
    let answers = stage.user_shares(&request).await;
    assert_eq!(stage.open(&request, &answers).unwrap().0, [U256::from(42)]);
    let thief = UserKeypair::generate().unwrap();
    let other_key = UserDecryptionRequest {
        public_key: thief.public_key().blob().to_vec().into(),
        ..request.clone()
    };
    let other_user = UserDecryptionRequest {
        user: node_address(&key(0x99)),
        ..request.clone()
    };
    for stolen in [&other_key, &other_user] {
        for error in stage.all_refuse_user(stolen).await {
            assert!(matches!(*error, KmsError::PermitSignature { .. } | KmsError::Request(_)), "{error}");
            assert_eq!(error.label(), "validation_failed");
        }
    }
    // Signed by the thief for the thief's key, it is the thief's request.
    let mine = stage.world.sign_with(other_user, &key(0x99), &stage.world.domains);
    assert!(stage.all_refuse_user(&mine).await.iter().all(|error| error.is_caller_fault()));
    // What a party sealed for the user opens with no other key.
    let handles = request.handles();
    for (index, answer) in answers.iter().enumerate() {
        let registered = (stage.party(index), node_address(&stage.keys[index]));
        let context = stage.context(&request);
        assert!(open_shares(&context, &handles, &answer.share, &thief, registered).is_err());
        let context = AnswerContext {
            public_key: thief.public_key(),
            ..context
        };
        assert!(open_shares(&context, &handles, &answer.share, &thief, registered).is_err());
    }
}

#[tokio::test]
async fn a_replay_gives_the_user_the_same_and_nobody_more() {
    let (stage, handle) = stage_with_value().await;
    let request = stage.world.request(&[handle]);
    let first = stage.user_shares(&request).await;
    let again = stage.user_shares(&request).await;
    let mixed: Vec<UserShare> = first
        .iter()
        .zip(&again)
        .enumerate()
        .map(|(index, (old, new))| if index % 2 == 0 { old } else { new }.clone())
        .collect();
    assert_eq!(
        stage.open(&request, &mixed).unwrap(),
        (vec![U256::from(42)], Vec::new()),
        "shares are the same every time"
    );
    assert_eq!(stage.records(), [2, 2, 2, 2], "every answer to a user is recorded");
    // The right is gone: the replay is refused at once.
    stage.chain().allowed.clear();
    stage.all_refuse_user(&request).await;
}

#[tokio::test]
async fn shares_of_users_cannot_be_exchanged() {
    let (stage, handle) = stage_with_value().await;
    let other = stage.readable(2, FheType::Uint64, U256::from(43));
    let (request, about_other) = (stage.world.request(&[handle]), stage.world.request(&[other]));
    let (answers, others) = (stage.user_shares(&request).await, stage.user_shares(&about_other).await);
    let opens = |index: usize, answer: &UserShare| {
        let registered = (stage.party(index), node_address(&stage.keys[index]));
        open_shares(
            &stage.context(&request),
            &request.handles(),
            &answer.share,
            &stage.world.user_keys,
            registered,
        )
        .is_ok()
    };
    assert!(opens(0, &answers[0]));
    assert!(!opens(0, &others[0]), "an answer to another request");
    assert!(!opens(1, &answers[0]), "another party's answer");
}

/// What a gateway can make of an honest party's bundle. Each must be left out, for a reason that contains these words.
async fn forgeries(stage: &Stage, honest: &Bundle, about_other: &Bundle, of_other_party: &Bundle) -> Vec<(&'static str, Bundle)> {
    let changed = |change: fn(&mut Bundle)| {
        let mut bundle = honest.clone();
        change(&mut bundle);
        bundle
    };
    let as_other_party = Bundle {
        made_with: honest.made_with,
        ..of_other_party.clone()
    };
    let moved = Bundle {
        request_digest: honest.request_digest,
        ..about_other.clone()
    };
    let mut by_stranger = honest.clone();
    by_stranger.signature = sign_digest(&key(0x77), honest.digest()).unwrap().to_vec().into();
    let by_coprocessor = {
        let mut bundle = honest.clone();
        bundle.signature = sign_digest(&stage.world.coprocessor, honest.digest()).unwrap().to_vec().into();
        bundle
    };
    vec![
        ("not signed by its party", changed(flip)),
        ("another request", about_other.clone()),
        ("not signed by its party", moved),
        ("not signed by its party", as_other_party),
        ("not signed by its party", by_stranger),
        ("not signed by its party", by_coprocessor),
        ("not signed by its party", changed(|bundle| bundle.signature = Bytes::new())),
        (
            "not signed by its party",
            changed(|bundle| bundle.signature = vec![0xff; 65].into()),
        ),
        ("not signed by its party", changed(|bundle| drop(bundle.partials.pop()))),
        (
            "another key, context, epoch",
            changed(|bundle| bundle.made_with.key_set_id = B256::ZERO),
        ),
        (
            "another key, context, epoch",
            changed(|bundle| bundle.made_with.context = B256::ZERO),
        ),
        ("another key, context, epoch", changed(|bundle| bundle.made_with.epoch = B256::ZERO)),
        (
            "another key, context, epoch",
            changed(|bundle| bundle.made_with.committee = B256::ZERO),
        ),
        ("no such party", changed(|bundle| bundle.made_with.party = 0)),
        ("no such party", changed(|bundle| bundle.made_with.party = 5)),
        ("no such party", changed(|bundle| bundle.made_with.party = u32::MAX)),
    ]
}

#[tokio::test]
async fn forged_and_exchanged_bundles_are_left_out_and_accuse_nobody() {
    let (stage, handle) = stage_with_value().await;
    let other = stage.readable(2, FheType::Uint64, U256::from(43));
    let (request, about_other) = (stage.public_request(&[handle]), stage.public_request(&[other]));
    let (bundles, others) = (stage.bundles(&request).await, stage.bundles(&about_other).await);
    for (reason, forged) in forgeries(&stage, &bundles[1], &others[1], &bundles[2]).await {
        // Enough others: the forgery changes nothing.
        let with_others = vec![forged.clone(), bundles[2].clone(), bundles[3].clone()];
        let answer = stage.sign(0, &request, with_others).await.unwrap();
        stage.assert_signed(0, &request, &answer, &[U256::from(42)]);
        assert!(answer.faults.is_empty(), "{reason}: an honest party is accused");
        assert_eq!(answer.refused.len(), 1);
        assert!(
            answer.refused[0].index == 0 && answer.refused[0].reason.contains(reason),
            "{:?}",
            answer.refused
        );
        // Too few: it does not make up for the one that is missing.
        let error = stage.sign(0, &request, vec![bundles[2].clone(), forged]).await.unwrap_err();
        assert!(
            matches!(&*error, KmsError::MoreSharesNeeded { refused, .. } if refused.len() == 1 && refused[0].index == 1),
            "{reason}: {error}"
        );
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert!(stage.raised(0).is_empty(), "{:?}", stage.raised(0));
    // A whole set of bundles of one request says nothing about another.
    let error = stage.sign(0, &request, others.clone()).await.unwrap_err();
    assert!(
        matches!(&*error, KmsError::MoreSharesNeeded { refused, .. } if refused.len() == 4),
        "{error}"
    );
    // The node knows its own share; what is said to be it does not count, not even as its signature.
    let own_lie = stage.lie(&bundles[0], flip);
    let answer = stage
        .sign(0, &request, vec![own_lie, bundles[1].clone(), bundles[2].clone()])
        .await
        .unwrap();
    stage.assert_signed(0, &request, &answer, &[U256::from(42)]);
    assert!(answer.faults.is_empty());
}

#[tokio::test]
async fn bundles_of_an_earlier_epoch_do_not_mix() {
    let (stage, handle) = stage_with_value().await;
    let request = stage.public_request(&[handle]);
    let earlier = stage.bundles(&request).await;
    let next = B256::from(U256::from_be_bytes(epoch_id().0) + U256::ONE);
    let scope = Scope {
        epoch: EpochId(next.0),
        ..stage.scope.clone()
    };
    for (held, share) in stage.held.iter().zip(deal_shares(&scope)) {
        held.activate(share).unwrap();
    }
    stage.chain().contexts[1].2.push(next);
    let error = stage.sign(0, &request, earlier[1..].to_vec()).await.unwrap_err();
    assert!(
        matches!(&*error, KmsError::MoreSharesNeeded { refused, .. } if refused.iter().all(|one| one.reason.contains("epoch"))),
        "{error}"
    );
    let bundles = stage.bundles(&request).await;
    assert!(bundles.iter().all(|bundle| bundle.made_with.epoch == next));
    let mixed = vec![earlier[1].clone(), bundles[2].clone(), bundles[3].clone()];
    let answer = stage.sign(0, &request, mixed).await.unwrap();
    stage.assert_signed(0, &request, &answer, &[U256::from(42)]);
    assert_eq!((answer.faults.len(), answer.refused.len()), (0, 1));
}

/// Puts something else behind a handle; every party must refuse it in every way it can be asked, and raise an alarm.
async fn refused_as_untrusted(stage: &Stage, handle: Handle, what: &str, list: SignedSquashed) {
    let honest = stage.list(handle);
    stage.replace_list(handle, Ok(list));
    let errors = [
        stage.all_refuse_user(&stage.world.request(&[handle])).await,
        stage.all_refuse_public(&stage.public_request(&[handle]), &[]).await,
    ]
    .concat();
    for error in errors {
        assert!(
            matches!(*error, KmsError::Provenance { handle: of, .. } if of == handle),
            "{what}: {error}"
        );
        assert_eq!((error.label(), error.is_retryable()), ("internal_server_error", false));
    }
    for alarms in &stage.alarms {
        let raised = std::mem::take(&mut *alarms.0.lock().unwrap());
        assert_eq!(raised.len(), 3, "{what}: {raised:?}");
        assert!(raised.iter().all(|alarm| alarm.name() == "untrusted_ciphertext"));
    }
    stage.replace_list(handle, Ok(honest));
}

#[tokio::test]
async fn forged_ciphertexts_and_somebody_elses_under_a_handle() {
    let stage = Stage::new((4, 1));
    let handle = stage.readable(1, FheType::Uint64, U256::from(42));
    let other = stage.store(2, FheType::Uint64, U256::from(43));
    let honest = stage.list(handle);
    let with = |change: &dyn Fn(&mut SignedSquashed)| {
        let mut list = honest.clone();
        change(&mut list);
        list
    };
    let signed = |signer: &SigningKey, digest: B256| Bytes::from(sign_digest(signer, digest).unwrap().to_vec());
    let digest = squashed_ciphertext_attestation_digest(handle, key_set_id(), keccak256(&honest.bytes));
    let stored_form = ciphertext_attestation_digest(handle, key_set_id(), keccak256(&honest.bytes));
    let others_bytes = with(&|list| list.bytes = stage.list(other).bytes);
    let cases = [
        ("a changed byte", with(&|list| *list.bytes.last_mut().unwrap() ^= 1)),
        (
            "something made up",
            with(&|list| list.bytes = squashed_list(FheType::Uint64, U256::from(99))),
        ),
        ("no bytes", with(&|list| list.bytes.clear())),
        ("too many bytes", with(&|list| list.bytes = vec![0; (1 << 20) + 1])),
        ("somebody else's list", stage.list(other)),
        ("somebody else's bytes", others_bytes),
        ("another handle's name on it", with(&|list| list.handle = other)),
        (
            "somebody else's list and attestation, renamed",
            SignedSquashed {
                handle,
                ..stage.list(other)
            },
        ),
        ("another key set", with(&|list| list.key_set_id = B256::ZERO)),
        ("no attestation", with(&|list| list.attestations.clear())),
        (
            "a stranger's attestation",
            with(&|list| list.attestations = vec![signed(&key(0x66), digest)]),
        ),
        (
            "a party's attestation",
            with(&|list| list.attestations = vec![signed(&stage.keys[0], digest)]),
        ),
        (
            "an attestation of the stored form",
            with(&|list| list.attestations = vec![signed(&stage.world.coprocessor, stored_form)]),
        ),
    ];
    for (what, list) in cases {
        refused_as_untrusted(&stage, handle, what, list).await;
    }
    // Below the chain's threshold of coprocessors an attestation is not enough, however often it is repeated.
    let second = key(0x22);
    {
        let mut chain = stage.chain();
        chain.coprocessors.push(node_address(&second));
        chain.threshold = 2;
    }
    let repeated = with(&|list| list.attestations.push(list.attestations[0].clone()));
    refused_as_untrusted(&stage, handle, "one of two coprocessors", repeated).await;
    let both = with(&|list| list.attestations.push(signed(&second, digest)));
    stage.replace_list(handle, Ok(both));
    let request = stage.public_request(&[handle]);
    let bundles = stage.bundles(&request).await;
    let answer = stage.sign(0, &request, bundles).await.unwrap();
    stage.assert_signed(0, &request, &answer, &[U256::from(42)]);
}

#[tokio::test]
async fn attested_bytes_that_are_no_list_of_the_handles_type() {
    let stage = Stage::new((4, 1));
    let handle = stage.readable(1, FheType::Uint64, U256::from(42));
    let honest = stage.list(handle).bytes;
    let mut damaged = honest.clone();
    damaged.truncate(damaged.len() / 2);
    let cases = [
        squashed_list(FheType::Uint32, U256::from(42)),
        squashed_list(FheType::Bool, U256::ONE),
        damaged,
        [honest.as_slice(), &[0]].concat(),
        Vec::new(),
        vec![0xff; 1000],
    ];
    for bytes in cases {
        stage.replace_list(handle, Ok(stage.attest(handle, bytes)));
        let errors = [
            stage.all_refuse_user(&stage.world.request(&[handle])).await,
            stage.all_refuse_public(&stage.public_request(&[handle]), &[]).await,
        ]
        .concat();
        assert!(
            errors.iter().all(|error| matches!(**error, KmsError::Decryption { .. })),
            "{}",
            errors[0]
        );
    }
    assert!(stage.raised(2).iter().all(|name| *name == "untrusted_ciphertext"));
}

#[tokio::test]
async fn a_ciphertext_that_is_not_there_is_asked_for_again_later() {
    let (stage, handle) = stage_with_value().await;
    let request = stage.world.request(&[handle]);
    for (source, label) in [
        (SourceError::NotReady, "not_ready_for_decryption"),
        (SourceError::Unknown, "not_ready_for_decryption"),
        (SourceError::Unavailable("connection refused".into()), "gateway_not_reachable"),
        (SourceError::Failed("division by zero".into()), "internal_server_error"),
    ] {
        stage.replace_list(handle, Err(source));
        for error in stage.all_refuse_user(&request).await {
            assert_eq!(error.label(), label, "{error}");
        }
    }
}

#[tokio::test]
async fn doubt_is_a_refusal() {
    let (stage, handle) = stage_with_value().await;
    let (request, public) = (stage.world.request(&[handle]), stage.public_request(&[handle]));
    let bundles = stage.bundles(&public).await;
    stage.chain().down = true;
    for error in [
        stage.all_refuse_user(&request).await,
        stage.all_refuse_public(&public, &bundles).await,
    ]
    .concat()
    {
        assert!(matches!(*error, KmsError::Chain(_)) && error.is_retryable(), "{error}");
    }
}

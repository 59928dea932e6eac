//! Which share answers: the chain decides, epochs only go up, and nothing is answered with a share that the chain gave up.

use super::*;
use crate::support::{old_context_id, old_epoch_id};

fn next_epoch() -> B256 {
    B256::from(U256::from_be_bytes(epoch_id().0) + U256::ONE)
}

fn of_epoch(stage: &Stage, epoch: B256) -> Scope {
    Scope {
        epoch: EpochId(epoch.0),
        ..stage.scope.clone()
    }
}

fn with_extra_data(stage: &Stage, handle: Handle, extra_data: Vec<u8>) -> UserDecryptionRequest {
    let mut request = stage.world.unsigned_request(&[handle]);
    request.extra_data = extra_data.into();
    stage.world.sign(request)
}

#[tokio::test]
async fn without_a_share_nothing_is_answered_and_that_is_said() {
    let stage = Stage::without_shares((4, 1), BudgetLimits::default());
    let handle = stage.readable(1, FheType::Uint64, U256::from(42));
    for error in [
        stage.all_refuse_user(&stage.world.request(&[handle])).await,
        stage.all_refuse_public(&stage.public_request(&[handle]), &[]).await,
    ]
    .concat()
    {
        assert!(matches!(*error, KmsError::NoShare), "{error}");
    }
    assert!(matches!(stage.nodes[0].check_registration().await.unwrap_err(), KmsError::NoShare));
    stage.held[0].activate(deal_shares(&stage.scope).swap_remove(0)).unwrap();
    assert_eq!(stage.nodes[0].check_registration().await.unwrap(), share_ref(&stage, 0));
}

#[tokio::test]
async fn a_new_share_answers_as_soon_as_the_chain_has_its_epoch_and_the_old_one_until_then() {
    let stage = Stage::new((4, 1));
    let handle = stage.readable(1, FheType::Uint64, U256::from(42));
    let request = stage.world.request(&[handle]);
    for (held, share) in stage.held.iter().zip(deal_shares(&of_epoch(&stage, next_epoch()))) {
        held.activate(share).unwrap();
    }
    let answers = stage.user_shares(&request).await;
    assert!(
        answers.iter().all(|answer| answer.made_with.epoch == epoch_id()),
        "the chain does not have the new one yet"
    );
    assert_eq!(stage.open(&request, &answers).unwrap().0, [U256::from(42)]);

    stage.chain().contexts[1].2.push(next_epoch());
    let later = stage.user_shares(&request).await;
    assert!(later.iter().all(|answer| answer.made_with.epoch == next_epoch()));
    assert_eq!(stage.open(&request, &later).unwrap(), (vec![U256::from(42)], Vec::new()));
    assert!(!answers[0].made_with.goes_with(&later[1].made_with));
    assert!(later[0].made_with.goes_with(&later[1].made_with));
    // Shares of two epochs are on two polynomials.
    let mixed = [&answers[..2], &later[2..]].concat();
    assert!(stage.open(&request, &mixed).is_err());
}

#[tokio::test]
async fn the_share_of_an_epoch_that_the_chain_destroyed_is_not_used_any_more() {
    let stage = Stage::new((4, 1));
    let handle = stage.readable(1, FheType::Uint64, U256::from(42));
    let public = stage.public_request(&[handle]);
    let bundles = stage.bundles(&public).await;
    // Even what was accepted before is not signed any more, whatever context the request names.
    stage.chain().contexts[1].2 = vec![next_epoch()];
    let named = with_extra_data(&stage, handle, [vec![2], context_id().to_vec(), next_epoch().to_vec()].concat());
    let errors = [
        stage.all_refuse_public(&public, &bundles).await,
        stage.all_refuse_user(&stage.world.request(&[handle])).await,
        stage.all_refuse_user(&named).await,
    ]
    .concat();
    for error in errors {
        assert!(
            matches!(*error, KmsError::EpochNotServed { context, epoch } if context == context_id() && epoch == epoch_id()),
            "{error}"
        );
        assert_eq!(error.label(), "internal_server_error");
    }
    assert_eq!(stage.raised(1).first(), Some(&"epoch_not_served"));
    let destroyed = with_extra_data(&stage, handle, [vec![2], context_id().to_vec(), epoch_id().to_vec()].concat());
    for error in stage.all_refuse_user(&destroyed).await {
        assert!(
            matches!(*error, KmsError::Epoch { .. } | KmsError::EpochNotServed { .. }),
            "{error}"
        );
    }
    // With a share of the epoch that there is, everything goes on.
    for (held, share) in stage.held.iter().zip(deal_shares(&of_epoch(&stage, next_epoch()))) {
        held.activate(share).unwrap();
    }
    let bundles = stage.bundles(&public).await;
    let answer = stage.sign(0, &public, bundles).await.unwrap();
    stage.assert_signed(0, &public, &answer, &[U256::from(42)]);
}

#[tokio::test]
async fn requests_name_a_context_that_there_is_and_that_the_share_is_of() {
    let stage = Stage::new((4, 1));
    let handle = stage.readable(1, FheType::Uint64, U256::from(42));
    for extra_data in [
        vec![],
        vec![0],
        [vec![1], context_id().to_vec()].concat(),
        [vec![2], context_id().to_vec(), epoch_id().to_vec()].concat(),
    ] {
        let request = with_extra_data(&stage, handle, extra_data.clone());
        let answers = stage.user_shares(&request).await;
        assert_eq!(stage.open(&request, &answers).unwrap().0, [U256::from(42)]);
        assert_eq!(answers[0].share.extra_data, extra_data);
    }
    let old = with_extra_data(&stage, handle, [vec![1], old_context_id().to_vec()].concat());
    for error in stage.all_refuse_user(&old).await {
        assert!(
            matches!(*error, KmsError::ContextNotServed { requested } if requested == old_context_id()),
            "{error}"
        );
    }
    let unknown = with_extra_data(&stage, handle, [vec![1], vec![9; 32]].concat());
    for error in stage.all_refuse_user(&unknown).await {
        assert!(
            matches!(*error, KmsError::Context { .. } | KmsError::ContextNotServed { .. }),
            "{error}"
        );
    }
    let wrong_epoch = with_extra_data(&stage, handle, [vec![2], context_id().to_vec(), old_epoch_id().to_vec()].concat());
    for error in stage.all_refuse_user(&wrong_epoch).await {
        assert!(matches!(*error, KmsError::Epoch { .. }), "{error}");
    }
}

#[tokio::test]
async fn the_chain_must_have_this_committee_in_this_order_with_this_node() {
    let stage = Stage::new((4, 1));
    let handle = stage.readable(1, FheType::Uint64, U256::from(42));
    let request = stage.world.request(&[handle]);
    let registered = stage.chain().contexts[1].1.clone();
    let with_signers = |signers: Vec<Address>| stage.chain().contexts[1].1 = signers;

    with_signers(vec![registered[1], registered[0], registered[2], registered[3]]);
    assert!(
        stage
            .all_refuse_user(&request)
            .await
            .iter()
            .all(|error| matches!(**error, KmsError::CommitteeDiffers { .. }))
    );
    with_signers([registered.clone(), vec![Address::repeat_byte(9)]].concat());
    assert!(
        stage
            .all_refuse_user(&request)
            .await
            .iter()
            .all(|error| matches!(**error, KmsError::CommitteeDiffers { .. }))
    );
    with_signers(registered[1..].to_vec());
    let errors = stage.all_refuse_user(&request).await;
    assert!(matches!(*errors[0], KmsError::NotRegistered { .. }), "{}", errors[0]);
    with_signers(registered);
    stage.user_shares(&request).await;
}

#[tokio::test]
async fn somebody_elses_share_is_of_no_use_to_a_node() {
    let stage = Stage::without_shares((4, 1), BudgetLimits::default());
    let handle = stage.readable(1, FheType::Uint64, U256::from(42));
    stage.held[0].activate(deal_shares(&stage.scope).swap_remove(1)).unwrap();
    let error = stage.nodes[0].user_share(stage.world.request(&[handle]), None).await.unwrap_err();
    assert!(matches!(*error, KmsError::NotRegistered { .. }), "{error}");
}

#[test]
fn epochs_only_go_up_and_two_shares_are_held() {
    let stage = Stage::without_shares((4, 1), BudgetLimits::default());
    let share = |epoch: B256| deal_shares(&of_epoch(&stage, epoch)).swap_remove(0);
    let epochs = |held: &HeldShares| {
        held.list()
            .iter()
            .map(|share| B256::from(share.scope().epoch.0))
            .collect::<Vec<_>>()
    };
    let later = B256::from(U256::from_be_bytes(next_epoch().0) + U256::ONE);
    let held = HeldShares::new();
    assert_eq!(held.highest_epoch(), None);
    let (old, current) = (share(old_epoch_id()), share(epoch_id()));
    held.activate(Arc::clone(&old)).unwrap();
    held.activate(Arc::clone(&current)).unwrap();
    assert_eq!(epochs(&held), [epoch_id(), old_epoch_id()]);
    held.activate(Arc::clone(&current)).unwrap();
    assert_eq!(epochs(&held), [epoch_id(), old_epoch_id()], "once more changes nothing");
    assert_eq!(held.activate(Arc::clone(&old)).unwrap_err(), ThresholdError::EpochNotLater);
    held.activate(share(next_epoch())).unwrap();
    assert_eq!(epochs(&held), [next_epoch(), epoch_id()], "the oldest is given up");
    assert!(held.retire(EpochId(epoch_id().0)));
    assert!(!held.retire(EpochId(epoch_id().0)));
    assert_eq!(epochs(&held), [next_epoch()]);
    assert!(held.retire(EpochId(later.0)));
    assert!(held.list().is_empty());
    assert_eq!(
        held.activate(current).unwrap_err(),
        ThresholdError::EpochNotLater,
        "not even when nothing is held"
    );
    let of_other_key = Scope {
        key: KeyId([9; 32]),
        ..of_epoch(&stage, later)
    };
    assert!(matches!(
        held.activate(deal_shares(&of_other_key).swap_remove(0)).unwrap_err(),
        ThresholdError::OtherScope(_)
    ));
    let mut members = stage.scope.committee.members().to_vec();
    held.activate(share(later)).unwrap();
    members.swap(0, 1);
    let of_other_committee = Scope {
        committee: Committee::new(1, members).unwrap(),
        ..of_epoch(&stage, later)
    };
    assert!(matches!(
        held.activate(deal_shares(&of_other_committee).swap_remove(0)).unwrap_err(),
        ThresholdError::OtherScope("committee")
    ));
}

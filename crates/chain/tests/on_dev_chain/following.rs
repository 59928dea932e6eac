//! Following: what is reported, restarts, reorganisations, catching up.

use alloy::primitives::{Address, U256};
use alloy::sol_types::SolCall;
use cipherloom_chain::{BlockEvents, ChainError, DelegationEvent, FollowUpdate, Follower, FollowerConfig, GrantEvent, TransactionEvents};
use cipherloom_contracts::bindings::ACL;
use cipherloom_primitives::{FheType, Handle, TypedOperation};

use crate::fixture::{Bench, addresses, follow_all};

/// The transactions in blocks that said anything.
fn transactions(blocks: &[BlockEvents]) -> Vec<TransactionEvents> {
    blocks.iter().flat_map(|block| block.transactions.clone()).collect()
}

/// The handles that transactions computed.
fn results(blocks: &[BlockEvents]) -> Vec<Handle> {
    transactions(blocks)
        .iter()
        .flat_map(|transaction| &transaction.computations)
        .map(|computation| computation.result)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn computations_and_grants_are_reported_with_their_transaction() {
    let bench = Bench::deployed().await;
    let mut recorded = Vec::new();
    let mut follower = bench.follower();
    let deployment = follow_all(&mut follower, &mut recorded).await;
    assert!(transactions(&deployment).is_empty());
    assert_eq!(deployment[0].number, 0);
    assert!(deployment.windows(2).all(|pair| pair[1].parent_hash == pair[0].hash));

    let (handle, hash) = bench.request_value(42).await;
    let blocks = follow_all(&mut follower, &mut recorded).await;
    assert_eq!(blocks.len(), 1);
    let [transaction] = blocks[0].transactions.as_slice() else {
        panic!("{blocks:?}")
    };
    assert_eq!((transaction.hash, transaction.index), (hash, 0));
    let [computation] = transaction.computations.as_slice() else {
        panic!("{transaction:?}")
    };
    assert_eq!(
        computation.operation,
        TypedOperation::TrivialEncrypt {
            value: U256::from(42),
            ty: FheType::Uint64
        }
    );
    assert_eq!(computation.result, handle);
    assert_eq!(
        transaction.grants,
        [GrantEvent::Account {
            handle,
            account: bench.user()
        }]
    );
    assert_eq!(follower.poll(&recorded).await.unwrap(), FollowUpdate::UpToDate);
}

#[tokio::test(flavor = "multi_thread")]
async fn public_decryptions_and_delegations_are_reported() {
    let bench = Bench::deployed().await;
    let (handle, _) = bench.request_value(42).await;
    let (mut recorded, mut follower) = (Vec::new(), bench.follower());
    follow_all(&mut follower, &mut recorded).await;

    bench
        .send(
            addresses().acl,
            ACL::allowForDecryptionCall {
                handlesList: vec![handle.as_b256()],
            }
            .abi_encode(),
        )
        .await;
    let (delegate, contract) = (Address::repeat_byte(0xde), Address::repeat_byte(0xcc));
    let call = ACL::delegateForUserDecryptionCall {
        delegate,
        contractAddress: contract,
        expirationDate: u64::MAX,
    };
    bench.send(addresses().acl, call.abi_encode()).await;
    bench
        .send(
            addresses().acl,
            ACL::revokeDelegationForUserDecryptionCall {
                delegate,
                contractAddress: contract,
            }
            .abi_encode(),
        )
        .await;

    let seen = transactions(&follow_all(&mut follower, &mut recorded).await);
    assert_eq!(seen[0].grants, [GrantEvent::PublicDecryption { handle }]);
    let delegation = |expires_at| DelegationEvent {
        delegator: bench.user(),
        delegate,
        contract,
        expires_at,
    };
    assert_eq!(seen[1].delegations, [delegation(u64::MAX)]);
    assert_eq!(seen[2].delegations, [delegation(0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_follower_goes_on_after_the_newest_recorded_block() {
    let bench = Bench::deployed().await;
    let mut recorded = Vec::new();
    let (first, _) = bench.request_value(1).await;
    assert_eq!(results(&follow_all(&mut bench.follower(), &mut recorded).await), [first]);
    let (second, _) = bench.request_value(2).await;
    let (third, _) = bench.request_value(3).await;
    assert_eq!(results(&follow_all(&mut bench.follower(), &mut recorded).await), [second, third]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reorganisation_removes_exactly_the_blocks_that_are_gone() {
    let bench = Bench::deployed().await;
    let (mut recorded, mut follower) = (Vec::new(), bench.follower());
    bench.request_value(1).await;
    bench.request_value(2).await;
    bench.request_value(3).await;
    follow_all(&mut follower, &mut recorded).await;
    let newest = recorded[0].number;

    bench.node.chain().reorganize(2).unwrap();
    assert_eq!(
        follower.poll(&recorded).await.unwrap(),
        FollowUpdate::Reorganised { first_removed: newest - 1 }
    );
    let blocks = follow_all(&mut follower, &mut recorded).await;
    assert_eq!(blocks.iter().map(|block| block.number).collect::<Vec<_>>(), [newest - 1, newest]);
    assert!(transactions(&blocks).is_empty());
    let (after, _) = bench.request_value(4).await;
    assert_eq!(results(&follow_all(&mut follower, &mut recorded).await), [after]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_went_back_is_noticed_when_it_grows_again() {
    let bench = Bench::deployed().await;
    let (mut recorded, mut follower) = (Vec::new(), bench.follower());
    let snapshot = bench.node.chain().snapshot().unwrap();
    bench.request_value(1).await;
    bench.request_value(2).await;
    follow_all(&mut follower, &mut recorded).await;
    let newest = recorded[0].number;

    assert!(bench.node.chain().revert(snapshot).unwrap());
    // This could be a node that lags behind, so nothing is withdrawn yet.
    assert_eq!(follower.poll(&recorded).await.unwrap(), FollowUpdate::UpToDate);
    let (other, _) = bench.request_value(9).await;
    assert_eq!(
        follower.poll(&recorded).await.unwrap(),
        FollowUpdate::Reorganised { first_removed: newest - 1 }
    );
    assert_eq!(results(&follow_all(&mut follower, &mut recorded).await), [other]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_stays_shorter_is_followed_back() {
    let bench = Bench::deployed().await;
    let config = FollowerConfig {
        rollback_patience: std::time::Duration::ZERO,
        ..FollowerConfig::default()
    };
    let (mut recorded, mut follower) = (Vec::new(), Follower::new(bench.host.clone(), config));
    let snapshot = bench.node.chain().snapshot().unwrap();
    bench.request_value(1).await;
    bench.request_value(2).await;
    follow_all(&mut follower, &mut recorded).await;
    let newest = recorded[0].number;
    assert!(bench.node.chain().revert(snapshot).unwrap());
    assert_eq!(
        follower.poll(&recorded).await.unwrap(),
        FollowUpdate::Reorganised { first_removed: newest - 1 }
    );
    recorded.retain(|block| block.number < newest - 1);
    assert_eq!(follower.poll(&recorded).await.unwrap(), FollowUpdate::UpToDate);
}

#[tokio::test(flavor = "multi_thread")]
async fn final_blocks_are_removed_only_where_nothing_is_final() {
    let bench = Bench::deployed().await;
    let config = |keeps_final_blocks| FollowerConfig {
        finality_depth: 3,
        keeps_final_blocks,
        ..FollowerConfig::default()
    };
    let mut recorded = Vec::new();
    let mut follower = Follower::new(bench.host.clone(), config(true));
    bench.node.chain().mine(10).unwrap();
    follow_all(&mut follower, &mut recorded).await;
    let newest = recorded[0].number;
    let head = follower.head().unwrap();
    assert_eq!((head.number, head.final_block), (newest, Some(newest - 3)));

    bench.node.chain().reorganize(4).unwrap();
    let error = follower.poll(&recorded).await.unwrap_err();
    assert!(
        matches!(error, ChainError::FinalityBroken { number, final_block, .. } if (number, final_block) == (newest - 3, newest - 3)),
        "{error}"
    );
    assert_eq!(
        Follower::new(bench.host.clone(), config(false)).poll(&recorded).await.unwrap(),
        FollowUpdate::Reorganised { first_removed: newest - 3 }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_from_checked_receipts_are_the_same() {
    let bench = Bench::deployed().await;
    let (first, _) = bench.request_value(1).await;
    let (second, _) = bench.request_value(2).await;
    let config = FollowerConfig {
        checks_receipts: true,
        finality_depth: 0,
        ..FollowerConfig::default()
    };
    let blocks = follow_all(&mut Follower::new(bench.host.clone(), config), &mut Vec::new()).await;
    assert_eq!(results(&blocks), [first, second]);
    assert_eq!(
        transactions(&blocks),
        transactions(&follow_all(&mut bench.follower(), &mut Vec::new()).await)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reorganisation_deeper_than_what_was_given_is_resolved_in_steps() {
    let bench = Bench::deployed().await;
    let (mut recorded, mut follower) = (Vec::new(), bench.follower());
    bench.node.chain().mine(20).unwrap();
    follow_all(&mut follower, &mut recorded).await;
    let newest = recorded[0].number;
    bench.node.chain().reorganize(15).unwrap();
    let update = follower.poll(&recorded[..4]).await.unwrap();
    assert_eq!(update, FollowUpdate::Reorganised { first_removed: newest - 3 });
    let update = follower.poll(&recorded[4..]).await.unwrap();
    assert_eq!(
        update,
        FollowUpdate::Reorganised {
            first_removed: newest - 14
        }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn catching_up_reads_ranges_and_leaves_empty_blocks_out() {
    let bench = Bench::deployed().await;
    let (first, _) = bench.request_value(1).await;
    bench.node.chain().mine(900).unwrap();
    let (second, _) = bench.request_value(2).await;
    bench.node.chain().mine(100).unwrap();
    let (third, _) = bench.request_value(3).await;
    let config = FollowerConfig {
        longest_range: 300,
        finality_depth: 20,
        ..FollowerConfig::default()
    };
    let mut recorded = Vec::new();
    let blocks = follow_all(&mut Follower::new(bench.host.clone(), config), &mut recorded).await;
    assert_eq!(results(&blocks), [first, second, third]);
    assert!(blocks.len() < 100, "{} blocks for three with events", blocks.len());
    // Where ranges end, following block by block continues.
    let again = follow_all(&mut bench.follower(), &mut Vec::new()).await;
    assert_eq!(transactions(&again), transactions(&blocks));
}

#[tokio::test(flavor = "multi_thread")]
async fn following_begins_at_the_configured_block() {
    let bench = Bench::deployed().await;
    bench.request_value(1).await;
    let head = bench.node.chain().block_number().unwrap();
    let (second, _) = bench.request_value(2).await;
    let config = FollowerConfig {
        first_block: head + 1,
        ..FollowerConfig::default()
    };
    let blocks = follow_all(&mut Follower::new(bench.host.clone(), config), &mut Vec::new()).await;
    assert_eq!(results(&blocks), [second]);
    let beyond = FollowerConfig {
        first_block: head + 100,
        ..FollowerConfig::default()
    };
    assert_eq!(
        Follower::new(bench.host.clone(), beyond).poll(&[]).await.unwrap(),
        FollowUpdate::UpToDate
    );
}

//! Decryptions that contracts asked for: claims, what the chain says, attempts, and what reorganisations undo.

use std::sync::Arc;

use cipherloom_primitives::{Address, B256, U256};
use cipherloom_store::{
    CallbackAttempt, CallbackClaim, CallbackCursor, CallbackDelivery, CallbackFilter, CallbackProgress, CallbackReport, CallbackRequest,
    CallbackState, Callbacks, Database, StoreError,
};

use crate::fixture::NOW_MS;

/// When the time of the requests is over, by the chain's clock.
const LIMIT: u64 = 5_000;

const RELAYER: Address = Address::repeat_byte(0x11);
const OTHER_RELAYER: Address = Address::repeat_byte(0x22);

fn at(owner: &str, now_ms: u64) -> CallbackClaim<'_> {
    CallbackClaim { owner, now_ms }
}

/// The process that has the claim in most tests.
fn ours() -> CallbackClaim<'static> {
    at("one", NOW_MS)
}

fn hash_of(block: u64, branch: u8) -> B256 {
    B256::from(U256::from(block * 256 + u64::from(branch)))
}

fn request(id: u64, block: u64, branch: u8) -> CallbackRequest {
    CallbackRequest {
        id,
        handles: vec![B256::repeat_byte(1), B256::repeat_byte(2)],
        caller: Address::repeat_byte(0xca),
        selector: [1, 2, 3, 4],
        wei: U256::from(id),
        max_timestamp: LIMIT,
        passes_signatures: id % 2 == 1,
        block,
        block_hash: hash_of(block, branch),
        transaction: B256::repeat_byte(9),
    }
}

fn delivery(request: u64, block: u64, failure: Option<&str>) -> CallbackDelivery {
    CallbackDelivery {
        request,
        failure: failure.map(str::to_owned),
        block,
        block_hash: hash_of(block, 0),
        transaction: B256::repeat_byte(0xde),
    }
}

fn attempt(account: Address, nonce: u64, tag: u8, request: Option<u64>) -> CallbackAttempt {
    CallbackAttempt {
        account,
        nonce,
        hash: B256::repeat_byte(tag),
        request,
        raw: vec![tag; 100],
        max_fee: 1_000_000_000,
        tip: tag.is_multiple_of(2).then_some(7),
        created_at_ms: NOW_MS,
        outcome: None,
    }
}

/// A site that process `one` has claimed.
async fn claimed(database: &dyn Database) -> Arc<dyn Callbacks> {
    let callbacks = database.callbacks("here");
    assert!(callbacks.claim(ours(), NOW_MS + 1_000).await.unwrap());
    callbacks
}

async fn see(callbacks: &dyn Callbacks, block: u64, chain_time: u64, requests: &[CallbackRequest], deliveries: &[CallbackDelivery]) {
    let known = callbacks
        .site()
        .await
        .unwrap()
        .unwrap()
        .cursor
        .map_or(0, |cursor| cursor.next_request);
    let next_request = requests.iter().map(|request| request.id + 1).fold(known, u64::max);
    let progress = CallbackProgress {
        cursor: CallbackCursor {
            block,
            block_hash: hash_of(block, 0),
            next_request,
        },
        requests,
        deliveries,
        chain_time,
    };
    callbacks.record(ours(), &progress).await.unwrap();
}

async fn state(callbacks: &dyn Callbacks, id: u64) -> CallbackState {
    callbacks.find(id).await.unwrap().unwrap().0.state
}

pub(crate) async fn one_process_at_a_time_serves_a_site(database: Arc<dyn Database>) {
    let callbacks = database.callbacks("here");
    assert_eq!(callbacks.site().await.unwrap(), None);
    let error = callbacks.postpone(at("one", 5), 0, 0, "nobody has it").await.unwrap_err();
    assert!(matches!(error, StoreError::ClaimLost(_)), "{error}");
    assert!(callbacks.claim(at("one", 0), 10).await.unwrap());
    assert!(!callbacks.claim(at("two", 9), 20).await.unwrap());
    assert!(callbacks.claim(at("one", 9), 19).await.unwrap());
    assert!(callbacks.claim(at("two", 19), 30).await.unwrap());
    // The first one has not noticed, and can write nothing any more.
    let error = callbacks.fail(at("one", 20), 0, "too late").await.unwrap_err();
    assert!(matches!(error, StoreError::ClaimLost(_)), "{error}");
    let error = callbacks
        .add_attempt(at("two", 30), &attempt(RELAYER, 0, 1, None))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::ClaimLost(_)), "the claim is over: {error}");
    assert!(!callbacks.claim(at("two", 25), 25).await.unwrap(), "given up");
    assert!(callbacks.claim(at("one", 26), 40).await.unwrap());

    let report = CallbackReport {
        account: RELAYER,
        balance: U256::from(1) << 100,
        condition: "insufficient_balance".to_owned(),
    };
    callbacks.report(at("one", 27), &report).await.unwrap();
    let site = callbacks.site().await.unwrap().unwrap();
    assert_eq!((site.owner.as_str(), site.report), ("one", Some((report, 27))));
    // Sites are apart.
    assert!(database.callbacks("there").claim(at("two", 26), 40).await.unwrap());
    let names: Vec<String> = database.callback_sites().await.unwrap().into_iter().map(|site| site.name).collect();
    assert_eq!(names, ["here", "there"]);
}

pub(crate) async fn requests_go_the_way_the_chain_says(database: Arc<dyn Database>) {
    let callbacks = claimed(database.as_ref()).await;
    let callbacks = callbacks.as_ref();
    see(callbacks, 3, 100, &[request(0, 1, 0), request(1, 3, 0), request(2, 3, 0)], &[]).await;
    let due = callbacks.due(NOW_MS, 2).await.unwrap();
    assert_eq!(
        due.iter().map(|record| record.request.clone()).collect::<Vec<_>>(),
        [request(0, 1, 0), request(1, 3, 0)]
    );

    callbacks.postpone(ours(), 0, NOW_MS + 5, "not yet").await.unwrap();
    callbacks.fail(ours(), 1, "not allowed \0").await.unwrap();
    let due = callbacks.due(NOW_MS + 4, 9).await.unwrap();
    assert_eq!(due.iter().map(|record| record.request.id).collect::<Vec<_>>(), [2]);
    let due = callbacks.due(NOW_MS + 5, 9).await.unwrap();
    assert_eq!((due.len(), due[1].tries, due[1].reason.as_deref()), (2, 1, Some("not yet")));
    assert_eq!(state(callbacks, 1).await, CallbackState::Failed);

    // What is known stays as it is; what others delivered overrides what was thought.
    see(
        callbacks,
        5,
        200,
        &[request(1, 3, 0)],
        &[delivery(1, 4, None), delivery(2, 5, Some("it reverted"))],
    )
    .await;
    let (record, _) = callbacks.find(1).await.unwrap().unwrap();
    assert_eq!(
        (record.state, record.delivered_by),
        (CallbackState::Fulfilled, Some(B256::repeat_byte(0xde)))
    );
    let (record, _) = callbacks.find(2).await.unwrap().unwrap();
    assert_eq!(
        (record.state, record.reason.as_deref()),
        (CallbackState::Failed, Some("it reverted"))
    );

    see(callbacks, 6, LIMIT, &[], &[]).await;
    assert_eq!(state(callbacks, 0).await, CallbackState::Pending);
    see(callbacks, 7, LIMIT + 1, &[], &[]).await;
    assert_eq!(state(callbacks, 0).await, CallbackState::Expired);
    let filter = |state, before, limit| CallbackFilter { state, before, limit };
    let listed = callbacks.list(filter(None, None, 2)).await.unwrap();
    assert_eq!(listed.iter().map(|record| record.request.id).collect::<Vec<_>>(), [2, 1]);
    let listed = callbacks.list(filter(Some(CallbackState::Expired), Some(2), 9)).await.unwrap();
    assert_eq!(listed.iter().map(|record| record.request.id).collect::<Vec<_>>(), [0]);
    let totals = callbacks.totals().await.unwrap();
    assert_eq!(totals.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [0, 0, 1, 1, 1]);
    assert_eq!(callbacks.site().await.unwrap().unwrap().cursor.unwrap().next_request, 3);
    assert!(callbacks.find(3).await.unwrap().is_none());
    // Another site has none of them.
    assert!(database.callbacks("there").find(0).await.unwrap().is_none());

    assert_eq!(callbacks.forget(ours(), NOW_MS).await.unwrap(), 0);
    assert_eq!(callbacks.forget(ours(), NOW_MS + 1).await.unwrap(), 3);
}

pub(crate) async fn an_attempt_is_written_down_before_it_is_sent_and_settled_with_its_nonce(database: Arc<dyn Database>) {
    let callbacks = claimed(database.as_ref()).await;
    let callbacks = callbacks.as_ref();
    see(callbacks, 1, 100, &[request(0, 1, 0), request(1, 1, 0)], &[]).await;
    let (first, second) = (attempt(RELAYER, 7, 1, Some(0)), attempt(RELAYER, 7, 2, Some(0)));
    assert!(callbacks.add_attempt(ours(), &first).await.unwrap());
    assert_eq!(state(callbacks, 0).await, CallbackState::Sent);
    assert_eq!(callbacks.due(NOW_MS, 9).await.unwrap().len(), 1);
    assert!(callbacks.add_attempt(ours(), &second).await.unwrap());
    assert!(callbacks.add_attempt(ours(), &attempt(RELAYER, 8, 3, Some(1))).await.unwrap());
    let open = callbacks.open_attempts().await.unwrap();
    assert_eq!(open.len(), 3);
    assert!(open.contains(&first) && open.contains(&second), "{open:?}");

    // The nonce was used and nothing of ours came of it: the request is open again.
    callbacks.settle(ours(), RELAYER, 7, "reverted").await.unwrap();
    let (record, attempts) = callbacks.find(0).await.unwrap().unwrap();
    assert_eq!(
        (record.state, record.reason.as_deref(), record.tries),
        (CallbackState::Pending, Some("reverted"), 1)
    );
    assert!(attempts.iter().all(|attempt| attempt.outcome.as_deref() == Some("reverted")));
    // What the chain has delivered stays delivered.
    see(callbacks, 2, 100, &[], &[delivery(1, 2, None)]).await;
    callbacks.settle(ours(), RELAYER, 8, "included").await.unwrap();
    assert_eq!(state(callbacks, 1).await, CallbackState::Fulfilled);
    assert!(
        !callbacks.add_attempt(ours(), &attempt(RELAYER, 9, 4, Some(1))).await.unwrap(),
        "it is over"
    );
    assert!(callbacks.add_attempt(ours(), &attempt(RELAYER, 9, 5, None)).await.unwrap());
    assert_eq!(callbacks.open_attempts().await.unwrap().len(), 1);
    let error = callbacks
        .add_attempt(ours(), &attempt(RELAYER, u64::MAX, 6, None))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::OutOfRange { .. }), "{error}");
}

pub(crate) async fn what_another_account_sent_is_taken_over_after_a_while(database: Arc<dyn Database>) {
    let callbacks = claimed(database.as_ref()).await;
    let callbacks = callbacks.as_ref();
    see(callbacks, 1, 100, &[request(0, 1, 0), request(1, 1, 0)], &[]).await;
    callbacks.add_attempt(ours(), &attempt(OTHER_RELAYER, 0, 1, Some(0))).await.unwrap();
    callbacks.add_attempt(ours(), &attempt(RELAYER, 0, 2, Some(1))).await.unwrap();
    assert_eq!(callbacks.take_over(ours(), RELAYER, NOW_MS).await.unwrap(), 0, "it is new");
    assert_eq!(callbacks.take_over(ours(), RELAYER, NOW_MS + 1).await.unwrap(), 1);
    assert_eq!(state(callbacks, 0).await, CallbackState::Pending);
    assert_eq!(state(callbacks, 1).await, CallbackState::Sent);
    assert_eq!(callbacks.open_attempts().await.unwrap().len(), 2, "both may still be included");
}

pub(crate) async fn a_reorganisation_undoes_what_its_blocks_said(database: Arc<dyn Database>) {
    let callbacks = claimed(database.as_ref()).await;
    let callbacks = callbacks.as_ref();
    see(callbacks, 5, 100, &[request(0, 1, 0), request(1, 2, 0), request(2, 5, 0)], &[]).await;
    callbacks.add_attempt(ours(), &attempt(RELAYER, 0, 1, Some(1))).await.unwrap();
    see(callbacks, 9, LIMIT + 1, &[], &[delivery(0, 3, None), delivery(1, 6, None)]).await;
    assert_eq!(state(callbacks, 2).await, CallbackState::Expired);
    let blocks = callbacks.recorded_blocks(None, 9).await.unwrap();
    assert_eq!(blocks.iter().map(|(block, _)| *block).collect::<Vec<_>>(), [6, 5, 3, 2, 1]);
    let blocks = callbacks.recorded_blocks(Some(5), 2).await.unwrap();
    assert_eq!(blocks, [(3, hash_of(3, 0)), (2, hash_of(2, 0))]);

    callbacks.withdraw(ours(), Some((3, hash_of(3, 0)))).await.unwrap();
    assert_eq!(state(callbacks, 0).await, CallbackState::Fulfilled);
    // Its transaction may be included again.
    assert_eq!(state(callbacks, 1).await, CallbackState::Sent);
    assert!(callbacks.find(2).await.unwrap().is_none());
    let cursor = callbacks.site().await.unwrap().unwrap().cursor.unwrap();
    assert_eq!((cursor.block, cursor.block_hash, cursor.next_request), (3, hash_of(3, 0), 2));

    // The same number is another request on the other branch.
    let other = CallbackRequest {
        handles: vec![B256::repeat_byte(7)],
        ..request(0, 1, 1)
    };
    see(callbacks, 9, 100, std::slice::from_ref(&other), &[]).await;
    let (record, _) = callbacks.find(0).await.unwrap().unwrap();
    assert_eq!(
        (record.state, record.request, record.delivered_by),
        (CallbackState::Pending, other, None)
    );

    callbacks.withdraw(ours(), None).await.unwrap();
    assert_eq!(callbacks.site().await.unwrap().unwrap().cursor, None);
    assert!(
        callbacks
            .list(CallbackFilter {
                limit: 9,
                ..CallbackFilter::default()
            })
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(callbacks.open_attempts().await.unwrap().len(), 1, "a nonce is used all the same");
    callbacks.clear().await.unwrap();
    assert!(callbacks.open_attempts().await.unwrap().is_empty() && callbacks.site().await.unwrap().is_none());
}

pub(crate) async fn what_failed_is_tried_again_when_an_operator_says_so(database: Arc<dyn Database>) {
    let callbacks = claimed(database.as_ref()).await;
    let callbacks = callbacks.as_ref();
    see(
        callbacks,
        1,
        100,
        &[request(0, 1, 0), request(1, 1, 0), request(2, 1, 0)],
        &[delivery(2, 1, Some("reverted"))],
    )
    .await;
    callbacks.fail(ours(), 0, "no").await.unwrap();
    callbacks.fail(ours(), 1, "no").await.unwrap();
    assert_eq!(callbacks.retry(Some(2)).await.unwrap(), 0, "it was delivered");
    assert_eq!(callbacks.retry(Some(1)).await.unwrap(), 1);
    assert_eq!(callbacks.retry(None).await.unwrap(), 1);
    let due = callbacks.due(NOW_MS, 9).await.unwrap();
    assert_eq!(
        due.iter().map(|record| (record.request.id, record.tries)).collect::<Vec<_>>(),
        [(0, 0), (1, 0)]
    );
}

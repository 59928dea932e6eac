//! What operators see, and trying again what failed.

use std::sync::Arc;

use cipherloom_primitives::Handle;
use cipherloom_store::{
    Database, HandleState, Inspection, LeaseSummary, RetryRequest, Store, Tenant, TransactionFilter, TransactionKey, TransactionPosition,
    TransactionState, TransactionSummary, WaitSummary,
};

use crate::{
    database::{add, handle_of, push, request},
    fixture::{LEASE_MS, NOW_MS, transaction},
    pushed::{fail, finish, work},
};

/// A tenant, its store and what operators see of it.
struct Scene {
    tenant: Tenant,
    store: Arc<dyn Store>,
    inspection: Arc<dyn Inspection>,
}

impl Scene {
    async fn new(database: &dyn Database) -> Self {
        let tenant = add(database, 1).await;
        Self {
            store: database.store(&tenant),
            inspection: database.inspection(&tenant),
            tenant,
        }
    }

    fn handle(&self, tag: u8) -> Handle {
        handle_of(&self.tenant, tag)
    }

    /// Pushes a transaction that computes one handle of others.
    async fn push(&self, tag: u8, needs: &[u8]) {
        let boundary: Vec<Handle> = needs.iter().map(|tag| self.handle(*tag)).collect();
        let pushed = work(vec![transaction(u64::from(tag), self.handle(tag), &boundary)]);
        self.store.record_pushed(self.tenant.chain_id, &pushed).await.unwrap();
    }

    /// Leases everything and publishes the outputs, or gives up those with certain handles.
    async fn run(&self, failing: &[u8]) {
        loop {
            let leased = self.store.lease_transactions(&request(&self.tenant, NOW_MS, 10)).await.unwrap();
            if leased.is_empty() {
                return;
            }
            for leased in &leased {
                if failing.iter().any(|tag| leased.outputs.contains(&self.handle(*tag))) {
                    fail(self.store.as_ref(), leased).await;
                } else {
                    finish(self.store.as_ref(), leased).await;
                }
            }
        }
    }

    async fn list(&self, filter: TransactionFilter) -> Vec<TransactionSummary> {
        self.inspection.list_transactions(&filter).await.unwrap()
    }

    async fn state(&self, tag: u8) -> HandleState {
        self.store.handle_state(self.handle(tag)).await.unwrap()
    }

    async fn retry(&self, request: RetryRequest) -> u64 {
        self.inspection.retry(&request).await.unwrap()
    }
}

fn filter(limit: u32) -> TransactionFilter {
    TransactionFilter {
        limit,
        ..TransactionFilter::default()
    }
}

fn blocks(listed: &[TransactionSummary]) -> Vec<u64> {
    listed.iter().map(|summary| summary.position.block_number).collect()
}

pub(crate) async fn transactions_are_listed_newest_first_in_pages(database: Arc<dyn Database>) {
    let scene = Scene::new(database.as_ref()).await;
    for tag in 1..=5 {
        scene.push(tag, &[]).await;
    }
    let first = scene.list(filter(2)).await;
    assert_eq!(blocks(&first), [4, 3]);
    let second = TransactionFilter {
        before: Some(first[1].position),
        ..filter(2)
    };
    assert_eq!(blocks(&scene.list(second).await), [2, 1]);
    let last = TransactionFilter {
        before: Some(TransactionPosition { block_number: 1, index: 0 }),
        ..filter(2)
    };
    assert_eq!(blocks(&scene.list(last).await), [0]);
}

pub(crate) async fn transactions_are_filtered_by_state_and_handle(database: Arc<dyn Database>) {
    let scene = Scene::new(database.as_ref()).await;
    for tag in 1..=3 {
        scene.push(tag, &[]).await;
    }
    scene.run(&[2]).await;
    scene.push(4, &[]).await;
    let of_state = |state| TransactionFilter {
        state: Some(state),
        ..filter(9)
    };
    assert_eq!(blocks(&scene.list(of_state(TransactionState::Pending)).await), [3]);
    assert_eq!(blocks(&scene.list(of_state(TransactionState::Done)).await), [2, 0]);
    let poisoned = scene.list(of_state(TransactionState::Poisoned)).await;
    assert_eq!(blocks(&poisoned), [1]);
    assert_eq!(poisoned[0].failure.as_deref(), Some("it cannot be"));
    assert_eq!((poisoned[0].outputs, poisoned[0].attempts, &poisoned[0].lease), (1, 1, &None));
    let of_handle = |state| TransactionFilter {
        state,
        handle: Some(scene.handle(2)),
        ..filter(9)
    };
    assert_eq!(scene.list(of_handle(None)).await, poisoned);
    assert_eq!(scene.list(of_handle(Some(TransactionState::Poisoned))).await, poisoned);
    assert_eq!(scene.list(of_handle(Some(TransactionState::Done))).await, []);
}

pub(crate) async fn a_transaction_is_shown_with_lease_waits_and_outputs(database: Arc<dyn Database>) {
    let scene = Scene::new(database.as_ref()).await;
    scene.push(1, &[]).await;
    scene.push(2, &[1]).await;
    scene.store.lease_transactions(&request(&scene.tenant, NOW_MS, 1)).await.unwrap();
    let of_handle = TransactionKey::Handle(scene.handle(1));
    let first = scene.inspection.transaction(&of_handle).await.unwrap().unwrap();
    assert_eq!(
        first.summary.lease,
        Some(LeaseSummary {
            owner: "worker".to_owned(),
            expires_at_ms: NOW_MS + LEASE_MS,
        })
    );
    assert_eq!(
        (first.summary.state, first.summary.waits, first.summary.recorded_at_s),
        (TransactionState::Pending, false, 1_700_000_000)
    );
    assert_eq!(first.computations, transaction(1, scene.handle(1), &[]).computations);
    assert_eq!((first.outputs[0].handle, first.outputs[0].stored), (scene.handle(1), false));
    let of_handle = TransactionKey::Handle(scene.handle(2));
    let second = scene.inspection.transaction(&of_handle).await.unwrap().unwrap();
    assert!(second.summary.waits);
    let expected = WaitSummary {
        handle: scene.handle(1),
        transaction: first.summary.hash,
    };
    assert_eq!(second.waits_for, [expected]);
    let by_hash = TransactionKey::Hash(second.summary.hash);
    assert_eq!(scene.inspection.transaction(&by_hash).await.unwrap(), Some(second));
    let unknown = TransactionKey::Handle(scene.handle(9));
    assert_eq!(scene.inspection.transaction(&unknown).await.unwrap(), None);

    scene
        .store
        .lease_transactions(&request(&scene.tenant, NOW_MS + LEASE_MS, 1))
        .await
        .unwrap();
    let of_handle = TransactionKey::Handle(scene.handle(1));
    assert_eq!(scene.inspection.transaction(&of_handle).await.unwrap().unwrap().summary.attempts, 2);
}

pub(crate) async fn a_retried_transaction_is_computed_and_so_is_what_failed_because_of_it(database: Arc<dyn Database>) {
    let scene = Scene::new(database.as_ref()).await;
    // 1 fails, and with it 2 and 3; 4 fails by itself; 5 needs nothing of these.
    scene.push(1, &[]).await;
    scene.push(2, &[1]).await;
    scene.push(3, &[2]).await;
    scene.push(4, &[]).await;
    scene.push(5, &[]).await;
    scene.run(&[1, 2, 3, 4]).await;
    assert_eq!(scene.inspection.backlog(NOW_MS).await.unwrap().poisoned, 4);
    assert_eq!(scene.retry(RetryRequest::One(TransactionKey::Handle(scene.handle(5)))).await, 0);
    assert_eq!(scene.retry(RetryRequest::One(TransactionKey::Handle(scene.handle(1)))).await, 3);
    for tag in 1..=3 {
        assert_eq!(scene.state(tag).await, HandleState::Pending);
    }
    assert_eq!(scene.state(4).await, HandleState::Failed("it cannot be".to_owned()));
    assert_eq!(scene.store.pending_transactions(scene.tenant.chain_id).await.unwrap(), 3);
    // They run in order again, and count their attempts anew.
    let leased = scene.store.lease_transactions(&request(&scene.tenant, NOW_MS, 10)).await.unwrap();
    assert_eq!((leased.len(), leased[0].outputs[0], leased[0].attempts), (1, scene.handle(1), 1));
    assert_eq!(finish(scene.store.as_ref(), &leased[0]).await.len(), 1);
    scene.run(&[]).await;
    for tag in [1, 2, 3, 5] {
        assert_eq!(scene.state(tag).await, HandleState::Stored);
    }
    assert_eq!(scene.store.pending_transactions(scene.tenant.chain_id).await.unwrap(), 0);
    let hash = scene.list(TransactionFilter {
        state: Some(TransactionState::Poisoned),
        ..filter(9)
    });
    let hash = hash.await[0].hash;
    assert_eq!(scene.retry(RetryRequest::One(TransactionKey::Hash(hash))).await, 1);
    assert_eq!(scene.retry(RetryRequest::All).await, 0);
    scene.run(&[]).await;
    assert_eq!(scene.state(4).await, HandleState::Stored);
}

pub(crate) async fn what_needs_a_retried_result_waits_for_it_again(database: Arc<dyn Database>) {
    let scene = Scene::new(database.as_ref()).await;
    scene.push(1, &[]).await;
    scene.run(&[1]).await;
    // Recorded after the failure, so that it waits for nothing.
    scene.push(2, &[1]).await;
    scene.push(3, &[]).await;
    assert_eq!(scene.inspection.backlog(NOW_MS).await.unwrap().runnable, 2);
    assert_eq!(scene.retry(RetryRequest::All).await, 1);
    let leased = scene.store.lease_transactions(&request(&scene.tenant, NOW_MS, 10)).await.unwrap();
    let outputs: Vec<Handle> = leased.iter().flat_map(|leased| leased.outputs.clone()).collect();
    assert_eq!(outputs, [scene.handle(1), scene.handle(3)]);
    let freed = finish(scene.store.as_ref(), &leased[0]).await;
    let next = scene.store.lease_transactions(&request(&scene.tenant, NOW_MS, 10)).await.unwrap();
    assert_eq!((next.len(), next[0].lease.transaction()), (1, freed[0]));
    assert_eq!(next[0].outputs, [scene.handle(2)]);
}

pub(crate) async fn the_backlog_counts_what_is_to_be_done(database: Arc<dyn Database>) {
    let scene = Scene::new(database.as_ref()).await;
    let empty = scene.inspection.backlog(NOW_MS).await.unwrap();
    assert_eq!(empty, cipherloom_store::Backlog::default());
    push(database.as_ref(), &scene.tenant, 1..=4).await;
    scene.push(5, &[1]).await;
    scene.push(6, &[]).await;
    let leased = scene.store.lease_transactions(&request(&scene.tenant, NOW_MS, 3)).await.unwrap();
    fail(scene.store.as_ref(), &leased[1]).await;
    // By the clock of the database, so what is far in the future is later.
    let backlog = scene.inspection.backlog(NOW_MS).await.unwrap();
    assert_eq!((backlog.pending, backlog.runnable, backlog.leased, backlog.poisoned), (5, 4, 2, 1));
    assert_eq!((backlog.oldest_pending_age_ms, backlog.oldest_pending_blocks), (Some(0), Some(2)));
    let later = scene.inspection.backlog(100_000_000_000_000).await.unwrap();
    assert_eq!(later.leased, 0);
    assert!(later.oldest_pending_age_ms.unwrap() > 90_000_000_000_000);
    scene.run(&[]).await;
    assert_eq!(scene.inspection.backlog(NOW_MS).await.unwrap().pending, 3);
}

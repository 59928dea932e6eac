//! Random histories on both stores at once: whatever is recorded or pushed, leased, finished, released, tried again and withdrawn, both
//! answer the same.
//!
//! The two count what a transaction waits for in different ways, so this is where a slip in either shows.

use cipherloom_primitives::{B256, FheType, Handle};
use cipherloom_store::{
    Backlog, Finished, Inspection, LeaseRequest, LeasedTransaction, OutputFailure, RecordedBlock, RecordedTransaction, RetryRequest,
    SqliteStore, Store, StoreError, TransactionFilter, TransactionKey, TransactionNumber, TransactionPosition, TransactionState,
    TransactionSummary,
};

use crate::{
    fixture::{CHAIN, LEASE_MS, NOW_MS, block, ciphertext, request, transaction},
    postgres,
    pushed::work,
};

/// How many histories, and how many steps each has. In every second one, work is pushed instead of recorded.
const HISTORIES: u64 = 8;
const STEPS: u64 = 120;

/// So few handles that transactions often need and publish the same ones.
const HANDLES: u64 = 8;

/// How many of them a pushed history has, which never publishes the same one twice.
const PUSHED_HANDLES: u64 = 30;

/// A small generator with a printed seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn handle(&mut self, of: u64) -> Handle {
        numbered(self.below(of))
    }
}

fn numbered(number: u64) -> Handle {
    Handle::computed(B256::repeat_byte(u8::try_from(number).unwrap()), CHAIN, FheType::Uint64)
}

/// One transaction, leased in both stores.
type Both = (LeasedTransaction, LeasedTransaction);

struct History {
    sqlite: SqliteStore,
    postgres: cipherloom_store::PostgresStore,
    random: Random,
    /// How many handles there are.
    handles: u64,
    /// Transactions that were able to run after one was finished, with their numbers in both stores.
    freed: Vec<(TransactionNumber, TransactionNumber)>,
    newest: u64,
    branch: u8,
    now_ms: u64,
    leased: Vec<Both>,
}

#[tokio::test(flavor = "multi_thread")]
async fn both_stores_tell_the_same_history() {
    for seed in 0..HISTORIES {
        let mut history = History {
            sqlite: SqliteStore::in_memory().await.unwrap(),
            postgres: postgres::store(&postgres::open().await, "only").await,
            random: Random(seed),
            handles: if seed % 2 == 0 { HANDLES } else { PUSHED_HANDLES },
            freed: Vec::new(),
            newest: 0,
            branch: 1,
            now_ms: NOW_MS,
            leased: Vec::new(),
        };
        for step in 0..STEPS {
            let what = history.random.below(11);
            match what {
                0..=2 if seed % 2 == 0 => history.record().await,
                0..=2 => history.push().await,
                3..=5 => history.lease().await,
                6..=7 => history.finish().await,
                8 => history.release_or_expire().await,
                9 => history.retry().await,
                _ => history.withdraw().await,
            }
            // Some handles after each step, all of them at the end.
            let handles = (0..5).map(|place| (step * 3 + place) % history.handles);
            history.compare(handles, &format!("seed {seed}, step {step}, action {what}")).await;
        }
        history.compare(0..history.handles, &format!("seed {seed}, end")).await;
    }
}

impl History {
    fn transactions(&mut self) -> Vec<RecordedTransaction> {
        let count = self.random.below(4);
        let transactions = (0..count).map(|index| {
            let mut recorded = transaction(index, self.random.handle(self.handles), &[]);
            // The fixture's operation takes what it needs from the boundary.
            let mut needed: Vec<Handle> = (0..self.random.below(3)).map(|_| self.random.handle(self.handles)).collect();
            needed.retain(|handle| !recorded.outputs.contains(handle));
            if !needed.is_empty() {
                recorded = transaction(index, recorded.outputs[0], &needed);
            }
            if self.random.below(4) == 0 {
                recorded.outputs.push(self.random.handle(self.handles));
            }
            recorded.hash.0[0] = self.branch;
            recorded
        });
        transactions.collect()
    }

    /// Pushes work until it is taken: without what nobody knows, without what is known already.
    async fn push(&mut self) {
        let mut pushed = work(self.transactions());
        self.branch = self.branch.wrapping_add(1);
        loop {
            let results = [
                self.sqlite.record_pushed(CHAIN, &pushed).await,
                self.postgres.record_pushed(CHAIN, &pushed).await,
            ];
            assert_eq!(format!("{:?}", results[0]), format!("{:?}", results[1]), "pushed");
            let [result, _] = results;
            match result {
                Ok(()) => return,
                Err(StoreError::UnknownHandles(unknown)) => {
                    for transaction in &mut pushed.transactions {
                        transaction.boundary.retain(|handle| !unknown.contains(handle));
                        transaction.computations[0].inputs.retain(|handle| !unknown.contains(handle));
                    }
                }
                Err(StoreError::KnownHandles(known)) => {
                    pushed
                        .transactions
                        .retain(|transaction| !transaction.outputs.iter().any(|output| known.contains(output)));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn record(&mut self) {
        let transactions = self.transactions();
        // Branches begin anywhere, so that the parent is the block that is there.
        self.newest += 1 + self.random.below(2) * 5;
        let mut recorded = RecordedBlock {
            block: block(self.newest, self.branch),
            transactions,
        };
        if let Some(parent) = self.sqlite.recent_blocks(CHAIN, 1).await.unwrap().first() {
            recorded.block.parent_hash = parent.hash;
        }
        let blocks = [recorded];
        self.sqlite.record_blocks(CHAIN, &blocks).await.unwrap();
        self.postgres.record_blocks(CHAIN, &blocks).await.unwrap();
    }

    async fn lease(&mut self) {
        let limit = 1 + u32::try_from(self.random.below(3)).unwrap();
        // What was freed last is asked for first, in half of the cases.
        let first = if self.random.below(2) == 0 {
            Vec::new()
        } else {
            std::mem::take(&mut self.freed)
        };
        let request = |first| LeaseRequest {
            first,
            ..request("worker", self.now_ms, limit)
        };
        let (of_sqlite, of_postgres) = first.into_iter().unzip();
        let sqlite = self.sqlite.lease_transactions(&request(of_sqlite)).await.unwrap();
        let postgres = self.postgres.lease_transactions(&request(of_postgres)).await.unwrap();
        let content = |leased: &[LeasedTransaction]| -> Vec<_> {
            let fields = leased.iter().map(|leased| {
                (
                    leased.block_number,
                    leased.hash,
                    leased.computations.clone(),
                    leased.outputs.clone(),
                    leased.attempts,
                )
            });
            fields.collect()
        };
        assert_eq!(content(&sqlite), content(&postgres), "leased");
        self.leased.extend(sqlite.into_iter().zip(postgres));
    }

    fn pick(&mut self) -> Option<Both> {
        let count = u64::try_from(self.leased.len()).unwrap();
        (count > 0).then(|| {
            let index = self.random.below(count);
            self.leased.swap_remove(usize::try_from(index).unwrap())
        })
    }

    async fn finish(&mut self) {
        let Some((sqlite, postgres)) = self.pick() else {
            return;
        };
        let mut finished = Finished::default();
        for output in &sqlite.outputs {
            if self.random.below(4) == 0 {
                finished.failures.push(OutputFailure {
                    handle: *output,
                    reason: "as it happens".to_owned(),
                });
            } else {
                finished
                    .ciphertexts
                    .push(ciphertext(*output, u8::try_from(self.random.below(256)).unwrap()));
            }
        }
        let results = [
            self.sqlite.finish_transaction(&sqlite.lease, &finished).await,
            self.postgres.finish_transaction(&postgres.lease, &finished).await,
        ];
        let [sqlite, postgres] = results.map(|result| match result {
            Ok(freed) => Some(freed),
            Err(StoreError::LeaseLost { .. }) => None,
            Err(error) => panic!("{error}"),
        });
        assert_eq!(sqlite.is_some(), postgres.is_some(), "whether the lease was lost");
        let (sqlite, postgres) = (sqlite.unwrap_or_default(), postgres.unwrap_or_default());
        let places = [places(&self.sqlite, &sqlite).await, places(&self.postgres, &postgres).await];
        assert_eq!(places[0], places[1], "what can run now");
        self.freed.extend(sqlite.into_iter().zip(postgres));
    }

    async fn retry(&mut self) {
        let key = match self.random.below(3) {
            0 => None,
            1 => Some(TransactionKey::Handle(self.random.handle(self.handles))),
            _ => {
                let poisoned = TransactionFilter {
                    state: Some(TransactionState::Poisoned),
                    limit: 1,
                    ..TransactionFilter::default()
                };
                let poisoned = self.sqlite.list_transactions(&poisoned).await.unwrap();
                poisoned.first().map(|summary| TransactionKey::Hash(summary.hash))
            }
        };
        let request = key.map_or(RetryRequest::All, RetryRequest::One);
        assert_eq!(
            self.sqlite.retry(&request).await.unwrap(),
            self.postgres.retry(&request).await.unwrap(),
            "{request:?}"
        );
    }

    async fn release_or_expire(&mut self) {
        if self.random.below(2) == 0 {
            // The owners of some leases find out later that they lost them.
            self.now_ms += LEASE_MS;
        } else if let Some((sqlite, postgres)) = self.pick() {
            self.sqlite.release_lease(&sqlite.lease).await.unwrap();
            self.postgres.release_lease(&postgres.lease).await.unwrap();
        }
    }

    async fn withdraw(&mut self) {
        if self.handles == PUSHED_HANDLES || self.random.below(2) == 0 {
            return;
        }
        let first_removed = self.newest.saturating_sub(self.random.below(4));
        self.sqlite.remove_blocks_from(CHAIN, first_removed).await.unwrap();
        self.postgres.remove_blocks_from(CHAIN, first_removed).await.unwrap();
        self.newest = first_removed.saturating_sub(1);
        self.branch = self.branch.wrapping_add(1);
    }

    async fn compare(&self, handles: impl Iterator<Item = u64>, when: &str) {
        assert_eq!(
            self.sqlite.recent_blocks(CHAIN, 5).await.unwrap(),
            self.postgres.recent_blocks(CHAIN, 5).await.unwrap(),
            "{when}"
        );
        assert_eq!(
            self.sqlite.pending_transactions(CHAIN).await.unwrap(),
            self.postgres.pending_transactions(CHAIN).await.unwrap(),
            "{when}"
        );
        assert_eq!(
            seen(&self.sqlite, self.now_ms).await,
            seen(&self.postgres, self.now_ms).await,
            "{when}"
        );
        for handle in handles.map(numbered) {
            assert_eq!(
                self.sqlite.handle_state(handle).await.unwrap(),
                self.postgres.handle_state(handle).await.unwrap(),
                "{when}: {handle}"
            );
            assert_eq!(
                self.sqlite.ciphertext(handle).await.unwrap(),
                self.postgres.ciphertext(handle).await.unwrap(),
                "{when}: {handle}"
            );
            assert_eq!(
                self.sqlite.grants_of(handle).await.unwrap(),
                self.postgres.grants_of(handle).await.unwrap(),
                "{when}: {handle}"
            );
            assert_eq!(
                shown(&self.sqlite, handle).await,
                shown(&self.postgres, handle).await,
                "{when}: {handle}"
            );
        }
    }
}

/// All transactions without their numbers, which are each store's own.
async fn listed(store: &dyn Inspection) -> Vec<TransactionSummary> {
    let all = TransactionFilter {
        limit: 10_000,
        ..TransactionFilter::default()
    };
    store.list_transactions(&all).await.unwrap()
}

async fn places(store: &dyn Inspection, numbers: &[TransactionNumber]) -> Vec<TransactionPosition> {
    let listed = listed(store).await;
    let place = |number: &TransactionNumber| listed.iter().find(|summary| summary.number == *number).unwrap().position;
    numbers.iter().map(place).collect()
}

/// What is the same in both stores: all but the numbers and the clock of the database.
async fn seen(store: &dyn Inspection, now_ms: u64) -> (Vec<String>, Backlog) {
    let backlog = Backlog {
        oldest_pending_age_ms: None,
        ..store.backlog(now_ms).await.unwrap()
    };
    let listed = listed(store).await;
    (listed.iter().map(without_number).collect(), backlog)
}

async fn shown(store: &dyn Inspection, handle: Handle) -> Option<String> {
    let detail = store.transaction(&TransactionKey::Handle(handle)).await.unwrap()?;
    let summary = without_number(&detail.summary);
    Some(format!("{summary} {:?}", (detail.computations, detail.outputs, detail.waits_for)))
}

fn without_number(summary: &TransactionSummary) -> String {
    format!(
        "{:?}",
        (
            summary.position,
            summary.recorded_at_s,
            summary.hash,
            summary.state,
            summary.outputs,
            &summary.failure,
            summary.waits,
            &summary.lease,
            summary.attempts,
        )
    )
}

//! Random histories on both stores at once: whatever is recorded, leased, finished, released and withdrawn, both answer the same.
//!
//! The two count what a transaction waits for in different ways, so this is where a slip in either shows.

use cipherloom_primitives::{B256, FheType, Handle};
use cipherloom_store::{Finished, LeasedTransaction, OutputFailure, RecordedBlock, SqliteStore, Store, StoreError};

use crate::{
    fixture::{CHAIN, LEASE_MS, NOW_MS, block, ciphertext, request, transaction},
    postgres,
};

/// How many histories, and how many steps each has.
const HISTORIES: u64 = 6;
const STEPS: u64 = 120;

/// So few handles that transactions often need and publish the same ones.
const HANDLES: u64 = 8;

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

    fn handle(&mut self) -> Handle {
        Handle::computed(
            B256::repeat_byte(u8::try_from(self.below(HANDLES)).unwrap()),
            CHAIN,
            FheType::Uint64,
        )
    }
}

/// One transaction, leased in both stores.
type Both = (LeasedTransaction, LeasedTransaction);

struct History {
    sqlite: SqliteStore,
    postgres: cipherloom_store::PostgresStore,
    random: Random,
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
            newest: 0,
            branch: 1,
            now_ms: NOW_MS,
            leased: Vec::new(),
        };
        for step in 0..STEPS {
            let what = history.random.below(10);
            match what {
                0..=2 => history.record().await,
                3..=5 => history.lease().await,
                6..=7 => history.finish().await,
                8 => history.release_or_expire().await,
                _ => history.withdraw().await,
            }
            history.compare(&format!("seed {seed}, step {step}, action {what}")).await;
        }
    }
}

impl History {
    async fn record(&mut self) {
        let count = self.random.below(4);
        let transactions = (0..count).map(|index| {
            let mut recorded = transaction(index, self.random.handle(), &[]);
            // The fixture's operation takes what it needs from the boundary.
            let mut needed: Vec<Handle> = (0..self.random.below(3)).map(|_| self.random.handle()).collect();
            needed.retain(|handle| !recorded.outputs.contains(handle));
            if !needed.is_empty() {
                recorded = transaction(index, recorded.outputs[0], &needed);
            }
            if self.random.below(4) == 0 {
                recorded.outputs.push(self.random.handle());
            }
            recorded.hash.0[0] = self.branch;
            recorded
        });
        let transactions = transactions.collect();
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
        let request = request("worker", self.now_ms, limit);
        let sqlite = self.sqlite.lease_transactions(&request).await.unwrap();
        let postgres = self.postgres.lease_transactions(&request).await.unwrap();
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
            Ok(_) => true,
            Err(StoreError::LeaseLost { .. }) => false,
            Err(error) => panic!("{error}"),
        });
        assert_eq!(sqlite, postgres, "whether the lease was lost");
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
        if self.random.below(2) == 0 {
            return;
        }
        let first_removed = self.newest.saturating_sub(self.random.below(4));
        self.sqlite.remove_blocks_from(CHAIN, first_removed).await.unwrap();
        self.postgres.remove_blocks_from(CHAIN, first_removed).await.unwrap();
        self.newest = first_removed.saturating_sub(1);
        self.branch = self.branch.wrapping_add(1);
    }

    async fn compare(&self, when: &str) {
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
        for number in 0..HANDLES {
            let handle = Handle::computed(B256::repeat_byte(u8::try_from(number).unwrap()), CHAIN, FheType::Uint64);
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
        }
    }
}

//! Transactions that clients of this node sent, told to its peers until they are in a block.
//!
//! The network tells each peer once, and whoever is not connected at that moment never hears of it. So what still waits is told again after a while; the
//! network keeps it from peers that have heard it on the same connection.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use alloy::primitives::{B256, Bytes, keccak256};
use cipherloom_node::native::NativeChain;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

/// After how much time what waits is told again.
const AGAIN: Duration = Duration::from_secs(5);

/// For how long. Whoever sent it can send it again.
const LONGEST: Duration = Duration::from_secs(600);

/// The most transactions that are told again, and their bytes.
const MOST: usize = 1024;
const MOST_BYTES: usize = 16 << 20;

/// How many transactions whoever passes them on may be behind.
pub(crate) const BACKLOG: usize = 2048;

/// Tells `announced` of every new transaction of the chain's clients, and of those that wait again and again, until it is told to stop.
pub(crate) async fn run(
    chain: NativeChain,
    mut sent: broadcast::Receiver<Bytes>,
    announced: broadcast::Sender<Bytes>,
    stop: CancellationToken,
) {
    let mut waiting = Waiting::default();
    let mut again = tokio::time::interval(AGAIN);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            transaction = sent.recv() => match transaction {
                Ok(transaction) => {
                    waiting.add(transaction.clone(), Instant::now());
                    // There is nobody to tell while the node starts or ends.
                    let _ = announced.send(transaction);
                }
                Err(RecvError::Lagged(lost)) => tracing::warn!(lost, "transactions came faster than they could be announced"),
                Err(RecvError::Closed) => return,
            },
            _ = again.tick() => {
                waiting.forget(Instant::now(), |hash| !matches!(chain.recently_mined(hash), Ok(None)));
                for (_, transaction, _) in &waiting.all {
                    let _ = announced.send(transaction.clone());
                }
            }
        }
    }
}

/// What is not in a block yet, the oldest first.
#[derive(Default)]
struct Waiting {
    all: VecDeque<(B256, Bytes, Instant)>,
    bytes: usize,
}

impl Waiting {
    fn add(&mut self, transaction: Bytes, now: Instant) {
        self.bytes = self.bytes.saturating_add(transaction.len());
        self.all.push_back((keccak256(&transaction), transaction, now));
        while self.all.len() > MOST || self.bytes > MOST_BYTES {
            let Some((_, oldest, _)) = self.all.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(oldest.len());
        }
    }

    fn forget(&mut self, now: Instant, is_done: impl Fn(&B256) -> bool) {
        self.all
            .retain(|(hash, _, since)| now.saturating_duration_since(*since) < LONGEST && !is_done(hash));
        self.bytes = self.all.iter().map(|(_, transaction, _)| transaction.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_block_or_too_old_is_not_told_again() {
        let (mut waiting, start) = (Waiting::default(), Instant::now());
        let transactions = [1u8, 2, 3].map(|byte| Bytes::from(vec![byte; 10]));
        for transaction in &transactions[..2] {
            waiting.add(transaction.clone(), start);
        }
        waiting.add(transactions[2].clone(), start + LONGEST / 2);
        waiting.forget(start + AGAIN, |hash| *hash == keccak256(&transactions[0]));
        assert_eq!(waiting.all.len(), 2);
        waiting.forget(start + LONGEST, |_| false);
        assert_eq!(
            waiting.all.iter().map(|(_, bytes, _)| bytes).collect::<Vec<_>>(),
            [&transactions[2]]
        );
        assert_eq!(waiting.bytes, 10);
    }

    #[test]
    fn a_flood_drops_what_waits_longest() {
        let mut waiting = Waiting::default();
        for number in 0..=MOST {
            waiting.add(Bytes::from(number.to_be_bytes().to_vec()), Instant::now());
        }
        assert_eq!(waiting.all.len(), MOST);
        assert_eq!(waiting.all[0].1, Bytes::from(1usize.to_be_bytes().to_vec()));
        waiting.add(Bytes::from(vec![0; MOST_BYTES + 1]), Instant::now());
        assert!(waiting.all.is_empty() && waiting.bytes == 0);
    }
}

//! Which batches are cheapest on this machine.
//!
//! Larger batches read the key less often, until the batch itself no longer fits the cache. Where that is depends on the processor.

use std::time::{Duration, Instant};

use super::{SecretJob, batch, keys::BootstrapKeys};
use crate::blocks::LookupTable;

/// The sizes tried, smallest first, each with its number of trials: about a dozen bootstraps each, or one batch.
const TRIALS: [(usize, usize); 5] = [(1, 6), (4, 3), (8, 2), (16, 2), (32, 1)];

/// After this long no other size is tried.
const TIME_LIMIT: Duration = Duration::from_millis(1200);

/// A larger batch must save at least one part in this many. Latency is worth something too.
const WORTHWHILE: u32 = 50;

/// Times some bootstraps on this thread and returns the cheapest batch size.
pub(super) fn preferred_batch(keys: &BootstrapKeys<'_>) -> usize {
    let Ok(identity) = LookupTable::tabulate(&[&|value| value]) else {
        return 1;
    };
    // What the blocks hold does not matter to the time, only that nothing about them is regular.
    let words: Vec<u64> = pseudo_random().take(keys.keyswitch.input_key_lwe_dimension().0 + 1).collect();
    let start = Instant::now();
    let mut best: Option<(usize, Duration)> = None;
    for (size, trials) in TRIALS {
        let jobs: Vec<_> = (0..size)
            .map(|_| SecretJob {
                words: &words,
                table: &identity,
            })
            .collect();
        let mut fastest = Duration::MAX;
        for _ in 0..trials {
            let start = Instant::now();
            batch::bootstrap(keys, &jobs);
            fastest = fastest.min(start.elapsed());
        }
        let each = fastest / u32::try_from(size).unwrap_or(u32::MAX);
        if best.is_none_or(|(_, best)| each < best - best / WORTHWHILE) {
            best = Some((size, each));
        }
        if start.elapsed() > TIME_LIMIT {
            break;
        }
    }
    let (size, each) = best.unwrap_or((1, Duration::ZERO));
    tracing::info!(batch = size, bootstrap_us = each.as_micros(), "measured batches of bootstraps");
    size
}

/// A sequence of numbers without visible pattern (Marsaglia's xorshift, 64 bits).
pub(super) fn pseudo_random() -> impl Iterator<Item = u64> {
    std::iter::successors(Some(0x9e37_79b9_7f4a_7c15_u64), |state| {
        let state = state ^ (state << 13);
        let state = state ^ (state >> 7);
        Some(state ^ (state << 17))
    })
}

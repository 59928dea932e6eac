//! Which batches are cheapest on this machine.
//!
//! Larger batches read the key less often, until the batch itself no longer fits the cache. Where that is depends on the processor. What is
//! compared is the processor time of this thread, the least of several rounds through all sizes: whatever else the machine does, for a while or all the
//! time, makes all sizes dearer and none cheaper.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::{SecretJob, batch, keys::BootstrapKeys};
use crate::blocks::LookupTable;

/// The environment variable that names the batch size instead of a measurement.
const OVERRIDE: &str = "CIPHERLOOM_BOOTSTRAP_BATCH";

/// The sizes tried, smallest first.
const SIZES: [usize; 5] = [1, 4, 8, 16, 32];

/// The largest size that can be asked for; beyond it batches only take longer.
const MAX_SIZE: usize = 256;

/// Rounds at most, and the time after which no other round begins.
const ROUNDS: usize = 4;
const TIME_LIMIT: Duration = Duration::from_millis(800);

/// A larger batch must save at least one part in this many. Latency is worth something too.
const WORTHWHILE: u32 = 50;

/// Returns the batch size the environment asks for, else the cheapest one, measured on this thread.
pub(super) fn preferred_batch(keys: &BootstrapKeys<'_>) -> usize {
    let asked = std::env::var(OVERRIDE).ok();
    match asked.as_deref().map(parse) {
        Some(Some(size)) => {
            tracing::info!(batch = size, "batches of bootstraps are as {OVERRIDE} says");
            return size;
        }
        Some(None) => tracing::warn!("{OVERRIDE} is not a number from 1 to {MAX_SIZE}; batches are measured instead"),
        None => {}
    }
    let start = Instant::now();
    let times = measure(keys, start);
    let size = choose(&times);
    let each_us: Vec<_> = times.iter().map(|(size, each)| format!("{size}: {}", each.as_micros())).collect();
    tracing::info!(
        batch = size,
        bootstrap_us = each_us.join(", "),
        took_ms = start.elapsed().as_millis(),
        "measured batches of bootstraps"
    );
    size
}

fn parse(asked: &str) -> Option<usize> {
    asked.trim().parse().ok().filter(|size| (1..=MAX_SIZE).contains(size))
}

/// Times batches of every size and returns the least time of one bootstrap in each.
fn measure(keys: &BootstrapKeys<'_>, start: Instant) -> Vec<(usize, Duration)> {
    let Ok(identity) = LookupTable::tabulate(&[&|value| value]) else {
        return Vec::new();
    };
    // What the blocks hold does not matter to the time, only that nothing about them is regular.
    let words: Vec<u64> = pseudo_random().take(keys.keyswitch.input_key_lwe_dimension().0 + 1).collect();
    let mut times: Vec<_> = SIZES.iter().map(|size| (*size, Duration::MAX)).collect();
    for _ in 0..ROUNDS {
        for (size, least) in &mut times {
            let job = || SecretJob {
                words: &words,
                table: &identity,
            };
            let jobs: Vec<_> = std::iter::repeat_with(job).take(*size).collect();
            let before = thread_time();
            batch::bootstrap(keys, &jobs);
            let each = thread_time().saturating_sub(before) / u32::try_from(*size).unwrap_or(u32::MAX);
            *least = each.min(*least);
        }
        if start.elapsed() > TIME_LIMIT {
            break;
        }
    }
    times
}

/// Returns the smallest size that no larger one beats by enough.
fn choose(times: &[(usize, Duration)]) -> usize {
    let least = times.iter().map(|(_, each)| *each).min().unwrap_or_default();
    let enough = least + least / WORTHWHILE;
    times.iter().find(|(_, each)| *each <= enough).map_or(1, |(size, _)| *size)
}

/// Returns how long this thread has run on a processor.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default());
    seconds + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or_default())
}

/// A sequence of numbers without visible pattern (Marsaglia's xorshift, 64 bits).
pub(super) fn pseudo_random() -> impl Iterator<Item = u64> {
    std::iter::successors(Some(0x9e37_79b9_7f4a_7c15_u64), |state| {
        let state = state ^ (state << 13);
        let state = state ^ (state >> 7);
        Some(state ^ (state << 17))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_size_near_the_best_is_chosen() {
        let of = |times: [u64; 5]| choose(&SIZES.into_iter().zip(times.map(Duration::from_micros)).collect::<Vec<_>>());
        assert_eq!(of([7_800, 5_200, 4_600, 4_380, 4_300]), 16);
        assert_eq!(of([7_800, 5_200, 4_600, 4_600, 4_300]), 32);
        assert_eq!(of([10, 10, 10, 10, 10]), 1, "toy keys fit every cache");
        assert_eq!(choose(&[]), 1);
    }

    #[test]
    fn sizes_asked_for_are_numbers_in_range() {
        assert_eq!([" 24 ", "1", "256"].map(parse), [Some(24), Some(1), Some(256)]);
        assert_eq!(["0", "257", "-1", "many", ""].map(parse), [None; 5]);
    }
}

//! How long each of many equal things took.

use std::time::Duration;

use serde_json::{Value, json};

/// Durations, to be asked for their distribution.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// Takes another one in.
    pub(crate) fn add(&mut self, took: Duration) {
        let index = self.0.partition_point(|other| *other <= took);
        self.0.insert(index, took);
    }

    /// Returns how many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns how long at most this many in a hundred took, in milliseconds; 0 if there are none.
    pub(crate) fn percentile_ms(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        milliseconds(self.0.get(rank - 1).copied().unwrap_or_default())
    }

    /// Returns the mean in milliseconds; 0 if there are none.
    pub(crate) fn mean_ms(&self) -> f64 {
        let count = u32::try_from(self.0.len()).unwrap_or(u32::MAX).max(1);
        milliseconds(self.0.iter().sum::<Duration>() / count)
    }

    /// Writes the distribution for programs.
    pub(crate) fn json(&self) -> Value {
        json!({
            "count": self.count(),
            "p50_ms": self.percentile_ms(50),
            "p95_ms": self.percentile_ms(95),
            "p99_ms": self.percentile_ms(99),
            "mean_ms": self.mean_ms(),
        })
    }
}

impl FromIterator<Duration> for Latencies {
    fn from_iter<I: IntoIterator<Item = Duration>>(durations: I) -> Self {
        let mut sorted: Vec<Duration> = durations.into_iter().collect();
        sorted.sort_unstable();
        Self(sorted)
    }
}

/// Returns a duration in milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let latencies: Latencies = (1..=200).rev().map(Duration::from_millis).collect();
        let found = [1, 50, 95, 99, 100].map(|percent| latencies.percentile_ms(percent));
        assert_eq!(found, [2.0, 100.0, 190.0, 198.0, 200.0]);
        assert!((latencies.mean_ms() - 100.5).abs() < 1e-9);
        let mut few = Latencies::default();
        assert_eq!(few.percentile_ms(50), 0.0);
        for took in [3, 1, 2] {
            few.add(Duration::from_millis(took));
        }
        assert_eq!([1, 50, 99].map(|percent| few.percentile_ms(percent)), [1.0, 2.0, 3.0]);
    }
}

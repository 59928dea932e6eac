//! The threads that bootstraps run on: one per processor, for all calls.

use rayon::{ThreadPool, ThreadPoolBuilder, prelude::*};

/// One thread per processor.
pub(super) struct Workers {
    threads: ThreadPool,
}

impl Workers {
    /// Starts the threads.
    ///
    /// # Panics
    /// If the operating system refuses.
    pub(super) fn new(threads: usize) -> Self {
        Self {
            threads: ThreadPoolBuilder::new()
                .num_threads(threads.max(1))
                .thread_name(|thread| format!("bootstrap-{thread}"))
                .build()
                .expect("the operating system starts a few threads"),
        }
    }

    /// Does all jobs and returns their results in order. Every thread gets the same share, in batches of about the preferred size and never more:
    /// an idle machine finishes as early as it can, a busy one wastes little.
    pub(super) fn run<J: Sync, R: Send>(
        &self,
        jobs: &[J],
        preferred_batch: impl FnOnce() -> usize,
        bootstrap: impl Fn(&[J]) -> Vec<R> + Send + Sync,
    ) -> Vec<R> {
        let threads = self.threads.current_num_threads();
        if threads == 1 || jobs.len() <= 1 {
            let batch = if jobs.len() <= 1 {
                1
            } else {
                balanced(jobs.len(), 1, preferred_batch())
            };
            return jobs.chunks(batch).flat_map(bootstrap).collect();
        }
        let batch = balanced(jobs.len(), threads, preferred_batch());
        let batches: Vec<Vec<R>> = self.threads.install(|| jobs.par_chunks(batch).map(bootstrap).collect());
        batches.into_iter().flatten().collect()
    }
}

/// Returns the size of batches that gives every thread an equal share, in equal batches of at most the preferred size.
fn balanced(jobs: usize, threads: usize, preferred: usize) -> usize {
    let share = jobs.div_ceil(threads.max(1)).max(1);
    let batches = share.div_ceil(preferred.max(1));
    share.div_ceil(batches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_shared_evenly_in_batches_of_at_most_the_preferred_size() {
        for (jobs, threads, preferred, batch) in [
            (1, 2, 16, 1),
            (2, 2, 16, 1),
            (16, 2, 16, 8),
            (33, 2, 16, 9),
            (64, 2, 16, 16),
            (64, 2, 1, 1),
            (7, 1, 0, 1),
            (1000, 8, 16, 16),
        ] {
            assert_eq!(balanced(jobs, threads, preferred), batch, "{jobs} jobs on {threads} threads");
        }
    }

    #[test]
    fn results_are_in_the_order_of_jobs() {
        let jobs: Vec<u32> = (0..1000).collect();
        for threads in [1, 2, 3, 8] {
            let results = Workers::new(threads).run(&jobs, || 7, |jobs| jobs.iter().map(|job| job * 2).collect());
            assert!(results.into_iter().eq((0..1000).map(|job| job * 2)), "{threads} threads");
        }
        assert!(Workers::new(2).run(&jobs[..0], || 7, |jobs| jobs.to_vec()).is_empty());
    }
}

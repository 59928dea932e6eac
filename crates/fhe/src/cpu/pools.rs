//! Thread pools of one fixed size.
//!
//! tfhe asks rayon how many threads there are and adds with another algorithm when there are many: same plaintext, other ciphertext
//! bytes, and half as many bootstraps again. In pools of three threads it always takes the ripple of carries, whatever the width: it changes over
//! when it expects the parallel algorithm to need fewer rounds than the number of blocks, and that algorithm starts with
//! three rounds of `blocks / threads`. More processors mean more pools, never larger ones.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread::available_parallelism,
};

use rayon::{ThreadPool, ThreadPoolBuilder};

/// The threads of every pool, on every machine. Results depend on it (see the module's documentation).
pub(crate) const THREADS: usize = 3;

/// As many pools as the machine has room for.
pub(crate) struct Pools(Vec<Pool>);

struct Pool {
    threads: ThreadPool,
    /// How many calls run in it now.
    calls: AtomicUsize,
}

impl Pools {
    /// Makes enough pools to use all processors.
    ///
    /// # Panics
    /// If threads cannot be started.
    pub(crate) fn for_this_machine() -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        Self::new(processors.div_ceil(THREADS))
    }

    fn new(count: usize) -> Self {
        let pool = |pool| Pool {
            threads: ThreadPoolBuilder::new()
                .num_threads(THREADS)
                .thread_name(move |thread| format!("fhe-{pool}-{thread}"))
                .build()
                .expect("the operating system starts a few threads"),
            calls: AtomicUsize::new(0),
        };
        Self((0..count).map(pool).collect())
    }

    /// Runs the computation in the pool with the fewest calls and waits for its result.
    pub(crate) fn run<T: Send>(&self, computation: impl FnOnce() -> T + Send) -> T {
        // Two callers may pick the same pool at the same moment. Then one of them waits a little; the results are the same.
        let pool = self
            .0
            .iter()
            .min_by_key(|pool| pool.calls.load(Ordering::Relaxed))
            .expect("there is at least one pool");
        let _running = Running::start(&pool.calls);
        pool.threads.install(computation)
    }
}

/// Counts a call while it runs, also when it ends by a panic.
struct Running<'a>(&'a AtomicUsize);

impl<'a> Running<'a> {
    fn start(calls: &'a AtomicUsize) -> Self {
        calls.fetch_add(1, Ordering::Relaxed);
        Self(calls)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn computations_see_the_same_number_of_threads_wherever_they_are_called() {
        let pools = Pools::new(2);
        assert_eq!(pools.run(rayon::current_num_threads), THREADS);
        let many = ThreadPoolBuilder::new().num_threads(9).build().unwrap();
        assert_eq!(many.install(|| pools.run(rayon::current_num_threads)), THREADS);
    }

    #[test]
    fn simultaneous_calls_take_different_pools() {
        let pools = Pools::new(2);
        let inside = Barrier::new(2);
        let name = || {
            // The first call holds its pool until the second one is inside too.
            inside.wait();
            std::thread::current().name().unwrap().rsplit_once('-').unwrap().0.to_owned()
        };
        let (first, second) = std::thread::scope(|scope| {
            let first = scope.spawn(|| pools.run(name));
            while pools.0.iter().all(|pool| pool.calls.load(Ordering::Relaxed) == 0) {
                std::thread::yield_now();
            }
            let second = scope.spawn(|| pools.run(name));
            (first.join().unwrap(), second.join().unwrap())
        });
        assert_ne!(first, second);
    }

    #[test]
    fn a_panicking_call_frees_its_pool() {
        let pools = Pools::new(1);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pools.run(|| panic!("on purpose"))));
        assert!(panicked.is_err());
        assert_eq!(pools.0[0].calls.load(Ordering::Relaxed), 0);
    }

    /// What the number of threads rests on. A new version of tfhe that weighs its algorithms otherwise fails here.
    #[cfg(feature = "insecure-toy-parameters")]
    #[test]
    fn additions_of_every_width_take_the_algorithm_of_a_single_thread() {
        use tfhe::integer::gen_keys_radix;

        use crate::{fft_plan, parameters::ParameterSet};

        fft_plan::fix();
        let parameters = ParameterSet::InsecureToy.cpu().unwrap().compute();
        let (secret, key) = gen_keys_radix(parameters, 1);
        let like_one_thread = |threads, blocks| {
            let client: &tfhe::integer::ClientKey = secret.as_ref();
            let (left, right) = (
                client.encrypt_radix(0x1234_5678_9abc_def0_u64, blocks),
                client.encrypt_radix(u64::MAX, blocks),
            );
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let single = ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            pool.install(|| key.add_parallelized(&left, &right)) == single.install(|| key.add_parallelized(&left, &right))
        };
        // From euint8 to the doubled width of mulDiv and to euint256.
        for blocks in [4, 8, 16, 32, 64, 80, 128] {
            assert!(like_one_thread(THREADS, blocks), "{blocks} blocks");
        }
        assert!(!like_one_thread(16, 32), "the test would not notice the other algorithm");
    }
}

//! Permits to compute, which several pools share.
//!
//! A process that computes under several key sets has a pool of threads for each. Without permits they would all compute at once, and each batch would
//! take as many times longer as there are pools. With them, as many compute as the process was given processors, in the order in which they asked:
//! a pool with little to do gets its turn after at most one batch of each thread that asked before.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
};

use super::workshop::lock;

/// A number of permits, which threads take in the order in which they ask.
#[derive(Debug)]
pub struct Permits {
    limit: NonZeroUsize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    waiting: VecDeque<Arc<Waiting>>,
}

/// A thread that waits, and whether a permit was handed to it.
#[derive(Debug)]
struct Waiting {
    thread: Thread,
    handed: AtomicBool,
}

/// A permit that is held until it is dropped.
#[derive(Debug)]
#[must_use = "a permit that is dropped is free again"]
pub struct Permit<'a> {
    permits: &'a Permits,
}

impl Permits {
    /// Makes this many permits.
    #[must_use]
    pub fn new(limit: NonZeroUsize) -> Self {
        let state = State {
            free: limit.get(),
            waiting: VecDeque::new(),
        };
        Self {
            limit,
            state: Mutex::new(state),
        }
    }

    /// Returns how many permits there are.
    #[must_use]
    pub const fn limit(&self) -> NonZeroUsize {
        self.limit
    }

    /// Returns how many are held now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.limit.get().saturating_sub(lock(&self.state).free)
    }

    /// Takes a permit; blocks the thread until there is one for it. Who holds one must not ask for another.
    pub fn acquire(&self) -> Permit<'_> {
        let mut state = lock(&self.state);
        if state.free > 0 {
            state.free -= 1;
            return Permit { permits: self };
        }
        let waiting = Arc::new(Waiting {
            thread: thread::current(),
            handed: AtomicBool::new(false),
        });
        state.waiting.push_back(Arc::clone(&waiting));
        drop(state);
        while !waiting.handed.load(Ordering::Acquire) {
            thread::park();
        }
        Permit { permits: self }
    }

    /// Hands a permit to the thread that has waited longest.
    fn release(&self) {
        let mut state = lock(&self.state);
        let Some(next) = state.waiting.pop_front() else {
            state.free += 1;
            return;
        };
        drop(state);
        next.handed.store(true, Ordering::Release);
        next.thread.unpark();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.permits.release();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn no_more_threads_compute_than_there_are_permits() {
        let permits = Permits::new(NonZeroUsize::new(2).unwrap());
        let (computing, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let _permit = permits.acquire();
                        most.fetch_max(computing.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        thread::yield_now();
                        computing.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(most.load(Ordering::SeqCst), 2);
        assert_eq!(permits.held(), 0);
    }

    #[test]
    fn permits_are_handed_out_in_the_order_in_which_threads_asked() {
        let permits = Permits::new(NonZeroUsize::MIN);
        let order = Mutex::new(Vec::new());
        let first = permits.acquire();
        thread::scope(|scope| {
            for number in 0..5 {
                let (permits, order) = (&permits, &order);
                scope.spawn(move || {
                    let _permit = permits.acquire();
                    order.lock().unwrap().push(number);
                });
                while lock(&permits.state).waiting.len() <= number {
                    thread::yield_now();
                }
            }
            drop(first);
        });
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
    }
}

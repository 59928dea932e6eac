//! The runtime of a long-running process, with threads that tell what they are for.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;

/// Runs a process to its end on this many threads for async tasks.
///
/// # Errors
/// The process's, and the operating system's if it gives no threads.
pub fn run(threads: u16, process: impl Future<Output = Result<()>>) -> Result<()> {
    let threads = usize::from(threads);
    let named = AtomicUsize::new(0);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        // Those for async tasks come first, and all at once; later ones may block.
        .thread_name_fn(move || match named.fetch_add(1, Ordering::Relaxed) {
            number if number < threads => format!("tokio-{number}"),
            _ => "blocking".to_owned(),
        })
        .enable_all()
        .build()?
        .block_on(process)
}

//! Hints from other processes on the same store.

use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::Coprocessor;

impl Coprocessor {
    /// Passes the store's hints on until told to stop: idle workers look for work, and who waits for a handle looks for it.
    ///
    /// Without it everything still happens, at the next poll. On a store of one process there are no hints, and this only waits.
    pub async fn listen(&self, stop: CancellationToken) {
        let mut hints = self.store().changes();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                hint = hints.next() => match hint {
                    Some(()) => self.notify_change(),
                    // The stream does not end; if one did, there would be nothing to pass on.
                    None => return stop.cancelled().await,
                },
            }
        }
    }
}

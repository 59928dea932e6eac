//! The states that a data directory keeps: the newest two, written in the background.
//!
//! A file is written beside its place, put on the disk, and renamed; before that, the index is put on the disk, so that it knows all blocks up to the
//! state's. A process killed in between leaves a file with another name, which the next one removes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use alloy::primitives::B256;

use super::index::Index;
use super::state_file::{self, StateOf};
use crate::chain::journal::io_error;
use crate::error::Result;
use crate::state::WorldState;

/// What the names of files begin with; the number of the block follows.
const PREFIX: &str = "state-";

/// What the names of files that are not complete end in.
const UNFINISHED: &str = ".tmp";

/// How many states are kept.
const KEPT: usize = 2;

/// Writes states of a chain.
pub(crate) struct States {
    inner: Arc<Inner>,
    /// The thread that writes, if one does.
    writing: Mutex<Option<JoinHandle<()>>>,
    /// After how many blocks a state is written.
    interval: u64,
    /// The block of the last state that was begun, or with which the chain began.
    last: Mutex<u64>,
}

struct Inner {
    data_dir: PathBuf,
    genesis: B256,
    index: Arc<Index>,
    /// Blocks whose states are good.
    kept: Mutex<Vec<u64>>,
    /// Set when nobody waits for what is being written.
    stop: AtomicBool,
}

impl States {
    /// Prepares to write, after the chain began with the state of block `from`.
    pub(crate) fn new(data_dir: &Path, genesis: B256, index: Arc<Index>, interval: u64, from: Option<u64>) -> Self {
        Self {
            inner: Arc::new(Inner {
                data_dir: data_dir.to_owned(),
                genesis,
                index,
                kept: Mutex::new(from.into_iter().collect()),
                stop: AtomicBool::new(false),
            }),
            writing: Mutex::default(),
            interval: interval.max(1),
            last: Mutex::new(from.unwrap_or(0)),
        }
    }

    /// Finds the states of a data directory, the newest one first, and removes what was never finished.
    ///
    /// # Errors
    ///
    /// [`NodeError::Io`](crate::NodeError::Io).
    pub(crate) fn find(data_dir: &Path) -> Result<Vec<PathBuf>> {
        let io = |source| io_error(data_dir, source);
        let mut found = Vec::new();
        for entry in fs::read_dir(data_dir).map_err(io)? {
            let path = entry.map_err(io)?.path();
            match number_of(&path) {
                Some(number) => found.push((number, path)),
                None if is_unfinished(&path) => {
                    tracing::warn!(path = %path.display(), "a state that was not written completely is removed");
                    fs::remove_file(&path).map_err(|source| io_error(&path, source))?;
                }
                None => {}
            }
        }
        found.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        Ok(found.into_iter().map(|(_, path)| path).collect())
    }

    /// Begins to write the state after a block in the background, if it is time for one and none is being written.
    pub(crate) fn note(&self, number: u64, hash: B256, state: &WorldState) {
        let mut last = lock(&self.last);
        if number < last.saturating_add(self.interval) {
            return;
        }
        let mut writing = lock(&self.writing);
        if writing.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        *last = number;
        let (inner, state) = (Arc::clone(&self.inner), state.clone());
        let of = self.inner.of(number, hash);
        let thread = std::thread::Builder::new()
            .name("chain-state".to_owned())
            .spawn(move || inner.write(of, &state));
        *writing = thread
            .inspect_err(|error| tracing::warn!(%error, "no thread can be started to write the state"))
            .ok();
    }

    /// Writes the state after the last block, for a start that executes nothing. It blocks for as long as that takes.
    pub(crate) fn finish(&self, number: u64, hash: B256, state: &WorldState) {
        self.wait();
        if number > 0 && !lock(&self.inner.kept).contains(&number) {
            self.inner.write(self.inner.of(number, hash), state);
        }
    }

    /// Waits for the thread that writes.
    pub(crate) fn wait(&self) {
        let thread = lock(&self.writing).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that writes the state was lost");
        }
    }

    /// The last block whose state is on the disk.
    pub(crate) fn last_kept(&self) -> Option<u64> {
        lock(&self.inner.kept).last().copied()
    }
}

impl Drop for States {
    fn drop(&mut self) {
        // The data directory is given up next: nobody may write there any more.
        self.inner.stop.store(true, Ordering::Relaxed);
        self.wait();
    }
}

impl Inner {
    fn of(&self, number: u64, hash: B256) -> StateOf {
        StateOf {
            genesis: self.genesis,
            number,
            hash,
        }
    }

    fn write(&self, of: StateOf, state: &WorldState) {
        let number = of.number;
        match self.try_write(of, state) {
            Ok(()) => tracing::info!(number, "the state is on the disk"),
            Err(_) if self.stop.load(Ordering::Relaxed) => {}
            Err(error) => tracing::warn!(number, %error, "the state could not be written, and the next start executes more blocks"),
        }
    }

    fn try_write(&self, of: StateOf, state: &WorldState) -> Result<()> {
        let path = path_of(&self.data_dir, of.number);
        let unfinished = path.with_extension(UNFINISHED.trim_start_matches('.'));
        let io = |source| io_error(&path, source);
        let written = state_file::write(&unfinished, of, state, &self.stop).map_err(io);
        if let Err(error) = written.and_then(|()| self.index.flush()) {
            // Nothing depends on it; the next start removes it otherwise.
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        fs::rename(&unfinished, &path).map_err(io)?;
        File::open(&self.data_dir).and_then(|dir| dir.sync_all()).map_err(io)?;
        let kept = {
            let mut kept = lock(&self.kept);
            kept.push(of.number);
            let surplus = kept.len().saturating_sub(KEPT);
            kept.drain(..surplus);
            kept.clone()
        };
        for path in Self::others(&self.data_dir, &kept).map_err(io)? {
            fs::remove_file(&path).map_err(|source| io_error(&path, source))?;
        }
        Ok(())
    }

    /// The files of states that are not worth keeping.
    fn others(data_dir: &Path, kept: &[u64]) -> io::Result<Vec<PathBuf>> {
        let mut others = Vec::new();
        for entry in fs::read_dir(data_dir)? {
            let path = entry?.path();
            if number_of(&path).is_some_and(|number| !kept.contains(&number)) {
                others.push(path);
            }
        }
        Ok(others)
    }
}

fn path_of(data_dir: &Path, number: u64) -> PathBuf {
    data_dir.join(format!("{PREFIX}{number:020}"))
}

/// The block of a file with a state's name.
fn number_of(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_prefix(PREFIX)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
    digits.parse().ok()
}

fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with(PREFIX) && name.ends_with(UNFINISHED)
}

fn lock<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

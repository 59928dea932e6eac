//! Coming back from a data directory: the newest state that is good, and the blocks after it.
//!
//! A state is believed for what validators signed, as a light client would: from the genesis file's set, through every change of the set since, to the
//! header of the state's block, whose root must be that of what was read. So nobody who can write to the directory can make up a state, unless
//! he has the keys of validators. Blocks after the state are executed again; whatever is wrong with a state costs time, and nothing else.

use std::path::Path;
use std::sync::Arc;

use alloy::primitives::B256;
use cipherloom_primitives::quorum::{ConsensusDomain, ValidatorSet};

use super::{NativeChain, lock};
use crate::chain::archive::Archive;
use crate::chain::block::Block;
use crate::chain::journal::lock_directory;
use crate::error::{NodeError, Result};
use crate::native::store::archive::DiskArchive;
use crate::native::store::entry::Entry;
use crate::native::store::index::Index;
use crate::native::store::log::{BlockLog, PREAMBLE_BYTES, Place};
use crate::native::store::state_file::{self, StateOf};
use crate::native::store::states::States;
use crate::native::store::{DecidedBlock, Disk, Store};
use crate::native::validators::SetHistory;
use crate::state::{BLOCKHASH_WINDOW, WorldState};

/// How a node came back from its data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The block whose state it began with; none if it began with the first block of the chain.
    pub state: Option<u64>,
    /// How many blocks it executed again.
    pub executed: u64,
}

/// A state with what proves it.
struct Start {
    entry: Entry,
    block: Arc<Block>,
    state: WorldState,
    sets: SetHistory,
}

impl NativeChain {
    /// Takes up what a data directory has.
    pub(super) fn restore(&self, data_dir: &Path, state_interval: u64) -> Result<Restored> {
        let genesis = self.domain().genesis_hash;
        let lock_file = lock_directory(data_dir)?;
        let mut log = BlockLog::open(data_dir, genesis)?;
        let index = Arc::new(Index::open(data_dir, genesis)?);
        let archive = Arc::new(DiskArchive::new(Arc::clone(&index), log.reader()));
        cut_index(&index, log.length_bytes())?;
        let start = self.choose(data_dir, &archive)?;
        let number = start.as_ref().map(|start| start.entry.place.number);
        let begin = start.as_ref().map_or(PREAMBLE_BYTES, |start| start.entry.place.end());
        self.change(|core| {
            core.keep_old_blocks_in(Arc::clone(&archive) as Arc<dyn Archive>);
            Ok(())
        })?;
        if let Some(start) = start {
            self.begin_at(start, &archive)?;
        }
        let states = States::new(data_dir, genesis, Arc::clone(&index), state_interval, number);
        *lock(&self.inner.states) = Some(Arc::new(states));
        let mut executed = 0u64;
        log.read_on(number.unwrap_or(0), begin, &mut |decided, place| {
            self.replay(&decided, place, &index)?;
            executed = executed.saturating_add(1);
            Ok(())
        })?;
        index.cut(self.head()?.number)?;
        *self.store() = Store::Disk(Disk::new(archive, log, lock_file));
        Ok(Restored { state: number, executed })
    }

    /// Finds the newest state that is what it says.
    fn choose(&self, data_dir: &Path, archive: &DiskArchive) -> Result<Option<Start>> {
        for path in States::find(data_dir)? {
            match self.try_start(&path, archive) {
                Ok(start) => return Ok(Some(start)),
                Err(Skipped::Broken(error)) => return Err(error),
                Err(Skipped::Unusable(reason)) => {
                    tracing::warn!(path = %path.display(), reason, "a state of the data directory is not used");
                }
            }
        }
        Ok(None)
    }

    fn try_start(&self, path: &Path, archive: &DiskArchive) -> Result<Start, Skipped> {
        let StateOf { genesis, number, hash } = state_file::read_preamble(path)?;
        if genesis != self.domain().genesis_hash {
            return Err(format!("it is of a chain whose first block is {genesis}").into());
        }
        let last = archive.index().last()?;
        // The first block's state is the genesis file's.
        let entry = archive.index().entry(number)?.filter(|_| number > 0);
        let entry = entry.ok_or_else(|| format!("it is that of block {number}, and the last block that is known is {last}"))?;
        if entry.hash != hash {
            return Err(format!("it is of a block {number} with hash {hash}, which is not the chain's").into());
        }
        // What the log has there, the index may be wrong about.
        archive.decided(number)?;
        let block = archive.block(number)?;
        let sets = self.follow_sets(number, archive)?;
        let (of, state) = state_file::read(path)?;
        let root = state.root_hash();
        if of != (StateOf { genesis, number, hash }) || root != entry.header.state_root {
            return Err(format!("its root is {root}, and validators signed {}", entry.header.state_root).into());
        }
        Ok(Start { entry, block, state, sets })
    }

    /// Follows the sets of validators from the genesis file's to that which signs the block after `number`, by what they signed themselves.
    fn follow_sets(&self, number: u64, archive: &DiskArchive) -> Result<SetHistory, Skipped> {
        let mut history = SetHistory::new(self.inner.genesis.validators.clone());
        let next = number.saturating_add(1);
        let changes = archive.index().sets()?;
        for (first, set) in changes.into_iter().filter(|(first, _)| (2..=next).contains(first)) {
            let named = self.named_set(first.saturating_sub(1), &history, archive)?;
            if named != set.digest() {
                return Err(format!("who signs from block {first} on is not whom the block before names").into());
            }
            history.note(first, set);
        }
        let named = self.named_set(number, &history, archive)?;
        match history.at(next).map(ValidatorSet::digest) {
            Some(digest) if digest == named => Ok(history),
            _ => Err(format!("who signs block {next} is not known").into()),
        }
    }

    /// The digest of the set that a block names for its successor, after a look at who signed that block.
    fn named_set(&self, number: u64, history: &SetHistory, archive: &DiskArchive) -> Result<B256, Skipped> {
        let domain: &ConsensusDomain = &self.inner.domain;
        let entry = archive
            .index()
            .entry(number)?
            .ok_or_else(|| format!("there is no block {number}"))?;
        let set = history.at(number).ok_or_else(|| format!("nobody signs block {number}"))?;
        let certificate = &entry.certificate;
        if certificate.height != number || certificate.block_hash != entry.hash {
            return Err(format!("the certificate of block {number} is for another one").into());
        }
        certificate
            .check(domain, set)
            .map_err(|error| format!("the certificate of block {number}: {error}"))?;
        B256::try_from(entry.header.extra_data.as_ref()).map_err(|_| format!("block {number} names no validators").into())
    }

    /// Makes the chain begin with a state.
    fn begin_at(&self, start: Start, archive: &DiskArchive) -> Result<()> {
        let Start { entry, block, state, sets } = start;
        let number = entry.place.number;
        let window = u64::try_from(BLOCKHASH_WINDOW).unwrap_or(u64::MAX);
        let mut hashes = archive.hashes(number.saturating_sub(window).max(1), number)?;
        if number <= window {
            hashes.insert(0, self.domain().genesis_hash);
        }
        *self.sets() = sets;
        lock(&self.inner.certificates).insert(number, entry.certificate);
        self.change(|core| {
            core.resume(block, state, hashes);
            Ok(())
        })
    }

    /// Executes a block of the data directory.
    fn replay(&self, decided: &DecidedBlock, place: Place, index: &Index) -> Result<()> {
        let candidate = self.reconstruct(decided).map_err(|error| match error {
            NodeError::BlockRefused(reason) => NodeError::ReplayRefused {
                number: place.number,
                reason,
            },
            other => other,
        })?;
        let entry = Entry {
            place,
            hash: candidate.block.hash,
            header: candidate.block.header.clone(),
            certificate: decided.certificate.clone(),
        };
        let changed = self.changed_set(&candidate);
        index.insert(&entry, &candidate.block, changed.as_ref())?;
        self.adopt(&candidate, decided.certificate.clone())
    }
}

/// Why a chain does not begin with a state.
enum Skipped {
    /// It is not usable; another one may be.
    Unusable(String),
    /// The directory is not.
    Broken(NodeError),
}

impl From<String> for Skipped {
    fn from(reason: String) -> Self {
        Self::Unusable(reason)
    }
}

impl From<NodeError> for Skipped {
    fn from(error: NodeError) -> Self {
        match error {
            // Blocks before the state are not looked at, but for this one.
            NodeError::JournalCorrupt { .. } => Self::Unusable(error.to_string()),
            other => Self::Broken(other),
        }
    }
}

/// Lets the index forget the blocks that the log, which has this length, has not.
fn cut_index(index: &Index, length_bytes: u64) -> Result<()> {
    let known = index.last()?;
    let mut last = known;
    while let Some(entry) = index.entry(last)? {
        if entry.place.end() <= length_bytes {
            break;
        }
        last = last.saturating_sub(1);
    }
    if last < known {
        tracing::warn!(known, last, "the index knows blocks that are not there, and forgets them");
        index.cut(last)?;
    }
    Ok(())
}

//! Work that a node sends instead of a followed chain, and the names that a node gives to handles.
//!
//! **Pushed work.** A tenant is either *followed*, its blocks coming through [`crate::Store::record_blocks`], or *pushed to*: a node
//! sends computations, and each [`PushedWork`] becomes one block of the tenant's own numbering, so that leases, waits and cooling are the
//! same for both. Every result is an output, because any later request may use it. A handle is computed once: work whose output is known
//! already is refused as a whole, with the list, and the caller tries again without it.
//!
//! **Names.** On the wire of the 0.6 generation a handle is 1 to 256 arbitrary bytes. A name that is not a [`Handle`] of the tenant's chain
//! stands for one, and the store keeps which.

use std::collections::HashSet;

use cipherloom_primitives::{B256, Handle};
use sha3::{Digest, Keccak256};

use crate::{BlockRef, RecordedTransaction, StoreError};

/// The longest name of a handle, in bytes.
pub const MAX_HANDLE_NAME_BYTES: usize = 256;

/// A name and the handle it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedHandle {
    /// The name: 1 to [`MAX_HANDLE_NAME_BYTES`] bytes.
    pub name: Vec<u8>,
    /// The handle.
    pub handle: Handle,
}

/// What a node asked for in one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushedWork {
    /// The transactions, without grants and delegations. Their position in this list is their index in the block, whatever
    /// [`RecordedTransaction::index`] says. A transaction may need outputs of those before it.
    pub transactions: Vec<RecordedTransaction>,
    /// Names to keep with it.
    pub names: Vec<NamedHandle>,
    /// When the request came, in seconds since the Unix epoch.
    pub received_at_s: u64,
    /// How many transactions the tenant may have pending, these included. None is no limit.
    pub max_pending: Option<u64>,
}

impl NamedHandle {
    /// Checks the length of the name.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if (1..=MAX_HANDLE_NAME_BYTES).contains(&self.name.len()) {
            Ok(())
        } else {
            Err(StoreError::HandleName(self.name.len()))
        }
    }
}

impl PushedWork {
    /// All outputs, in order.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = Handle> + '_ {
        self.transactions.iter().flat_map(|transaction| transaction.outputs.iter().copied())
    }

    /// Refuses an output that is there twice.
    pub(crate) fn check_outputs(&self) -> Result<(), StoreError> {
        let mut seen = HashSet::new();
        let twice: Vec<Handle> = self.outputs().filter(|handle| !seen.insert(*handle)).collect();
        if twice.is_empty() {
            Ok(())
        } else {
            Err(StoreError::KnownHandles(twice))
        }
    }

    /// How many transactions become pending. One without outputs is done as it is.
    pub(crate) fn pending(&self) -> u64 {
        let pending = self.transactions.iter().filter(|transaction| !transaction.outputs.is_empty());
        u64::try_from(pending.count()).unwrap_or(u64::MAX)
    }

    /// Refuses work beyond the limit of pending transactions, given how many there are.
    pub(crate) fn check_backlog(&self, pending: u64) -> Result<(), StoreError> {
        match self.max_pending {
            Some(limit) if pending.saturating_add(self.pending()) > limit => Err(StoreError::Backlog { limit }),
            _ => Ok(()),
        }
    }

    /// The handles of boundaries that no earlier transaction of this work publishes, each once, in order.
    pub(crate) fn outside(&self) -> Vec<Handle> {
        let mut published: HashSet<Handle> = HashSet::new();
        let mut seen = HashSet::new();
        let mut outside = Vec::new();
        for transaction in &self.transactions {
            for handle in &transaction.boundary {
                if !published.contains(handle) && seen.insert(*handle) {
                    outside.push(*handle);
                }
            }
            published.extend(&transaction.outputs);
        }
        outside
    }

    /// The block that this work becomes after the tenant's newest one: its hash is over the former hash and the transactions' hashes.
    pub(crate) fn block_after(&self, newest: Option<&BlockRef>) -> BlockRef {
        let (number, parent_hash) = match newest {
            None => (0, B256::ZERO),
            Some(newest) => (newest.number.saturating_add(1), newest.hash),
        };
        let mut hasher = Keccak256::new_with_prefix(parent_hash);
        for transaction in &self.transactions {
            hasher.update(transaction.hash);
        }
        BlockRef {
            number,
            hash: B256::from_slice(&hasher.finalize()),
            parent_hash,
            timestamp: self.received_at_s,
        }
    }
}

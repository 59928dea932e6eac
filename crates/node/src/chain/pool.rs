//! Transactions that wait: for a nonce gap to close, for a lower base fee, or for manual mining.

use std::collections::{BTreeMap, HashMap};

use alloy::consensus::{Transaction, TxEnvelope};
use alloy::primitives::{Address, B256};

use crate::config::Limits;
use crate::error::{NodeError, Result};
use crate::exec::Sender;
use crate::state::WorldState;

/// A transaction that passed the checks of submission.
#[derive(Clone, Debug)]
pub(crate) struct PoolTransaction {
    pub(crate) hash: B256,
    pub(crate) sender: Address,
    pub(crate) envelope: TxEnvelope,
    /// [`Sender::Signed`] or [`Sender::Impersonated`].
    pub(crate) kind: Sender,
}

/// Waiting transactions by sender and nonce, with their order of arrival.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    by_sender: BTreeMap<Address, BTreeMap<u64, (u64, PoolTransaction)>>,
    by_hash: HashMap<B256, (Address, u64)>,
    arrivals: u64,
}

impl Pool {
    pub(crate) fn get(&self, hash: &B256) -> Option<&PoolTransaction> {
        let (sender, nonce) = self.by_hash.get(hash)?;
        Some(&self.by_sender.get(sender)?.get(nonce)?.1)
    }

    /// The waiting transaction of a sender with this nonce.
    pub(crate) fn of(&self, sender: &Address, nonce: u64) -> Option<&PoolTransaction> {
        Some(&self.by_sender.get(sender)?.get(&nonce)?.1)
    }

    pub(crate) fn remove_all(&mut self) {
        self.by_sender.clear();
        self.by_hash.clear();
    }

    pub(crate) fn remove_sender(&mut self, sender: &Address) {
        self.by_sender.remove(sender);
        self.by_hash.retain(|_, (other, _)| other != sender);
    }

    /// Adds a transaction, replacing one with the same nonce if it pays at least 10 % more.
    ///
    /// # Errors
    ///
    /// [`NodeError::AlreadyKnown`], [`NodeError::ReplacementUnderpriced`] or [`NodeError::PoolFull`].
    pub(crate) fn insert(&mut self, transaction: PoolTransaction, limits: &Limits) -> Result<()> {
        if self.by_hash.contains_key(&transaction.hash) {
            return Err(NodeError::AlreadyKnown);
        }
        let nonce = transaction.envelope.nonce();
        let waiting = self.by_sender.get(&transaction.sender);
        if let Some((_, old)) = waiting.and_then(|waiting| waiting.get(&nonce)) {
            let bump = |fee: u128| fee.saturating_add(fee / 10).max(fee.saturating_add(1));
            let (old, new) = (&old.envelope, &transaction.envelope);
            if new.max_fee_per_gas() < bump(old.max_fee_per_gas()) || new.priority_fee_or_price() < bump(old.priority_fee_or_price()) {
                return Err(NodeError::ReplacementUnderpriced);
            }
        } else if self.by_hash.len() >= limits.pool_transactions
            || waiting.is_some_and(|waiting| waiting.len() >= limits.pool_transactions_per_sender)
        {
            return Err(NodeError::PoolFull);
        }
        self.arrivals = self.arrivals.saturating_add(1);
        self.by_hash.insert(transaction.hash, (transaction.sender, nonce));
        let replaced = self
            .by_sender
            .entry(transaction.sender)
            .or_default()
            .insert(nonce, (self.arrivals, transaction));
        if let Some((_, replaced)) = replaced {
            self.by_hash.remove(&replaced.hash);
        }
        Ok(())
    }

    pub(crate) fn remove(&mut self, hash: &B256) -> Option<PoolTransaction> {
        let (sender, nonce) = self.by_hash.remove(hash)?;
        let waiting = self.by_sender.get_mut(&sender)?;
        let (_, removed) = waiting.remove(&nonce)?;
        if waiting.is_empty() {
            self.by_sender.remove(&sender);
        }
        Some(removed)
    }

    /// Returns the transaction that can execute next on `state`: the earliest arrival among the
    /// senders' next nonces that pay the base fee.
    pub(crate) fn next_executable(&self, state: &WorldState, base_fee: u64) -> Option<&PoolTransaction> {
        self.by_sender
            .iter()
            .filter_map(|(sender, waiting)| waiting.get(&state.nonce(sender)))
            .filter(|(_, transaction)| transaction.envelope.max_fee_per_gas() >= u128::from(base_fee))
            .min_by_key(|(arrival, _)| *arrival)
            .map(|(_, transaction)| transaction)
    }

    /// What can execute next on `state`, as [`Self::next_executable`] has it, of every sender: sender and nonce by order of arrival.
    pub(crate) fn executable(&self, state: &WorldState, base_fee: u64) -> BTreeMap<u64, (Address, u64)> {
        let senders = self.by_sender.keys();
        senders
            .filter_map(|sender| self.queued(sender, state.nonce(sender), base_fee))
            .collect()
    }

    /// The transaction of a sender with this nonce, if it is there and pays the base fee, as in [`Self::executable`].
    pub(crate) fn queued(&self, sender: &Address, nonce: u64, base_fee: u64) -> Option<(u64, (Address, u64))> {
        let (arrival, transaction) = self.by_sender.get(sender)?.get(&nonce)?;
        (transaction.envelope.max_fee_per_gas() >= u128::from(base_fee)).then_some((*arrival, (*sender, nonce)))
    }

    /// Drops transactions whose nonce is in the past on `state`.
    pub(crate) fn drop_stale(&mut self, state: &WorldState) {
        let stale = self
            .by_sender
            .iter()
            .flat_map(|(sender, waiting)| waiting.range(..state.nonce(sender)).map(|(_, (_, transaction))| transaction.hash))
            .collect::<Vec<_>>();
        for hash in stale {
            self.remove(&hash);
        }
    }

    /// Drops a transaction that cannot be mined next, for its nonce or for its fee: the one that came last. It costs nothing to send such, so that
    /// they must not keep others out of a full pool.
    pub(crate) fn make_room(&mut self, state: &WorldState, base_fee: u64, limits: &Limits) {
        if self.by_hash.len() < limits.pool_transactions {
            return;
        }
        let idle = self.by_sender.iter().flat_map(|(sender, waiting)| {
            let end = self.pending_nonce(sender, state.nonce(sender));
            let idle = waiting
                .iter()
                .filter(move |(nonce, (_, transaction))| **nonce >= end || transaction.envelope.max_fee_per_gas() < u128::from(base_fee));
            idle.map(|(_, (arrival, transaction))| (*arrival, transaction.hash))
        });
        if let Some((_, hash)) = idle.max() {
            self.remove(&hash);
        }
    }

    /// The nonce after the last waiting transaction that follows on `next` without a gap.
    pub(crate) fn pending_nonce(&self, sender: &Address, mut next: u64) -> u64 {
        if let Some(waiting) = self.by_sender.get(sender) {
            while waiting.contains_key(&next) {
                next = next.saturating_add(1);
            }
        }
        next
    }

    /// Waiting transactions in order of sender and nonce; true for those that can execute in sequence.
    pub(crate) fn iter<'a>(&'a self, state: &'a WorldState) -> impl Iterator<Item = (bool, &'a PoolTransaction)> {
        self.by_sender.iter().flat_map(|(sender, waiting)| {
            let end = self.pending_nonce(sender, state.nonce(sender));
            waiting.iter().map(move |(nonce, (_, transaction))| (*nonce < end, transaction))
        })
    }

    /// How many waiting transactions can execute in sequence, and how many cannot.
    pub(crate) fn status(&self, state: &WorldState) -> (usize, usize) {
        let pending = self.iter(state).filter(|(pending, _)| *pending).count();
        (pending, self.by_hash.len().saturating_sub(pending))
    }
}

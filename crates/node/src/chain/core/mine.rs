//! Transactions in, blocks out.

use std::collections::HashMap;
use std::sync::Arc;

use alloy::consensus::Transaction;
use alloy::eips::Encodable2718;
use alloy::primitives::{B256, U256};

use super::time::offset_between;
use super::{Core, DEVELOPMENT_MARK};
use crate::chain::ChainEventKind;
use crate::chain::block::{Block, BlockBuilder, MinedTransaction};
use crate::chain::journal::{Record, RecordedTransaction};
use crate::chain::pool::{Pool, PoolTransaction};
use crate::error::{NodeError, Result};
use crate::exec::{self, BlockContext, Sender};
use crate::state::WorldState;

impl Core {
    /// Takes a transaction; with automining, it is in a block when this returns, unless its
    /// nonce is in the future.
    pub(crate) fn submit(&mut self, transaction: PoolTransaction) -> Result<B256> {
        self.check_submission(&transaction)?;
        let hash = transaction.hash;
        if self.config.native.is_some() && self.follows(&transaction) {
            let (limits, base_fee) = (self.config.limits.clone(), self.next_base_fee());
            let state = self.head_state().clone();
            self.pool.make_room(&state, base_fee, &limits);
        }
        self.pool.insert(transaction, &self.config.limits)?;
        self.outbox.push(ChainEventKind::PendingTransaction(hash));
        if self.automine
            && let Some(reason) = self.mine_executable()?.remove(&hash)
        {
            return Err(reason);
        }
        Ok(hash)
    }

    /// Tells whether a transaction could be mined after those of its sender that wait.
    fn follows(&self, transaction: &PoolTransaction) -> bool {
        let PoolTransaction { sender, envelope, .. } = transaction;
        let next = self.pool.pending_nonce(sender, self.head_state().nonce(sender));
        envelope.nonce() == next && envelope.max_fee_per_gas() >= u128::from(self.next_base_fee())
    }

    fn check_submission(&self, transaction: &PoolTransaction) -> Result<()> {
        let PoolTransaction { sender, envelope, .. } = transaction;
        let sender = *sender;
        if let Some(chain_id) = envelope.chain_id()
            && chain_id != self.config.chain_id
        {
            let expected = self.config.chain_id;
            return Err(NodeError::InvalidTransaction(format!(
                "invalid chain id for signer: have {chain_id} want {expected}"
            )));
        }
        let state = self.head_state();
        let (nonce, expected) = (envelope.nonce(), state.nonce(&sender));
        if nonce < expected {
            return Err(NodeError::NonceTooLow { sender, nonce, expected });
        }
        if nonce == u64::MAX {
            return Err(NodeError::InvalidTransaction("nonce has max value (EIP-2681)".to_owned()));
        }
        let limit = self.gas_limit();
        if envelope.gas_limit() > limit {
            return Err(NodeError::InvalidTransaction(format!(
                "exceeds block gas limit: have {}, limit {limit}",
                envelope.gas_limit()
            )));
        }
        let max_fee = envelope.max_fee_per_gas();
        if envelope.max_priority_fee_per_gas().is_some_and(|tip| tip > max_fee) {
            return Err(NodeError::InvalidTransaction(
                "max priority fee per gas higher than max fee per gas".to_owned(),
            ));
        }
        let base_fee = self.next_base_fee();
        if self.automine && max_fee < u128::from(base_fee) {
            return Err(NodeError::FeeTooLow { sender, max_fee, base_fee });
        }
        let gas_cost = U256::from(max_fee).saturating_mul(U256::from(envelope.gas_limit()));
        let cost = gas_cost.saturating_add(envelope.value());
        let balance = state.balance(&sender);
        if balance < cost {
            return Err(NodeError::InsufficientFunds { sender, balance, cost });
        }
        Ok(())
    }

    /// Mines one block per executable transaction; returns the transactions that turned out invalid.
    pub(crate) fn mine_executable(&mut self) -> Result<HashMap<B256, NodeError>> {
        let mut rejected = HashMap::new();
        while self.pool.next_executable(self.head_state(), self.next_base_fee()).is_some() {
            let (builder, context, state, invalid) = self.build(1);
            for (hash, reason) in invalid {
                self.pool.remove(&hash);
                rejected.insert(hash, reason);
            }
            if !builder.is_empty() {
                self.seal(builder, &context, state)?;
            }
        }
        Ok(rejected)
    }

    /// Mines a block of everything executable that fits, possibly nothing.
    pub(crate) fn mine_block(&mut self) -> Result<()> {
        let (builder, context, state, invalid) = self.build(usize::MAX);
        for (hash, _) in invalid {
            self.pool.remove(&hash);
        }
        self.seal(builder, &context, state)
    }

    /// Builds the block that [`Self::mine_block`] would mine now, without mining it.
    pub(crate) fn preview(&self) -> Block {
        let (builder, context, state, _) = self.build(usize::MAX);
        builder.seal(self.head().hash, &context, state.root_hash(), DEVELOPMENT_MARK)
    }

    fn build(&self, most: usize) -> (BlockBuilder, BlockContext, WorldState, Vec<(B256, NodeError)>) {
        let context = self.next_context();
        let mut state = self.head_state().clone();
        let mut builder = BlockBuilder::default();
        let mut rejected = Vec::new();
        let mut executed = 0;
        let mut pool = None::<Pool>;
        while executed < most {
            let candidates = pool.as_ref().unwrap_or(&self.pool);
            let Some(transaction) = candidates.next_executable(&state, context.base_fee).cloned() else {
                break;
            };
            if builder.gas_used().saturating_add(transaction.envelope.gas_limit()) > context.gas_limit {
                break;
            }
            match run(&mut state, &mut builder, &context, &transaction) {
                Ok(()) => executed += 1,
                Err(reason) => {
                    tracing::debug!(hash = %transaction.hash, %reason, "a waiting transaction became invalid and is dropped");
                    pool.get_or_insert_with(|| self.pool.clone()).remove(&transaction.hash);
                    rejected.push((transaction.hash, reason));
                    if most == 1 {
                        break;
                    }
                }
            }
        }
        (builder, context, state, rejected)
    }

    fn seal(&mut self, builder: BlockBuilder, context: &BlockContext, state: WorldState) -> Result<()> {
        let block = builder.seal(self.head().hash, context, state.root_hash(), DEVELOPMENT_MARK);
        let time_offset = match self.fixed_timestamp() {
            Some(timestamp) => offset_between(self.config.clock.now_unix_s(), timestamp),
            None => self.time_offset,
        };
        if self.journal.is_some() || self.closed {
            let transactions = block.transactions.iter().map(|transaction| self.recorded(transaction)).collect();
            self.record(&Record::Block {
                number: block.header.number,
                timestamp: block.header.timestamp,
                base_fee: context.base_fee,
                time_offset,
                transactions,
                hash: block.hash,
                settings: self.settings.clone(),
                prevrandao: self.next_prevrandao,
            })?;
        }
        self.time_offset = time_offset;
        self.adopt(block, state);
        Ok(())
    }

    fn recorded(&self, transaction: &MinedTransaction) -> RecordedTransaction {
        RecordedTransaction {
            raw: transaction.envelope.encoded_2718().into(),
            sender: transaction.sender,
            impersonated: self
                .pool
                .get(&transaction.hash)
                .is_some_and(|waiting| waiting.kind == Sender::Impersonated),
        }
    }

    /// Makes a block the head.
    pub(crate) fn adopt(&mut self, block: impl Into<Arc<Block>>, state: WorldState) {
        let block = block.into();
        for (index, transaction) in block.transactions.iter().enumerate() {
            self.transactions.insert(transaction.hash, (block.header.number, index));
            self.pool.remove(&transaction.hash);
        }
        self.pool.drop_stale(&state);
        self.numbers.insert(block.hash, block.header.number);
        self.blocks.push_back(Arc::clone(&block));
        self.states.push_back(state);
        let window = self.config.limits.state_history_blocks.max(1);
        while self.states.len() > window {
            self.states.pop_front();
        }
        while self.archive.is_some() && self.blocks.len() > window {
            self.forget_oldest();
        }
        self.next_timestamp = None;
        self.next_base_fee = None;
        self.next_prevrandao = None;
        self.outbox.push(ChainEventKind::NewBlock(block));
    }
}

/// Executes one transaction on the block being built.
pub(super) fn run(state: &mut WorldState, builder: &mut BlockBuilder, context: &BlockContext, transaction: &PoolTransaction) -> Result<()> {
    let env = exec::transaction_env(&transaction.envelope, transaction.sender);
    let (result, changes) = exec::execute(state, context, env, transaction.kind)?;
    state.apply(changes);
    let PoolTransaction {
        hash, sender, envelope, ..
    } = transaction.clone();
    builder.push(MinedTransaction { hash, sender, envelope }, result, context.base_fee);
    Ok(())
}

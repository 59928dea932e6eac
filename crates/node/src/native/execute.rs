//! The execution of one block of a native chain: transactions on handles, then ciphertexts into state.
//!
//! A proposer runs what its pool has, and a validator what a proposed block has, by the same [`BlockRun`]; so does a node that catches up, only that it
//! gives [`BlockRun::finish`] the ciphertexts of the block's sidecar instead of computing them. All come to the same state or to different state roots.
//!
//! Transactions block the thread (execution, proofs): not for async tasks.

use std::sync::OnceLock;

use alloy::consensus::Transaction;
use alloy::primitives::Bytes;
use cipherloom_primitives::Handle;

use super::ciphertexts::write_ciphertexts;
use super::session::{BlockPlan, BlockSession};
use super::work::{BlockWork, Results};
use crate::chain::block::{BlockBuilder, MinedTransaction};
use crate::chain::pool::PoolTransaction;
use crate::error::{NodeError, Result};
use crate::exec::{self, BlockContext};
use crate::state::{StateView, WorldState};

/// A block under execution.
#[derive(Debug)]
pub(crate) struct BlockRun {
    state: WorldState,
    builder: BlockBuilder,
    context: BlockContext,
    session: BlockSession,
    /// What has to be computed, once it was asked for; nothing can be added any more then.
    plan: OnceLock<BlockPlan>,
}

/// An executed block, ready to be sealed.
#[derive(Debug)]
pub(crate) struct Executed {
    /// Its transactions and receipts.
    pub(crate) builder: BlockBuilder,
    /// Where it was executed.
    pub(crate) context: BlockContext,
    /// The state after it, ciphertexts included.
    pub(crate) state: WorldState,
    /// The ciphertexts it put into state, in ascending order of their handles.
    pub(crate) stored: Vec<(Handle, Bytes)>,
}

impl BlockRun {
    /// Begins a block on its parent's state.
    ///
    /// # Errors
    ///
    /// [`NodeError::Internal`] if the context is not that of a native chain.
    pub(crate) fn begin(state: WorldState, context: BlockContext) -> Result<Self> {
        let rules = context.native.as_ref();
        let session = rules
            .ok_or_else(|| NodeError::Internal("a native block in the context of another chain".to_owned()))?
            .session();
        Ok(Self {
            state,
            builder: BlockBuilder::default(),
            context,
            session,
            plan: OnceLock::new(),
        })
    }

    /// Executes the next transaction. On an error nothing has changed and the transaction is not part of the block.
    ///
    /// # Errors
    ///
    /// [`NodeError::BlockGasExceeded`] and [`NodeError::FheGasExceeded`] if it does not fit into what is left of the block; otherwise it is invalid here:
    /// a block that contains it is invalid.
    pub(crate) fn run(&mut self, transaction: &PoolTransaction) -> Result<()> {
        if self.plan.get().is_some() {
            return Err(NodeError::Internal("a transaction after the end of its block".to_owned()));
        }
        let PoolTransaction {
            hash,
            sender,
            envelope,
            kind,
            ..
        } = transaction;
        let left = self.context.gas_limit.saturating_sub(self.builder.gas_used());
        if envelope.gas_limit() > left {
            return Err(NodeError::BlockGasExceeded {
                needed: envelope.gas_limit(),
                left,
            });
        }
        let env = exec::transaction_env(envelope, *sender);
        let mut recorder = self.session.recorder();
        let (result, changes) = exec::inspect(&self.state, &self.context, env, *kind, &mut recorder)?;
        self.session.admit(recorder.finish(), &changes)?;
        self.state.apply(changes);
        let mined = MinedTransaction {
            hash: *hash,
            sender: *sender,
            envelope: envelope.clone(),
        };
        self.builder.push(mined, result, self.context.base_fee);
        Ok(())
    }

    /// The state after the transactions so far, without the block's ciphertexts.
    pub(crate) fn state(&self) -> &WorldState {
        &self.state
    }

    /// Gas used by the transactions so far.
    pub(crate) fn gas_used(&self) -> u64 {
        self.builder.gas_used()
    }

    /// FHE gas used by the transactions so far, in HCU.
    pub(crate) fn fhe_gas_used(&self) -> u64 {
        self.session.fhe_gas_used()
    }

    /// What has to be computed. After this nothing can be added to the block.
    pub(crate) fn work(&self) -> BlockWork {
        self.plan().work().clone()
    }

    /// Puts the ciphertexts into state.
    ///
    /// An output without a result gets none. A sidecar may leave out what failed: the certified state root tells whether it does so rightly.
    ///
    /// # Errors
    ///
    /// [`NodeError::Ciphertexts`] if the results are not those of this block.
    pub(crate) fn finish(mut self, results: Results) -> Result<Executed> {
        let stored = self
            .plan()
            .settle(results)
            .map_err(|error| NodeError::Ciphertexts(error.to_string()))?;
        let changes = write_ciphertexts(&stored, &self.view()).map_err(|error| NodeError::Ciphertexts(error.to_string()))?;
        self.state.apply(changes);
        Ok(Executed {
            builder: self.builder,
            context: self.context,
            state: self.state,
            stored,
        })
    }

    fn plan(&self) -> &BlockPlan {
        self.plan.get_or_init(|| {
            let number = self.context.number.saturating_to();
            let Ok(plan) = self.session.plan(number, &self.view());
            plan
        })
    }

    fn view(&self) -> StateView<'_> {
        StateView {
            state: &self.state,
            hashes: &self.context.hashes,
        }
    }
}

//! Blocks that could be (`eth_simulateV1`): calls executed one after the other on top of a block, and nothing kept.
//!
//! Without validation, nonces and fees do not matter and the base fee is zero; with it, a call that could not be in a
//! block ends the simulation. A call that reverts is a result like any other.

mod transfers;

use std::sync::Arc;

use alloy::consensus::{SignableTransaction, TxEnvelope};
use alloy::eips::BlockId;
use alloy::eips::eip1559::BaseFeeParams;
use alloy::primitives::{Signature, TxKind, U256};
use alloy::rpc::types::TransactionRequest;
use alloy::rpc::types::simulate::{MAX_SIMULATE_BLOCKS, SimBlock, SimCallResult, SimulateError, SimulatePayload};
use revm::context::result::ExecutionResult;

use self::transfers::Transfers;
use super::block::{Block, BlockBuilder, MinedTransaction, prevrandao_after};
use super::call::{override_accounts, override_block};
use super::core::DEVELOPMENT_MARK;
use super::logs::block_logs;
use super::submit::typed;
use super::{Chain, unknown};
use crate::error::{NodeError, Result};
use crate::exec::{self, BlockContext, Sender};
use crate::state::WorldState;

/// Seconds between simulated blocks that do not say when they are.
const SECONDS_PER_BLOCK: u64 = 12;

/// Error codes of the method's specification.
mod code {
    pub(super) const NONCE_TOO_LOW: i64 = -38010;
    pub(super) const FEE_TOO_LOW: i64 = -38012;
    pub(super) const INSUFFICIENT_FUNDS: i64 = -38014;
    pub(super) const BLOCK_GAS_LIMIT: i64 = -38015;
    pub(super) const BLOCK_NUMBER_ORDER: i64 = -38020;
    pub(super) const TIMESTAMP_ORDER: i64 = -38021;
    pub(super) const TOO_MANY_BLOCKS: i64 = -38026;
}

/// A simulated block and what its calls returned.
pub(crate) struct Simulated {
    pub(crate) block: Block,
    pub(crate) calls: Vec<SimCallResult>,
}

impl Chain {
    /// Executes the blocks of `payload` on top of the block `id`.
    ///
    /// # Errors
    ///
    /// [`NodeError::Simulation`] for blocks out of order, too many blocks or gas, and calls that cannot be executed at all;
    /// [`NodeError::InvalidParams`], [`NodeError::UnknownBlock`] and [`NodeError::StatePruned`].
    pub(crate) fn simulate(&self, payload: SimulatePayload, id: BlockId) -> Result<Vec<Simulated>> {
        let id = if id == BlockId::pending() { BlockId::latest() } else { id };
        let parent = self.block(id)?.ok_or_else(|| unknown(id))?;
        let (context, gas_left) = {
            let core = self.core()?;
            (core.context_after(&parent), core.gas_limit())
        };
        let mut simulation = Simulation {
            state: self.state(BlockId::hash(parent.hash))?,
            context,
            gas_left,
            validation: payload.validation,
            trace_transfers: payload.trace_transfers,
            done: Vec::new(),
        };
        simulation.context.timestamp += U256::from(SECONDS_PER_BLOCK);
        // To check proofs for anybody who asks would be too much.
        let native = simulation.context.native.take();
        simulation.context.native = native.map(|rules| Arc::new(rules.without_proofs()));
        if !simulation.validation {
            simulation.context.base_fee = 0;
        }
        for block in payload.block_state_calls {
            simulation.block(block)?;
        }
        Ok(simulation.done)
    }
}

/// The end of the simulated chain.
struct Simulation {
    state: WorldState,
    /// Environment of the next block, as far as nobody overrides it.
    context: BlockContext,
    /// Gas for all calls of the request together.
    gas_left: u64,
    validation: bool,
    trace_transfers: bool,
    done: Vec<Simulated>,
}

impl Simulation {
    fn block(&mut self, block: SimBlock) -> Result<()> {
        let overrides = block.block_overrides.unwrap_or_default();
        if let Some(number) = overrides.number {
            if number < self.context.number {
                let message = format!("block numbers must be in order: {number} comes after {}", self.context.number);
                return Err(refused(code::BLOCK_NUMBER_ORDER, message));
            }
            while self.context.number < number {
                self.seal(BlockBuilder::default(), self.context.clone(), Vec::new())?;
            }
        }
        let mut context = self.context.clone();
        let earliest = context.timestamp - U256::from(SECONDS_PER_BLOCK);
        override_block(&mut context, overrides)?;
        if context.timestamp <= earliest {
            let message = format!("block timestamps must be in order: {} is not after {earliest}", context.timestamp);
            return Err(refused(code::TIMESTAMP_ORDER, message));
        }
        override_accounts(&mut self.state, block.state_overrides)?;
        let mut builder = BlockBuilder::default();
        let mut results = Vec::new();
        for request in block.calls {
            results.push(self.call(request, &context, &mut builder)?);
        }
        self.seal(builder, context, results)
    }

    fn call(&mut self, request: TransactionRequest, context: &BlockContext, builder: &mut BlockBuilder) -> Result<SimCallResult> {
        let sender = request.from.unwrap_or_default();
        let most = context.gas_limit.saturating_sub(builder.gas_used()).min(self.gas_left);
        let gas = request.gas.unwrap_or(most);
        if gas > most {
            return Err(refused(
                code::BLOCK_GAS_LIMIT,
                format!("block gas limit reached: {gas} gas asked for, {most} left"),
            ));
        }
        let nonce = request.nonce.unwrap_or_else(|| self.state.nonce(&sender));
        let envelope = unsigned(request, context.chain_id, gas, nonce)?;
        let env = exec::transaction_env(&envelope, sender);
        let kind = if self.validation { Sender::Signed } else { Sender::Call };
        let (result, changes) = if self.trace_transfers {
            let mut transfers = Transfers::default();
            let (mut result, changes) = exec::inspect(&self.state, context, env, kind, &mut transfers).map_err(coded)?;
            if let ExecutionResult::Success { logs, .. } = &mut result {
                *logs = transfers.into_logs();
            }
            (result, changes)
        } else {
            exec::execute(&self.state, context, env, kind).map_err(coded)?
        };
        self.state.apply(changes);
        self.gas_left = self.gas_left.saturating_sub(result.tx_gas_used());
        let outcome = outcome(&result);
        let transaction = MinedTransaction {
            hash: *envelope.tx_hash(),
            sender,
            envelope,
        };
        builder.push(transaction, result, context.base_fee);
        Ok(outcome)
    }

    /// Ends a block; its calls get their logs, which name the block.
    fn seal(&mut self, builder: BlockBuilder, context: BlockContext, mut calls: Vec<SimCallResult>) -> Result<()> {
        let most = usize::try_from(MAX_SIMULATE_BLOCKS).unwrap_or(usize::MAX);
        if self.done.len() >= most {
            return Err(refused(code::TOO_MANY_BLOCKS, format!("more than {most} blocks")));
        }
        let parent_hash = context.hashes.hashes.last().copied().unwrap_or_default();
        let block = builder.seal(parent_hash, &context, self.state.root_hash(), DEVELOPMENT_MARK);
        for log in block_logs(&block, false) {
            let call = log.transaction_index.and_then(|index| calls.get_mut(usize::try_from(index).ok()?));
            if let Some(call) = call {
                call.logs.push(log);
            }
        }
        let mut next = context;
        next.number += U256::from(1);
        next.timestamp += U256::from(SECONDS_PER_BLOCK);
        let base_fee = block.header.next_block_base_fee(BaseFeeParams::ethereum());
        next.base_fee = base_fee.filter(|_| self.validation).unwrap_or_default();
        next.prevrandao = prevrandao_after(block.hash);
        next.hashes.push(block.hash);
        self.context = next;
        self.done.push(Simulated { block, calls });
        Ok(())
    }
}

/// The transaction that a call stands for, with nothing where its signature would be.
fn unsigned(mut request: TransactionRequest, chain_id: u64, gas: u64, nonce: u64) -> Result<TxEnvelope> {
    if request.blob_versioned_hashes.is_some() || request.sidecar.is_some() || request.max_fee_per_blob_gas.is_some() {
        return Err(exec::blobs_unsupported());
    }
    request.from = Some(request.from.unwrap_or_default());
    request.to = Some(request.to.unwrap_or(TxKind::Create));
    request.gas = Some(gas);
    request.nonce = Some(nonce);
    request.chain_id = Some(request.chain_id.unwrap_or(chain_id));
    request.value = Some(request.value.unwrap_or(U256::ZERO));
    request.normalize_input();
    if request.gas_price.is_none() {
        let tip = request.max_priority_fee_per_gas.unwrap_or_default();
        request.max_priority_fee_per_gas = Some(tip);
        request.max_fee_per_gas = Some(request.max_fee_per_gas.unwrap_or(tip));
    }
    let nothing = Signature::new(U256::ZERO, U256::ZERO, false);
    Ok(TxEnvelope::from(typed(request)?.into_signed(nothing)))
}

fn outcome(result: &ExecutionResult) -> SimCallResult {
    let error = match result {
        ExecutionResult::Success { .. } => None,
        ExecutionResult::Revert { output, .. } => Some(SimulateError {
            code: SimulateError::EXECUTION_REVERTED_CODE,
            message: exec::revert_message(output),
            data: Some(output.clone()),
        }),
        ExecutionResult::Halt { reason, .. } => Some(SimulateError {
            code: SimulateError::VM_EXECUTION_ERROR_CODE,
            message: exec::halt_message(reason),
            data: None,
        }),
    };
    SimCallResult {
        return_data: result.output().cloned().unwrap_or_default(),
        logs: Vec::new(),
        gas_used: result.tx_gas_used(),
        max_used_gas: Some(result.gas().total_gas_spent()),
        status: result.is_success(),
        error,
    }
}

fn refused(code: i64, message: String) -> NodeError {
    NodeError::Simulation { code, message }
}

/// The method's own code for a call that cannot be executed.
fn coded(error: NodeError) -> NodeError {
    let code = match &error {
        NodeError::NonceTooLow { .. } => code::NONCE_TOO_LOW,
        NodeError::FeeTooLow { .. } => code::FEE_TOO_LOW,
        NodeError::InsufficientFunds { .. } => code::INSUFFICIENT_FUNDS,
        _ => return error,
    };
    refused(code, error.to_string())
}

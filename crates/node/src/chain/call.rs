//! Calls and gas estimates: execution that changes nothing.

use alloy::eips::BlockId;
use alloy::primitives::{B256, Bytes, U256};
use alloy::rpc::types::state::{AccountOverride, StateOverride};
use alloy::rpc::types::{BlockOverrides, TransactionRequest};
use revm::context::TxEnv;
use revm::context::result::{ExecutionResult, HaltReason};

use super::{Chain, View};
use crate::error::{NodeError, Result};
use crate::exec::{self, BlockContext, Sender};
use crate::state::WorldState;

/// An estimate may exceed the true need by this fraction (as `1 / n`); finer searches take longer.
const ESTIMATE_TOLERANCE: u64 = 64;

/// Gas a call with value passes on for free.
const CALL_STIPEND: u64 = 2300;

impl Chain {
    /// Executes a call on the state after a block and returns its output.
    ///
    /// # Errors
    ///
    /// [`NodeError::Reverted`] or [`NodeError::Halted`] as the call ended, [`NodeError::UnknownBlock`],
    /// [`NodeError::StatePruned`], [`NodeError::InvalidParams`], or the errors of an invalid transaction.
    pub fn call(&self, request: &TransactionRequest, id: BlockId) -> Result<Bytes> {
        self.call_with(request, id, None, None)
    }

    /// Executes a call with overridden state or block values.
    pub(crate) fn call_with(
        &self,
        request: &TransactionRequest,
        id: BlockId,
        state: Option<StateOverride>,
        block: Option<BlockOverrides>,
    ) -> Result<Bytes> {
        let view = self.overridden_view(id, state, block)?;
        let tx = exec::call_env(request, &view.context, view.context.gas_limit)?;
        let (result, _) = exec::execute(&view.state, &view.context, tx, Sender::Call)?;
        exec::call_output(result)
    }

    /// Returns a gas limit with which the transaction succeeds, at most 1/64 above the least one.
    ///
    /// # Errors
    ///
    /// As [`Self::call`]: a transaction that fails with any gas has no estimate.
    pub fn estimate_gas(&self, request: &TransactionRequest, id: BlockId) -> Result<u64> {
        self.estimate_gas_with(request, id, None)
    }

    pub(crate) fn estimate_gas_with(&self, request: &TransactionRequest, id: BlockId, state: Option<StateOverride>) -> Result<u64> {
        let view = self.overridden_view(id, state, None)?;
        let mut tx = exec::call_env(request, &view.context, view.context.gas_limit)?;
        tx.gas_limit = tx.gas_limit.min(affordable_gas(&tx, &view.state)?);
        let cap = tx.gas_limit;
        let attempt = |gas: u64| -> Result<ExecutionResult> {
            let tx = TxEnv {
                gas_limit: gas,
                ..tx.clone()
            };
            Ok(exec::execute(&view.state, &view.context, tx, Sender::Call)?.0)
        };
        let first = attempt(cap)?;
        if let ExecutionResult::Halt {
            reason: HaltReason::OutOfGas(_),
            ..
        } = first
        {
            return Err(NodeError::Halted(format!("gas required exceeds allowance ({cap})")));
        }
        let gas = *first.gas();
        exec::call_output(first)?;

        let mut low = gas.tx_gas_used().saturating_sub(1);
        let mut high = cap;
        // Most transactions succeed with what they spent plus what a nested call must hold back (EIP-150).
        let likely = gas.total_gas_spent().saturating_add(CALL_STIPEND).saturating_mul(64) / 63;
        let mut middle = likely.clamp(low, high);
        while low.saturating_add(1) < high && high - low > high / ESTIMATE_TOLERANCE {
            match attempt(middle) {
                Ok(result) if result.is_success() => high = middle,
                // Too little gas for the intrinsic cost is an error of the transaction itself.
                Ok(_) | Err(NodeError::InvalidTransaction(_)) => low = middle,
                Err(other) => return Err(other),
            }
            middle = low + (high - low) / 2;
        }
        // The exact amount, known from the first run, is enough when no gas had to be held back.
        let exact = gas.tx_gas_used();
        if exact < high && attempt(exact).is_ok_and(|result| result.is_success()) {
            high = exact;
        }
        Ok(high)
    }

    pub(super) fn overridden_view(&self, id: BlockId, state: Option<StateOverride>, block: Option<BlockOverrides>) -> Result<View> {
        let mut view = self.view(id)?;
        override_accounts(&mut view.state, state)?;
        override_block(&mut view.context, block.unwrap_or_default())?;
        Ok(view)
    }
}

/// Puts the values that a call asks for into the state it runs on.
pub(super) fn override_accounts(state: &mut WorldState, overrides: Option<StateOverride>) -> Result<()> {
    for (address, change) in overrides.unwrap_or_default() {
        override_account(state, address, change)?;
    }
    Ok(())
}

/// Gas that the sender can pay for at the offered price.
fn affordable_gas(tx: &TxEnv, state: &WorldState) -> Result<u64> {
    if tx.gas_price == 0 {
        return Ok(u64::MAX);
    }
    let balance = state.balance(&tx.caller);
    let left = balance.checked_sub(tx.value).ok_or(NodeError::InsufficientFunds {
        sender: tx.caller,
        balance,
        cost: tx.value,
    })?;
    Ok((left / U256::from(tx.gas_price)).saturating_to())
}

fn override_account(state: &mut WorldState, address: alloy::primitives::Address, change: AccountOverride) -> Result<()> {
    if change.move_precompile_to.is_some() {
        return Err(NodeError::InvalidParams("movePrecompileToAddress is not supported".to_owned()));
    }
    if let Some(balance) = change.balance {
        state.set_balance(address, balance);
    }
    if let Some(nonce) = change.nonce {
        state.set_nonce(address, nonce);
    }
    if let Some(code) = change.code {
        state.set_code(address, code)?;
    }
    let slots = match (change.state, change.state_diff) {
        (Some(_), Some(_)) => return Err(NodeError::InvalidParams("both state and stateDiff are overridden".to_owned())),
        (Some(all), None) => {
            state.clear_storage(address);
            all
        }
        (None, diff) => diff.unwrap_or_default(),
    };
    for (slot, value) in slots {
        state.set_storage(address, from_word(slot), from_word(value));
    }
    Ok(())
}

/// Puts the values that a call asks for into the environment it runs in.
pub(super) fn override_block(context: &mut BlockContext, block: BlockOverrides) -> Result<()> {
    if block.difficulty.is_some() || block.blob_base_fee.is_some() || block.block_hash.is_some() {
        return Err(NodeError::InvalidParams(
            "difficulty, blobBaseFee and blockHash cannot be overridden".to_owned(),
        ));
    }
    if let Some(number) = block.number {
        context.number = number;
    }
    if let Some(time) = block.time {
        context.timestamp = U256::from(time);
    }
    if let Some(gas_limit) = block.gas_limit {
        // Raising the limit would lift the bound on how long a call may run.
        context.gas_limit = gas_limit.min(context.gas_limit);
    }
    if let Some(coinbase) = block.coinbase {
        context.coinbase = coinbase;
    }
    if let Some(random) = block.random {
        context.prevrandao = random;
    }
    if let Some(base_fee) = block.base_fee {
        context.base_fee =
            u64::try_from(base_fee).map_err(|_| NodeError::InvalidParams("baseFeePerGas does not fit in 64 bits".to_owned()))?;
    }
    Ok(())
}

fn from_word(word: B256) -> U256 {
    U256::from_be_bytes(word.0)
}

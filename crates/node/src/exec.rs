//! The one place that drives revm: environments in, results and state changes out.

use std::convert::Infallible;
use std::sync::Arc;

use alloy::consensus::TxEnvelope;
use alloy::consensus::{Transaction, Typed2718};
use alloy::primitives::{Address, B256, Bytes, TxKind, U256};
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::{Panic, Revert, SolError};
use revm::context::either::Either;
use revm::context::result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction};
use revm::context::{BlockEnv, Context, TxEnv};
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::database_interface::WrapDatabaseRef;
use revm::handler::{EthPrecompiles, MainnetContext};
use revm::precompile::Precompiles;
use revm::primitives::eip4844::BLOB_BASE_FEE_UPDATE_FRACTION_PRAGUE;
use revm::primitives::hardfork::SpecId;
use revm::state::EvmState;
use revm::{ExecuteEvm, InspectEvm, Inspector, MainBuilder, MainContext};

use crate::error::{NodeError, Result};
use crate::native::fhelib::{Execution, FheLib};
use crate::native::rules::NativeRules;
use crate::state::{RecentHashes, StateView, WorldState};

/// The rules of execution.
const SPEC: SpecId = SpecId::PRAGUE;

/// The block a transaction or call runs in.
#[derive(Clone, Debug)]
pub(crate) struct BlockContext {
    pub(crate) chain_id: u64,
    pub(crate) number: U256,
    pub(crate) timestamp: U256,
    pub(crate) base_fee: u64,
    pub(crate) gas_limit: u64,
    pub(crate) coinbase: Address,
    pub(crate) prevrandao: B256,
    pub(crate) hashes: RecentHashes,
    /// The rules of a native chain; none on a development chain.
    pub(crate) native: Option<Arc<NativeRules>>,
}

/// Which checks of the sender apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A signed transaction: nonce and EIP-3607 (no code at the sender) are enforced.
    Signed,
    /// An unsigned transaction in an impersonated account's name: its code is no obstacle.
    Impersonated,
    /// A call that changes nothing: neither nonce nor code of the sender matter.
    Call,
}

/// Executes `tx` on `state` without changing it.
///
/// # Errors
///
/// The transaction is invalid: it cannot be part of a block. A revert is not an error here.
pub(crate) fn execute(state: &WorldState, block: &BlockContext, tx: TxEnv, sender: Sender) -> Result<(ExecutionResult, EvmState)> {
    let offer = Offer::of(&tx);
    let mut evm = context(state, block, &tx, sender).build_mainnet();
    let outcome = match native_precompiles(block, sender) {
        Some(precompiles) => evm.with_precompiles(precompiles).transact(tx),
        None => evm.transact(tx),
    };
    match outcome {
        Ok(done) => Ok((done.result, done.state)),
        Err(error) => Err(offer.refused(error, state, block)),
    }
}

/// As [`execute`], watched by `inspector`.
///
/// # Errors
///
/// As [`execute`].
pub(crate) fn inspect<'a, I>(
    state: &'a WorldState,
    block: &'a BlockContext,
    tx: TxEnv,
    sender: Sender,
    inspector: I,
) -> Result<(ExecutionResult, EvmState)>
where
    I: Inspector<CallContext<'a>>,
{
    let offer = Offer::of(&tx);
    let mut evm = context(state, block, &tx, sender).build_mainnet_with_inspector(inspector);
    let outcome = match native_precompiles(block, sender) {
        Some(precompiles) => evm.with_precompiles(precompiles).inspect_tx(tx),
        None => evm.inspect_tx(tx),
    };
    match outcome {
        Ok(done) => Ok((done.result, done.state)),
        Err(error) => Err(offer.refused(error, state, block)),
    }
}

/// The precompiled contracts of a native chain.
///
/// Whoever executes a transaction of a block again, to trace it, wants the outcome it had: rules for that know the verdicts its block came to.
fn native_precompiles(block: &BlockContext, sender: Sender) -> Option<FheLib<EthPrecompiles>> {
    let execution = match sender {
        Sender::Signed | Sender::Impersonated => Execution::Transaction,
        Sender::Call => Execution::Call,
    };
    Some(block.native.as_ref()?.precompiles(SPEC, execution))
}

/// What revm executes in.
pub(crate) type CallContext<'a> = MainnetContext<WrapDatabaseRef<StateView<'a>>>;

fn context<'a>(state: &'a WorldState, block: &'a BlockContext, tx: &TxEnv, sender: Sender) -> CallContext<'a> {
    let env = BlockEnv {
        number: block.number,
        beneficiary: block.coinbase,
        timestamp: block.timestamp,
        gas_limit: block.gas_limit,
        // A call that offers no gas price must not fail for it, nor see a base fee above its price.
        basefee: if sender == Sender::Call && tx.gas_price == 0 {
            0
        } else {
            block.base_fee
        },
        difficulty: U256::ZERO,
        prevrandao: Some(block.prevrandao),
        blob_excess_gas_and_price: Some(BlobExcessGasAndPrice::new(0, BLOB_BASE_FEE_UPDATE_FRACTION_PRAGUE)),
        slot_num: 0,
    };
    let view = StateView {
        state,
        hashes: &block.hashes,
    };
    Context::mainnet()
        .with_db(WrapDatabaseRef(view))
        .with_block(env)
        .modify_cfg_chained(|cfg| {
            cfg.set_spec_and_mainnet_gas_params(SPEC);
            cfg.chain_id = block.chain_id;
            cfg.disable_nonce_check = sender == Sender::Call;
            cfg.disable_eip3607 = sender != Sender::Signed;
        })
}

/// What error messages tell about a transaction.
struct Offer {
    sender: Address,
    nonce: u64,
    gas_limit: u64,
    max_fee: u128,
}

impl Offer {
    fn of(tx: &TxEnv) -> Self {
        Self {
            sender: tx.caller,
            nonce: tx.nonce,
            gas_limit: tx.gas_limit,
            max_fee: tx.gas_price,
        }
    }

    fn refused(self, error: EVMError<Infallible>, state: &WorldState, block: &BlockContext) -> NodeError {
        let EVMError::Transaction(error) = error else {
            return NodeError::Internal(error.to_string());
        };
        let Self {
            sender,
            nonce,
            gas_limit,
            max_fee,
        } = self;
        let expected = state.nonce(&sender);
        match error {
            InvalidTransaction::NonceTooLow { .. } => NodeError::NonceTooLow { sender, nonce, expected },
            InvalidTransaction::LackOfFundForMaxFee { fee, balance } => NodeError::InsufficientFunds {
                sender,
                balance: *balance,
                cost: *fee,
            },
            InvalidTransaction::GasPriceLessThanBasefee => NodeError::FeeTooLow {
                sender,
                max_fee,
                base_fee: block.base_fee,
            },
            InvalidTransaction::NonceTooHigh { .. } => {
                NodeError::InvalidTransaction(format!("nonce too high: address {sender}, tx: {nonce} state: {expected}"))
            }
            InvalidTransaction::CallGasCostMoreThanGasLimit { initial_gas: required, .. }
            | InvalidTransaction::GasFloorMoreThanGasLimit { gas_floor: required, .. } => {
                NodeError::InvalidTransaction(format!("intrinsic gas too low: have {gas_limit}, want {required}"))
            }
            InvalidTransaction::CallerGasLimitMoreThanBlock => {
                NodeError::InvalidTransaction(format!("exceeds block gas limit: have {gas_limit}, limit {}", block.gas_limit))
            }
            InvalidTransaction::PriorityFeeGreaterThanMaxFee => {
                NodeError::InvalidTransaction("max priority fee per gas higher than max fee per gas".to_owned())
            }
            InvalidTransaction::CreateInitCodeSizeLimit => NodeError::InvalidTransaction("max initcode size exceeded".to_owned()),
            InvalidTransaction::RejectCallerWithCode => NodeError::InvalidTransaction(format!("sender not an eoa: address {sender}")),
            InvalidTransaction::InvalidChainId => {
                NodeError::InvalidTransaction(format!("invalid chain id for signer: the chain id is {}", block.chain_id))
            }
            other => NodeError::InvalidTransaction(other.to_string()),
        }
    }
}

/// The environment of a signed or impersonated transaction.
pub(crate) fn transaction_env(tx: &TxEnvelope, sender: Address) -> TxEnv {
    TxEnv {
        tx_type: tx.ty(),
        caller: sender,
        gas_limit: tx.gas_limit(),
        gas_price: tx.max_fee_per_gas(),
        kind: tx.kind(),
        value: tx.value(),
        data: tx.input().clone(),
        nonce: tx.nonce(),
        chain_id: tx.chain_id(),
        access_list: tx.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: tx.max_priority_fee_per_gas(),
        blob_hashes: Vec::new(),
        max_fee_per_blob_gas: 0,
        authorization_list: tx
            .authorization_list()
            .unwrap_or_default()
            .iter()
            .cloned()
            .map(Either::Left)
            .collect(),
    }
}

/// The environment of a call described by an RPC request, with at most `gas_cap` gas.
///
/// # Errors
///
/// [`NodeError::InvalidParams`] for requests that contradict themselves or carry blobs.
pub(crate) fn call_env(request: &TransactionRequest, block: &BlockContext, gas_cap: u64) -> Result<TxEnv> {
    let input = request
        .input
        .unique_input()
        .map_err(|_| NodeError::InvalidParams("both \"data\" and \"input\" are set and not equal; use \"input\"".to_owned()))?
        .cloned()
        .unwrap_or_default();
    if request.blob_versioned_hashes.is_some() || request.max_fee_per_blob_gas.is_some() || request.sidecar.is_some() {
        return Err(blobs_unsupported());
    }
    if request.gas_price.is_some() && (request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some()) {
        return Err(NodeError::InvalidParams(
            "both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified".to_owned(),
        ));
    }
    if let Some(chain_id) = request.chain_id
        && chain_id != block.chain_id
    {
        return Err(NodeError::InvalidParams(format!(
            "chainId is {chain_id}, this chain has {}",
            block.chain_id
        )));
    }
    let authorizations = request.authorization_list.clone().unwrap_or_default();
    let kind = request.to.unwrap_or(TxKind::Create);
    let tx_type = if !authorizations.is_empty() {
        4
    } else if request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some() {
        2
    } else {
        u8::from(request.access_list.is_some())
    };
    Ok(TxEnv {
        tx_type,
        caller: request.from.unwrap_or_default(),
        gas_limit: request.gas.unwrap_or(gas_cap).min(gas_cap),
        gas_price: request
            .gas_price
            .or(request.max_fee_per_gas)
            .or(request.max_priority_fee_per_gas)
            .unwrap_or_default(),
        kind,
        value: request.value.unwrap_or_default(),
        data: input,
        nonce: request.nonce.unwrap_or_default(),
        chain_id: Some(block.chain_id),
        access_list: request.access_list.clone().unwrap_or_default(),
        gas_priority_fee: (tx_type == 2 || tx_type == 4).then(|| request.max_priority_fee_per_gas.unwrap_or_default()),
        blob_hashes: Vec::new(),
        max_fee_per_blob_gas: 0,
        authorization_list: authorizations.into_iter().map(Either::Left).collect(),
    })
}

/// The error for EIP-4844 transactions, which this chain has no use for.
pub(crate) fn blobs_unsupported() -> NodeError {
    NodeError::InvalidTransaction("transaction type not supported: this development chain takes no blob (EIP-4844) transactions".to_owned())
}

/// Turns the outcome of a call into its output, or into the error that clients expect.
pub(crate) fn call_output(result: ExecutionResult) -> Result<Bytes> {
    match result {
        ExecutionResult::Success { output, .. } => Ok(output.into_data()),
        ExecutionResult::Revert { output, .. } => Err(NodeError::Reverted {
            message: revert_message(&output),
            data: output,
        }),
        ExecutionResult::Halt { reason, .. } => Err(NodeError::Halted(halt_message(&reason))),
    }
}

/// `execution reverted`, with the reason where `output` tells one.
pub(crate) fn revert_message(output: &[u8]) -> String {
    if let Ok(revert) = Revert::abi_decode(output) {
        return format!("execution reverted: {}", revert.reason);
    }
    if let Ok(panic) = Panic::abi_decode(output) {
        return format!("execution reverted: {panic}");
    }
    "execution reverted".to_owned()
}

/// Tells whether an address is that of a precompiled contract.
pub(crate) fn is_precompile(address: &Address) -> bool {
    Precompiles::prague().contains(address)
}

/// What made the execution stop.
pub(crate) fn halt_message(reason: &HaltReason) -> String {
    match reason {
        HaltReason::OutOfGas(_) => "out of gas".to_owned(),
        HaltReason::OpcodeNotFound | HaltReason::InvalidFEOpcode => format!("invalid opcode: {reason}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revert_reasons_and_panics_are_spelled_out() {
        let reason = Revert::from("not the owner").abi_encode();
        assert_eq!(revert_message(&reason), "execution reverted: not the owner");
        let overflow = Panic { code: U256::from(0x11) }.abi_encode();
        assert_eq!(
            revert_message(&overflow),
            "execution reverted: panic: arithmetic underflow or overflow (0x11)"
        );
        assert_eq!(revert_message(&[1, 2, 3, 4]), "execution reverted");
    }
}

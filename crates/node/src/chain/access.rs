//! Which accounts and storage slots a transaction would touch (`eth_createAccessList`).

use std::collections::{BTreeMap, BTreeSet};

use alloy::eips::BlockId;
use alloy::primitives::{Address, B256, TxKind, U256};
use alloy::rpc::types::state::StateOverride;
use alloy::rpc::types::{AccessList, AccessListItem, AccessListResult, TransactionRequest};
use cipherloom_primitives::ciphertext_state::FHELIB;
use revm::context::result::ExecutionResult;
use revm::state::EvmState;

use super::Chain;
use crate::error::Result;
use crate::exec::{self, Sender};

/// Most executions to find a list. A list changes what the transaction sees only through the gas that is left.
const MAX_ROUNDS: usize = 8;

/// Slots by account; both in order, so that the same call gives the same list.
type Accesses = BTreeMap<Address, BTreeSet<B256>>;

impl Chain {
    /// Executes a call until its access list is complete, and returns the list with the gas that the call uses with it.
    ///
    /// The sender, the called or created account, precompiled contracts and the coinbase are warm anyway and in the list only with slots.
    ///
    /// # Errors
    ///
    /// As [`Self::call`], except that a call that reverts or halts has a list, too, next to the reason.
    pub(crate) fn access_list(&self, request: &TransactionRequest, id: BlockId, state: Option<StateOverride>) -> Result<AccessListResult> {
        let view = self.overridden_view(id, state, None)?;
        let mut request = request.clone();
        let mut accesses = Accesses::new();
        for item in request.access_list.take().unwrap_or_default().0 {
            accesses.entry(item.address).or_default().extend(item.storage_keys);
        }
        let sender = request.from.unwrap_or_default();
        let target = match request.to {
            Some(TxKind::Call(to)) => to,
            Some(TxKind::Create) | None => sender.create(view.state.nonce(&sender)),
        };
        let authorizations = request.authorization_list.iter().flatten();
        let mut warm = authorizations
            .filter_map(|signed| signed.recover_authority().ok())
            .collect::<BTreeSet<_>>();
        warm.extend([sender, target, view.context.coinbase]);
        warm.extend(view.context.native.is_some().then_some(FHELIB));
        let mut rounds = 0;
        loop {
            request.access_list = Some(list(&accesses));
            let tx = exec::call_env(&request, &view.context, view.context.gas_limit)?;
            let (result, changes) = exec::execute(&view.state, &view.context, tx, Sender::Call)?;
            let before = accesses.clone();
            collect(&changes, &warm, &mut accesses);
            rounds += 1;
            if accesses == before || rounds == MAX_ROUNDS {
                return Ok(AccessListResult {
                    access_list: list(&before),
                    gas_used: U256::from(result.tx_gas_used()),
                    error: failure(&result),
                });
            }
        }
    }
}

/// Adds what an execution loaded. revm keeps what reverted parts of it loaded, and those parts paid for it.
fn collect(changes: &EvmState, warm: &BTreeSet<Address>, accesses: &mut Accesses) {
    for (address, account) in changes {
        if account.storage.is_empty() && (warm.contains(address) || exec::is_precompile(address)) {
            continue;
        }
        let slots = account.storage.keys().map(|slot| B256::from(*slot));
        accesses.entry(*address).or_default().extend(slots);
    }
}

fn list(accesses: &Accesses) -> AccessList {
    let items = accesses.iter().map(|(address, slots)| AccessListItem {
        address: *address,
        storage_keys: slots.iter().copied().collect(),
    });
    AccessList(items.collect())
}

fn failure(result: &ExecutionResult) -> Option<String> {
    match result {
        ExecutionResult::Success { .. } => None,
        ExecutionResult::Revert { output, .. } => Some(exec::revert_message(output)),
        ExecutionResult::Halt { reason, .. } => Some(exec::halt_message(reason)),
    }
}

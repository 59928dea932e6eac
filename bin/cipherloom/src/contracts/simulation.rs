//! A deployment on a chain of its own in this process, to know what it will cost.
//!
//! Gas does not depend on where contracts are deployed, so that the development chain's measure holds on every chain with Ethereum's gas schedule.
//! Chains that count differently, such as some rollups, say so when the first transaction is estimated by their own node.

use std::collections::BTreeSet;

use alloy::{
    eips::BlockId,
    primitives::{Address, TxKind},
    rpc::types::TransactionRequest,
};
use anyhow::{Context, Result};
use cipherloom_contracts::DeploymentStep;
use cipherloom_node::{AccountsConfig, DevChain, DevChainConfig};

/// Carries out steps of accounts in order, and returns the gas that each used.
///
/// # Errors
/// If a step fails, with the contract's reason: the configuration is one that the contracts refuse.
pub(crate) fn gas_of(chain_id: u64, steps: &[(Address, &DeploymentStep)]) -> Result<Vec<u64>> {
    let accounts: BTreeSet<Address> = steps.iter().map(|(account, _)| *account).collect();
    let chain = DevChain::new(DevChainConfig {
        chain_id,
        accounts: AccountsConfig {
            extra_funded: accounts.iter().copied().collect(),
            ..AccountsConfig::default()
        },
        ..DevChainConfig::default()
    })?;
    for account in accounts {
        chain.impersonate(account, true)?;
    }
    steps
        .iter()
        .map(|(account, step)| {
            let mut request = TransactionRequest::default().from(*account).input(step.data.clone().into());
            request.to = Some(step.to.map_or(TxKind::Create, TxKind::Call));
            let failed = || format!("the contracts refuse this deployment: {}", step.name);
            let gas = chain.estimate_gas(&request, BlockId::latest()).with_context(failed)?;
            request.gas = Some(gas);
            let hash = chain.send_transaction(request).with_context(failed)?;
            let (block, index) = chain.mined_transaction(&hash)?.with_context(failed)?;
            let receipt = block.receipts.get(index).with_context(failed)?;
            Ok(receipt.gas_used)
        })
        .collect()
}

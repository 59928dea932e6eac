//! Deployment of the host contracts.
//!
//! The deployer's nonce is the progress: step `n` is the transaction with nonce `n`. An interrupted deployment goes on
//! with the first step that is not included; a finished one sends nothing.

use std::time::Duration;

use alloy::{
    eips::eip2718::Encodable2718,
    network::{EthereumWallet, NetworkTransactionBuilder, TransactionBuilder},
    primitives::TxKind,
    rpc::types::TransactionRequest,
    signers::local::PrivateKeySigner,
};
use cipherloom_contracts::DeploymentStep;
use cipherloom_primitives::B256;

use crate::{error::ChainError, host_chain::HostChain};

/// How long to wait for a transaction to be included.
const INCLUSION_LIMIT: Duration = Duration::from_secs(120);

/// How often to look for a receipt at first, and at most.
const RECEIPT_PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(2));

/// Sends the deployment steps that are not on chain yet, one after the other, and returns how many it sent.
///
/// # Errors
/// [`ChainError::DeployerUsed`] if the deployer's nonce says something else was sent from it,
/// [`ChainError::TransactionFailed`] if the contracts refuse the configuration, and what reading and sending can meet.
pub async fn deploy(chain: &HostChain, steps: &[DeploymentStep], signer: &PrivateKeySigner) -> Result<usize, ChainError> {
    let deployer = signer.address();
    let chain_id = chain.chain_id().await?;
    let included = chain.nonce(deployer).await?;
    // The ACL is the second contract created, so from nonce 2 on its absence shows that the nonces are not ours.
    if included >= 2 && !chain.has_code(chain.addresses().acl).await? {
        return Err(ChainError::DeployerUsed { deployer, nonce: included });
    }
    let wallet = EthereumWallet::from(signer.clone());
    let mut sent = 0;
    for (nonce, step) in (0u64..).zip(steps).skip(usize::try_from(included).unwrap_or(usize::MAX)) {
        let hash = send(chain, chain_id, nonce, step, &wallet, signer).await?;
        tracing::debug!(step = step.name, nonce, %hash, "deployed");
        sent += 1;
    }
    Ok(sent)
}

async fn send(
    chain: &HostChain,
    chain_id: u64,
    nonce: u64,
    step: &DeploymentStep,
    wallet: &EthereumWallet,
    signer: &PrivateKeySigner,
) -> Result<B256, ChainError> {
    let gas_price = chain.gas_price().await?;
    let mut request = TransactionRequest::default()
        .from(signer.address())
        .nonce(nonce)
        .input(step.data.clone().into())
        // Room for the base fee to rise a few times before the transaction is included.
        .max_fee_per_gas(gas_price.saturating_mul(2))
        .max_priority_fee_per_gas(0);
    request.to = Some(step.to.map_or(TxKind::Create, TxKind::Call));
    request.chain_id = Some(chain_id);
    let gas = chain.estimate_gas(&request).await?;
    request.set_gas_limit(gas.saturating_add(gas / 5));
    let signing = |reason: String| ChainError::Signing {
        name: step.name.to_owned(),
        reason,
    };
    let envelope = request.build(wallet).await.map_err(|error| signing(error.to_string()))?;
    let hash = *envelope.tx_hash();
    chain.send_raw(&envelope.encoded_2718()).await?;
    wait_for_inclusion(chain, step.name, hash).await?;
    Ok(hash)
}

async fn wait_for_inclusion(chain: &HostChain, name: &str, hash: B256) -> Result<(), ChainError> {
    let (mut pause, longest) = RECEIPT_PAUSES;
    let included = tokio::time::timeout(INCLUSION_LIMIT, async {
        loop {
            if let Some(receipt) = chain.receipt(hash).await? {
                return Ok::<bool, ChainError>(receipt.status());
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(longest);
        }
    });
    match included.await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(ChainError::TransactionFailed {
            name: name.to_owned(),
            hash,
        }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(ChainError::NotIncluded {
            name: name.to_owned(),
            hash,
            limit: INCLUSION_LIMIT,
        }),
    }
}

//! Deployment of the host contracts.
//!
//! **Progress is on the chain.** Addresses follow from the deployer's nonces, so the first steps have to have exactly theirs: step `n` is the
//! transaction with nonce `n`. From the first implementation on the nonce is free, and a step whose transaction failed on chain is done again with
//! the next one. Which steps are done is read from the chain: creations by the code they left, upgrades by what the proxy points to. So a deployment
//! goes on after a failure at any step, with or without the file about it; a finished one sends nothing.

use alloy::{
    primitives::{Address, Bytes},
    signers::local::PrivateKeySigner,
    sol_types::{SolCall, SolConstructor, SolType},
};
use cipherloom_contracts::{
    DeploymentStep,
    bindings::{ACL, HostProxy},
};

use crate::{
    error::ChainError,
    host_chain::HostChain,
    proxy,
    sender::{Call, Included, SendEvent, SendOptions, TransactionSender},
};

/// How often another transaction with the expected nonce is taken for one of an earlier run before it is taken for a stranger's.
const MAX_NONCE_SURPRISES: u32 = 3;

/// What happens during a deployment.
#[derive(Clone, Copy, Debug)]
pub enum DeployEvent<'a> {
    /// Something happens to the transaction of a step.
    Transaction(SendEvent<'a>),
    /// A step is included.
    Included {
        /// Whose step it is.
        account: Address,
        /// The step's position, from 0.
        index: usize,
        /// What it did.
        call: &'a Call,
        /// Its transaction.
        included: &'a Included,
    },
}

/// How far a deployment is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The nonces of the steps that are done, in order.
    pub done: Vec<u64>,
    /// The nonce of the deployer's next transaction.
    pub next_nonce: u64,
}

/// Sends the deployment steps that are not on chain yet, one after the other, and returns how many it sent.
///
/// # Errors
/// [`ChainError::DeployerUsed`] if the deployer's nonce says something else was sent from it,
/// [`ChainError::Refused`] if the contracts refuse the configuration, and what reading and sending can meet.
pub async fn deploy(chain: &HostChain, steps: &[DeploymentStep], signer: &PrivateKeySigner) -> Result<usize, ChainError> {
    let mut sender = TransactionSender::new(chain, signer.clone(), SendOptions::default()).await?;
    let mut sent = 0;
    let mut observer = |event: DeployEvent<'_>| {
        if let DeployEvent::Included { call, included, .. } = event {
            tracing::debug!(step = call.name, nonce = included.nonce, hash = %included.hash, "deployed");
            sent += 1;
        }
    };
    Box::pin(deploy_steps(chain, steps, &mut sender, &mut observer)).await?;
    Ok(sent)
}

/// Sends the steps that are not on chain yet and waits until all are as deep as the sender's options ask for.
///
/// Returns the nonces of all steps.
///
/// # Errors
/// As [`deploy`].
pub async fn deploy_steps(
    chain: &HostChain,
    steps: &[DeploymentStep],
    sender: &mut TransactionSender,
    observer: &mut (dyn FnMut(DeployEvent<'_>) + Send),
) -> Result<Vec<u64>, ChainError> {
    let deployer = sender.account();
    let mut progress = progress(chain, steps, deployer).await?;
    let mut surprises = 0;
    while let Some(step) = steps.get(progress.done.len()) {
        let index = progress.done.len();
        require_planned_nonce(steps, deployer, index, progress.next_nonce)?;
        let call = call_of(step, deployer, &progress.done);
        let sent = {
            let mut transactions = |event: SendEvent<'_>| observer(DeployEvent::Transaction(event));
            Box::pin(sender.send(&call, progress.next_nonce, &mut transactions)).await
        };
        match sent {
            Ok(included) => {
                observer(DeployEvent::Included {
                    account: deployer,
                    index,
                    call: &call,
                    included: &included,
                });
                progress.done.push(progress.next_nonce);
                progress.next_nonce += 1;
            }
            // A transaction that an earlier run left pending was included meanwhile: the chain says which step it was.
            Err(ChainError::NonceUsed { .. }) if surprises < MAX_NONCE_SURPRISES => {
                surprises += 1;
                progress = self::progress(chain, steps, deployer).await?;
            }
            Err(error) => return Err(error),
        }
    }
    let mut transactions = |event: SendEvent<'_>| observer(DeployEvent::Transaction(event));
    Box::pin(sender.confirm(&mut transactions)).await?;
    Ok(progress.done)
}

/// Reads from the chain which steps are done.
///
/// # Errors
/// [`ChainError::DeployerUsed`] if the deployer sent something else at a nonce that an address depends on, and what reading can meet.
pub async fn progress(chain: &HostChain, steps: &[DeploymentStep], deployer: Address) -> Result<Progress, ChainError> {
    let next_nonce = chain.nonce(deployer).await?;
    let mut done = Vec::new();
    for nonce in 0..next_nonce {
        let Some(step) = steps.get(done.len()) else { break };
        let is_done = match step.to {
            None => chain.has_code(deployer.create(nonce)).await?,
            Some(contract) => is_called(chain, steps, deployer, step, contract).await?,
        };
        if is_done {
            done.push(nonce);
        } else {
            // The transaction with this nonce failed, or was none of the deployment's.
            require_planned_nonce(steps, deployer, done.len(), nonce + 1).map_err(|_| ChainError::DeployerUsed {
                deployer,
                nonce: next_nonce,
            })?;
        }
    }
    Ok(Progress { done, next_nonce })
}

/// The transaction of a step. An upgrade names the implementation where it really is, which is elsewhere if a transaction failed.
#[must_use]
pub fn call_of(step: &DeploymentStep, deployer: Address, done: &[u64]) -> Call {
    let data = match ACL::upgradeToAndCallCall::abi_decode(&step.data) {
        Ok(mut upgrade) if step.to.is_some() => {
            let planned = (0u64..)
                .zip(done)
                .find(|(index, _)| deployer.create(*index) == upgrade.newImplementation);
            if let Some((_, nonce)) = planned {
                upgrade.newImplementation = deployer.create(*nonce);
            }
            upgrade.abi_encode().into()
        }
        _ => step.data.clone(),
    };
    Call {
        name: step.name.to_string(),
        to: step.to,
        data,
    }
}

/// An upgrade is done once the proxy is no longer on the implementation it was created with; later upgrades change nothing about that. Other calls
/// are done if their nonce is used: none of them fails once its gas was estimated.
async fn is_called(
    chain: &HostChain,
    steps: &[DeploymentStep],
    deployer: Address,
    step: &DeploymentStep,
    contract: Address,
) -> Result<bool, ChainError> {
    if ACL::upgradeToAndCallCall::abi_decode(&step.data).is_err() {
        return Ok(true);
    }
    let now = proxy::implementation(chain, contract).await?;
    Ok(now.is_some() && now != first_implementation(steps, deployer, contract))
}

/// Returns the implementation that a proxy was created on.
fn first_implementation(steps: &[DeploymentStep], deployer: Address, proxy: Address) -> Option<Address> {
    let (_, creation) = (0u64..).zip(steps).find(|(nonce, _)| deployer.create(*nonce) == proxy)?;
    let arguments = proxy_arguments(&creation.data)?;
    Some(arguments.implementation)
}

/// Reads what a proxy is created with, if the data create one.
#[must_use]
pub fn proxy_arguments(creation: &Bytes) -> Option<HostProxy::constructorCall> {
    let arguments = creation.strip_prefix(HostProxy::BYTECODE.as_ref())?;
    let parameters = <HostProxy::constructorCall as SolConstructor>::Parameters::abi_decode_params(arguments).ok()?;
    Some(HostProxy::constructorCall::new(parameters))
}

/// Addresses depend on the nonces of everything before the first implementation.
fn require_planned_nonce(steps: &[DeploymentStep], deployer: Address, index: usize, nonce: u64) -> Result<(), ChainError> {
    // The first call upgrades to the first implementation, which was created just before.
    let planned = steps
        .iter()
        .position(|step| step.to.is_some())
        .map_or(steps.len(), |call| call.saturating_sub(1));
    let is_planned = u64::try_from(index) == Ok(nonce);
    if index < planned && !is_planned {
        return Err(ChainError::DeployerUsed { deployer, nonce });
    }
    Ok(())
}

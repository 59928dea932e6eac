//! The account that pays for decryption callbacks of a stack.
//!
//! On chains for development it is one whose key everybody knows, funded by the others and registered by the deployer. On other chains it is given,
//! with ether of its own; without, callbacks are off.

use std::{sync::Arc, time::Duration};

use alloy::{
    primitives::{Address, U256},
    signers::local::PrivateKeySigner,
    sol_types::SolCall,
};
use anyhow::Result;
use cipherloom_callbacks::RelayConfig;
use cipherloom_chain::{Call, HostChain, SendOptions, TransactionSender};
use cipherloom_contracts::bindings::GatewayContract;
use cipherloom_gateway::services;
use cipherloom_node::{DEPLOYER_MNEMONIC, DevAccount};
use cipherloom_service::key_file::{self, KeyFile};
use tokio_util::sync::CancellationToken;

use super::{accounts, chain::StackChain, network::ChainOptions};
use crate::{
    callbacks::{self, CallbackChain, RunningCallbacks},
    database::StackStore,
};

/// Which account of the deployer's mnemonic it is: beyond those that chains fund, so that nobody else uses it.
const PATH: &str = "m/44'/60'/0'/0/37";

/// The gas that it can pay for after it was funded.
const FUNDED_GAS: u64 = 500_000_000;

/// What it has on the stack's own chain.
const FUNDED_WEI: u128 = 1_000_000_000_000_000_000_000;

/// Serves the callbacks of a stack, unless nobody pays for them.
///
/// # Errors
/// If the chain fails, or the key cannot be read.
pub(super) async fn start(
    chain: &StackChain,
    options: &ChainOptions,
    store: &StackStore,
    decryption: &Arc<dyn services::Decryption>,
    stop: &CancellationToken,
) -> Result<Option<RunningCallbacks>> {
    let Some((key, config)) = Box::pin(payer(chain, options)).await? else {
        return Ok(None);
    };
    let following = chain.follower_config(options.finality);
    let served = CallbackChain {
        name: store.callback_site(),
        host: chain.host().clone(),
        chain_id: chain.chain_id(),
        first_block: following.first_block,
        poll_interval: following.poll_interval,
        is_final: false,
        store: Arc::clone(&store.callbacks),
    };
    callbacks::start(&config, &key, vec![served], decryption, stop).map(Some)
}

/// Returns the account that pays on chains for development.
///
/// # Errors
/// None that can occur: the mnemonic is right.
pub(crate) fn development_account() -> Result<DevAccount> {
    Ok(DevAccount::derive(DEPLOYER_MNEMONIC, PATH)?)
}

/// Returns what a relay does on chains for development, where nobody wants to wait.
pub(crate) fn development_config(finality_depth: u64) -> RelayConfig {
    RelayConfig {
        finality_depth,
        refusal_patience: Duration::from_secs(30),
        revert_patience: Duration::from_secs(5),
        stuck_after: Duration::from_secs(15),
        resend_after: Duration::from_secs(5),
        min_balance: U256::ZERO,
        alarm_balance: U256::ZERO,
        ..RelayConfig::default()
    }
}

/// Finds the paying account, and what it may do; nobody if none is given and none is known.
async fn payer(chain: &StackChain, options: &ChainOptions) -> Result<Option<(PrivateKeySigner, RelayConfig)>> {
    let host = chain.host();
    let contract = host.addresses().gateway_contract;
    if host.code(contract).await?.is_empty() {
        tracing::warn!(%contract, "decryption callbacks are off: there is no gateway contract");
        return Ok(None);
    }
    let finality = |default| options.finality.unwrap_or(default);
    if let Some(file) = &options.relayer_key_file {
        let key = key_file::read(file, KeyFile::RELAYER)?;
        let config = RelayConfig {
            finality_depth: finality(RelayConfig::default().finality_depth),
            ..RelayConfig::default()
        };
        return Ok(Some((key, config)));
    }
    if !chain.is_development() {
        tracing::warn!("decryption callbacks are off: nobody pays for them on this chain; name an account with --relayer-key-file");
        return Ok(None);
    }
    let account = development_account()?;
    match chain.node() {
        Some(node) => node.chain().set_balance(account.address(), U256::from(FUNDED_WEI))?,
        None => accounts::fund(host, account.address(), FUNDED_GAS).await?,
    }
    if !host.is_relayer(account.address()).await?
        && let Some(owner) = chain.deployer()
    {
        Box::pin(register(host, owner, account.address())).await;
    }
    // Development chains take blocks back when they are told to, and then the relay begins anew from there.
    Ok(Some((accounts::signer(&account)?, development_config(finality(0)))))
}

/// Has the contracts' owner register the account. The relay says so if that fails, and begins once somebody else did it.
async fn register(host: &HostChain, owner: PrivateKeySigner, relayer: Address) {
    let call = Call {
        name: "addRelayer".to_owned(),
        to: Some(host.addresses().gateway_contract),
        data: GatewayContract::addRelayerCall { relayer }.abi_encode().into(),
    };
    let sent = async {
        let mut sender = TransactionSender::new(host, owner, SendOptions::default()).await?;
        let nonce = sender.next_nonce().await?;
        sender.send(&call, nonce, &mut |_| {}).await
    };
    if let Err(error) = Box::pin(sent).await {
        tracing::warn!(%error, %relayer, "the relayer of decryption callbacks could not be registered");
    }
}

//! Accounts on the chain of a stack: those that development chains fund, and what they own.

use alloy::{
    network::{EthereumWallet, TransactionBuilder},
    primitives::{Address, U256},
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::types::TransactionRequest,
    signers::local::PrivateKeySigner,
};
use anyhow::{Context, Result, bail, ensure};
use cipherloom_chain::{Fees, HostChain};
use cipherloom_node::{DEPLOYER_MNEMONIC, DEV_MNEMONIC, DevAccount};

/// How many accounts of each public mnemonic are looked at: as many as development chains fund.
const ACCOUNTS: u32 = 10;

/// Finds the accounts that have ether among those whose keys everybody knows: anvil and Hardhat fund those of one public mnemonic, suites of
/// the protocol those of another.
///
/// # Errors
/// If the chain cannot be read.
pub(crate) async fn public_accounts(host: &HostChain) -> Result<Vec<DevAccount>> {
    let mut funded = Vec::new();
    for mnemonic in [DEV_MNEMONIC, DEPLOYER_MNEMONIC] {
        for index in 0..ACCOUNTS {
            let account = DevAccount::derive(mnemonic, &format!("m/44'/60'/0'/0/{index}"))?;
            if !host.balance(account.address()).await?.is_zero() {
                funded.push(account);
            }
        }
        if !funded.is_empty() {
            break;
        }
    }
    Ok(funded)
}

/// Makes sure that an account whose key everybody knows can pay for this much gas: what is missing comes from one of the accounts that
/// development chains fund.
///
/// # Errors
/// If nobody has enough, or the chain refuses the transfer.
pub(crate) async fn fund(host: &HostChain, account: Address, gas: u64) -> Result<()> {
    let needed = cost(host, gas).await?;
    if host.balance(account).await? >= needed {
        return Ok(());
    }
    for funder in public_accounts(host).await? {
        // Twice, because the transfer has a cost too, and the funder wants to go on.
        if funder.address() == account || host.balance(funder.address()).await? < needed.saturating_mul(U256::from(2)) {
            continue;
        }
        tracing::info!(from = %funder.address(), to = %account, ether = %ether(needed), "funding a development account");
        let transfer = TransactionRequest::default().with_to(account).with_value(needed);
        let pending = wallet(host, &signer(&funder)?).send_transaction(transfer).await;
        let receipt = pending.context("cannot fund the account")?.get_receipt().await?;
        ensure!(receipt.status(), "the transfer to {account} failed");
        return Ok(());
    }
    bail!(
        "account {account} has {} ether and needs {}, and none of the accounts that development chains fund can spare it",
        ether(host.balance(account).await?),
        ether(needed)
    )
}

/// Says whether an account can pay for this much gas.
///
/// # Errors
/// If the chain cannot be read.
pub(crate) async fn can_pay(host: &HostChain, account: Address, gas: u64) -> Result<bool> {
    Ok(host.balance(account).await? >= cost(host, gas).await?)
}

/// Makes sure that an account can pay for this much gas.
///
/// # Errors
/// If it cannot, with what it has and what it needs.
pub(crate) async fn expect_funds(host: &HostChain, account: Address, gas: u64, what: &str) -> Result<()> {
    let (needed, owned) = (cost(host, gas).await?, host.balance(account).await?);
    ensure!(
        owned >= needed,
        "account {account} has {} ether, and {what} may cost {}; send it some",
        ether(owned),
        ether(needed)
    );
    Ok(())
}

/// Returns what this much gas can cost now, in wei.
async fn cost(host: &HostChain, gas: u64) -> Result<U256> {
    let fees = Fees::quote(host, false).await?;
    Ok(U256::from(fees.most()).saturating_mul(U256::from(gas)))
}

/// Returns a provider that signs in an account's name and goes the way that all calls to the chain go.
pub(crate) fn wallet(host: &HostChain, signer: &PrivateKeySigner) -> DynProvider {
    ProviderBuilder::new()
        .wallet(EthereumWallet::from(signer.clone()))
        .connect_provider(host.provider())
        .erased()
}

/// Returns the key of a development account in the form that signs transactions.
///
/// # Errors
/// None that can occur: the account has been derived.
pub(crate) fn signer(account: &DevAccount) -> Result<PrivateKeySigner> {
    account.insecure_private_key_hex().parse().context("a development account's key")
}

fn ether(wei: U256) -> String {
    cipherloom_chain::fees::ether(wei.saturating_to())
}

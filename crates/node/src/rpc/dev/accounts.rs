//! Accounts: their state, transactions in their name, and those that wait.

use alloy::eips::BlockId;
use alloy::primitives::{Address, B256, Bytes, U256};
use serde_json::{Value, json};

use super::super::params::Params;
use super::Namespace;
use crate::chain::DevChain;
use crate::error::{NodeError, Result};

/// Answers a method on accounts; `None` if it is not one.
pub(super) fn dispatch(chain: &DevChain, namespace: Namespace, name: &str, params: &mut Params) -> Result<Option<Value>> {
    match name {
        "setBalance" | "setAccountBalance" => {
            let (address, balance): (Address, U256) = (params.required("address")?, params.required("balance")?);
            params.end()?;
            chain.set_balance(address, balance)?;
        }
        "addBalance" => {
            let (address, more): (Address, U256) = (params.required("address")?, params.required("balance")?);
            params.end()?;
            let balance = chain.balance(address, BlockId::latest())?.checked_add(more);
            let balance = balance.ok_or_else(|| NodeError::InvalidParams("the balance would not fit in 256 bits".to_owned()))?;
            chain.set_balance(address, balance)?;
        }
        "setCode" | "setAccountCode" => {
            let (address, code): (Address, Bytes) = (params.required("address")?, params.required("code")?);
            params.end()?;
            chain.set_code(address, code)?;
        }
        "setNonce" | "setAccountNonce" => {
            let (address, nonce) = (params.required::<Address>("address")?, params.quantity("nonce")?);
            params.end()?;
            chain.set_nonce(address, nonce)?;
        }
        "setStorageAt" | "setAccountStorageAt" => {
            let (address, slot): (Address, U256) = (params.required("address")?, params.required("slot")?);
            let value: B256 = params.required("value")?;
            params.end()?;
            chain.set_storage(address, slot, U256::from_be_bytes(value.0))?;
            return Ok(Some(json!(true)));
        }
        "impersonateAccount" | "stopImpersonatingAccount" => {
            let address: Address = params.required("address")?;
            params.end()?;
            chain.impersonate(address, name == "impersonateAccount")?;
        }
        "autoImpersonateAccount" => {
            let on: bool = params.required("on")?;
            params.end()?;
            chain.impersonate_all(on)?;
        }
        "dropTransaction" => {
            let hash: B256 = params.required("hash")?;
            params.end()?;
            let dropped = chain.change(|core| Ok(core.pool.remove(&hash).is_some()))?;
            return Ok(Some(match namespace {
                Namespace::Anvil => json!(dropped.then_some(hash)),
                Namespace::Evm | Namespace::Hardhat => json!(dropped),
            }));
        }
        "dropAllTransactions" => {
            params.end()?;
            chain.change(|core| {
                core.pool.remove_all();
                Ok(())
            })?;
        }
        "removePoolTransactions" => {
            let sender: Address = params.required("address")?;
            params.end()?;
            chain.change(|core| {
                core.pool.remove_sender(&sender);
                Ok(())
            })?;
        }
        _ => return Ok(None),
    }
    Ok(Some(namespace.done()))
}

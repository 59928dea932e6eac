//! The methods of development chains: accounts with known keys, time, mining, snapshots, state edits, impersonation.
//!
//! Tools know them as `evm_`, `anvil_` and `hardhat_` methods, and not all agree on which is where, so every name is
//! understood in each of the three. Where the tools differ, the namespace decides: `anvil_` answers null where the others
//! answer true, and counts intervals in seconds where the others count milliseconds.

mod accounts;
mod chain;
mod mining;
mod unlocked;

use serde_json::{Value, json};

use super::params::Params;
use crate::chain::DevChain;
use crate::error::Result;

/// Whose method is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Namespace {
    Evm,
    Anvil,
    Hardhat,
}

impl Namespace {
    /// The answer of a method that has nothing to say.
    fn done(self) -> Value {
        if self == Self::Anvil { Value::Null } else { json!(true) }
    }
}

/// Answers a development method; `None` if it is not one.
pub(super) fn dispatch(chain: &DevChain, method: &str, params: &mut Params) -> Result<Option<Value>> {
    if let Some(value) = unlocked::dispatch(chain, method, params)? {
        return Ok(Some(value));
    }
    let Some((namespace, name)) = method.split_once('_') else {
        return Ok(None);
    };
    let namespace = match namespace {
        "evm" => Namespace::Evm,
        "anvil" => Namespace::Anvil,
        "hardhat" => Namespace::Hardhat,
        _ => return Ok(None),
    };
    for answer in [mining::dispatch, accounts::dispatch, chain::dispatch] {
        if let Some(value) = answer(chain, namespace, name, params)? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

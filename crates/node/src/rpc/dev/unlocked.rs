//! Accounts that this node signs for, and what it tells about itself.

use alloy::rpc::types::TransactionRequest;
use serde_json::{Value, json};

use super::super::convert::{CLIENT_VERSION, json};
use super::super::eth::receipt_now;
use super::super::params::Params;
use super::super::sign;
use crate::accounts::DevAccount;
use crate::chain::DevChain;
use crate::error::Result;

/// Answers a method of a node with keys; `None` if it is not one.
pub(super) fn dispatch(chain: &DevChain, method: &str, params: &mut Params) -> Result<Option<Value>> {
    let value = match method {
        "web3_clientVersion" => json!(CLIENT_VERSION),
        "eth_accounts" | "eth_requestAccounts" => json(chain.accounts().iter().map(DevAccount::address).collect::<Vec<_>>())?,
        "rpc_modules" => json!({
            "anvil": "1.0", "debug": "1.0", "eth": "1.0", "evm": "1.0", "hardhat": "1.0",
            "net": "1.0", "personal": "1.0", "rpc": "1.0", "txpool": "1.0", "web3": "1.0",
        }),
        "eth_sendTransaction" | "eth_sendTransactionSync" | "eth_sendUnsignedTransaction" | "eth_signTransaction" => {
            return transaction(chain, method, params).map(Some);
        }
        _ => return signature(chain, method, params),
    };
    params.end()?;
    Ok(Some(value))
}

fn transaction(chain: &DevChain, method: &str, params: &mut Params) -> Result<Value> {
    let request: TransactionRequest = params.required("transaction")?;
    if method == "eth_sendTransactionSync" {
        params.optional_quantity("timeout")?;
    }
    params.end()?;
    match method {
        "eth_sendTransaction" => json(chain.send_transaction(request)?),
        "eth_sendUnsignedTransaction" => json(chain.send_unsigned_transaction(request)?),
        "eth_signTransaction" => json(chain.sign_transaction(request)?),
        _ => receipt_now(chain, &chain.send_transaction(request)?),
    }
}

fn signature(chain: &DevChain, method: &str, params: &mut Params) -> Result<Option<Value>> {
    let signature = match method {
        "eth_sign" => {
            let (address, message) = (params.required("address")?, params.required("message")?);
            params.end()?;
            sign::message(chain, address, &message)?
        }
        // The historical order of arguments is the reverse of eth_sign's; a password may follow.
        "personal_sign" => {
            let (message, address) = (params.required("message")?, params.required("address")?);
            params.optional::<String>("password")?;
            params.end()?;
            sign::message(chain, address, &message)?
        }
        "eth_signTypedData_v4" | "eth_signTypedData_v3" | "eth_signTypedData" => {
            let (address, data) = (params.required("address")?, params.required("typed data")?);
            params.end()?;
            sign::typed_data(chain, address, data)?
        }
        _ => return Ok(None),
    };
    json(signature).map(Some)
}

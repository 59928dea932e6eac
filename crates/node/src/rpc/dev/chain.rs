//! The chain as a whole: what it is, and ways back.

use std::collections::BTreeMap;

use alloy::primitives::Bytes;
use serde_json::{Value, json};

use super::super::convert::{CLIENT_VERSION, json, quantity};
use super::super::params::Params;
use super::Namespace;
use crate::chain::DevChain;
use crate::error::{NodeError, Result};

/// Answers a method on the chain as a whole; `None` if it is not one.
pub(super) fn dispatch(chain: &DevChain, namespace: Namespace, name: &str, params: &mut Params) -> Result<Option<Value>> {
    let value = match name {
        "snapshot" => {
            params.end()?;
            quantity(chain.snapshot()?)
        }
        "revert" => {
            let id = params.quantity("snapshot id")?;
            params.end()?;
            json!(chain.revert(id)?)
        }
        "rollback" => {
            let depth = params.optional_quantity("depth")?.unwrap_or(1);
            params.end()?;
            chain.rollback(depth)?;
            namespace.done()
        }
        "reorg" => {
            let depth = params.quantity("depth")?;
            let replacements: Vec<Value> = params.optional("transactions")?.unwrap_or_default();
            params.end()?;
            if !replacements.is_empty() {
                return Err(NodeError::InvalidParams(
                    "argument 1 (transactions): replacement transactions are not supported".to_owned(),
                ));
            }
            chain.reorganize(depth)?;
            namespace.done()
        }
        "reset" => {
            let options: Option<Value> = params.optional("options")?;
            params.end()?;
            if names_a_chain_to_fork(options.as_ref()) {
                return Err(NodeError::InvalidParams(
                    "argument 0 (options): this chain cannot fork another one".to_owned(),
                ));
            }
            chain.reset()?;
            namespace.done()
        }
        "dumpState" => {
            let history: Option<bool> = params.optional("with history")?;
            params.end()?;
            if history == Some(true) {
                return Err(NodeError::InvalidParams(
                    "argument 0 (with history): a dump holds the latest state only".to_owned(),
                ));
            }
            json(chain.dump_state()?)?
        }
        "loadState" => {
            let dump: Bytes = params.required("dump")?;
            params.end()?;
            chain.load_state(&dump)?;
            json!(true)
        }
        "nodeInfo" => {
            params.end()?;
            node_info(chain)?
        }
        "metadata" => {
            params.end()?;
            metadata(chain)?
        }
        // This chain logs through its own configuration; tools switch it off before loud work.
        "setLoggingEnabled" => {
            params.required::<bool>("on")?;
            params.end()?;
            namespace.done()
        }
        "setMinGasPrice" => {
            return Err(refused(
                "the base fee decides about transactions; set the next block's base fee instead",
            ));
        }
        "setChainId" => return Err(refused("the chain id is part of what the chain was created with")),
        "setRpcUrl" => return Err(refused("this chain does not fork another one")),
        _ => return Ok(None),
    };
    Ok(Some(value))
}

fn refused(reason: &str) -> NodeError {
    NodeError::InvalidParams(reason.to_owned())
}

/// Tells whether the options of `reset` name a chain. Tools send an empty `forking` for "no fork".
fn names_a_chain_to_fork(options: Option<&Value>) -> bool {
    let names = |value: &Value| {
        ["jsonRpcUrl", "json_rpc_url"]
            .iter()
            .any(|field| value.get(field).is_some_and(|url| !url.is_null()))
    };
    options.is_some_and(|options| names(options) || options.get("forking").is_some_and(names))
}

fn node_info(chain: &DevChain) -> Result<Value> {
    let core = chain.core()?;
    let head = core.head();
    let base_fee = core.next_base_fee();
    Ok(json!({
        "currentBlockNumber": quantity(head.header.number),
        "currentBlockTimestamp": head.header.timestamp,
        "currentBlockHash": json(head.hash)?,
        "hardFork": "prague",
        "transactionOrder": "fifo",
        "environment": {
            "baseFee": quantity(base_fee),
            "chainId": chain.chain_id(),
            "gasLimit": quantity(core.gas_limit()),
            "gasPrice": quantity(base_fee),
        },
        "forkConfig": { "forkUrl": null, "forkBlockNumber": null, "forkRetryBackoff": null },
    }))
}

fn metadata(chain: &DevChain) -> Result<Value> {
    let core = chain.core()?;
    let head = core.head();
    let snapshots = core
        .snapshots()
        .map(|(id, height, hash)| Ok((format!("{id:#x}"), json((height, hash))?)))
        .collect::<Result<BTreeMap<_, _>>>()?;
    Ok(json!({
        "clientVersion": CLIENT_VERSION,
        "chainId": chain.chain_id(),
        "instanceId": json(core.instance_id())?,
        "latestBlockNumber": head.header.number,
        "latestBlockHash": json(head.hash)?,
        "snapshots": snapshots,
    }))
}

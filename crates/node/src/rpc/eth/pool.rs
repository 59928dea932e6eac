//! Transactions that wait.

use std::collections::BTreeMap;

use alloy::consensus::Transaction as _;
use alloy::primitives::Address;
use serde_json::{Value, json};

use super::super::convert::{self, json, quantity};
use super::super::params::Params;
use crate::chain::Chain;
use crate::chain::core::Core;
use crate::chain::pool::PoolTransaction;
use crate::error::Result;

/// Transactions by sender and nonce, as clients expect them.
type Group = BTreeMap<String, BTreeMap<String, Value>>;

/// Answers a method on waiting transactions; `None` if it is not one.
pub(super) fn dispatch(chain: &Chain, method: &str, params: &mut Params) -> Result<Option<Value>> {
    let value = match method {
        "txpool_status" => {
            params.end()?;
            let core = chain.core()?;
            let (pending, queued) = core.pool.status(core.head_state());
            let number = |count: usize| quantity(u64::try_from(count).unwrap_or(u64::MAX));
            json!({ "pending": number(pending), "queued": number(queued) })
        }
        "txpool_content" => {
            params.end()?;
            let core = chain.core()?;
            let (pending, queued) = grouped(&core, |waiting| json(convert::pending_transaction(waiting)))?;
            json!({ "pending": pending, "queued": queued })
        }
        "txpool_contentFrom" => {
            let sender: Address = params.required("address")?;
            params.end()?;
            let core = chain.core()?;
            let (mut pending, mut queued) = grouped(&core, |waiting| json(convert::pending_transaction(waiting)))?;
            let name = sender.to_string();
            json!({ "pending": pending.remove(&name).unwrap_or_default(), "queued": queued.remove(&name).unwrap_or_default() })
        }
        "txpool_inspect" => {
            params.end()?;
            let (pending, queued) = grouped(&*chain.core()?, |waiting| Ok(Value::String(summary(waiting))))?;
            json!({ "pending": pending, "queued": queued })
        }
        "eth_pendingTransactions" => {
            params.end()?;
            let core = chain.core()?;
            let waiting = core.pool.iter(core.head_state());
            let executable = waiting.filter(|(executable, _)| *executable);
            json(
                executable
                    .map(|(_, waiting)| convert::pending_transaction(waiting))
                    .collect::<Vec<_>>(),
            )?
        }
        _ => return Ok(None),
    };
    Ok(Some(value))
}

/// The transactions that can be executed in sequence, and those that cannot.
fn grouped(core: &Core, show: impl Fn(&PoolTransaction) -> Result<Value>) -> Result<(Group, Group)> {
    let (mut pending, mut queued) = (Group::new(), Group::new());
    for (executable, waiting) in core.pool.iter(core.head_state()) {
        let group = if executable { &mut pending } else { &mut queued };
        let sender = group.entry(waiting.sender.to_string()).or_default();
        sender.insert(waiting.envelope.nonce().to_string(), show(waiting)?);
    }
    Ok((pending, queued))
}

/// A transaction in one line, in the words of other nodes.
fn summary(waiting: &PoolTransaction) -> String {
    let transaction = &waiting.envelope;
    let to = transaction.to().map_or_else(|| "contract creation".to_owned(), |to| to.to_string());
    format!(
        "{to}: {} wei + {} gas × {} wei",
        transaction.value(),
        transaction.gas_limit(),
        transaction.max_fee_per_gas()
    )
}

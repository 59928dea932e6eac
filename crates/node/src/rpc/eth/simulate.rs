//! Execution that is only tried: access lists and simulated blocks.

use alloy::eips::BlockId;
use alloy::rpc::types::TransactionRequest;
use alloy::rpc::types::simulate::SimulatePayload;
use alloy::rpc::types::state::StateOverride;
use serde_json::Value;

use super::super::convert::{self, json};
use super::super::params::Params;
use crate::chain::Chain;
use crate::error::Result;

/// Answers `eth_createAccessList` and `eth_simulateV1`; `None` for other methods.
pub(super) fn dispatch(chain: &Chain, method: &str, params: &mut Params) -> Result<Option<Value>> {
    match method {
        "eth_createAccessList" => {
            let request: TransactionRequest = params.required("transaction")?;
            let block = params.optional("block")?.unwrap_or_else(BlockId::pending);
            let state: Option<StateOverride> = params.optional("state overrides")?;
            params.end()?;
            json(chain.access_list(&request, block, state)?).map(Some)
        }
        "eth_simulateV1" => {
            let payload: SimulatePayload = params.required("simulation")?;
            let block = params.block()?;
            params.end()?;
            let full = payload.return_full_transactions;
            let mut blocks = Vec::new();
            for simulated in chain.simulate(payload, block)? {
                let mut value = json(convert::block(&simulated.block, full))?;
                if let Some(fields) = value.as_object_mut() {
                    fields.insert("calls".to_owned(), json(simulated.calls)?);
                }
                blocks.push(value);
            }
            Ok(Some(Value::Array(blocks)))
        }
        _ => Ok(None),
    }
}

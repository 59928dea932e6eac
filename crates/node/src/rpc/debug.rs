//! `debug_traceTransaction` with the call tracer.

use alloy::primitives::B256;
use serde::Deserialize;
use serde_json::{Value, json};

use super::convert::{json, quantity};
use super::params::Params;
use crate::chain::Chain;
use crate::chain::trace::CallFrame;
use crate::error::{NodeError, Result};
use crate::exec::revert_message;

/// The options that are understood; others (timeouts and the like) make no difference here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Options {
    tracer: Option<String>,
    tracer_config: Option<CallTracerOptions>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CallTracerOptions {
    only_top_call: bool,
    with_log: bool,
}

/// Answers `debug_traceTransaction`; `None` for other methods.
pub(super) fn dispatch(chain: &Chain, method: &str, params: &mut Params) -> Result<Option<Value>> {
    if method != "debug_traceTransaction" {
        return Ok(None);
    }
    let hash: B256 = params.required("hash")?;
    let options: Options = params.optional("options")?.unwrap_or_default();
    params.end()?;
    if options.tracer.as_deref() != Some("callTracer") {
        return Err(NodeError::InvalidParams(
            "argument 1 (options): \"tracer\" must be \"callTracer\", the only one there is".to_owned(),
        ));
    }
    let root = chain.trace_transaction(&hash)?;
    frame(&root, &options.tracer_config.unwrap_or_default()).map(Some)
}

fn frame(call: &CallFrame, options: &CallTracerOptions) -> Result<Value> {
    let mut value = json!({
        "type": call.kind,
        "from": json(call.from)?,
        "gas": quantity(call.gas),
        "gasUsed": quantity(call.gas_used),
        "input": json(&call.input)?,
    });
    let Some(fields) = value.as_object_mut() else { return Ok(value) };
    let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    if let Some(to) = call.to {
        set("to", json(to)?);
    }
    if !matches!(call.kind, "STATICCALL" | "DELEGATECALL") {
        set("value", json(call.value)?);
    }
    if !call.output.is_empty() {
        set("output", json(&call.output)?);
    }
    if let Some(error) = &call.error {
        set("error", json!(error));
        if let Some(reason) = revert_message(&call.output).strip_prefix("execution reverted: ") {
            set("revertReason", json!(reason));
        }
    }
    if options.with_log && !call.logs.is_empty() && call.error.is_none() {
        let logs = call.logs.iter().map(|(position, log)| {
            json!({
                "address": log.address,
                "topics": log.data.topics(),
                "data": log.data.data,
                "position": format!("{position:#x}"),
            })
        });
        set("logs", logs.collect());
    }
    if !options.only_top_call && !call.calls.is_empty() {
        set(
            "calls",
            call.calls.iter().map(|inner| frame(inner, options)).collect::<Result<Value>>()?,
        );
    }
    Ok(value)
}

//! JSON-RPC 2.0 over whatever carries bytes: single calls, batches, errors.
//!
//! Nothing here knows about HTTP or WebSocket; [`answer`] takes the bytes of a request and gives the bytes of the response.
//! The methods of all chains are in [`eth`] (the standard ones) and [`debug`] (the call tracer); each kind of chain has [methods of
//! its own](Methods), such as those in [`dev`].

pub(crate) mod convert;
mod debug;
mod dev;
mod eth;
pub(crate) mod filters;
pub(crate) mod params;
mod sign;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use self::params::Params;
use crate::chain::{Chain, DevChain};
use crate::error::{NodeError, Result};

/// One call, checked to be JSON-RPC 2.0.
pub(crate) struct Call {
    /// `None` for a notification, which gets no response.
    pub(crate) id: Option<Value>,
    pub(crate) method: String,
    pub(crate) params: Value,
}

/// What is wrong with a call, and the id to report it under.
type Invalid = Box<(Value, NodeError)>;

/// A request: one call or a batch, each element valid or an error to report.
pub(crate) enum Request {
    Single(Result<Call, Invalid>),
    Batch(Vec<Result<Call, Invalid>>),
}

/// A chain as JSON-RPC sees it.
pub(crate) trait Methods: Send + Sync + 'static {
    /// The chain that the standard methods are about.
    fn chain(&self) -> &Chain;

    /// Answers a method of this kind of chain, which may take the place of a standard one; `None` if it is not one.
    fn own(&self, method: &str, params: &mut Params) -> Result<Option<Value>>;
}

impl Methods for DevChain {
    fn chain(&self) -> &Chain {
        self
    }

    fn own(&self, method: &str, params: &mut Params) -> Result<Option<Value>> {
        dev::dispatch(self, method, params)
    }
}

impl DevChain {
    /// Answers a JSON-RPC request or batch; `None` if it holds only notifications.
    ///
    /// Subscriptions need a connection and are refused here.
    pub fn rpc(&self, request: &[u8]) -> Option<Vec<u8>> {
        answer(self, request, &mut |_| None)
    }

    /// Calls one JSON-RPC method with its parameters (an array, or null for none).
    ///
    /// # Errors
    ///
    /// Whatever the method reports; [`NodeError::MethodNotFound`] for an unknown one.
    pub fn rpc_call(&self, method: &str, params: Value) -> Result<Value> {
        call(self, method, params)
    }
}

/// Answers a JSON-RPC request or batch; `first` may answer a call before the ordinary methods do.
pub(crate) fn answer(methods: &dyn Methods, request: &[u8], first: &mut dyn FnMut(&Call) -> Option<Result<Value>>) -> Option<Vec<u8>> {
    let limits = methods.chain().limits();
    let limit = limits.response_size_bytes;
    match parse_request(request, limits.batch_calls) {
        Err(error) => Some(response(&Value::Null, Err(error), limit)),
        Ok(Request::Single(call)) => answer_call(methods, call, first, limit),
        Ok(Request::Batch(calls)) => {
            let mut out = Vec::new();
            for call in calls {
                // What earlier answers left of the limit; the rest of the batch gets errors.
                let left = limit.saturating_sub(out.len());
                if let Some(answer) = answer_call(methods, call, first, left) {
                    out.push(if out.is_empty() { b'[' } else { b',' });
                    out.extend_from_slice(&answer);
                }
            }
            (!out.is_empty()).then(|| {
                out.push(b']');
                out
            })
        }
    }
}

fn answer_call(
    methods: &dyn Methods,
    request: Result<Call, Invalid>,
    first: &mut dyn FnMut(&Call) -> Option<Result<Value>>,
    limit: usize,
) -> Option<Vec<u8>> {
    match request {
        Err(invalid) => Some(response(&invalid.0, Err(invalid.1), limit)),
        Ok(request) if limit == 0 => request.id.map(|id| response(&id, Err(too_large()), 0)),
        Ok(request) => {
            let result = first(&request).unwrap_or_else(|| call(methods, &request.method, request.params));
            request.id.map(|id| response(&id, result, limit))
        }
    }
}

/// Calls one method with its parameters (an array, or null for none).
pub(crate) fn call(methods: &dyn Methods, method: &str, params: Value) -> Result<Value> {
    let mut params = Params::new(positional(method, params))?;
    if let Some(result) = methods.own(method, &mut params)? {
        return Ok(result);
    }
    for answer in [eth::dispatch, debug::dispatch] {
        if let Some(result) = answer(methods.chain(), method, &mut params)? {
            return Ok(result);
        }
    }
    Err(NodeError::MethodNotFound(printable(method)))
}

/// Alloy names the parameters of this one method.
fn positional(method: &str, mut params: Value) -> Value {
    match params.as_object_mut() {
        Some(fields) if method.ends_with("_reorg") => json!([fields.remove("depth"), fields.remove("tx_block_pairs")]),
        _ => params,
    }
}

/// Reads a request without running it.
pub(crate) fn parse_request(request: &[u8], most_calls: usize) -> Result<Request> {
    let first = request.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'[') {
        let value = serde_json::from_slice(request).map_err(|error| NodeError::Parse(error.to_string()))?;
        return Ok(Request::Single(parse_call(value)));
    }
    // Elements are kept as text first, so that a long batch is refused before it is parsed in full.
    let elements: Vec<&RawValue> = serde_json::from_slice(request).map_err(|error| NodeError::Parse(error.to_string()))?;
    if elements.is_empty() {
        return Err(NodeError::InvalidRequest("empty batch".to_owned()));
    }
    if elements.len() > most_calls {
        return Err(NodeError::InvalidRequest(format!(
            "batch too large: {} calls, at most {most_calls} are allowed",
            elements.len()
        )));
    }
    let calls = elements.into_iter().map(|element| {
        let value = serde_json::from_str(element.get()).map_err(|error| Box::new((Value::Null, NodeError::Parse(error.to_string()))))?;
        parse_call(value)
    });
    Ok(Request::Batch(calls.collect()))
}

fn parse_call(value: Value) -> Result<Call, Invalid> {
    let invalid = |id: &Value, reason: &str| Box::new((id.clone(), NodeError::InvalidRequest(reason.to_owned())));
    let Value::Object(mut call) = value else {
        return Err(invalid(&Value::Null, "a call must be a JSON object"));
    };
    let id = call.remove("id");
    if !matches!(id, None | Some(Value::Null | Value::String(_) | Value::Number(_))) {
        return Err(invalid(&Value::Null, "\"id\" must be a string, a number or null"));
    }
    let known = id.clone().unwrap_or(Value::Null);
    if call.get("jsonrpc") != Some(&Value::from("2.0")) {
        return Err(invalid(&known, "\"jsonrpc\" must be \"2.0\""));
    }
    let Some(Value::String(method)) = call.remove("method") else {
        return Err(invalid(&known, "\"method\" must be a string"));
    };
    let params = call.remove("params").unwrap_or(Value::Null);
    Ok(Call { id, method, params })
}

fn response(id: &Value, result: Result<Value>, limit: usize) -> Vec<u8> {
    let body = match result {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => error_response(id, &error),
    };
    let bytes = body.to_string().into_bytes();
    if bytes.len() <= limit || limit == 0 {
        return bytes;
    }
    error_response(id, &too_large()).to_string().into_bytes()
}

fn error_response(id: &Value, error: &NodeError) -> Value {
    if let NodeError::Internal(reason) = error {
        tracing::error!(reason, "internal error in a JSON-RPC call");
    }
    let mut object = json!({ "code": error.code(), "message": error.to_string() });
    if let (Some(data), Some(fields)) = (error.data(), object.as_object_mut()) {
        fields.insert("data".to_owned(), json!(data));
    }
    json!({ "jsonrpc": "2.0", "id": id, "error": object })
}

/// The response to a request whose calls are not known (it never finished, or was never read).
pub(crate) fn anonymous_error(error: &NodeError) -> Vec<u8> {
    error_response(&Value::Null, error).to_string().into_bytes()
}

fn too_large() -> NodeError {
    NodeError::LimitExceeded("response too large".to_owned())
}

/// Cuts what a stranger sent to a length fit for an error message.
fn printable(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(request: &str) -> Vec<i64> {
        let one = |call: Result<Call, Invalid>| call.map_or_else(|invalid| invalid.1.code(), |_| 0);
        match parse_request(request.as_bytes(), 3) {
            Err(error) => vec![error.code()],
            Ok(Request::Single(call)) => vec![one(call)],
            Ok(Request::Batch(calls)) => calls.into_iter().map(one).collect(),
        }
    }

    #[test]
    fn malformed_requests_get_the_codes_of_the_specification() {
        assert_eq!(codes("{"), [-32700]);
        assert_eq!(codes(""), [-32700]);
        assert_eq!(codes("7"), [-32600]);
        assert_eq!(codes("[]"), [-32600]);
        assert_eq!(codes("[1,2,3,4]"), [-32600]);
        assert_eq!(codes(r#"{"method":"x","id":1}"#), [-32600]);
        assert_eq!(codes(r#"{"jsonrpc":"2.0","id":1}"#), [-32600]);
        assert_eq!(codes(r#"{"jsonrpc":"2.0","id":[1],"method":"x"}"#), [-32600]);
        assert_eq!(codes(r#"[7,{"jsonrpc":"2.0","id":1,"method":"x"}]"#), [-32600, 0]);
    }
}

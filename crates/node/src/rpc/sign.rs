//! Signatures by the development accounts.

use alloy::dyn_abi::TypedData;
use alloy::primitives::{Address, B256, Bytes, eip191_hash_message};
use serde_json::Value;

use crate::chain::DevChain;
use crate::error::{NodeError, Result};

/// Deepest nesting of types that typed data may have.
const MAX_TYPES: usize = 256;

/// Signs a message with the EIP-191 prefix.
pub(crate) fn message(chain: &DevChain, address: Address, message: &Bytes) -> Result<Bytes> {
    digest(chain, address, &eip191_hash_message(message))
}

/// Signs EIP-712 typed data, given as an object or as its JSON text.
pub(crate) fn typed_data(chain: &DevChain, address: Address, data: Value) -> Result<Bytes> {
    let wrong = |error: String| NodeError::InvalidParams(format!("argument 1 (typed data): {error}"));
    let data: TypedData = match data {
        Value::String(text) => serde_json::from_str(&text),
        object => serde_json::from_value(object),
    }
    .map_err(|error| wrong(error.to_string()))?;
    if serde_json::to_value(&data.resolver)
        .ok()
        .and_then(|types| types.as_object().map(serde_json::Map::len))
        .unwrap_or(0)
        > MAX_TYPES
    {
        return Err(wrong(format!("more than {MAX_TYPES} types")));
    }
    let hash = data.eip712_signing_hash().map_err(|error| wrong(error.to_string()))?;
    digest(chain, address, &hash)
}

fn digest(chain: &DevChain, address: Address, digest: &B256) -> Result<Bytes> {
    let account = chain.unlocked(&address).ok_or(NodeError::UnknownAccount(address))?;
    Ok(account.sign_digest(digest)?.as_bytes().into())
}

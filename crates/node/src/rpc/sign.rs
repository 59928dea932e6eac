//! Signatures by the development accounts.

use std::collections::BTreeMap;

use alloy::dyn_abi::TypedData;
use alloy::primitives::{Address, B256, Bytes, eip191_hash_message};
use serde_json::{Map, Value};

use crate::chain::DevChain;
use crate::error::{NodeError, Result};

/// Largest typed data, in bytes of JSON. Hashing repeats the type's text for every struct value.
const MAX_TYPED_DATA_BYTES: usize = 128 * 1024;

/// Longest name of a type or of a field's type. It bounds the nesting of arrays, too.
const MAX_TYPE_NAME_BYTES: usize = 128;

/// Most types in typed data.
const MAX_TYPES: usize = 128;

/// Most fields of the primary type, counted with the fields of its fields. Types that refer to
/// each other twice per level grow exponentially in this count.
const MAX_EXPANDED_FIELDS: usize = 10_000;

/// Signs a message with the EIP-191 prefix.
pub(crate) fn message(chain: &DevChain, address: Address, message: &Bytes) -> Result<Bytes> {
    digest(chain, address, &eip191_hash_message(message))
}

/// Signs EIP-712 typed data, given as an object or as its JSON text.
pub(crate) fn typed_data(chain: &DevChain, address: Address, data: Value) -> Result<Bytes> {
    let hash = signing_hash(data).map_err(|reason| NodeError::InvalidParams(format!("argument 1 (typed data): {reason}")))?;
    digest(chain, address, &hash)
}

fn digest(chain: &DevChain, address: Address, digest: &B256) -> Result<Bytes> {
    let account = chain.unlocked(&address).ok_or(NodeError::UnknownAccount(address))?;
    Ok(account.sign_digest(digest)?.as_bytes().into())
}

fn signing_hash(data: Value) -> Result<B256, String> {
    let data = match data {
        Value::String(text) => {
            check_size(text.len())?;
            serde_json::from_str(&text).map_err(|error| error.to_string())?
        }
        other => {
            check_size(other.to_string().len())?;
            other
        }
    };
    check_types(&data)?;
    let data: TypedData = serde_json::from_value(data).map_err(|error| error.to_string())?;
    data.eip712_signing_hash().map_err(|error| error.to_string())
}

fn check_size(size_bytes: usize) -> Result<(), String> {
    if size_bytes > MAX_TYPED_DATA_BYTES {
        return Err(format!("{size_bytes} bytes, at most {MAX_TYPED_DATA_BYTES} are allowed"));
    }
    Ok(())
}

/// Refuses type definitions whose expansion would exhaust memory or the stack.
fn check_types(data: &Value) -> Result<(), String> {
    let types = data.get("types").and_then(Value::as_object).ok_or("\"types\" must be an object")?;
    let primary = data
        .get("primaryType")
        .and_then(Value::as_str)
        .ok_or("\"primaryType\" must be a string")?;
    if types.len() > MAX_TYPES {
        return Err(format!("{} types, at most {MAX_TYPES} are allowed", types.len()));
    }
    let names = types
        .values()
        .flat_map(fields)
        .chain(types.keys().map(String::as_str))
        .chain([primary]);
    if let Some(long) = names.map(str::len).find(|length| *length > MAX_TYPE_NAME_BYTES) {
        return Err(format!("a type name of {long} bytes, at most {MAX_TYPE_NAME_BYTES} are allowed"));
    }
    if expanded_fields(types, primary, &mut BTreeMap::new()) > MAX_EXPANDED_FIELDS {
        return Err(format!(
            "the primary type has more than {MAX_EXPANDED_FIELDS} fields when written out"
        ));
    }
    Ok(())
}

/// The type names of a type's fields.
fn fields(definition: &Value) -> impl Iterator<Item = &str> {
    let list = definition.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|field| field.get("type").and_then(Value::as_str))
}

/// Counts the fields of a type with those of its fields; a cycle counts as one, it is refused later.
fn expanded_fields<'a>(types: &'a Map<String, Value>, name: &'a str, known: &mut BTreeMap<&'a str, usize>) -> usize {
    let name = name.split('[').next().unwrap_or(name);
    let Some(definition) = types.get(name) else { return 1 };
    if let Some(count) = known.get(name) {
        return *count;
    }
    known.insert(name, 1);
    let count = fields(definition).fold(1usize, |sum, field| sum.saturating_add(expanded_fields(types, field, known)));
    known.insert(name, count);
    count
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reason(types: Value, primary: &str) -> String {
        signing_hash(json!({ "types": types, "primaryType": primary, "domain": {}, "message": {} })).unwrap_err()
    }

    #[test]
    fn types_that_explode_are_refused() {
        let mut types = Map::new();
        for level in 0..60 {
            let next = format!("T{}", level + 1);
            types.insert(
                format!("T{level}"),
                json!([{ "name": "a", "type": next }, { "name": "b", "type": next }]),
            );
        }
        types.insert("T60".to_owned(), json!([{ "name": "x", "type": "uint8" }]));
        assert!(reason(types.into(), "T0").contains("more than 10000 fields"));
        let deep = format!("uint8{}", "[]".repeat(50_000));
        assert!(reason(json!({ "M": [{ "name": "a", "type": deep }] }), "M").contains("a type name of"));
        assert!(
            reason(
                json!({ "M": [{ "name": "a", "type": "N" }], "N": [{ "name": "b", "type": "M" }] }),
                "M"
            )
            .contains("circular")
        );
        assert!(signing_hash(Value::String(" ".repeat(200_000))).unwrap_err().contains("bytes"));
        assert!(signing_hash(json!("\"text in text\"")).unwrap_err().contains("\"types\""));
    }
}

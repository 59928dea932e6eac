//! Parameters of a JSON-RPC call, taken one by one with errors that say which one is wrong.

use alloy::eips::BlockId;
use alloy::primitives::U256;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{NodeError, Result};

/// The positional parameters not yet taken.
#[derive(Debug)]
pub(crate) struct Params {
    values: std::vec::IntoIter<Value>,
    taken: usize,
}

impl Params {
    /// Accepts an array, or null for none.
    pub(crate) fn new(params: Value) -> Result<Self> {
        let values = match params {
            Value::Null => Vec::new(),
            Value::Array(values) => values,
            _ => return Err(NodeError::InvalidParams("\"params\" must be an array".to_owned())),
        };
        Ok(Self {
            values: values.into_iter(),
            taken: 0,
        })
    }

    /// Takes a parameter that may be missing or null.
    pub(crate) fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>> {
        let index = self.taken;
        self.taken += 1;
        match self.values.next() {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value)
                .map(Some)
                .map_err(|error| NodeError::InvalidParams(format!("argument {index} ({name}): {error}"))),
        }
    }

    /// Takes a parameter that must be there.
    pub(crate) fn required<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        let index = self.taken;
        self.optional(name)?
            .ok_or_else(|| NodeError::InvalidParams(format!("missing value for required argument {index} ({name})")))
    }

    /// Takes an optional block tag, number or hash; the latest block by default.
    pub(crate) fn block(&mut self) -> Result<BlockId> {
        Ok(self.optional("block")?.unwrap_or_else(BlockId::latest))
    }

    /// Takes a quantity, written as a hex string or, as some tools do, as a decimal string or a number.
    pub(crate) fn quantity(&mut self, name: &str) -> Result<u64> {
        let index = self.taken;
        self.optional_quantity(name)?
            .ok_or_else(|| NodeError::InvalidParams(format!("missing value for required argument {index} ({name})")))
    }

    /// As [`Self::quantity`], for a parameter that may be missing or null.
    pub(crate) fn optional_quantity(&mut self, name: &str) -> Result<Option<u64>> {
        let index = self.taken;
        self.optional::<U256>(name)?
            .map(|value| {
                u64::try_from(value).map_err(|_| NodeError::InvalidParams(format!("argument {index} ({name}): larger than 64 bits")))
            })
            .transpose()
    }

    /// Refuses parameters that no one asked for.
    pub(crate) fn end(&mut self) -> Result<()> {
        match self.values.len() {
            0 => Ok(()),
            more => Err(NodeError::InvalidParams(format!(
                "too many arguments, want at most {}, got {}",
                self.taken,
                self.taken + more
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_name_the_argument() {
        let mut params = Params::new(json!(["latest", "zz"])).unwrap();
        assert_eq!(params.block().unwrap(), BlockId::latest());
        assert!(params.quantity("count").unwrap_err().to_string().contains("argument 1 (count)"));
        let error = params.required::<String>("name").unwrap_err();
        assert_eq!(error.to_string(), "invalid params: missing value for required argument 2 (name)");
        assert_eq!(error.code(), -32602);
    }

    #[test]
    fn superfluous_arguments_are_refused() {
        let mut params = Params::new(json!([1, 2])).unwrap();
        params.quantity("count").unwrap();
        assert!(
            params
                .end()
                .unwrap_err()
                .to_string()
                .contains("too many arguments, want at most 1, got 2")
        );
        assert!(Params::new(json!({})).is_err());
    }
}

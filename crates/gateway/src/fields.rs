//! Reading JSON fields one by one, so that an answer can name every field at fault.
//!
//! Fields stay unparsed text until their own reader looks at them: a body allocates nothing beyond itself before its sizes are known.

use std::ops::RangeInclusive;

use alloy_primitives::{Address, B256, Bytes, hex};
use cipherloom_primitives::Handle;
use serde_json::value::RawValue;

use crate::{
    error::Label,
    services::{FieldIssue, ServiceError},
};

/// A field as it stands in the body, if it does.
pub(crate) type Field<'a> = Option<&'a RawValue>;

/// Collects what is wrong with a body while its fields are read.
#[derive(Debug, Default)]
pub(crate) struct Issues {
    missing: Vec<FieldIssue>,
    invalid: Vec<FieldIssue>,
}

/// The most issues of a kind that are reported; a client gains nothing from more.
const MAX_ISSUES: usize = 32;

impl Issues {
    /// Notes a problem.
    pub(crate) fn invalid(&mut self, path: &str, issue: impl Into<String>) {
        if self.invalid.len() < MAX_ISSUES {
            self.invalid.push(FieldIssue::new(path, issue));
        }
    }

    /// Returns the unparsed field, or notes that it is missing; `null` counts as missing.
    pub(crate) fn required<'a>(&mut self, path: &str, field: Field<'a>) -> Option<&'a RawValue> {
        match field {
            Some(raw) if raw.get() != "null" => Some(raw),
            _ => {
                if self.missing.len() < MAX_ISSUES {
                    self.missing.push(FieldIssue::new(path, "is required"));
                }
                None
            }
        }
    }

    /// Reads a field with a reader whose errors are sentences about the field.
    pub(crate) fn read<T>(&mut self, path: &str, field: Field<'_>, reader: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let raw = self.required(path, field)?;
        let result = match serde_json::from_str::<TextField<'_>>(raw.get()) {
            Ok(TextField(text)) => reader(&text),
            Err(_) => Err("must be a string".to_owned()),
        };
        result.map_err(|issue| self.invalid(path, issue)).ok()
    }

    /// Reads an array with that many entries, unparsed.
    pub(crate) fn list<'a>(&mut self, path: &str, field: Field<'a>, counts: RangeInclusive<usize>) -> Option<Vec<&'a RawValue>> {
        let raw = self.required(path, field)?;
        let result = match serde_json::from_str::<Vec<&'a RawValue>>(raw.get()) {
            Ok(entries) if counts.contains(&entries.len()) => Ok(entries),
            Ok(entries) => Err(format!(
                "must have {} to {} entries, got {}",
                counts.start(),
                counts.end(),
                entries.len()
            )),
            Err(_) => Err("must be an array".to_owned()),
        };
        result.map_err(|issue| self.invalid(path, issue)).ok()
    }

    /// Returns whether nothing was noted.
    pub(crate) fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.invalid.is_empty()
    }

    /// Turns what was noted into an error; missing fields come first, since SDKs know two labels for the two kinds.
    pub(crate) fn into_error(self) -> ServiceError {
        if self.missing.is_empty() {
            return ServiceError::invalid(self.invalid);
        }
        let names = self.missing.iter().map(|issue| issue.field.as_str()).collect::<Vec<_>>();
        let message = format!("missing fields: {}", names.join(", "));
        ServiceError {
            details: self.missing,
            ..ServiceError::new(Label::MissingFields, message)
        }
    }
}

/// A JSON string, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct TextField<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);

/// Reads an address: `0x` and 40 digits in any case.
pub(crate) fn address(text: &str) -> Result<Address, String> {
    fixed(text)
        .map(Address::new)
        .ok_or_else(|| "must be an address: 0x and 40 hexadecimal digits".to_owned())
}

/// Reads a handle: `0x` and 64 digits.
pub(crate) fn handle(text: &str) -> Result<Handle, String> {
    let bytes = fixed(text)
        .map(B256::new)
        .ok_or_else(|| "must be a handle: 0x and 64 hexadecimal digits".to_owned())?;
    Handle::try_from(bytes).map_err(|error| error.to_string())
}

fn fixed<const N: usize>(text: &str) -> Option<[u8; N]> {
    decode(prefixed(text).ok()?, N).ok()?.try_into().ok()
}

/// Reads at most `limit` bytes written with `0x`.
pub(crate) fn prefixed_bytes(limit: usize) -> impl Fn(&str) -> Result<Bytes, String> {
    move |text| decode(prefixed(text)?, limit).map(Bytes::from)
}

/// Reads 1 to `limit` bytes written without `0x`.
pub(crate) fn bare_bytes(limit: usize) -> impl Fn(&str) -> Result<Bytes, String> {
    move |text| {
        if text.starts_with("0x") || text.starts_with("0X") {
            return Err("must be hexadecimal digits without 0x".to_owned());
        }
        match decode(text, limit)? {
            bytes if bytes.is_empty() => Err("must not be empty".to_owned()),
            bytes => Ok(bytes.into()),
        }
    }
}

/// Reads a decimal number that a JavaScript number can hold exactly.
pub(crate) fn decimal(text: &str) -> Result<u64, String> {
    const MAX: u64 = (1 << 53) - 1;
    let digits = !text.is_empty() && text.len() <= 16 && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u64>() {
        Ok(number) if digits && number <= MAX => Ok(number),
        _ => Err(format!("must be a string of decimal digits, at most {MAX}")),
    }
}

/// Reads the id of one of these chains: SDKs write it in hexadecimal with `0x` for inputs and in decimal for decryptions.
pub(crate) fn chain_id(served: &[u64]) -> impl Fn(&str) -> Result<u64, String> {
    move |text| {
        let number = match text.strip_prefix("0x") {
            Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                u64::from_str_radix(digits, 16).ok()
            }
            Some(_) => None,
            None => decimal(text).ok(),
        };
        match number {
            Some(id) if served.contains(&id) => Ok(id),
            Some(id) => {
                let served: Vec<String> = served.iter().map(ToString::to_string).collect();
                Err(format!("names chain {id}; this gateway serves chain {}", served.join(", ")))
            }
            None => Err("must be a chain id: hexadecimal with 0x or decimal".to_owned()),
        }
    }
}

fn prefixed(text: &str) -> Result<&str, String> {
    text.strip_prefix("0x")
        .ok_or_else(|| "must be hexadecimal digits after 0x".to_owned())
}

fn decode(digits: &str, limit: usize) -> Result<Vec<u8>, String> {
    if digits.len() / 2 > limit {
        return Err(format!("has {} bytes; at most {limit} are allowed", digits.len() / 2));
    }
    // `hex::decode` would skip a 0x; whether there is one was decided by the caller.
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("must be an even number of hexadecimal digits".to_owned());
    }
    hex::decode(digits).map_err(|error| format!("is not hexadecimal: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_demanded_and_refused_as_the_protocol_says() {
        assert_eq!(prefixed_bytes(4)("0x00ff").unwrap().as_ref(), &[0, 255]);
        assert_eq!(prefixed_bytes(4)("0x").unwrap().len(), 0);
        assert!(prefixed_bytes(4)("00ff").is_err());
        assert!(prefixed_bytes(4)("0x0x00").is_err());
        assert_eq!(bare_bytes(4)("00FF").unwrap().as_ref(), &[0, 255]);
        for bad in ["", "0x00", "0", "0g", "0102030405", "é"] {
            assert!(bare_bytes(4)(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_and_handles_have_fixed_lengths() {
        assert_eq!(address(&format!("0x{}", "aB".repeat(20))).unwrap(), Address::repeat_byte(0xab));
        for bad in [
            "",
            "0x",
            &"ab".repeat(20),
            &format!("0x{}", "ab".repeat(19)),
            &format!("0x{}", "ab".repeat(21)),
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
        let good = format!("0x{}0500", "22".repeat(30));
        assert_eq!(handle(&good).unwrap().to_string(), good);
        assert!(handle(&good[2..]).is_err());
        assert!(handle(&good.replace("0500", "0501")).unwrap_err().contains("version 1"));
    }

    #[test]
    fn numbers_are_plain_digits_within_53_bits() {
        assert_eq!(decimal("9007199254740991"), Ok(9_007_199_254_740_991));
        for bad in [
            "",
            "+1",
            "-1",
            "1.0",
            "1e3",
            "0x1",
            "9007199254740992",
            "99999999999999999999",
            " 1",
        ] {
            assert!(decimal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn other_chains_are_refused_by_name() {
        assert_eq!(chain_id(&[5, 31337])("0x7a69"), Ok(31337));
        assert_eq!(chain_id(&[31337])("31337"), Ok(31337));
        assert_eq!(
            chain_id(&[31337])("0x1").unwrap_err(),
            "names chain 1; this gateway serves chain 31337"
        );
        for bad in ["", "0x", "7a69", "0x+1", "0xffffffffffffffffff"] {
            assert!(chain_id(&[31337])(bad).unwrap_err().starts_with("must be"), "{bad}");
        }
    }
}

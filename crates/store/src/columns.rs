//! Conversions between database columns and types.

use cipherloom_primitives::{Address, B256, FheType, Handle};

use crate::{JobId, StoreError, TenantLimits};

/// Converts a number to a database integer.
pub(crate) fn integer(what: &'static str, value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::OutOfRange { what, value })
}

/// Reads a number that was written by [`integer`].
pub(crate) fn number(what: &'static str, value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| StoreError::corrupt(what, "negative"))
}

/// Converts a number that may be absent to a database integer.
pub(crate) fn optional_integer(what: &'static str, value: Option<u64>) -> Result<Option<i64>, StoreError> {
    value.map(|value| integer(what, value)).transpose()
}

/// Reads a number that was written by [`optional_integer`].
pub(crate) fn optional_number(what: &'static str, value: Option<i64>) -> Result<Option<u64>, StoreError> {
    value.map(|value| number(what, value)).transpose()
}

/// Reads when a block was recorded.
pub(crate) fn recorded_at(value: Option<i64>) -> Result<Option<u64>, StoreError> {
    value.map(|value| number("time of recording", value)).transpose()
}

/// Reads a hash.
pub(crate) fn hash(what: &'static str, bytes: &[u8]) -> Result<B256, StoreError> {
    B256::try_from(bytes).map_err(|error| StoreError::corrupt(what, error))
}

/// Reads the number of a gateway's job.
pub(crate) fn job_id(bytes: &[u8]) -> Result<JobId, StoreError> {
    bytes
        .try_into()
        .map(JobId)
        .map_err(|error| StoreError::corrupt("id of a job", error))
}

/// Reads an address.
pub(crate) fn address(what: &'static str, bytes: &[u8]) -> Result<Address, StoreError> {
    Address::try_from(bytes).map_err(|error| StoreError::corrupt(what, error))
}

/// Reads a handle.
pub(crate) fn handle(bytes: &[u8]) -> Result<Handle, StoreError> {
    Handle::try_from(hash("handle", bytes)?).map_err(|error| StoreError::corrupt("handle", error))
}

/// Reads a list of types, one byte each.
pub(crate) fn types(bytes: &[u8]) -> Result<Vec<FheType>, StoreError> {
    bytes
        .iter()
        .map(|id| FheType::try_from(*id).map_err(|error| StoreError::corrupt("input types", error)))
        .collect()
}

/// Writes a list of types, one byte each.
pub(crate) fn type_ids(types: &[FheType]) -> Vec<u8> {
    types.iter().map(|ty| ty.id()).collect()
}

/// Writes a text that comes from outside: PostgreSQL refuses the character zero, and what was computed must not be lost for it.
pub(crate) fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Reads the limits of a tenant.
pub(crate) fn limits(pending: Option<i64>, concurrent: Option<i32>) -> Result<TenantLimits, StoreError> {
    Ok(TenantLimits {
        max_pending_transactions: pending.map(|limit| number("limit of pending transactions", limit)).transpose()?,
        max_concurrent_transactions: concurrent
            .map(u32::try_from)
            .transpose()
            .map_err(|error| StoreError::corrupt("limit of concurrent transactions", error))?,
    })
}

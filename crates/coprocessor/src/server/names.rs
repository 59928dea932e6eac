//! Handles on the wire: 1 to 256 bytes that a node chooses.
//!
//! Bytes that are a [`Handle`] of the tenant's chain are that handle. All others are a name for one, and the store knows for which, because the
//! type of the value is not in the name.

use bytes::Bytes;
use cipherloom_primitives::{B256, FheType, Handle, U256};
use cipherloom_store::{MAX_HANDLE_NAME_BYTES, Store, StoreError};

use super::error::{MissingType, RequestError};

/// Refuses bytes that cannot be a handle.
pub(super) fn check(name: &Bytes) -> Result<(), RequestError> {
    match name.len() {
        0 => Err(RequestError::EmptyHandle),
        1..=MAX_HANDLE_NAME_BYTES => Ok(()),
        _ => Err(RequestError::LongHandle(name.clone())),
    }
}

/// Returns the handle that these bytes are, if they are one of this chain.
pub(super) fn own_handle(name: &[u8], chain_id: u64) -> Option<Handle> {
    Handle::try_from(name).ok().filter(|handle| handle.chain_id() == chain_id)
}

/// Finds the handles that names stand for.
pub(super) async fn resolve(store: &dyn Store, chain_id: u64, names: &[Bytes]) -> Result<Vec<Option<Handle>>, StoreError> {
    let mut handles: Vec<Option<Handle>> = names.iter().map(|name| own_handle(name, chain_id)).collect();
    let unresolved = names.iter().zip(&handles).filter(|(_, handle)| handle.is_none());
    let asked: Vec<Vec<u8>> = unresolved.map(|(name, _)| name.to_vec()).collect();
    if !asked.is_empty() {
        let mut found = store.handles_of_names(&asked).await?.into_iter();
        for handle in handles.iter_mut().filter(|handle| handle.is_none()) {
            *handle = found.next().flatten();
        }
    }
    Ok(handles)
}

/// Reads the number of a type.
pub(super) fn fhe_type(number: i32) -> Result<FheType, RequestError> {
    let id = u8::try_from(number).ok();
    let ty = id.and_then(|id| FheType::try_from(id).ok());
    ty.ok_or(RequestError::Type(MissingType(number.into())))
}

/// Returns the number that stands for a name in a signature: the name as a big-endian number. One of more than 32 bytes has none.
pub(super) fn signed_number(name: &[u8]) -> Option<U256> {
    (name.len() <= B256::len_bytes()).then(|| U256::from_be_slice(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_another_chain_or_form_are_names() {
        let handle = Handle::computed(B256::repeat_byte(1), 5, FheType::Uint8);
        assert_eq!(own_handle(handle.as_slice(), 5), Some(handle));
        assert_eq!(own_handle(handle.as_slice(), 6), None);
        assert_eq!(own_handle(&handle.as_slice()[1..], 5), None);
        assert_eq!(own_handle(&[0xff; 32], 5), None);
    }

    #[test]
    fn short_names_are_signed_as_numbers_and_long_ones_are_not() {
        assert_eq!(signed_number(&[1, 2]), Some(U256::from(0x102)));
        assert_eq!(signed_number(&[0xff; 32]), Some(U256::MAX));
        assert_eq!(signed_number(&[0; 33]), None);
    }

    #[test]
    fn names_have_one_to_256_bytes() {
        assert!(check(&Bytes::from_static(&[0; 256])).is_ok());
        assert!(matches!(check(&Bytes::from_static(&[0; 257])), Err(RequestError::LongHandle(_))));
        assert!(matches!(check(&Bytes::new()), Err(RequestError::EmptyHandle)));
    }
}

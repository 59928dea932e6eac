//! Handles of encrypted inputs in native mode of the 0.6 generation, where the node itself computes through an executor.
//!
//! Such a handle is `keccak256(keccak256(list) ‖ index)` with its last three bytes replaced by index, type and version. It names neither
//! contract nor chain: those are bound by the signatures the chain checks.

use alloy_primitives::{B256, Keccak256, keccak256};

use crate::{
    fhe_type::FheType,
    handle::{HANDLE_VERSION, Handle},
};

/// Derives the handles of all values of an input list.
///
/// Returns `None` if there are more than 256 values.
#[must_use]
pub fn native_input_handles(list: &[u8], types: &[FheType]) -> Option<Vec<Handle>> {
    let digest = keccak256(list);
    let handle = |(index, ty): (usize, &FheType)| native_input_handle(digest, u8::try_from(index).ok()?, *ty);
    types.iter().enumerate().map(handle).collect()
}

fn native_input_handle(list_digest: B256, index: u8, ty: FheType) -> Option<Handle> {
    let mut hasher = Keccak256::new();
    hasher.update(list_digest);
    hasher.update([index]);
    let mut bytes = hasher.finalize();
    bytes.0[29] = index;
    bytes.0[30] = ty.id();
    bytes.0[31] = HANDLE_VERSION;
    Handle::try_from(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_three_bytes_are_index_type_and_version() {
        let handles = native_input_handles(b"list", &[FheType::Bool, FheType::Uint64]).unwrap();
        let expected = keccak256([keccak256(b"list").as_slice(), &[1]].concat());
        assert_eq!(handles[1].as_slice()[..29], expected[..29]);
        assert_eq!(handles[1].as_slice()[29..], [1, FheType::Uint64.id(), 0]);
        assert_eq!(handles[1].fhe_type(), FheType::Uint64);
        assert_ne!(handles[0].as_slice()[..29], handles[1].as_slice()[..29]);
    }

    #[test]
    fn the_index_has_one_byte() {
        assert!(native_input_handles(b"list", &[FheType::Bool; 256]).is_some());
        assert!(native_input_handles(b"list", &[FheType::Bool; 257]).is_none());
    }
}

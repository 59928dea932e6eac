//! Encrypted inputs of native chains, whose validators check and compute themselves: handles and proofs.
//!
//! Nobody signs inputs there. A contract call carries the encrypted list itself, and every validator checks its proof of knowledge. The
//! `inputProof` argument is: number of handles (1 byte), zero (1 byte: no signatures), handles (32 bytes each), the list with its proof (the
//! rest). A native chain accepts handles of two forms, and derives both from the list, type included:
//!
//! * that of the current protocol, [`crate::input::input_handles`], which names chain and ACL. Clients use it, since a handle that does not name
//!   its chain cannot be decrypted later;
//! * that of the 0.6 generation's native mode, [`native_input_handles`]: `keccak256(keccak256(list) ‖ index)` with its last three bytes
//!   replaced by index, type and version.

use alloy_primitives::{Address, B256, Keccak256, keccak256};

use crate::{
    fhe_type::FheType,
    handle::{HANDLE_VERSION, Handle, HandleError},
    input::{MAX_INPUT_LIST_BYTES, MAX_INPUT_VALUES, input_handles},
};

/// Number of handles, and zero.
const HEADER_BYTES: usize = 2;

const HANDLE_BYTES: usize = 32;

/// The most bytes of a proof that [`NativeInputProof::parse`] reads.
pub const MAX_NATIVE_PROOF_BYTES: usize = HEADER_BYTES + MAX_INPUT_VALUES * HANDLE_BYTES + MAX_INPUT_LIST_BYTES;

/// Derives the handles of all values of an input list in the form of the 0.6 generation.
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

/// The `inputProof` argument of a contract call on a native chain, in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeInputProof<'a> {
    /// The handles it names, in the order of the list's values. Whether they are the list's is another question:
    /// [`Self::check_handles`].
    pub handles: Vec<Handle>,
    /// The list with its proof of knowledge.
    pub list: &'a [u8],
}

/// Why bytes are not the proof of an input on a native chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NativeProofError {
    /// There is more than any proof has.
    #[error("a proof has {MAX_NATIVE_PROOF_BYTES} bytes at most, not {0}")]
    TooLong(usize),
    /// It ends before the list begins.
    #[error("the proof ends before its list begins")]
    Truncated,
    /// It names no handle.
    #[error("the proof names no handle")]
    NoHandles,
    /// It says that there are signatures.
    #[error("the proof has {0} signatures; on native chains nobody signs inputs")]
    Signed(u8),
    /// There are more bytes of the list than any list has.
    #[error("an input list has {MAX_INPUT_LIST_BYTES} bytes at most, not {0}")]
    ListTooLong(usize),
    /// It names something that is no handle.
    #[error(transparent)]
    Handle(#[from] HandleError),
    /// It names another number of handles than the list has values.
    #[error("the proof names {handles} handles and the list has {values} values")]
    WrongNumberOfHandles {
        /// How many it names.
        handles: usize,
        /// How many values there are.
        values: usize,
    },
    /// It names a handle that the list's value does not have.
    #[error("{0} is not the handle of the list's value at this index, or names another type")]
    WrongHandle(Handle),
}

impl<'a> NativeInputProof<'a> {
    /// Takes a proof apart, without a copy of the list.
    ///
    /// # Errors
    /// [`NativeProofError`], all but the last two.
    pub fn parse(proof: &'a [u8]) -> Result<Self, NativeProofError> {
        if proof.len() > MAX_NATIVE_PROOF_BYTES {
            return Err(NativeProofError::TooLong(proof.len()));
        }
        let ([count, signatures], rest) = proof.split_first_chunk().ok_or(NativeProofError::Truncated)?;
        if *signatures != 0 {
            return Err(NativeProofError::Signed(*signatures));
        }
        if *count == 0 {
            return Err(NativeProofError::NoHandles);
        }
        let (words, list) = rest
            .split_at_checked(HANDLE_BYTES * usize::from(*count))
            .filter(|(_, list)| !list.is_empty())
            .ok_or(NativeProofError::Truncated)?;
        if list.len() > MAX_INPUT_LIST_BYTES {
            return Err(NativeProofError::ListTooLong(list.len()));
        }
        let handles = words.chunks_exact(HANDLE_BYTES).map(Handle::try_from).collect::<Result<_, _>>()?;
        Ok(Self { handles, list })
    }

    /// Writes the proof as contracts take it.
    ///
    /// # Errors
    /// [`NativeProofError::NoHandles`], [`NativeProofError::WrongNumberOfHandles`] if there are more than a list has values at most,
    /// [`NativeProofError::Truncated`] without a list and [`NativeProofError::ListTooLong`].
    pub fn encode(&self) -> Result<Vec<u8>, NativeProofError> {
        let handles = self.handles.len();
        let values = MAX_INPUT_VALUES;
        let too_many = NativeProofError::WrongNumberOfHandles { handles, values };
        let count = u8::try_from(handles).map_err(|_| too_many)?;
        match (count, self.list.len()) {
            (0, _) => return Err(NativeProofError::NoHandles),
            (_, 0) => return Err(NativeProofError::Truncated),
            (_, length) if length > MAX_INPUT_LIST_BYTES => return Err(NativeProofError::ListTooLong(length)),
            _ => {}
        }
        let mut proof = Vec::with_capacity(HEADER_BYTES + HANDLE_BYTES * handles + self.list.len());
        proof.extend_from_slice(&[count, 0]);
        self.handles.iter().for_each(|handle| proof.extend_from_slice(handle.as_slice()));
        proof.extend_from_slice(self.list);
        Ok(proof)
    }

    /// Checks that the handles are those of the list's values, each in one of the two forms, as the chain's contract does.
    ///
    /// # Errors
    /// [`NativeProofError::WrongNumberOfHandles`] and [`NativeProofError::WrongHandle`].
    pub fn check_handles(&self, types: &[FheType], acl: Address, chain_id: u64) -> Result<(), NativeProofError> {
        let (handles, values) = (self.handles.len(), types.len());
        let wrong_number = NativeProofError::WrongNumberOfHandles { handles, values };
        let both = input_handles(self.list, types, acl, chain_id).zip(native_input_handles(self.list, types));
        let (current, native) = both.filter(|_| handles == values).ok_or(wrong_number)?;
        let expected = current.iter().zip(&native);
        let wrong = self
            .handles
            .iter()
            .zip(expected)
            .find(|(handle, (a, b))| handle != a && handle != b);
        wrong.map_or(Ok(()), |(handle, _)| Err(NativeProofError::WrongHandle(*handle)))
    }
}

/// Writes the proof that clients send: the list with its handles in the form of the current protocol, which name ACL and chain.
///
/// # Errors
/// As [`NativeInputProof::encode`].
pub fn native_input_proof(list: &[u8], types: &[FheType], acl: Address, chain_id: u64) -> Result<(Vec<Handle>, Vec<u8>), NativeProofError> {
    let too_many = NativeProofError::WrongNumberOfHandles {
        handles: types.len(),
        values: MAX_INPUT_VALUES,
    };
    let handles = input_handles(list, types, acl, chain_id).ok_or(too_many)?;
    let proof = NativeInputProof { handles, list };
    let bytes = proof.encode()?;
    Ok((proof.handles, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACL: Address = Address::repeat_byte(9);
    const TYPES: [FheType; 2] = [FheType::Bool, FheType::Uint64];

    #[test]
    fn the_last_three_bytes_are_index_type_and_version() {
        let handles = native_input_handles(b"list", &TYPES).unwrap();
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

    #[test]
    fn a_proof_is_read_as_it_is_written() {
        let (handles, bytes) = native_input_proof(b"list", &TYPES, ACL, 31338).unwrap();
        assert_eq!(bytes[..2], [2, 0]);
        assert_eq!(bytes[66..], *b"list");
        let proof = NativeInputProof::parse(&bytes).unwrap();
        assert_eq!((&proof.handles, proof.list), (&handles, b"list".as_slice()));
        assert_eq!(proof.encode().unwrap(), bytes);
        assert_eq!(handles[0].chain_id(), 31338);
        proof.check_handles(&TYPES, ACL, 31338).unwrap();
        let full = native_input_proof(b"list", &[FheType::Bool; MAX_INPUT_VALUES], ACL, 1).unwrap().1;
        assert_eq!(NativeInputProof::parse(&full).unwrap().handles.len(), MAX_INPUT_VALUES);
    }

    #[test]
    fn every_prefix_without_a_list_and_every_damaged_part_is_an_error() {
        let (_, bytes) = native_input_proof(b"list", &TYPES, ACL, 31338).unwrap();
        for length in 0..=66 {
            assert_eq!(
                NativeInputProof::parse(&bytes[..length]),
                Err(NativeProofError::Truncated),
                "{length}"
            );
        }
        let changed = |place: usize, value: u8| {
            let mut bytes = bytes.clone();
            bytes[place] = value;
            NativeInputProof::parse(&bytes).map(|proof| proof.list.len())
        };
        assert_eq!(changed(0, 0), Err(NativeProofError::NoHandles));
        assert_eq!(changed(0, 255), Err(NativeProofError::Truncated));
        assert_eq!(changed(1, 1), Err(NativeProofError::Signed(1)));
        assert!(matches!(
            changed(32, 200),
            Err(NativeProofError::Handle(HandleError::UnknownType { .. }))
        ));
        assert!(matches!(
            changed(33, 1),
            Err(NativeProofError::Handle(HandleError::UnsupportedVersion { version: 1, .. }))
        ));
    }

    #[test]
    fn sizes_have_limits_in_both_directions() {
        let long = vec![1; MAX_INPUT_LIST_BYTES + 1];
        let proof = NativeInputProof {
            handles: native_input_handles(b"list", &TYPES).unwrap(),
            list: &long,
        };
        assert_eq!(proof.encode(), Err(NativeProofError::ListTooLong(long.len())));
        let mut bytes = vec![1, 0];
        bytes.extend_from_slice(proof.handles[0].as_slice());
        bytes.extend_from_slice(&long);
        assert_eq!(NativeInputProof::parse(&bytes), Err(NativeProofError::ListTooLong(long.len())));
        let too_long = vec![0; MAX_NATIVE_PROOF_BYTES + 1];
        assert_eq!(NativeInputProof::parse(&too_long), Err(NativeProofError::TooLong(too_long.len())));
        assert!(native_input_proof(b"list", &[FheType::Bool; MAX_INPUT_VALUES + 1], ACL, 1).is_err());
        assert_eq!(native_input_proof(b"list", &[], ACL, 1), Err(NativeProofError::NoHandles));
        assert_eq!(native_input_proof(b"", &TYPES, ACL, 1), Err(NativeProofError::Truncated));
    }

    #[test]
    fn handles_of_either_form_are_the_lists_and_no_others() {
        let current = input_handles(b"list", &TYPES, ACL, 5).unwrap();
        let native = native_input_handles(b"list", &TYPES).unwrap();
        let check = |handles: Vec<Handle>, types: &[FheType], acl: Address, chain_id: u64| {
            NativeInputProof { handles, list: b"list" }.check_handles(types, acl, chain_id)
        };
        check(current.clone(), &TYPES, ACL, 5).unwrap();
        check(native.clone(), &TYPES, ACL, 5).unwrap();
        check(vec![current[0], native[1]], &TYPES, ACL, 5).unwrap();
        let wrong = |handle| Err(NativeProofError::WrongHandle(handle));
        assert_eq!(check(current.clone(), &TYPES, ACL, 6), wrong(current[0]));
        assert_eq!(check(current.clone(), &TYPES, Address::ZERO, 5), wrong(current[0]));
        assert_eq!(check(vec![native[1], native[0]], &TYPES, ACL, 5), wrong(native[1]));
        let of_another_type = [FheType::Bool, FheType::Uint32];
        assert_eq!(
            check(native.clone(), &of_another_type, ACL, 5),
            wrong(native[1]),
            "the type is bound"
        );
        assert_eq!(
            check(current.clone(), &of_another_type, ACL, 5),
            wrong(current[1]),
            "the type is bound"
        );
        assert_eq!(
            check(native, &TYPES[..1], ACL, 5),
            Err(NativeProofError::WrongNumberOfHandles { handles: 2, values: 1 })
        );
    }
}

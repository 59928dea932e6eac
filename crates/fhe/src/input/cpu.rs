//! Input lists of the CPU backend: compact public-key encryption with a zero-knowledge proof.

use cipherloom_primitives::{
    FheType, U256,
    input::{InputMetadata, MAX_INPUT_LIST_BYTES},
};
use tfhe::{
    CompactPublicKey, ProvenCompactCiphertextList, Tag,
    integer::{
        self,
        ciphertext::{DataKind, IntegerProvenCompactCiphertextListConformanceParams},
    },
    prelude::ParameterSetConformant,
    safe_serialization::{safe_deserialize, safe_deserialize_conformant, safe_serialize},
    zk::{CompactPkeCrs, ZkComputeLoad, ZkPkeV2SupportedHashConfig},
};

use super::{check_list_size, check_types, check_values, malformed};
use crate::{
    backend::{EncryptInputs, VerifiedInput},
    error::FheError,
    parameters::{CpuParameters, ParameterSet},
    stored::block_count,
};

/// The most bytes accepted as a public key: twice the largest of any parameter set.
pub(super) const MAX_PUBLIC_KEY_BYTES: u64 = 1 << 16;

/// Where, from the end of a serialized public key, the version number of its last versioned field is.
const EXPANSION_KIND_VERSION_FROM_END: usize = 28;

/// What input lists are made and checked with: public key and common reference string.
pub(crate) struct InputKeys {
    public_key: CompactPublicKey,
    integer_public_key: integer::CompactPublicKey,
    crs: CompactPkeCrs,
}

impl InputKeys {
    /// Reads material of unknown origin: besides everything [`Self::read_authentic`] checks, that all points of the reference
    /// string are on the curve and in the right subgroup, without which proofs made with it could give the plaintext away. Takes
    /// seconds of CPU.
    pub(crate) fn read_foreign(public_key: &[u8], crs: &[u8]) -> Result<Self, FheError> {
        let keys = Self::read_authentic(public_key, crs)?;
        let (_, parameters) = known_parameters(&keys.public_key)?;
        if !keys.crs.is_conformant(&parameters.crs_conformance()?) {
            return Err(FheError::key(
                "CRS",
                "does not match the public key's parameters, or has invalid points",
            ));
        }
        Ok(keys)
    }

    /// Reads material that is known to be what the key set's owner generated, and checks that it belongs to one known parameter
    /// set.
    pub(crate) fn read_authentic(public_key: &[u8], crs: &[u8]) -> Result<Self, FheError> {
        let public_key = read_public_key(public_key)?;
        let (_, parameters) = known_parameters(&public_key)?;
        if !public_key.is_conformant(&parameters.public_key) {
            return Err(FheError::key("public key", "does not match its parameters"));
        }
        let limit = parameters.max_crs_bytes();
        let mut reader = limited("CRS", crs, limit)?;
        let crs: CompactPkeCrs = safe_deserialize(&mut reader, limit).map_err(|reason| FheError::key("CRS", reason))?;
        ended("CRS", reader)?;
        if crs.lwe_dimension() != parameters.public_key.encryption_lwe_dimension || crs.max_num_messages() != parameters.crs_messages() {
            return Err(FheError::key("CRS", "is of another parameter set than the public key"));
        }
        let (integer_public_key, _) = public_key.clone().into_raw_parts();
        Ok(Self {
            public_key,
            integer_public_key,
            crs,
        })
    }

    fn conformance(&self) -> IntegerProvenCompactCiphertextListConformanceParams {
        // Packed lists only (the default); of the proof's hash layouts those that released clients use: V0_7_0 (tfhe 1.3 and
        // 1.4) and V0_8_0, but not V0_4_0 (public protocol, section 5.1).
        IntegerProvenCompactCiphertextListConformanceParams::from_crs_and_parameters(self.public_key.parameters(), &self.crs)
            .forbid_hash_config(ZkPkeV2SupportedHashConfig::V0_4_0)
    }

    /// Reads a list with all checks short of the proof.
    pub(crate) fn read_list(&self, list: &[u8]) -> Result<(integer::ProvenCompactCiphertextList, Vec<FheType>), FheError> {
        check_list_size(list)?;
        let mut reader = list;
        let parsed: ProvenCompactCiphertextList =
            safe_deserialize_conformant(&mut reader, MAX_INPUT_LIST_BYTES as u64, &self.conformance()).map_err(malformed)?;
        if !reader.is_empty() {
            return Err(malformed(format!("{} bytes follow the list", reader.len())));
        }
        let list = into_integer_list(&parsed)?;
        let types = (0..list.len())
            .map(|index| type_of(list.get_kind_of(index)))
            .collect::<Result<Vec<_>, _>>()?;
        check_types(&types)?;
        Ok((list, types))
    }
}

/// Checks a list and its proof.
pub(crate) fn cpu_verify(input: &InputKeys, list: &[u8], metadata: &InputMetadata) -> Result<VerifiedInput, FheError> {
    let (parsed, types) = input.read_list(list)?;
    if parsed
        .verify(&input.crs, &input.integer_public_key, &metadata.to_bytes())
        .is_invalid()
    {
        return Err(FheError::InvalidProof);
    }
    Ok(VerifiedInput {
        types,
        list: list.to_vec(),
    })
}

/// Encrypts inputs with a proof.
pub(super) struct CpuEncryptor {
    keys: InputKeys,
}

impl CpuEncryptor {
    pub(super) const fn new(keys: InputKeys) -> Self {
        Self { keys }
    }
}

impl EncryptInputs for CpuEncryptor {
    fn encrypt(&self, values: &[(FheType, U256)], metadata: &InputMetadata) -> Result<Vec<u8>, FheError> {
        // More work for the prover makes verification six times cheaper, and a coprocessor verifies for everybody.
        cpu_encrypt(&self.keys, ZkComputeLoad::Proof, values, metadata)
    }

    fn check(&self, list: &[u8], metadata: &InputMetadata) -> Result<Vec<FheType>, FheError> {
        cpu_verify(&self.keys, list, metadata).map(|verified| verified.types)
    }
}

/// Encrypts values with a proof, of which the load says whether the prover or the verifier has more work.
pub(crate) fn cpu_encrypt(
    keys: &InputKeys,
    load: ZkComputeLoad,
    values: &[(FheType, U256)],
    metadata: &InputMetadata,
) -> Result<Vec<u8>, FheError> {
    check_values(values)?;
    let mut builder = ProvenCompactCiphertextList::builder(&keys.public_key);
    for (ty, value) in values {
        match ty {
            FheType::Bool => builder.push(!value.is_zero()),
            _ => builder
                .push_with_num_bits(integer::U256::from(*value.as_limbs()), ty.bits() as usize)
                .map_err(malformed)?,
        };
    }
    let list = builder
        .build_with_proof_packed(&keys.crs, &metadata.to_bytes(), load)
        .map_err(|e| FheError::key("proof", e))?;
    let mut bytes = Vec::new();
    safe_serialize(&list, &mut bytes, MAX_INPUT_LIST_BYTES as u64).map_err(malformed)?;
    Ok(bytes)
}

/// Says which type a value of a list has.
fn type_of(kind: Option<DataKind>) -> Result<FheType, FheError> {
    match kind {
        Some(DataKind::Boolean) => Ok(FheType::Bool),
        Some(DataKind::Unsigned(blocks)) => FheType::ALL
            .into_iter()
            .find(|ty| *ty != FheType::Bool && block_count(*ty) == blocks.get())
            .ok_or_else(|| malformed(format!("an unsigned integer of {blocks} blocks is not a supported type"))),
        other => Err(malformed(format!("{other:?} is not a supported type"))),
    }
}

/// Takes the integer-level list out of the high-level one, which keeps it private. Serialized without version tags, the
/// high-level list is the pair of the integer list and a tag.
fn into_integer_list(list: &ProvenCompactCiphertextList) -> Result<integer::ProvenCompactCiphertextList, FheError> {
    let bytes = bincode::serialize(list).map_err(malformed)?;
    let (list, _): (integer::ProvenCompactCiphertextList, Tag) = bincode::deserialize(&bytes).map_err(malformed)?;
    Ok(list)
}

/// Says which parameter set a public key is of.
pub(super) fn parameters_of(public_key: &[u8]) -> Result<ParameterSet, FheError> {
    known_parameters(&read_public_key(public_key)?).map(|(set, _)| set)
}

fn known_parameters(public_key: &CompactPublicKey) -> Result<(ParameterSet, CpuParameters), FheError> {
    ParameterSet::for_public_key(public_key.parameters())
        .ok_or_else(|| FheError::key("public key", "is of a parameter set this build does not know"))
}

/// Reads a public key written by any tfhe since 1.3.
fn read_public_key(bytes: &[u8]) -> Result<CompactPublicKey, FheError> {
    let mut reader = limited("public key", bytes, MAX_PUBLIC_KEY_BYTES)?;
    let key = safe_deserialize(&mut reader, MAX_PUBLIC_KEY_BYTES).map_err(|reason| FheError::key("public key", reason))?;
    ended("public key", reader)?;
    Ok(key)
}

/// Writes a public key so that clients of every generation can read it.
///
/// tfhe 1.6 gave the last versioned field, how lists are expanded, version 1; its predecessors refuse that number, although
/// the field's bytes are the same. Version 0 is read by all (public protocol, section 5.1).
pub(crate) fn write_public_key(key: &CompactPublicKey) -> Result<Vec<u8>, FheError> {
    let fail = |reason: &str| FheError::key("public key", reason);
    let mut bytes = Vec::new();
    safe_serialize(key, &mut bytes, MAX_PUBLIC_KEY_BYTES).map_err(|e| FheError::key("public key", e))?;
    let at = bytes
        .len()
        .checked_sub(EXPANSION_KIND_VERSION_FROM_END)
        .ok_or_else(|| fail("is too short"))?;
    let version = bytes.get_mut(at..at + 4).ok_or_else(|| fail("is too short"))?;
    if version != 1u32.to_le_bytes() {
        return Err(fail("is not laid out as tfhe 1.6 to 1.8 do"));
    }
    version.copy_from_slice(&0u32.to_le_bytes());
    if read_public_key(&bytes)?.parameters() != key.parameters() {
        return Err(fail("did not survive being written for older clients"));
    }
    Ok(bytes)
}

fn limited<'a>(what: &str, bytes: &'a [u8], limit: u64) -> Result<&'a [u8], FheError> {
    if bytes.len() as u64 > limit {
        return Err(FheError::key(what, format!("{} bytes; at most {limit} are accepted", bytes.len())));
    }
    Ok(bytes)
}

fn ended(what: &str, rest: &[u8]) -> Result<(), FheError> {
    if rest.is_empty() {
        Ok(())
    } else {
        Err(FheError::key(what, format!("{} bytes follow it", rest.len())))
    }
}

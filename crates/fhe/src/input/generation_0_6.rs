//! Public keys and reference strings as clients of the 0.6 generation read them.
//!
//! Those clients are built on tfhe 0.9.1, which reads nothing that tfhe 1.8 writes: the public key has two version numbers it does not know and a
//! field it does not have, the reference string another name and another layout. What is *in* them is the same, so both are written here in the
//! older form, which tfhe 1.8 reads back: every key set of these parameters is made of the older bytes, and there is no second copy.
//!
//! | object | tfhe 1.8 | tfhe 0.9 and 0.10 |
//! |---|---|---|
//! | public key | parameters version 1, expansion version 1, then the proof scheme (8 bytes) | version 0 of both, no proof scheme |
//! | reference string | `zk::CompactPkeCrs`, version 1, scheme 1, parameters version 1; a session number, 7 separators of 8 bytes | `zk::CompactPkePublicParams`, parameters version 0; 6 separators of 256 bytes |
//!
//! The separators say which hash of a proof is which. They are not derived from anything, so the older ones are drawn anew; tfhe 1.8 derives the
//! seventh from them.
//!
//! Sources: the upgrade chains in tfhe 1.8.2 and tfhe-zk-pok 0.9.0, and what tfhe 0.9.1 and tfhe-zk-pok 0.3.1 declare.

use tfhe::{
    CompactPublicKey,
    named::Named,
    safe_serialization::{safe_deserialize, safe_serialize},
    zk::CompactPkeCrs,
};

use super::cpu::MAX_PUBLIC_KEY_BYTES;
use crate::{error::FheError, keys::random_bytes, parameters::MAX_CRS_BYTES_0_6};

/// From the end of a public key: tag (12), proof scheme (8), expansion (8), moduli of ciphertexts, carries and messages (28, 12, 12), noise (16),
/// dimension (12); the number of the parameters' version is before that.
const PARAMETERS_VERSION_FROM_END: usize = 112;
const EXPANSION_VERSION_FROM_END: usize = 28;
const SCHEME_FROM_END: usize = 20;
/// The version of the field, and scheme 1.
const SCHEME: [u8; 8] = [0, 0, 0, 0, 1, 0, 0, 0];

/// The name under which older clients know a reference string.
const CRS_NAME: &str = "zk::CompactPkePublicParams";
/// After the name: version 1 of the reference string, scheme 1, version 1 of its parameters.
const CRS_VERSIONS: [u8; 12] = [1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
/// At the end: nine numbers, a session number, the version of the separators, and seven separators of 8 bytes with their lengths.
const NUMBERS_BYTES: usize = 9 * 8;
const SESSION_BYTES: usize = 17;
const SEPARATORS_BYTES: usize = 4 + 7 * 16;
/// The separators of older reference strings.
const OLD_SEPARATORS: usize = 6;
const OLD_SEPARATOR_BYTES: usize = 256;

/// Writes a public key for clients of the 0.6 generation.
pub(crate) fn write_public_key_0_6(key: &CompactPublicKey) -> Result<Vec<u8>, FheError> {
    let fail = |reason: &str| FheError::key("public key", reason);
    let mut bytes = Vec::new();
    safe_serialize(key, &mut bytes, MAX_PUBLIC_KEY_BYTES).map_err(|e| FheError::key("public key", e))?;
    for from_end in [PARAMETERS_VERSION_FROM_END, EXPANSION_VERSION_FROM_END] {
        let at = bytes.len().checked_sub(from_end).ok_or_else(|| fail("is too short"))?;
        let version = bytes.get_mut(at..at + 4).ok_or_else(|| fail("is too short"))?;
        if version != 1u32.to_le_bytes() {
            return Err(fail("is not laid out as tfhe 1.8 does"));
        }
        version.copy_from_slice(&0u32.to_le_bytes());
    }
    let scheme = bytes.len().checked_sub(SCHEME_FROM_END).ok_or_else(|| fail("is too short"))?;
    if bytes.get(scheme..scheme + SCHEME.len()) != Some(SCHEME.as_slice()) {
        return Err(fail("is of parameters that older clients cannot prove for"));
    }
    bytes.drain(scheme..scheme + SCHEME.len());

    let read: CompactPublicKey = safe_deserialize(bytes.as_slice(), MAX_PUBLIC_KEY_BYTES).map_err(|e| FheError::key("public key", e))?;
    let again = |key: &CompactPublicKey| bincode::serialize(key).map_err(|e| FheError::key("public key", e));
    if again(&read)? != again(key)? {
        return Err(fail("did not survive being written for older clients"));
    }
    Ok(bytes)
}

/// Writes a reference string for clients of the 0.6 generation. Its separators are drawn, so two calls give two reference strings.
pub(crate) fn write_crs_0_6(crs: &CompactPkeCrs) -> Result<Vec<u8>, FheError> {
    rewrite_crs(crs, &random_bytes::<{ OLD_SEPARATORS * OLD_SEPARATOR_BYTES }>()?)
}

fn rewrite_crs(crs: &CompactPkeCrs, separators: &[u8; OLD_SEPARATORS * OLD_SEPARATOR_BYTES]) -> Result<Vec<u8>, FheError> {
    let fail = |reason: &str| FheError::key("CRS", reason);
    let mut new = Vec::new();
    safe_serialize(crs, &mut new, MAX_CRS_BYTES_0_6).map_err(|e| FheError::key("CRS", e))?;
    let (points, numbers) = points_and_numbers(&new).ok_or_else(|| fail("is not one of proof scheme 1 as tfhe 1.8 writes it"))?;

    let mut old = header(CRS_NAME);
    old.reserve_exact(points.len() + 4 + numbers.len() + OLD_SEPARATORS * (8 + OLD_SEPARATOR_BYTES));
    old.extend_from_slice(&0u32.to_le_bytes());
    old.extend_from_slice(points);
    old.extend_from_slice(numbers);
    let (separators, _) = separators.as_chunks::<OLD_SEPARATOR_BYTES>();
    for separator in separators {
        old.extend_from_slice(&(OLD_SEPARATOR_BYTES as u64).to_le_bytes());
        old.extend_from_slice(separator);
    }

    let read: CompactPkeCrs = safe_deserialize(old.as_slice(), MAX_CRS_BYTES_0_6).map_err(|e| FheError::key("CRS", e))?;
    let again = {
        let mut bytes = Vec::with_capacity(old.len());
        safe_serialize(&read, &mut bytes, MAX_CRS_BYTES_0_6).map_err(|e| FheError::key("CRS", e))?;
        bytes
    };
    let survived = points_in_upgraded(&again).is_some_and(|rest| rest.starts_with(&[points, numbers].concat()));
    if survived {
        Ok(old)
    } else {
        Err(fail("did not survive being written for older clients"))
    }
}

/// Takes out of a reference string what older ones have too.
fn points_and_numbers(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = points_in_upgraded(bytes)?;
    let end = rest.len().checked_sub(NUMBERS_BYTES + SESSION_BYTES + SEPARATORS_BYTES)?;
    let (points, tail) = rest.split_at_checked(end)?;
    let (numbers, tail) = tail.split_at_checked(NUMBERS_BYTES)?;
    let (session, tail) = tail.split_at_checked(SESSION_BYTES)?;
    let (version, separators) = tail.split_first_chunk::<4>()?;
    let (separators, rest) = separators.as_chunks::<16>();
    let lengths_fit = separators
        .iter()
        .all(|separator| separator.first_chunk::<8>() == Some(&8u64.to_le_bytes()));
    let known = session.first() == Some(&1) && u32::from_le_bytes(*version) == 1 && lengths_fit && rest.is_empty();
    known.then_some((points, numbers))
}

/// Skips the header and the versions.
fn points_in_upgraded(bytes: &[u8]) -> Option<&[u8]> {
    bytes
        .strip_prefix(header(CompactPkeCrs::NAME).as_slice())?
        .strip_prefix(&CRS_VERSIONS)
}

/// Writes the header of a serialized object: format, versioning and name.
fn header(name: &str) -> Vec<u8> {
    let mut header = Vec::new();
    let text = |header: &mut Vec<u8>, text: &str| {
        header.extend_from_slice(&(text.len() as u64).to_le_bytes());
        header.extend_from_slice(text.as_bytes());
    };
    text(&mut header, "0.5");
    header.extend_from_slice(&0u32.to_le_bytes());
    text(&mut header, "0.1");
    text(&mut header, name);
    header
}

#[cfg(test)]
mod tests {
    use tfhe::{
        ProvenCompactCiphertextList, Seed, Tag,
        core_crypto::{
            commons::generators::DeterministicSeeder,
            prelude::{CiphertextModulus, DefaultRandomGenerator, DynamicDistribution, LweCiphertextCount, LweDimension},
        },
        integer::{self, ciphertext::IntegerProvenCompactCiphertextListConformanceParams},
        safe_serialization::safe_deserialize_conformant,
        shortint::{
            self, CarryModulus, MessageModulus,
            engine::ShortintEngine,
            parameters::{CompactCiphertextListExpansionKind, CompactPublicKeyEncryptionParameters, SupportedCompactPkeZkScheme},
        },
        zk::ZkVerificationOutcome,
    };

    use super::*;

    /// Small, insecure and quick; the layout is that of production.
    const fn parameters(zk_scheme: SupportedCompactPkeZkScheme) -> CompactPublicKeyEncryptionParameters {
        CompactPublicKeyEncryptionParameters {
            encryption_lwe_dimension: LweDimension(64),
            encryption_noise_distribution: DynamicDistribution::new_t_uniform(3),
            message_modulus: MessageModulus(4),
            carry_modulus: CarryModulus(4),
            ciphertext_modulus: CiphertextModulus::new_native(),
            expansion_kind: CompactCiphertextListExpansionKind::RequiresCasting,
            zk_scheme,
        }
    }

    /// Makes the same key and reference string every time.
    fn material(zk_scheme: SupportedCompactPkeZkScheme) -> (CompactPublicKey, CompactPkeCrs) {
        let make = move || {
            let mut seeder = DeterministicSeeder::<DefaultRandomGenerator>::new(Seed(6));
            let engine = ShortintEngine::new_from_seeder(&mut seeder);
            ShortintEngine::with_thread_local_mut(|thread| *thread = engine);
            let secret = shortint::CompactPrivateKey::new(parameters(zk_scheme));
            let key = integer::CompactPublicKey::from_raw_parts(shortint::CompactPublicKey::new(&secret));
            let crs = CompactPkeCrs::from_shortint_params(parameters(zk_scheme), LweCiphertextCount(32)).unwrap();
            (CompactPublicKey::from_raw_parts(key, Tag::default()), crs)
        };
        std::thread::spawn(make).join().unwrap()
    }

    fn v1() -> (CompactPublicKey, CompactPkeCrs) {
        material(SupportedCompactPkeZkScheme::V1)
    }

    fn separators() -> [u8; OLD_SEPARATORS * OLD_SEPARATOR_BYTES] {
        std::array::from_fn(|index| u8::try_from(index % 251).unwrap())
    }

    #[test]
    fn a_public_key_is_written_without_what_older_clients_do_not_know() {
        let (key, _) = v1();
        let mut new = Vec::new();
        safe_serialize(&key, &mut new, MAX_PUBLIC_KEY_BYTES).unwrap();
        let old = write_public_key_0_6(&key).unwrap();
        assert_eq!(old.len() + SCHEME.len(), new.len());
        let at = new.len() - SCHEME_FROM_END;
        let differences = old[..at].iter().zip(&new).filter(|(old, new)| old != new).count();
        assert_eq!(differences, 2, "the two version numbers");
        assert_eq!(old[at..], new[at + SCHEME.len()..]);
    }

    #[test]
    fn a_reference_string_has_the_name_and_layout_of_older_ones() {
        let (_, crs) = v1();
        let old = rewrite_crs(&crs, &separators()).unwrap();
        assert!(old.starts_with(&header(CRS_NAME)));
        assert!(old.ends_with(&separators()[OLD_SEPARATOR_BYTES * 5..]));
        let read: CompactPkeCrs = safe_deserialize(old.as_slice(), MAX_CRS_BYTES_0_6).unwrap();
        assert_eq!(read.max_num_messages(), crs.max_num_messages());
        assert_eq!(read.exclusive_max_noise(), crs.exclusive_max_noise());
        assert_ne!(write_crs_0_6(&crs).unwrap(), write_crs_0_6(&crs).unwrap(), "separators are drawn");
    }

    #[test]
    fn what_the_second_scheme_is_of_cannot_be_written() {
        let (key, crs) = material(SupportedCompactPkeZkScheme::V2);
        assert!(write_public_key_0_6(&key).is_err());
        assert!(write_crs_0_6(&crs).is_err());
    }

    /// `tests/vectors/tfhe-0.9.1.list` was made by the WebAssembly inside fhevmjs 0.6.2. To make it anew: run this test with
    /// `CIPHERLOOM_WRITE_VECTORS` set to an empty folder, then `node e2e/legacy/vector.cjs FOLDER crates/fhe/tests/vectors/tfhe-0.9.1.list`.
    #[test]
    fn a_list_that_an_older_client_made_is_read_and_its_proof_holds() {
        let (key, crs) = v1();
        let (key_bytes, crs_bytes) = (write_public_key_0_6(&key).unwrap(), rewrite_crs(&crs, &separators()).unwrap());
        if let Some(folder) = std::env::var_os("CIPHERLOOM_WRITE_VECTORS").filter(|folder| std::path::Path::new(folder).is_dir()) {
            let folder = std::path::Path::new(&folder);
            std::fs::write(folder.join("public_key.bin"), &key_bytes).unwrap();
            std::fs::write(folder.join("crs.bin"), &crs_bytes).unwrap();
            return;
        }
        let list = include_bytes!("../../tests/vectors/tfhe-0.9.1.list");
        let crs: CompactPkeCrs = safe_deserialize(crs_bytes.as_slice(), MAX_CRS_BYTES_0_6).unwrap();
        let conformance = IntegerProvenCompactCiphertextListConformanceParams::from_crs_and_parameters(key.parameters(), &crs);
        let list: ProvenCompactCiphertextList = safe_deserialize_conformant(list.as_slice(), 1 << 20, &conformance).unwrap();
        let verify = |metadata: &[u8]| list.verify(&crs, &key, metadata);
        assert!(verify(&[7; 92]) == ZkVerificationOutcome::Valid);
        assert!(verify(&[8; 92]) == ZkVerificationOutcome::Invalid);
        let kinds: Vec<_> = (0..list.len()).map(|index| list.get_kind_of(index)).collect();
        assert_eq!(kinds.len(), 3);
    }
}

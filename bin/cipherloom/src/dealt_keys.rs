//! A key set as a dealer deals it: its secrets of squashed values, digests of what is public, and values under both secrets that shares are tried on.
//!
//! The values to try are encrypted, computed on and squashed with the very keys that coprocessors get, so that a committee that decrypts them knows that its
//! shares and those keys are of one key set.

use std::{fs::File, io::Read as _, path::Path};

use alloy::primitives::B256;
use anyhow::{Context, Result, bail, ensure};
use cipherloom_ceremony::{GeneratedKeys, Material};
use cipherloom_fhe::{KeySet, SquashedValue, SquashingSecrets};
use cipherloom_primitives::{Address, FheType, U256, input::InputMetadata};
use cipherloom_threshold::{KeyKind, SquashedCiphertext, ValueShape, reshare::KnownValue};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::database;

/// How many bytes are hashed at a time.
const CHUNK: usize = 1 << 20;

/// The type of the values that shares are tried on.
const TRIED: FheType = FheType::Uint8;

/// Makes what a dealer deals of a key set with noise squashing and the secrets of it. Takes a minute with production parameters, on a blocking thread.
///
/// # Errors
/// If the keys cannot be read or used, or do not belong together.
pub(crate) fn generated(keys: &KeySet, secrets: &SquashingSecrets) -> Result<GeneratedKeys> {
    Ok(GeneratedKeys {
        key_id: B256::from(*keys.manifest().id.as_bytes()),
        squashed: Zeroizing::new(secrets.squashed().to_vec()),
        compressed: Zeroizing::new(secrets.listed().to_vec()),
        material: material(keys)?,
        known: known(keys, secrets)?,
    })
}

/// Lists what is public, with digests.
fn material(keys: &KeySet) -> Result<Vec<Material>> {
    keys.parts()
        .into_iter()
        .filter(|part| part.is_here && !part.role.contains("secret"))
        .map(|part| {
            let path = keys.directory().join(&part.part.file);
            let digest = digest(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(Material {
                name: part.part.file.clone(),
                digest,
                size_bytes: part.part.size_bytes,
            })
        })
        .collect()
}

fn digest(path: &Path) -> Result<B256> {
    let mut file = File::open(path)?;
    let (mut hasher, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(B256::from_slice(&hasher.finalize())),
            length => hasher.update(chunk.get(..length).unwrap_or_default()),
        }
    }
}

/// Squashes a value twice: as it is, and through a list as coprocessors hand them out.
fn known(keys: &KeySet, secrets: &SquashingSecrets) -> Result<Vec<KnownValue>> {
    let [plain] = database::random::<1>()?;
    let expected = U256::from(plain);
    let metadata = InputMetadata {
        contract: Address::repeat_byte(1),
        user: Address::repeat_byte(2),
        acl: Address::repeat_byte(3),
        chain_id: 1,
    };
    let list = keys.encryptor()?.encrypt(&[(TRIED, expected)], &metadata)?;
    let backend = keys.evaluation()?;
    let expanded = backend.expand_input(&list)?;
    let [value] = expanded.as_slice() else {
        bail!("{} values were expanded of one", expanded.len())
    };
    // What is squashed otherwise was read from a store.
    let value = backend.unpack(TRIED, &backend.pack(value)?)?;
    let squasher = keys.noise_squasher()?;
    let list = squasher.squash_list(&[&value])?;
    ensure!(
        secrets.decrypt_list(keys.parameters(), TRIED, &list)? == expected,
        "what is squashed decrypts to a wrong value: the keys of noise squashing are not of this key set"
    );
    let mut listed = SquashedValue::from_list(keys.parameters(), &[TRIED], &list)?;
    let of = |kind, value: SquashedValue| -> Result<KnownValue> {
        let shape = ValueShape::new(value.bits)?;
        Ok(KnownValue {
            ciphertext: SquashedCiphertext::new(kind, shape, value.dimension, value.words)?,
            little_endian: expected.to_le_bytes(),
        })
    };
    Ok(vec![
        of(KeyKind::Squashed, squasher.squash(&value)?)?,
        of(KeyKind::Compressed, listed.pop().context("the list of one value is empty")?)?,
    ])
}

#[cfg(test)]
mod tests {
    use cipherloom_fhe::insecure_test_keys_with_squashing;

    use super::*;

    #[test]
    fn a_value_under_each_secret_is_dealt_with_the_digests_of_what_is_public() {
        let keys = insecure_test_keys_with_squashing().unwrap();
        let secrets = keys.squashing_secrets().unwrap();
        let generated = generated(&keys, &secrets).unwrap();
        let names: Vec<_> = generated.material.iter().map(|material| material.name.as_str()).collect();
        assert!(
            names.contains(&"public_key.bin") && names.contains(&"squashing_key.bin"),
            "{names:?}"
        );
        assert!(!names.iter().any(|name| name.contains("secret")), "{names:?}");
        let kinds: Vec<_> = generated.known.iter().map(|known| known.ciphertext.kind()).collect();
        assert_eq!(kinds, [KeyKind::Squashed, KeyKind::Compressed]);
    }
}

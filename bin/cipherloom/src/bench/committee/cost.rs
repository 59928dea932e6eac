//! What threshold decryption takes by itself, in one thread and without anything around it; and what one takes who has the whole key.

use anyhow::{Context, Result, ensure};
use cipherloom_fhe::{KeySet, SquashedValue, SquashingSecrets};
use cipherloom_primitives::{FheType, U256};
use cipherloom_threshold::{
    CommitteeSize, Contribution, Expected, KeyKind, KeyShare, PartialDecryption, SquashedCiphertext, ValueShape, reconstruct,
};
use serde_json::{Value, json};

use super::{super::clock, nodes};

const ROUNDS: u32 = 20;

/// CPU time in milliseconds, for one value of 64 bits.
pub(super) struct Alone {
    /// A node's part: reading the list, hashing, decrypting.
    pub(super) partial_ms: f64,
    /// Reading the parts of all nodes and putting the value together.
    pub(super) opening_ms: f64,
    /// The same list, decrypted with the whole key.
    pub(super) holder_ms: f64,
    /// How long a node's part is.
    pub(super) partial_bytes: usize,
}

impl Alone {
    /// Returns what a node of a public decryption computes.
    pub(super) const fn node_ms(&self) -> f64 {
        self.partial_ms + self.opening_ms
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "partial_ms": self.partial_ms,
            "opening_ms": self.opening_ms,
            "holder_ms": self.holder_ms,
            "partial_bytes": self.partial_bytes,
        })
    }
}

/// Measures on a squashed list.
///
/// # Errors
/// If the value does not come out.
pub(super) fn measure(size: CommitteeSize, keys: &KeySet, secrets: &SquashingSecrets, list: &[u8], value: u64) -> Result<Alone> {
    let shares = nodes::deal_to_strangers(size, keys, secrets)?;
    let first = shares.first().context("there is no share")?;
    let decrypt = |share: &KeyShare| -> Result<_> {
        let ciphertext = read(keys, list)?;
        let expected = Expected {
            tag: ciphertext.tag(share.scope()),
            shape: ciphertext.shape(),
        };
        Ok((expected, share.decrypt(&ciphertext)?.to_bytes()))
    };
    let partial_ms = mean(|| decrypt(first).map(drop))?;
    let parts = shares.iter().map(decrypt).collect::<Result<Vec<_>>>()?;
    let expected = parts.first().map(|(expected, _)| *expected).context("there is no part")?;
    let open = || -> Result<()> {
        let contributions = size.ids().zip(&parts).map(|(party, (_, bytes))| {
            let partial = PartialDecryption::from_bytes(size, bytes)?;
            Ok(Contribution::of_partials(party, &[expected], &[partial]))
        });
        let read = reconstruct(size, &[expected.shape], &contributions.collect::<Result<Vec<_>>>()?)?;
        let found = read.values.first().map(|value| U256::from_le_bytes(*value.little_endian()));
        ensure!(found == Some(U256::from(value)), "the value came out as {found:?}");
        Ok(())
    };
    let opening_ms = mean(open)?;
    let holder_ms = mean(|| {
        let found = secrets.decrypt_list(keys.parameters(), FheType::Uint64, list)?;
        ensure!(found == U256::from(value), "the value came out as {found}");
        Ok(())
    })?;
    Ok(Alone {
        partial_ms,
        opening_ms,
        holder_ms,
        partial_bytes: parts.first().map_or(0, |(_, bytes)| bytes.len()),
    })
}

fn read(keys: &KeySet, list: &[u8]) -> Result<SquashedCiphertext> {
    let values = SquashedValue::from_list(keys.parameters(), &[FheType::Uint64], list)?;
    let value = values.into_iter().next().context("the list is empty")?;
    Ok(SquashedCiphertext::new(
        KeyKind::Compressed,
        ValueShape::new(value.bits)?,
        value.dimension,
        value.words,
    )?)
}

/// Returns the mean CPU time of some rounds, after one that does not count.
fn mean(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let (cost, ()) = clock::measure(|| (0..ROUNDS).try_for_each(|_| work()))?;
    Ok(cost.per(f64::from(ROUNDS)).cpu * 1e3)
}

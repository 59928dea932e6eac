//! The key ceremony: a dealer shares the secrets of a new key set among a committee.
//!
//! **Roles.** The *dealer* generates the key set and knows the secrets for a moment; it runs where everybody can verify what runs, and once. The *parties* get a share each.
//!
//! **Messages.** To each party, over a channel that is encrypted to it: its [`KeyShare`]. To everybody: the [`Manifest`], which commits to every share and to every set's key.
//!
//! **Flow.** Deal; each party checks its share against the manifest ([`Manifest::check`]) and the manifest's digest with all others; then they decrypt a known value together
//! and only then is the key used. That decryption is what shows that the shares belong to one polynomial and to the public key: digests show only that nobody's share was exchanged, and that all
//! members of a set have the same key.
//!
//! **Restart.** A ceremony that is interrupted is begun anew with new keys. Nothing is kept.
//!
//! **Assumption.** The dealer is honest: whoever controls it has the key.

use rand_core::TryCryptoRng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    ciphertext::MAX_DIMENSION,
    codec::{Reader, put_count},
    committee::{PartySet, Scope},
    error::ThresholdError,
    prss::SetKey,
    share::{KeyDimensions, KeyShare, ShareParts, put_scope, read_scope},
    sharing::{fill, share_bits},
};

const MAGIC: &[u8; 8] = b"CLMANIF1";
/// The longest manifest: the set keys of the largest committee, its members and shares.
pub const MAX_MANIFEST_BYTES: usize = 64 << 10;

/// The secrets to be shared: lists of bits, as numbers modulo 2^128.
#[derive(Clone, Copy)]
pub struct SecretKeys<'a> {
    /// The secret of squashed ciphertexts.
    pub squashed: &'a [u128],
    /// The secret of squashed ciphertexts taken out of a compressed list.
    pub compressed: &'a [u128],
}

/// What a dealer hands out.
pub struct Dealing {
    /// One share per party, party 1 first.
    pub shares: Vec<KeyShare>,
    /// What everybody may see.
    pub manifest: Manifest,
}

/// Commitments to everything that was dealt, or came out of a resharing. Not secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    scope: Scope,
    dimensions: KeyDimensions,
    shares: Vec<[u8; 32]>,
    /// One digest per set, in the order of [`CommitteeSize::mask_sets`](crate::CommitteeSize::mask_sets).
    set_keys: Vec<[u8; 32]>,
}

/// Shares the secrets among the committee of `scope`. The caller wipes its own copy of the secrets afterwards.
///
/// # Errors
/// [`ThresholdError::SecretKey`] if the secrets are not lists of bits of an allowed length, [`ThresholdError::Randomness`] if `rng` fails.
pub fn deal<R: TryCryptoRng + ?Sized>(scope: &Scope, secrets: SecretKeys<'_>, rng: &mut R) -> Result<Dealing, ThresholdError> {
    let dimensions = KeyDimensions {
        squashed: secrets.squashed.len(),
        compressed: secrets.compressed.len(),
    };
    dimensions.check()?;
    let size = scope.committee.size();
    let mut set_keys: Vec<(PartySet, SetKey)> = Vec::new();
    for set in size.mask_sets() {
        set_keys.push((set, random_set_key(rng)?));
    }
    let squashed = share_bits(size, secrets.squashed, rng)?;
    let compressed = share_bits(size, secrets.compressed, rng)?;
    let mut shares = Vec::with_capacity(size.parties().into());
    for ((party, squashed), (_, compressed)) in squashed.into_iter().zip(compressed) {
        let mut salt = [0; 32];
        fill(rng, &mut salt)?;
        let of_party = set_keys.iter().filter(|(set, _)| set.contains(party));
        shares.push(KeyShare::new(ShareParts {
            scope: scope.clone(),
            party,
            salt,
            squashed,
            compressed,
            set_keys: of_party.map(|(_, key)| key.copy()).collect(),
        }));
    }
    let scope_digest = scope.digest();
    let manifest = Manifest {
        scope: scope.clone(),
        dimensions,
        shares: shares.iter().map(KeyShare::digest).collect(),
        set_keys: set_keys.iter().map(|(set, key)| key.digest(&scope_digest, *set)).collect(),
    };
    Ok(Dealing { shares, manifest })
}

pub(crate) fn random_set_key<R: TryCryptoRng + ?Sized>(rng: &mut R) -> Result<SetKey, ThresholdError> {
    let mut bytes = Zeroizing::new([0; 32]);
    fill(rng, bytes.as_mut_slice())?;
    Ok(SetKey::new(bytes))
}

impl Manifest {
    /// Puts together what a resharing agreed on.
    pub(crate) const fn new(scope: Scope, dimensions: KeyDimensions, shares: Vec<[u8; 32]>, set_keys: Vec<[u8; 32]>) -> Self {
        Self {
            scope,
            dimensions,
            shares,
            set_keys,
        }
    }

    /// Returns what the shares belong to.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Returns how long the shared secrets are.
    #[must_use]
    pub const fn dimensions(&self) -> KeyDimensions {
        self.dimensions
    }

    /// Returns the digest that parties compare, sign and publish.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update(b"cipherloom/threshold/manifest/1")
            .chain_update(self.to_bytes())
            .finalize()
            .into()
    }

    /// Checks that a share is the one this manifest commits to, and that its set keys are those the other members have.
    ///
    /// # Errors
    /// [`ThresholdError::OtherScope`] or [`ThresholdError::Commitment`] says what differs.
    pub fn check(&self, share: &KeyShare) -> Result<(), ThresholdError> {
        if *share.scope() != self.scope {
            return Err(ThresholdError::OtherScope("key, context, epoch or committee"));
        }
        if share.dimensions() != self.dimensions {
            return Err(ThresholdError::Commitment("the dimension"));
        }
        let index = usize::from(share.party().number()) - 1;
        if self.shares.get(index) != Some(&share.digest()) {
            return Err(ThresholdError::Commitment("the share"));
        }
        let scope_digest = self.scope.digest();
        let commitments = self.scope.committee.size().mask_sets().into_iter().zip(&self.set_keys);
        let mut expected = commitments.filter(|(set, _)| set.contains(share.party()));
        let same = share.set_keys().iter().all(|(set, key)| {
            expected
                .next()
                .is_some_and(|(of, digest)| of == set && *digest == key.digest(&scope_digest, set))
        });
        if !same || expected.next().is_some() {
            return Err(ThresholdError::Commitment("a set key"));
        }
        Ok(())
    }

    /// Writes the manifest.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_scope(&mut out, &self.scope);
        put_count(&mut out, self.dimensions.squashed);
        put_count(&mut out, self.dimensions.compressed);
        self.shares
            .iter()
            .chain(&self.set_keys)
            .for_each(|digest| out.extend_from_slice(digest));
        out
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// [`ThresholdError::Malformed`] and others say what is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ThresholdError> {
        let mut reader = Reader::new(bytes, "manifest");
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(reader.malformed("it is too long"));
        }
        reader.expect(MAGIC, "its version is unknown")?;
        let scope = read_scope(&mut reader)?;
        let dimensions = KeyDimensions {
            squashed: reader.count(MAX_DIMENSION)?,
            compressed: reader.count(MAX_DIMENSION)?,
        };
        dimensions.check()?;
        let size = scope.committee.size();
        let shares = (0..size.parties()).map(|_| reader.array()).collect::<Result<_, _>>()?;
        let set_keys = size.mask_sets().iter().map(|_| reader.array()).collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(Self {
            scope,
            dimensions,
            shares,
            set_keys,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::committee::{Committee, ContextId, EpochId, KeyId};

    pub(crate) fn scope(epoch: u8) -> Scope {
        Scope {
            key: KeyId([1; 32]),
            context: ContextId([2; 32]),
            epoch: EpochId([epoch; 32]),
            committee: Committee::new(1, (0..4).map(|member| [member; 32]).collect()).unwrap(),
        }
    }
}

//! A party's key share: what it holds for one epoch, and the file it is kept in.
//!
//! **The file.** Version, ids, committee, party, a random salt, the two shared vectors, the keys of the sets the party is in, and at the end the digest of all of it. The same
//! digest stands in the [manifest](crate::Manifest). It tells nothing about the share, thanks to the salt. The file is secret: it is to be encrypted before it is written
//! anywhere, with the scope's digest and the version as associated data, and wiped afterwards.
//!
//! **Restart.** A share is read from its file, checked against its digest and against the manifest. An older epoch than the one last used is refused by
//! [`KeyShare::check_not_older`]; that one is remembered where a thief of the file cannot change it, for example on chain.

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    ciphertext::{KeyKind, MAX_DIMENSION},
    codec::{Reader, put_count, put_elements},
    committee::{Committee, ContextId, EpochId, KeyId, PartyId, Scope},
    error::ThresholdError,
    prss::{SET_KEY_BYTES, SetKey, SetKeys, sets_of},
    ring::{ELEMENT_BYTES, Element},
};

const MAGIC: &[u8; 8] = b"CLSHARE1";
const WHAT: &str = "key share";
/// The length of the digest that a file ends with.
const DIGEST_BYTES: usize = 32;
/// The longest file of a key share: both vectors at their largest, the keys of all sets of the largest committee, and what is in front of them.
pub const MAX_SHARE_BYTES: usize = 2 * MAX_DIMENSION * ELEMENT_BYTES + 1365 * SET_KEY_BYTES + 1024;

/// Everything one party holds for one epoch. Wiped when dropped; neither printable nor copyable.
pub struct KeyShare {
    scope: Scope,
    party: PartyId,
    salt: [u8; 32],
    squashed: Zeroizing<Vec<Element>>,
    compressed: Zeroizing<Vec<Element>>,
    set_keys: SetKeys,
}

/// How long the shared secrets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyDimensions {
    /// That of noise squashing.
    pub squashed: usize,
    /// That of the compression of squashed ciphertexts.
    pub compressed: usize,
}

impl KeyDimensions {
    /// Those of the production parameters.
    pub const PRODUCTION: Self = Self {
        squashed: KeyKind::Squashed.production_dimension(),
        compressed: KeyKind::Compressed.production_dimension(),
    };

    /// Returns the sum: how many elements a share has.
    #[must_use]
    pub const fn total(self) -> usize {
        self.squashed + self.compressed
    }

    pub(crate) fn check(self) -> Result<Self, ThresholdError> {
        let allowed = 1..=MAX_DIMENSION;
        if allowed.contains(&self.squashed) && allowed.contains(&self.compressed) {
            Ok(self)
        } else {
            Err(ThresholdError::SecretKey("its dimension is out of bounds"))
        }
    }
}

/// The parts of a new key share.
pub(crate) struct ShareParts {
    pub(crate) scope: Scope,
    pub(crate) party: PartyId,
    pub(crate) salt: [u8; 32],
    pub(crate) squashed: Zeroizing<Vec<Element>>,
    pub(crate) compressed: Zeroizing<Vec<Element>>,
    pub(crate) set_keys: Vec<SetKey>,
}

impl KeyShare {
    pub(crate) fn new(parts: ShareParts) -> Self {
        let set_keys = SetKeys::new(parts.scope.committee.size(), parts.party, parts.set_keys);
        Self {
            scope: parts.scope,
            party: parts.party,
            salt: parts.salt,
            squashed: parts.squashed,
            compressed: parts.compressed,
            set_keys,
        }
    }

    /// Returns what the share belongs to.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Returns whose it is.
    #[must_use]
    pub const fn party(&self) -> PartyId {
        self.party
    }

    /// Returns how long the shared secrets are.
    #[must_use]
    pub fn dimensions(&self) -> KeyDimensions {
        KeyDimensions {
            squashed: self.squashed.len(),
            compressed: self.compressed.len(),
        }
    }

    pub(crate) fn vector(&self, kind: KeyKind) -> &[Element] {
        match kind {
            KeyKind::Squashed => &self.squashed,
            KeyKind::Compressed => &self.compressed,
        }
    }

    pub(crate) const fn set_keys(&self) -> &SetKeys {
        &self.set_keys
    }

    /// Returns the digest that the manifest commits to.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        digest(&self.body())
    }

    /// Refuses a share of an earlier epoch than one that was already used: a file somebody put back.
    ///
    /// # Errors
    /// [`ThresholdError::EpochNotLater`] if it is older, [`ThresholdError::OtherScope`] if it is of another key.
    pub fn check_not_older(&self, key: KeyId, last_used: EpochId) -> Result<(), ThresholdError> {
        if self.scope.key != key {
            return Err(ThresholdError::OtherScope("key"));
        }
        if self.scope.epoch < last_used {
            return Err(ThresholdError::EpochNotLater);
        }
        Ok(())
    }

    /// Writes the file. The bytes are secret.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = self.body();
        let digest = digest(&out);
        out.extend_from_slice(&digest);
        out
    }

    /// Reads a file and checks its digest.
    ///
    /// # Errors
    /// [`ThresholdError::Malformed`] and others say what is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ThresholdError> {
        let mut reader = Reader::new(bytes, WHAT);
        if bytes.len() > MAX_SHARE_BYTES {
            return Err(reader.malformed("it is too long"));
        }
        let (body, end) = bytes
            .split_last_chunk::<DIGEST_BYTES>()
            .ok_or_else(|| reader.malformed("it is cut short"))?;
        reader.expect(MAGIC, "its version is unknown")?;
        if digest(body) != *end {
            return Err(reader.malformed("its digest is wrong"));
        }
        let scope = read_scope(&mut reader)?;
        let size = scope.committee.size();
        let party = size.party(reader.byte()?.into())?;
        let salt = reader.array()?;
        let dimensions = KeyDimensions {
            squashed: reader.count(MAX_DIMENSION)?,
            compressed: reader.count(MAX_DIMENSION)?,
        };
        dimensions.check()?;
        let squashed = reader.elements(dimensions.squashed)?;
        let compressed = reader.elements(dimensions.compressed)?;
        let set_keys = sets_of(size, party)
            .iter()
            .map(|_| Ok(SetKey::new(Zeroizing::new(reader.array()?))))
            .collect::<Result<_, ThresholdError>>()?;
        reader.take(DIGEST_BYTES)?;
        reader.finish()?;
        Ok(Self::new(ShareParts {
            scope,
            party,
            salt,
            squashed,
            compressed,
            set_keys,
        }))
    }

    fn body(&self) -> Zeroizing<Vec<u8>> {
        let elements = self.dimensions().total() * ELEMENT_BYTES;
        // Room for everything, the digest included: growing would leave copies of secrets behind.
        let mut out = Zeroizing::new(Vec::with_capacity(elements + self.set_keys.iter().count() * SET_KEY_BYTES + 1024));
        out.extend_from_slice(MAGIC);
        put_scope(&mut out, &self.scope);
        out.push(self.party.number());
        out.extend_from_slice(&self.salt);
        put_count(&mut out, self.squashed.len());
        put_count(&mut out, self.compressed.len());
        put_elements(&mut out, &self.squashed);
        put_elements(&mut out, &self.compressed);
        self.set_keys.iter().for_each(|(_, key)| out.extend_from_slice(key.bytes()));
        out
    }
}

impl Drop for KeyShare {
    fn drop(&mut self) {
        // Vectors and set keys wipe themselves.
        self.salt.zeroize();
    }
}

fn digest(body: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(b"cipherloom/threshold/key-share/1")
        .chain_update(body)
        .finalize()
        .into()
}

pub(crate) fn put_scope(out: &mut Vec<u8>, scope: &Scope) {
    out.extend_from_slice(&scope.key.0);
    out.extend_from_slice(&scope.context.0);
    out.extend_from_slice(&scope.epoch.0);
    let size = scope.committee.size();
    out.extend_from_slice(&[size.parties(), size.threshold()]);
    scope.committee.members().iter().for_each(|member| out.extend_from_slice(member));
}

pub(crate) fn read_scope(reader: &mut Reader<'_>) -> Result<Scope, ThresholdError> {
    let key = KeyId(reader.array()?);
    let context = ContextId(reader.array()?);
    let epoch = EpochId(reader.array()?);
    let parties = reader.byte()?;
    let threshold = reader.byte()?;
    let members = (0..parties).map(|_| reader.array()).collect::<Result<_, _>>()?;
    Ok(Scope {
        key,
        context,
        epoch,
        committee: Committee::new(threshold, members)?,
    })
}

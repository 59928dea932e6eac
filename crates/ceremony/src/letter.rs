//! Letters between participants: signed, and sealed where they are for one reader.
//!
//! Whoever carries letters can lose or delay them. It cannot read sealed ones, change any, send one as somebody else's, or deliver it to another ceremony or reader: sender, reader, number and ceremony
//! are signed, and stand inside the sealed part too, so that nobody can pass off another's sealed letter as its own.

use alloy_primitives::{Address, B256};
use cipherloom_signcryption::{SigningKey, node_address};
use crypto_box::{PublicKey, SalsaBox, SecretKey, aead::Aead};
use zeroize::Zeroizing;

use crate::{
    CeremonyError,
    digest::{check_signature, digest_parts, random, sign},
};

const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// The longest content: a vector of shares of the largest dimensions, or a share file.
pub const MAX_LETTER_BYTES: usize = 2 << 20;

/// A message from one participant to another, or to all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The ceremony.
    pub session: B256,
    /// Who wrote it.
    pub from: Address,
    /// Who can open it; zero if everybody may read it.
    pub to: Address,
    /// Counts the sender's letters, so that two different ones in one place are noticed.
    pub number: u32,
    /// The content, sealed if it is for one reader.
    pub body: Vec<u8>,
    /// The sender's signature.
    pub signature: Vec<u8>,
}

/// What a letter is about, without its body.
#[derive(Clone, Copy)]
pub(crate) struct Envelope {
    pub(crate) session: B256,
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) number: u32,
}

impl Envelope {
    fn digest(&self) -> B256 {
        digest_parts(
            "envelope",
            &[
                self.session.as_slice(),
                self.from.as_slice(),
                self.to.as_slice(),
                &self.number.to_be_bytes(),
            ],
        )
    }
}

impl Letter {
    /// Writes to everybody.
    pub(crate) fn open_to_all(key: &SigningKey, session: B256, number: u32, content: &[u8]) -> Result<Self, CeremonyError> {
        let envelope = Envelope {
            session,
            from: node_address(key),
            to: Address::ZERO,
            number,
        };
        Self::signed(key, envelope, content.to_vec())
    }

    /// Writes to one reader. `own` is the box key of the sender's card, `to_key` that of the reader's.
    pub(crate) fn sealed(
        key: &SigningKey,
        own: &SecretKey,
        envelope: Envelope,
        to_key: B256,
        content: &[u8],
    ) -> Result<Self, CeremonyError> {
        let nonce: [u8; NONCE_BYTES] = random()?;
        let mut bound = Zeroizing::new(Vec::with_capacity(32 + content.len()));
        bound.extend_from_slice(envelope.digest().as_slice());
        bound.extend_from_slice(content);
        let boxed = SalsaBox::new(&PublicKey::from_bytes(to_key.0), own)
            .encrypt(&nonce.into(), bound.as_slice())
            .map_err(|_| CeremonyError::Letter(envelope.from))?;
        Self::signed(key, envelope, [nonce.as_slice(), &boxed].concat())
    }

    fn signed(key: &SigningKey, envelope: Envelope, body: Vec<u8>) -> Result<Self, CeremonyError> {
        let mut letter = Self {
            session: envelope.session,
            from: envelope.from,
            to: envelope.to,
            number: envelope.number,
            body,
            signature: Vec::new(),
        };
        letter.signature = sign(key, letter.digest())?.to_vec();
        Ok(letter)
    }

    fn envelope(&self) -> Envelope {
        Envelope {
            session: self.session,
            from: self.from,
            to: self.to,
            number: self.number,
        }
    }

    /// Returns what is signed.
    #[must_use]
    pub fn digest(&self) -> B256 {
        digest_parts("letter", &[self.envelope().digest().as_slice(), &self.body])
    }

    /// Checks length and signature.
    pub(crate) fn check(&self, session: B256) -> Result<(), CeremonyError> {
        if self.body.len() > MAX_LETTER_BYTES {
            return Err(CeremonyError::malformed("letter", "it is too long"));
        }
        if self.session != session {
            return Err(CeremonyError::NoSession);
        }
        check_signature("letter", &self.signature, self.digest(), self.from)
    }

    /// Opens a sealed letter whose signature was checked. `from_key` is the box key of the sender's card.
    pub(crate) fn open(&self, own: &SecretKey, from_key: B256) -> Result<Zeroizing<Vec<u8>>, CeremonyError> {
        let refuse = || CeremonyError::Letter(self.from);
        let (nonce, boxed) = self.body.split_first_chunk::<NONCE_BYTES>().ok_or_else(refuse)?;
        if boxed.len() < TAG_BYTES + 32 {
            return Err(refuse());
        }
        let opened = SalsaBox::new(&PublicKey::from_bytes(from_key.0), own)
            .decrypt(&(*nonce).into(), boxed)
            .map(Zeroizing::new)
            .map_err(|_| refuse())?;
        match opened.split_first_chunk::<32>() {
            Some((bound, content)) if *bound == self.envelope().digest().0 => Ok(Zeroizing::new(content.to_vec())),
            _ => Err(refuse()),
        }
    }
}

//! The payload's bytes: bincode 1 in its legacy configuration, written out by hand.
//!
//! Integers are little-endian and of fixed width; a byte string or a list starts with its length as 64 bits. The layout is frozen (clients in the
//! field read it) and small, and reading it by hand lets every length be checked before anything is allocated.

use cipherloom_primitives::{B256, decryption::MAX_REQUEST_BITS};

use crate::error::SigncryptionError;

/// The most values an answer carries: a full request of `ebool`, which counts 2 bits each.
pub const MAX_VALUES: usize = MAX_REQUEST_BITS as usize / 2;
/// The length of a compressed public key on the curve secp256k1.
pub const NODE_KEY_BYTES: usize = 33;
/// The longest encrypted value accepted; an honest one has about 1060 bytes.
pub const MAX_SEALED_VALUE_BYTES: usize = 4096;
/// The longest payload accepted.
pub const MAX_PAYLOAD_BYTES: usize = 4 << 20;

/// The payload of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The node's public key, compressed.
    pub node_key: [u8; NODE_KEY_BYTES],
    /// The link: the digest of the request the answer is for.
    pub link: B256,
    /// The encrypted values, in the order of the request.
    pub values: Vec<SealedValue>,
    /// The number of the node, from 1.
    pub party_id: u32,
    /// How many nodes may be corrupt; 0 says that the answer of one node is complete.
    pub degree: u32,
}

/// One encrypted value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedValue {
    /// The number of the type.
    pub fhe_type: i32,
    /// Nonce, encapsulation and ciphertext; see [`Sealed`].
    pub sealed: Vec<u8>,
    /// The handle.
    pub handle: B256,
    /// How many blocks are packed together; 1 outside threshold decryption.
    pub packing_factor: u32,
}

/// The parts of [`SealedValue::sealed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed<'a> {
    /// The AES-GCM nonce.
    pub nonce: [u8; 12],
    /// The ML-KEM ciphertext.
    pub encapsulation: &'a [u8],
    /// The AES-GCM ciphertext with its tag.
    pub ciphertext: &'a [u8],
}

impl Payload {
    /// Writes the payload.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // The key is a byte string inside a byte string: the outer one is the field, the inner one the key's own encoding.
        put_bytes(
            &mut out,
            &[&(NODE_KEY_BYTES as u64).to_le_bytes(), self.node_key.as_slice()].concat(),
        );
        put_bytes(&mut out, self.link.as_slice());
        out.extend_from_slice(&(self.values.len() as u64).to_le_bytes());
        for value in &self.values {
            out.extend_from_slice(&value.fhe_type.to_le_bytes());
            put_bytes(&mut out, &value.sealed);
            put_bytes(&mut out, value.handle.as_slice());
            out.extend_from_slice(&value.packing_factor.to_le_bytes());
        }
        out.extend_from_slice(&self.party_id.to_le_bytes());
        out.extend_from_slice(&self.degree.to_le_bytes());
        out
    }

    /// Reads a payload; every byte must be accounted for.
    ///
    /// # Errors
    /// [`SigncryptionError::Malformed`] says what cannot be read.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SigncryptionError> {
        if bytes.len() > MAX_PAYLOAD_BYTES {
            return Err(SigncryptionError::Malformed("the payload is too long"));
        }
        let mut reader = Reader(bytes);
        let mut key_field = Reader(reader.bytes(NODE_KEY_BYTES + 8, "verification key")?);
        let node_key = key_field.bytes(NODE_KEY_BYTES, "verification key")?;
        let node_key = node_key.try_into().map_err(|_| SigncryptionError::Malformed("verification key"))?;
        key_field.finish()?;
        let link = reader.word("digest")?;
        let count = usize::try_from(u64::from_le_bytes(reader.array("list")?)).unwrap_or(usize::MAX);
        if count > MAX_VALUES {
            return Err(SigncryptionError::Malformed("too many values"));
        }
        let values = (0..count).map(|_| SealedValue::read(&mut reader)).collect::<Result<_, _>>()?;
        let party_id = u32::from_le_bytes(reader.array("party id")?);
        let degree = u32::from_le_bytes(reader.array("degree")?);
        reader.finish()?;
        Ok(Self {
            node_key,
            link,
            values,
            party_id,
            degree,
        })
    }
}

impl SealedValue {
    fn read(reader: &mut Reader<'_>) -> Result<Self, SigncryptionError> {
        Ok(Self {
            fhe_type: i32::from_le_bytes(reader.array("type")?),
            sealed: reader.bytes(MAX_SEALED_VALUE_BYTES, "encrypted value")?.to_vec(),
            handle: reader.word("handle")?,
            packing_factor: u32::from_le_bytes(reader.array("packing factor")?),
        })
    }
}

impl<'a> Sealed<'a> {
    /// Writes the parts.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.nonce.to_vec();
        put_bytes(&mut out, self.encapsulation);
        put_bytes(&mut out, self.ciphertext);
        out
    }

    /// Reads the parts.
    ///
    /// # Errors
    /// [`SigncryptionError::Malformed`] says what cannot be read.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, SigncryptionError> {
        let mut reader = Reader(bytes);
        let sealed = Self {
            nonce: reader.array("nonce")?,
            encapsulation: reader.bytes(MAX_SEALED_VALUE_BYTES, "encapsulation")?,
            ciphertext: reader.bytes(MAX_SEALED_VALUE_BYTES, "ciphertext")?,
        };
        reader.finish()?;
        Ok(sealed)
    }
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Reads fields from the front of a slice.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], SigncryptionError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(SigncryptionError::Malformed(what))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], SigncryptionError> {
        self.take(N, what)?.try_into().map_err(|_| SigncryptionError::Malformed(what))
    }

    pub(crate) fn bytes(&mut self, max: usize, what: &'static str) -> Result<&'a [u8], SigncryptionError> {
        let length = usize::try_from(u64::from_le_bytes(self.array(what)?)).unwrap_or(usize::MAX);
        if length > max {
            return Err(SigncryptionError::Malformed(what));
        }
        self.take(length, what)
    }

    pub(crate) fn word(&mut self, what: &'static str) -> Result<B256, SigncryptionError> {
        B256::try_from(self.bytes(32, what)?).map_err(|_| SigncryptionError::Malformed(what))
    }

    pub(crate) const fn finish(&self) -> Result<(), SigncryptionError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(SigncryptionError::Malformed("trailing bytes"))
        }
    }
}

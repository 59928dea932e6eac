//! Partial decryption: what one party computes for a ciphertext.
//!
//! For each LWE ciphertext with mask `a` and body `b`, party `i` computes `b - <a, s_i>` with its share `s_i` of the secret key, a share of the phase. Four of them are packed into one element. The party's
//! share of the [masks](crate::prss) is added, which hides the ciphertext's own noise: noise depends on the secret key and on how the value was computed.
//!
//! The result is a pure function of key share and ciphertext.

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    ciphertext::{DecryptionTag, SquashedCiphertext, ValueShape},
    codec::{Reader, put_elements},
    committee::{CommitteeSize, PartyId},
    error::ThresholdError,
    ring::{DEGREE, ELEMENT_BYTES, Element},
    share::KeyShare,
};

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 1 + 1 + 32 + 1;

/// What one party contributes to the decryption of one ciphertext. For a public decryption it may be published; for a user decryption it is for
/// the user alone. Wiped when dropped; neither printable nor copyable.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct PartialDecryption {
    #[zeroize(skip)]
    party: PartyId,
    #[zeroize(skip)]
    tag: DecryptionTag,
    elements: Vec<Element>,
}

impl KeyShare {
    /// Decrypts a ciphertext as far as one party can. Whether it may be decrypted at all is for the caller to check before: a party that answers for
    /// ciphertexts of an attacker's choice gives away the key.
    ///
    /// # Errors
    /// [`ThresholdError::Ciphertext`] if the ciphertext is not of this key's dimension.
    pub fn decrypt(&self, ciphertext: &SquashedCiphertext) -> Result<PartialDecryption, ThresholdError> {
        let secret = self.vector(ciphertext.kind());
        if ciphertext.dimension() != secret.len() {
            return Err(ThresholdError::Ciphertext("its dimension is not that of the key"));
        }
        let tag = ciphertext.tag(self.scope());
        let shape = ciphertext.shape();
        let mut elements = vec![Element::ZERO; shape.element_count()];
        for (index, (mask, body)) in ciphertext.lwes().enumerate() {
            let mut phase = Element::from_integer(body) - inner_product(mask, secret);
            for _ in 0..index % DEGREE {
                phase = phase.times_x();
            }
            if let Some(element) = elements.get_mut(index / DEGREE) {
                *element += phase;
            }
        }
        self.set_keys().add_masks(&tag.0, shape.lwe_count(), &mut elements);
        Ok(PartialDecryption {
            party: self.party(),
            tag,
            elements,
        })
    }
}

fn inner_product(mask: &[u128], secret: &[Element]) -> Element {
    mask.iter().zip(secret).map(|(number, share)| share.scale(*number)).sum()
}

impl PartialDecryption {
    /// Returns whose it is.
    #[must_use]
    pub const fn party(&self) -> PartyId {
        self.party
    }

    /// Returns what the masks are bound to.
    #[must_use]
    pub const fn tag(&self) -> DecryptionTag {
        self.tag
    }

    pub(crate) fn elements(&self) -> &[Element] {
        &self.elements
    }

    /// Returns the share as answers to users carry it: a 64-bit count and the elements, which published clients read. See [`share_from_bytes`].
    #[must_use]
    pub fn share_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(8 + ELEMENT_BYTES * self.elements.len()));
        out.extend_from_slice(&(self.elements.len() as u64).to_le_bytes());
        put_elements(&mut out, &self.elements);
        out
    }

    /// Writes it for another party: version, party, tag, number of elements, elements. 291 bytes for 64 bits.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(HEADER_BYTES + ELEMENT_BYTES * self.elements.len()));
        out.extend_from_slice(&[VERSION, self.party.number()]);
        out.extend_from_slice(&self.tag.0);
        out.push(u8::try_from(self.elements.len()).unwrap_or(u8::MAX));
        put_elements(&mut out, &self.elements);
        out
    }

    /// Reads what another party of the committee wrote.
    ///
    /// # Errors
    /// [`ThresholdError::Malformed`] or [`ThresholdError::NoSuchParty`] says what is wrong.
    pub fn from_bytes(size: CommitteeSize, bytes: &[u8]) -> Result<Self, ThresholdError> {
        let mut reader = Reader::new(bytes, "partial decryption");
        reader.expect(&[VERSION], "its version is unknown")?;
        let party = size.party(reader.byte()?.into())?;
        let tag = DecryptionTag(reader.array()?);
        let count = reader.byte()?.into();
        let mut elements = reader.elements(count)?;
        reader.finish()?;
        Ok(Self {
            party,
            tag,
            elements: std::mem::take(&mut *elements),
        })
    }
}

/// Reads the share of one value out of an answer to a user: a 64-bit count and as many elements as the type needs.
///
/// # Errors
/// [`ThresholdError::Malformed`] if it is anything else.
pub fn share_from_bytes(shape: ValueShape, bytes: &[u8]) -> Result<Zeroizing<Vec<Element>>, ThresholdError> {
    let mut reader = Reader::new(bytes, "share of a value");
    if u64::from_le_bytes(reader.array()?) != shape.element_count() as u64 {
        return Err(reader.malformed("it does not have as many elements as its type needs"));
    }
    let elements = reader.elements(shape.element_count())?;
    reader.finish()?;
    Ok(elements)
}

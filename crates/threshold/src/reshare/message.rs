//! The messages of a resharing and their bytes.

use zeroize::Zeroizing;

use crate::{
    codec::{Reader, put_count, put_elements},
    committee::{CommitteeSize, MAX_PARTIES, PartyId, PartySet},
    error::ThresholdError,
    partial::PartialDecryption,
    prss::{SET_KEY_BYTES, SetKey},
    reshare::{MAX_KNOWN_VALUES, Plan},
    ring::{ELEMENT_BYTES, Element},
    share::KeyDimensions,
};

const MAGIC: &[u8; 8] = b"CLRESHA1";
/// The longest message: a vector of the largest dimensions.
pub const MAX_MESSAGE_BYTES: usize = 2 * crate::MAX_DIMENSION * ELEMENT_BYTES + 128;
/// The most checks opened: 40 for each check of the largest code.
const MAX_CHECK_ELEMENTS: usize = super::combine::CHECKS * MAX_PARTIES as usize;

/// Who sent a message, which the channel knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A member of the old committee.
    Old(PartyId),
    /// A member of the new committee.
    New(PartyId),
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// A member of the old committee, privately.
    Old(PartyId),
    /// A member of the new committee, privately.
    New(PartyId),
    /// All other members of the new committee, who must all get the same.
    AllNew,
}

/// A message to be sent.
pub struct Outgoing {
    /// Where to.
    pub to: Recipient,
    /// What.
    pub message: Message,
}

/// A message of a resharing. Some of them are secret, so they are neither printable nor copyable.
pub struct Message(pub(super) Body);

pub(super) enum Body {
    /// Set keys that the sender picked, for one other member.
    SetKeys(Vec<(PartySet, SetKey)>),
    /// Digests of the sender's set keys, in the order of its sets.
    SetKeyDigests(Vec<[u8; 32]>),
    /// The sender's share of an old party's mask.
    MaskShare(Zeroizing<Vec<Element>>),
    /// An old party's masked shares.
    Masked(Vec<Element>),
    /// Digests of what the sender got from each old party.
    Votes(Vec<Option<[u8; 32]>>),
    /// Asks for what an old party sent, since the sender got something else or nothing.
    Request(PartyId),
    /// What an old party sent, on request.
    Forwarded(PartyId, Vec<Element>),
    /// The sender's shares of the check values.
    Checks(Vec<Element>),
    /// What came out for the sender.
    Outcome(Outcome),
}

pub(super) struct Outcome {
    /// Digest of everything that had to be the same for all.
    pub(super) transcript: [u8; 32],
    /// Digest of the sender's new share.
    pub(super) share: [u8; 32],
    /// The sender's partial decryptions of the known values, encoded.
    pub(super) partials: Vec<PartialDecryption>,
}

impl Message {
    /// Writes a message. What [goes to](Recipient) one party is secret.
    #[must_use]
    pub fn to_bytes(&self, plan: &Plan) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(self.length_hint()));
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&plan.digest());
        out.push(self.0.number());
        match &self.0 {
            Body::SetKeys(keys) => {
                put_count(&mut out, keys.len());
                for (set, key) in keys {
                    out.extend_from_slice(&set.bits().to_le_bytes());
                    out.extend_from_slice(key.bytes());
                }
            }
            Body::SetKeyDigests(digests) => {
                put_count(&mut out, digests.len());
                digests.iter().for_each(|digest| out.extend_from_slice(digest));
            }
            Body::MaskShare(elements) => put_vector(&mut out, elements),
            Body::Masked(elements) | Body::Checks(elements) => put_vector(&mut out, elements),
            Body::Votes(votes) => {
                put_count(&mut out, votes.len());
                for vote in votes {
                    out.push(vote.is_some().into());
                    out.extend_from_slice(&vote.unwrap_or_default());
                }
            }
            Body::Request(of) => out.push(of.number()),
            Body::Forwarded(of, elements) => {
                out.push(of.number());
                put_vector(&mut out, elements);
            }
            Body::Outcome(outcome) => {
                out.extend_from_slice(&outcome.transcript);
                out.extend_from_slice(&outcome.share);
                put_count(&mut out, outcome.partials.len());
                for partial in &outcome.partials {
                    let bytes = partial.to_bytes();
                    put_count(&mut out, bytes.len());
                    out.extend_from_slice(&bytes);
                }
            }
        }
        out
    }

    /// Reads a message of a resharing by this plan.
    ///
    /// # Errors
    /// [`ThresholdError::Malformed`] if it is none, [`ThresholdError::OtherScope`] if it is of another resharing.
    pub fn from_bytes(plan: &Plan, bytes: &[u8]) -> Result<Self, ThresholdError> {
        let mut reader = Reader::new(bytes, "resharing message");
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(reader.malformed("it is too long"));
        }
        reader.expect(MAGIC, "its version is unknown")?;
        if reader.array::<32>()? != plan.digest() {
            return Err(ThresholdError::OtherScope("resharing"));
        }
        let (old, new) = (plan.from.committee.size(), plan.to.committee.size());
        let body = match reader.byte()? {
            0 => Body::SetKeys(read_set_keys(&mut reader, new)?),
            1 => {
                let count = reader.count(new.mask_sets().len())?;
                Body::SetKeyDigests((0..count).map(|_| reader.array()).collect::<Result<_, _>>()?)
            }
            2 => Body::MaskShare(read_vector(&mut reader, plan.dimensions.total())?),
            3 => Body::Masked(take(read_vector(&mut reader, plan.dimensions.total())?)),
            4 => Body::Votes(read_votes(&mut reader)?),
            5 => Body::Request(old.party(reader.byte()?.into())?),
            6 => {
                let of = old.party(reader.byte()?.into())?;
                Body::Forwarded(of, take(read_vector(&mut reader, plan.dimensions.total())?))
            }
            7 => Body::Checks(take(read_vector(&mut reader, MAX_CHECK_ELEMENTS)?)),
            8 => Body::Outcome(read_outcome(&mut reader, new)?),
            _ => return Err(reader.malformed("there is no such message")),
        };
        reader.finish()?;
        Ok(Self(body))
    }

    fn length_hint(&self) -> usize {
        64 + match &self.0 {
            Body::SetKeys(keys) => keys.len() * (2 + SET_KEY_BYTES),
            Body::MaskShare(elements) => elements.len() * ELEMENT_BYTES,
            Body::Masked(elements) | Body::Forwarded(_, elements) | Body::Checks(elements) => elements.len() * ELEMENT_BYTES,
            _ => 1024,
        }
    }
}

impl Body {
    const fn number(&self) -> u8 {
        match self {
            Self::SetKeys(_) => 0,
            Self::SetKeyDigests(_) => 1,
            Self::MaskShare(_) => 2,
            Self::Masked(_) => 3,
            Self::Votes(_) => 4,
            Self::Request(_) => 5,
            Self::Forwarded(..) => 6,
            Self::Checks(_) => 7,
            Self::Outcome(_) => 8,
        }
    }
}

/// Says whether a vector has one element for each bit of the secrets.
pub(super) fn is_whole(elements: &[Element], dimensions: KeyDimensions) -> bool {
    elements.len() == dimensions.total()
}

fn take(mut elements: Zeroizing<Vec<Element>>) -> Vec<Element> {
    std::mem::take(&mut *elements)
}

fn put_vector(out: &mut Vec<u8>, elements: &[Element]) {
    put_count(out, elements.len());
    put_elements(out, elements);
}

fn read_vector(reader: &mut Reader<'_>, max: usize) -> Result<Zeroizing<Vec<Element>>, ThresholdError> {
    let count = reader.count(max)?;
    reader.elements(count)
}

fn read_set_keys(reader: &mut Reader<'_>, new: CommitteeSize) -> Result<Vec<(PartySet, SetKey)>, ThresholdError> {
    let count = reader.count(new.mask_sets().len())?;
    let mut keys = Vec::with_capacity(count);
    for _ in 0..count {
        let set = PartySet::from_bits(reader.u16()?);
        keys.push((set, SetKey::new(Zeroizing::new(reader.array()?))));
    }
    Ok(keys)
}

fn read_votes(reader: &mut Reader<'_>) -> Result<Vec<Option<[u8; 32]>>, ThresholdError> {
    let count = reader.count(MAX_PARTIES.into())?;
    (0..count)
        .map(|_| {
            let got = match reader.byte()? {
                0 => false,
                1 => true,
                _ => return Err(reader.malformed("a vote is there or not")),
            };
            let digest = reader.array()?;
            Ok(got.then_some(digest))
        })
        .collect()
}

fn read_outcome(reader: &mut Reader<'_>, new: CommitteeSize) -> Result<Outcome, ThresholdError> {
    let transcript = reader.array()?;
    let share = reader.array()?;
    let count = reader.count(MAX_KNOWN_VALUES)?;
    let mut partials = Vec::with_capacity(count);
    for _ in 0..count {
        let length = reader.count(MAX_MESSAGE_BYTES)?;
        partials.push(PartialDecryption::from_bytes(new, reader.take(length)?)?);
    }
    Ok(Outcome {
        transcript,
        share,
        partials,
    })
}

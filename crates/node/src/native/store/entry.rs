//! What the index has for a block, as bytes: where it is, its header and certificate, and what its transactions did.
//!
//! Each value ends in the first 8 bytes of the keccak-256 of its key and itself, so that a damaged one is noticed by whoever reads it.

use alloy::consensus::{Header, ReceiptEnvelope};
use alloy::eips::{Decodable2718, Encodable2718};
use alloy::primitives::{Address, B256, Bytes, Keccak256, Log};
use cipherloom_primitives::quorum::{CommitCertificate, ValidatorSet};

use super::log::Place;
use crate::chain::block::Block;
use crate::native::codec::{Malformed, decode_exactly, encode_header};

/// Length of the checksum at the end of a value.
const SUM_BYTES: usize = 8;

/// Where a block is, and what proves it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) place: Place,
    pub(crate) hash: B256,
    pub(crate) header: Header,
    pub(crate) certificate: CommitCertificate,
}

/// What a transaction did, as far as it does not follow from the block.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) sender: Address,
    pub(crate) receipt: ReceiptEnvelope<Log>,
}

impl Entry {
    pub(super) fn encode(&self) -> Vec<u8> {
        let place = [self.place.start.to_be_bytes().as_slice(), &self.place.length.to_be_bytes()].concat();
        let fields: Vec<Bytes> = vec![place.into(), encode_header(&self.header), self.certificate.encode().into()];
        summed(self.place.number, alloy::rlp::encode(fields))
    }

    pub(super) fn decode(number: u64, value: &[u8]) -> Result<Self, Malformed> {
        let (place, header, certificate) = parts(number, value)?;
        let header: Header = decode_exactly(&header)?;
        if header.number != number {
            return Err(format!("the header is that of block {}", header.number));
        }
        Ok(Self {
            place,
            hash: header.hash_slow(),
            header,
            certificate: CommitCertificate::decode(&certificate).map_err(|error| error.to_string())?,
        })
    }

    /// The header alone, for those who look through many.
    pub(super) fn decode_header(number: u64, value: &[u8]) -> Result<Header, Malformed> {
        decode_exactly(&parts(number, value)?.1)
    }
}

fn parts(number: u64, value: &[u8]) -> Result<(Place, Bytes, Bytes), Malformed> {
    let fields = decode_exactly::<Vec<Bytes>>(checked(number, value)?)?;
    let [place, header, certificate] = <[Bytes; 3]>::try_from(fields).map_err(|_| "it does not have three parts".to_owned())?;
    let (start, length) = place.split_first_chunk::<8>().ok_or("it has no place")?;
    let length = <[u8; 4]>::try_from(length).map_err(|_| "its place has another length")?;
    let place = Place {
        number,
        start: u64::from_be_bytes(*start),
        length: u32::from_be_bytes(length),
    };
    Ok((place, header, certificate))
}

/// Writes what the transactions of a block did.
pub(super) fn encode_outcomes(block: &Block) -> Vec<u8> {
    let transactions = block.transactions.iter().zip(&block.receipts);
    let fields = transactions.flat_map(|(transaction, receipt)| {
        let sender = Bytes::copy_from_slice(transaction.sender.as_slice());
        [sender, receipt.envelope.encoded_2718().into()]
    });
    summed(block.header.number, alloy::rlp::encode(fields.collect::<Vec<Bytes>>()))
}

/// Reads what the transactions of a block did.
pub(super) fn decode_outcomes(number: u64, value: &[u8]) -> Result<Vec<Outcome>, Malformed> {
    let fields = decode_exactly::<Vec<Bytes>>(checked(number, value)?)?;
    let (pairs, rest) = fields.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("a sender without a receipt".to_owned());
    }
    let outcome = |[sender, receipt]: &[Bytes; 2]| {
        Ok(Outcome {
            sender: Address::try_from(sender.as_ref()).map_err(|error| error.to_string())?,
            receipt: ReceiptEnvelope::decode_2718_exact(receipt).map_err(|error| error.to_string())?,
        })
    };
    pairs.iter().map(outcome).collect()
}

/// Writes who signs from a block on.
pub(super) fn encode_set(first: u64, set: &ValidatorSet) -> Vec<u8> {
    summed(first, set.encode())
}

/// Reads who signs from a block on.
pub(super) fn decode_set(first: u64, value: &[u8]) -> Result<ValidatorSet, Malformed> {
    ValidatorSet::decode(checked(first, value)?).map_err(|error| error.to_string())
}

fn sum(number: u64, content: &[u8]) -> [u8; SUM_BYTES] {
    let mut hasher = Keccak256::new();
    hasher.update(number.to_be_bytes());
    hasher.update(content);
    hasher.finalize().0.first_chunk().copied().unwrap_or_default()
}

fn summed(number: u64, mut content: Vec<u8>) -> Vec<u8> {
    let sum = sum(number, &content);
    content.extend_from_slice(&sum);
    content
}

fn checked(number: u64, value: &[u8]) -> Result<&[u8], Malformed> {
    let (content, found) = value.split_last_chunk::<SUM_BYTES>().ok_or("it is too short")?;
    if sum(number, content) == *found {
        Ok(content)
    } else {
        Err("wrong checksum".to_owned())
    }
}

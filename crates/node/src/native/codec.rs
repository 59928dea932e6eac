//! Blocks and sidecars as bytes: what validators send each other, and what is kept on the disk.
//!
//! A block is the RLP of an Ethereum block (header, transactions, no ommers, no withdrawals). A sidecar is the RLP of two lists of byte strings:
//! handles and ciphertexts in turn, then input checks, each the check's key with the types that were found, or the key alone where the input was
//! refused.

use alloy::consensus::transaction::SignerRecoverable;
use alloy::consensus::{BlockBody, Header, TxEnvelope, Typed2718};
use alloy::eips::eip4895::Withdrawals;
use alloy::primitives::{B256, Bytes};
use alloy::rlp::{Decodable, Encodable};
use cipherloom_primitives::{FheType, Handle};

use super::checks::Verdicts;
use crate::chain::block::Block;
use crate::chain::pool::PoolTransaction;
use crate::exec::Sender;

/// EIP-2718 type of blob transactions, of which a block has none.
const BLOB_TYPE: u8 = 3;

/// Why bytes are not what they should be.
pub(crate) type Malformed = String;

/// A block that was not executed here yet.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedBlock {
    pub(crate) hash: B256,
    pub(crate) header: Header,
    pub(crate) transactions: Vec<PoolTransaction>,
}

/// What a block brings along for those who do not compute it themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sidecar {
    /// The ciphertexts that the block put into state.
    pub(crate) ciphertexts: Vec<(Handle, Bytes)>,
    /// What became of the checks of input proofs.
    pub(crate) verdicts: Verdicts,
}

/// Writes a block.
pub(crate) fn encode_block(block: &Block) -> Bytes {
    let body = BlockBody {
        transactions: block.transactions.iter().map(|transaction| transaction.envelope.clone()).collect(),
        ommers: Vec::new(),
        withdrawals: Some(Withdrawals::default()),
    };
    let header = block.header.clone();
    alloy::rlp::encode(alloy::consensus::Block { header, body }).into()
}

/// Reads a block, and who sent its transactions.
pub(crate) fn decode_block(bytes: &[u8]) -> Result<ReceivedBlock, Malformed> {
    let alloy::consensus::Block { header, body } = decode_exactly::<alloy::consensus::Block<TxEnvelope>>(bytes)?;
    if !body.ommers.is_empty() || body.withdrawals.is_none_or(|withdrawals| !withdrawals.is_empty()) {
        return Err("it has ommers or withdrawals".to_owned());
    }
    let transactions = body.transactions.into_iter().map(|envelope| {
        if envelope.ty() == BLOB_TYPE {
            return Err("it has a transaction with blobs".to_owned());
        }
        let sender = envelope
            .recover_signer()
            .map_err(|_| format!("the signature of transaction {} is not valid", envelope.tx_hash()))?;
        Ok(PoolTransaction {
            hash: *envelope.tx_hash(),
            sender,
            envelope,
            kind: Sender::Signed,
        })
    });
    let block = ReceivedBlock {
        hash: header.hash_slow(),
        transactions: transactions.collect::<Result<_, _>>()?,
        header,
    };
    Ok(block)
}

impl Sidecar {
    pub(crate) fn encode(&self) -> Bytes {
        let ciphertexts = self
            .ciphertexts
            .iter()
            .flat_map(|(handle, bytes)| [Bytes::copy_from_slice(handle.as_slice()), bytes.clone()]);
        let verdicts = self.verdicts.iter().map(|(key, types)| {
            let types = types.iter().flatten().map(|ty| ty.id());
            key.iter().copied().chain(types).collect::<Bytes>()
        });
        let lists: Vec<Vec<Bytes>> = vec![ciphertexts.collect(), verdicts.collect()];
        alloy::rlp::encode(lists).into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let lists = decode_exactly::<Vec<Vec<Bytes>>>(bytes)?;
        let [ciphertexts, verdicts] = <[Vec<Bytes>; 2]>::try_from(lists).map_err(|_| "it is not made of two lists".to_owned())?;
        let (pairs, rest) = ciphertexts.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("a handle without a ciphertext".to_owned());
        }
        let ciphertexts = pairs.iter().map(|[handle, bytes]| {
            let handle = Handle::try_from(handle.as_ref()).map_err(|error| error.to_string())?;
            Ok((handle, bytes.clone()))
        });
        let verdicts = verdicts.iter().map(|verdict| {
            let (key, types) = verdict.split_first_chunk::<32>().ok_or("an input check without a key")?;
            let types = types.iter().map(|id| FheType::try_from(*id).map_err(|error| error.to_string()));
            let types = types.collect::<Result<Vec<_>, _>>()?;
            // A list without values is refused by everybody, so that no types can stand for a refusal.
            Ok::<_, String>((B256::from(*key), (!types.is_empty()).then_some(types)))
        });
        Ok(Self {
            ciphertexts: ciphertexts.collect::<Result<_, String>>()?,
            verdicts: verdicts.collect::<Result<_, _>>()?,
        })
    }
}

/// Reads one RLP item that takes up all bytes.
pub(crate) fn decode_exactly<T: Decodable>(mut bytes: &[u8]) -> Result<T, Malformed> {
    let item = T::decode(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.is_empty() {
        Ok(item)
    } else {
        Err(format!("{} bytes too many", bytes.len()))
    }
}

/// The RLP of a header.
pub(crate) fn encode_header(header: &Header) -> Bytes {
    let mut out = Vec::with_capacity(header.length());
    header.encode(&mut out);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sidecars_come_back_and_damaged_ones_are_refused() {
        let mut handle = [7u8; 32];
        (handle[30], handle[31]) = (5, 0);
        let sidecar = Sidecar {
            ciphertexts: vec![(Handle::try_from(B256::from(handle)).unwrap(), Bytes::from_static(b"ciphertext"))],
            verdicts: Verdicts::from([
                (B256::repeat_byte(1), Some(vec![FheType::Bool, FheType::Uint64])),
                (B256::repeat_byte(2), None),
            ]),
        };
        let bytes = sidecar.encode();
        assert_eq!(Sidecar::decode(&bytes).unwrap(), sidecar);
        assert_eq!(Sidecar::decode(&Sidecar::default().encode()).unwrap(), Sidecar::default());
        for cut in 0..bytes.len() {
            assert!(Sidecar::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(Sidecar::decode(&[&bytes[..], &[0]].concat()).is_err());
        let odd: Vec<Vec<Bytes>> = vec![vec![Bytes::from_static(&[1; 32])], vec![]];
        assert!(Sidecar::decode(&alloy::rlp::encode(odd)).is_err());
    }
}

//! Whether the logs that a node gives for a block are the logs of that block, all of them.
//!
//! A node can be asked while its index of logs is behind its blocks, or be one of several behind one URL that do not agree. So logs are asked for by the
//! hash of their block and checked: each must name that block, numbers in the block must be different, and if the header's bloom filter may contain a
//! contract's address, the contract must have logs. If it has none, the receipts of the block are read and compared with the receipts root of the
//! header: that settles it, since bloom filters also match by chance.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
};

use alloy::{
    consensus::{ReceiptEnvelope, proofs::calculate_receipt_root},
    primitives::BloomInput,
    rpc::types::{Header, Log},
    transports::RpcError,
};
use cipherloom_primitives::Address;

use crate::{error::ChainError, host_chain::HostChain};

/// How often receipts must have been unusable, one time after the other and never usable, until a chain is taken for one without.
const CERTAINLY_NONE: u32 = 6;

/// The count of a chain whose receipts were usable.
const USABLE: u32 = u32::MAX;

/// What is known about a chain's receipts.
#[derive(Debug, Default)]
pub(crate) struct ReceiptsSeen(AtomicU32);

impl ReceiptsSeen {
    fn were_usable(&self) {
        self.0.store(USABLE, Ordering::Relaxed);
    }

    /// Notes that receipts were unusable; says whether the chain can be taken for one without.
    fn were_unusable(&self) -> bool {
        let counted = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count != USABLE).then_some(count.saturating_add(1).min(CERTAINLY_NONE))
        });
        counted.is_ok_and(|before| before.saturating_add(1) >= CERTAINLY_NONE)
    }
}

/// Reads the logs of the executor and the ACL in a block. With `all_receipts` they always come from receipts that were checked against the header.
pub(crate) async fn logs_of(chain: &HostChain, header: &Header, all_receipts: bool, seen: &ReceiptsSeen) -> Result<Vec<Log>, ChainError> {
    let contracts = [chain.addresses().executor, chain.addresses().acl];
    if all_receipts {
        return match from_receipts(chain, header, &contracts).await? {
            Some(logs) => Ok(logs),
            None => Err(contradiction(
                chain,
                "eth_getBlockReceipts",
                format!("no receipts of block {} have its receipts root", header.number),
            )),
        };
    }
    let logs = checked(chain, header, &contracts, chain.logs_of_block(header.hash).await?)?;
    if contracts.iter().all(|contract| !lacks(header, *contract, &logs)) {
        return Ok(logs);
    }
    let unusable = match from_receipts(chain, header, &contracts).await {
        Ok(Some(logs)) => {
            seen.were_usable();
            return Ok(logs);
        }
        Ok(None) => contradiction(
            chain,
            "eth_getBlockReceipts",
            format!("no receipts of block {} have its receipts root", header.number),
        ),
        Err(error) if means_no_receipts(&error) => error,
        Err(error) => return Err(error),
    };
    if !seen.were_unusable() {
        return Err(unusable);
    }
    // Chains with receipts of their own cannot be checked. Asked again, a node has caught up with its own index, or the bloom filter matched by chance.
    tracing::debug!(
        block = header.number,
        "the bloom filter announces logs that are not there, and there are no receipts to tell"
    );
    checked(chain, header, &contracts, chain.logs_of_block(header.hash).await?)
}

/// Says whether an error is one of a node that has no receipts, or none that can be read.
fn means_no_receipts(error: &ChainError) -> bool {
    match error {
        ChainError::Refused { .. } => !error.is_retryable(),
        ChainError::Transport { source, .. } => matches!(source.as_ref(), RpcError::DeserError { .. }),
        _ => false,
    }
}

/// Says whether a header announces logs of a contract, and there are none. Some chains leave the filter empty.
fn lacks(header: &Header, contract: Address, logs: &[Log]) -> bool {
    header.logs_bloom.contains_input(BloomInput::Raw(contract.as_slice())) && !logs.iter().any(|log| log.address() == contract)
}

/// Checks that logs are different ones of this block and these contracts, and puts them in order.
pub(crate) fn checked(chain: &HostChain, header: &Header, contracts: &[Address], logs: Vec<Log>) -> Result<Vec<Log>, ChainError> {
    let mut ordered = BTreeMap::new();
    for log in logs {
        // A log of a removed block: the chain moved between two questions.
        if log.removed || log.block_hash.is_some_and(|hash| hash != header.hash) {
            return Err(ChainError::BlockGone(header.number));
        }
        let (Some(_), Some(_), Some(_), Some(index)) = (log.block_hash, log.transaction_hash, log.transaction_index, log.log_index) else {
            return Err(contradiction(
                chain,
                "eth_getLogs",
                format!("a log of block {} does not say where it is", header.number),
            ));
        };
        if log.block_number.is_some_and(|number| number != header.number) || !contracts.contains(&log.address()) {
            return Err(contradiction(
                chain,
                "eth_getLogs",
                format!("block {} has logs that were not asked for", header.number),
            ));
        }
        match ordered.get(&index) {
            None => {
                ordered.insert(index, log);
            }
            Some(same) if *same == log => {}
            Some(_) => {
                return Err(contradiction(
                    chain,
                    "eth_getLogs",
                    format!("block {} has two logs with number {index}", header.number),
                ));
            }
        }
    }
    let logs: Vec<Log> = ordered.into_values().collect();
    if !logs
        .windows(2)
        .all(|pair| matches!(pair, [one, next] if one.transaction_index <= next.transaction_index))
    {
        return Err(contradiction(
            chain,
            "eth_getLogs",
            format!("the logs of block {} are not in the order of their transactions", header.number),
        ));
    }
    Ok(logs)
}

/// Reads logs from the receipts of a block; nothing if the node has none, or they are not those of the header.
async fn from_receipts(chain: &HostChain, header: &Header, contracts: &[Address]) -> Result<Option<Vec<Log>>, ChainError> {
    let Some(receipts) = chain.receipts_of_block(header.hash).await? else {
        return Err(ChainError::BlockGone(header.number));
    };
    let plain = receipts.iter().map(|receipt| receipt.clone().into_primitives_receipt().inner);
    let plain: Vec<ReceiptEnvelope> = plain.collect();
    if calculate_receipt_root(&plain) != header.receipts_root {
        return Ok(None);
    }
    let logs = receipts.into_iter().flat_map(|receipt| receipt.logs().to_vec());
    let logs = logs.filter(|log| contracts.contains(&log.address())).collect();
    checked(chain, header, contracts, logs).map(Some)
}

/// Builds [`ChainError::Contradiction`].
pub(crate) fn contradiction(chain: &HostChain, method: &'static str, reason: String) -> ChainError {
    ChainError::Contradiction {
        method,
        node: chain.node_label().to_owned(),
        reason,
    }
}

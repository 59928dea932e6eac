//! Chain data in the form of the Ethereum JSON-RPC API.

use alloy::consensus::BlockBody;
use alloy::consensus::transaction::Recovered;
use alloy::consensus::{ReceiptEnvelope, Transaction as _};
use alloy::eips::eip4895::Withdrawals;
use alloy::network::primitives::BlockTransactions;
use alloy::primitives::{B256, U256};
use alloy::rlp::Encodable;
use alloy::rpc::types::{Header, Log, Transaction, TransactionReceipt};
use serde::Serialize;
use serde_json::Value;

use crate::chain::Chain;
use crate::chain::block::{Block, MinedTransaction};
use crate::chain::logs::block_logs;
use crate::chain::pool::PoolTransaction;
use crate::error::{NodeError, Result};

/// What `web3_clientVersion` reports. Tools look at its beginning to find out whether there are the methods of development
/// chains (Hardhat's network helpers refuse to work otherwise), so it begins like that of the one whose methods these are.
pub(crate) const CLIENT_VERSION: &str = concat!("anvil/cipherloom-node/", env!("CARGO_PKG_VERSION"));

/// JSON of a result.
pub(crate) fn json(value: impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| NodeError::Internal(error.to_string()))
}

/// JSON of an unsigned number as a hex quantity.
pub(crate) fn quantity(value: impl Into<u128>) -> Value {
    Value::String(format!("{:#x}", value.into()))
}

/// A block header as `newHeads` sends it.
pub(crate) fn header(block: &Block) -> Header {
    let body = BlockBody {
        transactions: block.transactions.iter().map(|transaction| transaction.envelope.clone()).collect(),
        ommers: Vec::new(),
        withdrawals: Some(Withdrawals::default()),
    };
    let size = alloy::consensus::Block {
        header: block.header.clone(),
        body,
    }
    .length();
    Header {
        hash: block.hash,
        inner: block.header.clone(),
        total_difficulty: Some(U256::ZERO),
        size: Some(U256::from(size)),
    }
}

/// A block with its transactions in full or as hashes.
pub(crate) fn block(block: &Block, full: bool) -> alloy::rpc::types::Block {
    let transactions = if full {
        BlockTransactions::Full(
            (0..block.transactions.len())
                .filter_map(|index| transaction(block, index))
                .collect(),
        )
    } else {
        BlockTransactions::Hashes(block.transactions.iter().map(|transaction| transaction.hash).collect())
    };
    alloy::rpc::types::Block::new(header(block), transactions).with_withdrawals(Some(Withdrawals::default()))
}

/// A mined transaction.
pub(crate) fn transaction(block: &Block, index: usize) -> Option<Transaction> {
    let MinedTransaction { sender, envelope, .. } = block.transactions.get(index)?;
    Some(Transaction {
        inner: Recovered::new_unchecked(envelope.clone(), *sender),
        block_hash: Some(block.hash),
        block_number: Some(block.header.number),
        transaction_index: u64::try_from(index).ok(),
        effective_gas_price: block.receipts.get(index).map(|receipt| receipt.effective_gas_price),
        block_timestamp: Some(block.header.timestamp),
    })
}

/// A waiting transaction.
pub(crate) fn pending_transaction(transaction: &PoolTransaction) -> Transaction {
    Transaction {
        inner: Recovered::new_unchecked(transaction.envelope.clone(), transaction.sender),
        block_hash: None,
        block_number: None,
        transaction_index: None,
        effective_gas_price: None,
        block_timestamp: None,
    }
}

/// A transaction that is mined or waits.
pub(crate) fn transaction_of(chain: &Chain, hash: &B256) -> Result<Option<Transaction>> {
    let waiting = {
        let core = chain.core()?;
        match core.mined_transaction(hash) {
            Some((block, index)) => return Ok(transaction(&block, index)),
            None => core.pool.get(hash).map(pending_transaction),
        }
    };
    if waiting.is_some() {
        return Ok(waiting);
    }
    let mined = chain.mined_transaction(hash)?;
    Ok(mined.and_then(|(block, index)| transaction(&block, index)))
}

/// The receipt of a mined transaction.
pub(crate) fn receipt(block: &Block, index: usize) -> Option<TransactionReceipt> {
    let transaction = block.transactions.get(index)?;
    let receipt = block.receipts.get(index)?;
    let hash: B256 = transaction.hash;
    let mut logs = block_logs(block, false).filter(|log| log.transaction_hash == Some(hash));
    let inner: ReceiptEnvelope<Log> = receipt.envelope.clone().map_logs(|log| {
        // The iterator yields exactly this receipt's logs, in the same order.
        logs.next().unwrap_or(Log {
            inner: log,
            ..Log::default()
        })
    });
    Some(TransactionReceipt {
        inner,
        transaction_hash: hash,
        transaction_index: u64::try_from(index).ok(),
        block_hash: Some(block.hash),
        block_number: Some(block.header.number),
        gas_used: receipt.gas_used,
        effective_gas_price: receipt.effective_gas_price,
        blob_gas_used: None,
        blob_gas_price: None,
        from: transaction.sender,
        to: transaction.envelope.to(),
        contract_address: receipt.contract_address,
    })
}

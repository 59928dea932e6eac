//! Blocks, and how one is sealed: execution results become roots, a bloom and a hash.

use std::sync::Arc;

use alloy::consensus::constants::EMPTY_WITHDRAWALS;
use alloy::consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy::consensus::{EMPTY_OMMER_ROOT_HASH, Header, Receipt, ReceiptEnvelope, ReceiptWithBloom, Transaction, TxEnvelope};
use alloy::eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy::primitives::{Address, B64, B256, Bloom, Bytes, Log, U256, keccak256};
use revm::context::result::ExecutionResult;

use crate::exec::BlockContext;
use crate::native::rules::NativeRules;

/// A sealed block with everything known about it.
#[derive(Debug)]
pub struct Block {
    /// Hash of [`Self::header`].
    pub hash: B256,
    /// The header; its roots are true.
    pub header: Header,
    /// Transactions in order of execution.
    pub transactions: Vec<MinedTransaction>,
    /// One receipt per transaction.
    pub receipts: Vec<MinedReceipt>,
    /// On a native chain, what repeats the block's execution without checking its inputs again.
    pub(crate) native: Option<Arc<NativeRules>>,
}

/// A transaction of a block.
#[derive(Clone, Debug)]
pub struct MinedTransaction {
    /// Transaction hash.
    pub hash: B256,
    /// Who sent it: recovered from the signature or, for impersonated transactions, declared.
    pub sender: Address,
    /// The signed transaction. The signature of an impersonated transaction is a placeholder.
    pub envelope: TxEnvelope,
}

/// What a transaction of a block did.
#[derive(Clone, Debug)]
pub struct MinedReceipt {
    /// Status, cumulative gas, bloom and logs, as committed to by the header.
    pub envelope: ReceiptEnvelope<Log>,
    /// Gas that this transaction used.
    pub gas_used: u64,
    /// Price paid, in wei per gas.
    pub effective_gas_price: u128,
    /// Address of the contract that the transaction created or, if it failed, would have created.
    pub contract_address: Option<Address>,
    /// Index of the transaction's first log within the block.
    pub first_log_index: u64,
}

impl MinedReceipt {
    /// A receipt with what follows from its transaction and from the receipt before it in the block.
    pub(crate) fn after(before: Option<&Self>, transaction: &MinedTransaction, envelope: ReceiptEnvelope<Log>, base_fee: u64) -> Self {
        let used_before = before.map_or(0, |before| before.envelope.cumulative_gas_used());
        let first_log_index = before.map_or(0, |before| {
            let logs = u64::try_from(before.logs().len()).unwrap_or(u64::MAX);
            before.first_log_index.saturating_add(logs)
        });
        // The address is determined by sender and nonce, also when the creation fails.
        let contract_address = transaction
            .envelope
            .is_create()
            .then(|| transaction.sender.create(transaction.envelope.nonce()));
        Self {
            gas_used: envelope.cumulative_gas_used().saturating_sub(used_before),
            envelope,
            effective_gas_price: transaction.envelope.effective_gas_price(Some(base_fee)),
            contract_address,
            first_log_index,
        }
    }

    /// Returns whether the transaction succeeded.
    pub fn is_success(&self) -> bool {
        self.envelope.status()
    }

    /// Returns the logs of the transaction.
    pub fn logs(&self) -> &[Log] {
        self.envelope.logs()
    }
}

/// Collects executed transactions of the block being made.
#[derive(Debug, Default)]
pub(crate) struct BlockBuilder {
    transactions: Vec<MinedTransaction>,
    receipts: Vec<MinedReceipt>,
    gas_used: u64,
}

impl BlockBuilder {
    pub(crate) fn gas_used(&self) -> u64 {
        self.gas_used
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    pub(crate) fn push(&mut self, transaction: MinedTransaction, result: ExecutionResult, base_fee: u64) {
        let gas_used = result.tx_gas_used();
        self.gas_used = self.gas_used.saturating_add(gas_used);
        let status = result.is_success();
        // A failed transaction leaves no logs.
        let logs = if status { result.into_logs() } else { Vec::new() };
        let receipt = Receipt {
            status: status.into(),
            cumulative_gas_used: self.gas_used,
            logs,
        };
        let receipt: ReceiptWithBloom<Receipt> = receipt.into();
        let envelope = ReceiptEnvelope::from_typed(transaction.envelope.tx_type(), receipt);
        let receipt = MinedReceipt::after(self.receipts.last(), &transaction, envelope, base_fee);
        self.receipts.push(receipt);
        self.transactions.push(transaction);
    }

    pub(crate) fn seal(self, parent_hash: B256, context: &BlockContext, state_root: B256, extra_data: Bytes) -> Block {
        let envelopes = self
            .transactions
            .iter()
            .map(|transaction| &transaction.envelope)
            .cloned()
            .collect::<Vec<_>>();
        let receipts = self.receipts.iter().map(|receipt| receipt.envelope.clone()).collect::<Vec<_>>();
        let logs_bloom = receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | *receipt.logs_bloom());
        let header = Header {
            parent_hash,
            ommers_hash: EMPTY_OMMER_ROOT_HASH,
            beneficiary: context.coinbase,
            state_root,
            transactions_root: calculate_transaction_root(&envelopes),
            receipts_root: calculate_receipt_root(&receipts),
            logs_bloom,
            difficulty: U256::ZERO,
            number: context.number.saturating_to(),
            gas_limit: context.gas_limit,
            gas_used: self.gas_used,
            timestamp: context.timestamp.saturating_to(),
            extra_data,
            mix_hash: context.prevrandao,
            nonce: B64::ZERO,
            base_fee_per_gas: Some(context.base_fee),
            withdrawals_root: Some(EMPTY_WITHDRAWALS),
            blob_gas_used: Some(0),
            excess_blob_gas: Some(0),
            parent_beacon_block_root: Some(B256::ZERO),
            requests_hash: Some(EMPTY_REQUESTS_HASH),
            ..Header::default()
        };
        Block {
            hash: header.hash_slow(),
            header,
            transactions: self.transactions,
            receipts: self.receipts,
            native: None,
        }
    }
}

/// The PREVRANDAO of the block after `parent_hash`: unpredictable in no way, but deterministic,
/// so that executing the journal again gives the same blocks.
pub(crate) fn prevrandao_after(parent_hash: B256) -> B256 {
    keccak256([b"cipherloom development prevrandao".as_slice(), parent_hash.as_slice()].concat())
}

//! Transactions on their way in: decoding, filling in what is missing, signing.

use alloy::consensus::transaction::SignerRecoverable;
use alloy::consensus::{SignableTransaction, TxEnvelope, TypedTransaction};
use alloy::eips::{BlockId, Decodable2718, Encodable2718};
use alloy::primitives::{Address, B256, Bytes, Signature, TxKind, U256};
use alloy::rpc::types::TransactionRequest;
use tokio::sync::broadcast;

use super::pool::PoolTransaction;
use super::{Chain, DevChain};
use crate::accounts::DevAccount;
use crate::error::{NodeError, Result};
use crate::exec::{Sender, blobs_unsupported};

/// EIP-2718 type of blob transactions.
const BLOB_TYPE: u8 = 3;

impl Chain {
    /// Takes a signed transaction and returns its hash.
    ///
    /// On a development chain with automining (the default), the transaction is in a block when this returns, unless it
    /// waits for an earlier nonce. A transaction that reverts is mined and not an error.
    ///
    /// # Errors
    ///
    /// [`NodeError::InvalidTransaction`], [`NodeError::NonceTooLow`], [`NodeError::InsufficientFunds`],
    /// [`NodeError::FeeTooLow`], [`NodeError::AlreadyKnown`], [`NodeError::ReplacementUnderpriced`],
    /// [`NodeError::PoolFull`], [`NodeError::LimitExceeded`] or [`NodeError::Io`].
    pub fn send_raw_transaction(&self, raw: &[u8]) -> Result<B256> {
        let hash = self.take_transaction(raw)?;
        // Sending fails only when nobody passes transactions on.
        let _ = self.inner.sent.send(Bytes::copy_from_slice(raw));
        Ok(hash)
    }

    /// Subscribes to the raw transactions that clients send to this node from now on, and that were taken.
    pub fn sent_transactions(&self) -> broadcast::Receiver<Bytes> {
        self.inner.sent.subscribe()
    }

    /// As [`Self::send_raw_transaction`], for a transaction that others know already: it is not passed on.
    pub(crate) fn take_transaction(&self, raw: &[u8]) -> Result<B256> {
        let limit = self.limits().transaction_size_bytes;
        if raw.len() > limit {
            return Err(NodeError::LimitExceeded(format!(
                "oversized data: transaction size {}, limit {limit}",
                raw.len()
            )));
        }
        if raw.first() == Some(&BLOB_TYPE) {
            return Err(blobs_unsupported());
        }
        let envelope = TxEnvelope::decode_2718_exact(raw)
            .map_err(|error| NodeError::InvalidTransaction(format!("failed to decode signed transaction: {error}")))?;
        let sender = envelope
            .recover_signer()
            .map_err(|_| NodeError::InvalidTransaction("invalid sender: the signature is not valid".to_owned()))?;
        let transaction = PoolTransaction {
            hash: *envelope.tx_hash(),
            sender,
            envelope,
            kind: Sender::Signed,
        };
        self.change(|core| core.submit(transaction))
    }
}

impl DevChain {
    /// Sends a transaction in the name of a development account or an impersonated one, filling
    /// in nonce, gas and fees where they are missing.
    ///
    /// # Errors
    ///
    /// [`NodeError::UnknownAccount`], the errors of [`Chain::estimate_gas`] and of
    /// [`Chain::send_raw_transaction`].
    pub fn send_transaction(&self, request: TransactionRequest) -> Result<B256> {
        let sender = self.sender_of(&request)?;
        match self.unlocked(&sender) {
            Some(account) => self.send_raw_transaction(&sign(self.fill(request, sender)?, account)?.encoded_2718()),
            None if self.is_impersonated(&sender)? => self.send_unsigned_transaction(request),
            None => Err(NodeError::UnknownAccount(sender)),
        }
    }

    /// Sends a transaction in anybody's name, without a signature and without
    /// [impersonation](Self::impersonate) having been asked for, filling in what is missing.
    ///
    /// # Errors
    ///
    /// The errors of [`Chain::estimate_gas`] and of [`Chain::send_raw_transaction`].
    pub fn send_unsigned_transaction(&self, request: TransactionRequest) -> Result<B256> {
        let sender = self.sender_of(&request)?;
        let transaction = self.fill(request, sender)?;
        let envelope = TxEnvelope::from(transaction.into_signed(impersonation_mark(sender)));
        let transaction = PoolTransaction {
            hash: *envelope.tx_hash(),
            sender,
            envelope,
            kind: Sender::Impersonated,
        };
        self.change(|core| core.submit(transaction))
    }

    /// Fills in and signs a transaction for a development account, without sending it.
    ///
    /// # Errors
    ///
    /// [`NodeError::UnknownAccount`] and the errors of [`Chain::estimate_gas`].
    pub fn sign_transaction(&self, request: TransactionRequest) -> Result<Bytes> {
        let sender = self.sender_of(&request)?;
        let account = self.unlocked(&sender).ok_or(NodeError::UnknownAccount(sender))?;
        Ok(sign(self.fill(request, sender)?, account)?.encoded_2718().into())
    }

    /// Lets [`Self::send_transaction`] send in the name of `address` without a key, or stops it.
    ///
    /// # Errors
    ///
    /// Only [`NodeError::Internal`], after a panic inside the chain.
    pub fn impersonate(&self, address: Address, on: bool) -> Result<()> {
        self.change(|core| {
            if on && core.impersonated.len() >= core.config.limits.filter_alternatives {
                return Err(NodeError::LimitExceeded("too many impersonated accounts".to_owned()));
            }
            if on {
                core.impersonated.insert(address)
            } else {
                core.impersonated.remove(&address)
            };
            Ok(())
        })
    }

    /// Lets [`Self::send_transaction`] send in anybody's name, or stops it.
    ///
    /// # Errors
    ///
    /// Only [`NodeError::Internal`], after a panic inside the chain.
    pub fn impersonate_all(&self, on: bool) -> Result<()> {
        self.change(|core| {
            core.impersonate_all = on;
            Ok(())
        })
    }

    /// The development account with this address.
    pub(crate) fn unlocked(&self, address: &Address) -> Option<&DevAccount> {
        self.accounts()
            .iter()
            .chain(self.deployer())
            .find(|account| account.address() == *address)
    }

    fn is_impersonated(&self, address: &Address) -> Result<bool> {
        let core = self.core()?;
        Ok(core.impersonate_all || core.impersonated.contains(address))
    }

    fn sender_of(&self, request: &TransactionRequest) -> Result<Address> {
        request
            .from
            .or_else(|| self.accounts().first().map(DevAccount::address))
            .ok_or_else(|| NodeError::InvalidParams("missing from".to_owned()))
    }

    fn fill(&self, mut request: TransactionRequest, sender: Address) -> Result<TypedTransaction> {
        if request.blob_versioned_hashes.is_some() || request.sidecar.is_some() || request.transaction_type == Some(BLOB_TYPE) {
            return Err(blobs_unsupported());
        }
        request.from = Some(sender);
        request.to = Some(request.to.unwrap_or(TxKind::Create));
        if request.gas.is_none() {
            request.gas = Some(self.estimate_gas(&request, BlockId::pending())?);
        }
        request.normalize_input();
        request.chain_id = Some(request.chain_id.unwrap_or(self.chain_id()));
        request.value = Some(request.value.unwrap_or(U256::ZERO));
        if request.nonce.is_none() {
            request.nonce = Some(self.nonce(sender, BlockId::pending())?);
        }
        if request.gas_price.is_none() {
            let tip = request.max_priority_fee_per_gas.unwrap_or_default();
            let base_fee = u128::from(self.core()?.next_base_fee());
            request.max_priority_fee_per_gas = Some(tip);
            request.max_fee_per_gas = Some(request.max_fee_per_gas.unwrap_or(base_fee.saturating_mul(2).saturating_add(tip)));
        }
        typed(request)
    }
}

/// The transaction that a complete request describes.
pub(super) fn typed(request: TransactionRequest) -> Result<TypedTransaction> {
    request.build_typed_tx().map_err(|request| {
        NodeError::InvalidParams(format!(
            "the fields do not make a transaction: {:?}",
            request.missing_keys().err().unwrap_or_default()
        ))
    })
}

fn sign(transaction: TypedTransaction, account: &DevAccount) -> Result<TxEnvelope> {
    let signature = account.sign_digest(&transaction.signature_hash())?;
    Ok(transaction.into_signed(signature).into())
}

/// The stand-in for the signature of an impersonated transaction. It carries the sender, so that
/// the same call from two senders has two hashes; nobody can recover a key from it.
fn impersonation_mark(sender: Address) -> Signature {
    Signature::new(U256::from_be_bytes(sender.into_word().0), U256::from(1), false)
}

//! Transactions of an account that are signed by us: made, offered to nodes, and looked for.
//!
//! [`crate::TransactionSender`] does all of it in one go; whoever has to write a transaction down before it is sent uses these steps.

use alloy::{
    consensus::{Transaction, TxEnvelope},
    eips::{BlockNumberOrTag, Decodable2718, Encodable2718},
    network::{EthereumWallet, NetworkTransactionBuilder},
    primitives::{Address, B256, Bytes, TxKind, U256},
    rpc::types::{TransactionReceipt, TransactionRequest, state::StateOverride},
    signers::local::PrivateKeySigner,
};

use crate::{error::ChainError, events::BlockId, fees::Fees, host_chain::HostChain};

/// A transaction before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsignedTransaction {
    /// The called account.
    pub to: Address,
    /// The call data.
    pub data: Bytes,
    /// The wei that go with it.
    pub value: U256,
    /// The most gas that it may use.
    pub gas_limit: u64,
    /// Its nonce.
    pub nonce: u64,
    /// What it pays.
    pub fees: Fees,
}

impl UnsignedTransaction {
    /// Reads what a signed transaction does.
    ///
    /// # Errors
    /// [`ChainError::Signing`] if the bytes are none of a call.
    pub fn of_signed(raw: &[u8]) -> Result<Self, ChainError> {
        let unreadable = |reason: String| ChainError::Signing {
            name: "a signed transaction".to_owned(),
            reason,
        };
        let envelope = TxEnvelope::decode_2718(&mut &*raw).map_err(|error| unreadable(error.to_string()))?;
        let TxKind::Call(to) = envelope.kind() else {
            return Err(unreadable("it calls nobody".to_owned()));
        };
        let fees = match envelope.max_priority_fee_per_gas() {
            Some(tip) => Fees::Dynamic {
                max_fee: envelope.max_fee_per_gas(),
                tip,
            },
            None => Fees::Legacy {
                price: envelope.max_fee_per_gas(),
            },
        };
        Ok(Self {
            to,
            data: envelope.input().clone(),
            value: envelope.value(),
            gas_limit: envelope.gas_limit(),
            nonce: envelope.nonce(),
            fees,
        })
    }

    /// Returns the most that it can cost, in wei.
    #[must_use]
    pub fn most(&self) -> U256 {
        let gas = U256::from(self.gas_limit).saturating_mul(U256::from(self.fees.most()));
        gas.saturating_add(self.value)
    }
}

/// A transaction that can be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedTransaction {
    /// Its hash.
    pub hash: B256,
    /// Its bytes.
    pub raw: Vec<u8>,
}

/// Signs transactions of one account on one chain.
#[derive(Debug)]
pub struct TransactionSigner {
    wallet: EthereumWallet,
    account: Address,
    chain_id: u64,
}

impl TransactionSigner {
    /// Signs with this key.
    #[must_use]
    pub fn new(signer: PrivateKeySigner, chain_id: u64) -> Self {
        Self {
            account: signer.address(),
            wallet: EthereumWallet::from(signer),
            chain_id,
        }
    }

    /// Returns the account.
    #[must_use]
    pub const fn account(&self) -> Address {
        self.account
    }

    /// Signs a transaction. Signing the same one again gives the same bytes.
    ///
    /// # Errors
    /// [`ChainError::Signing`].
    pub async fn sign(&self, transaction: &UnsignedTransaction) -> Result<SignedTransaction, ChainError> {
        let mut request = TransactionRequest::default()
            .from(self.account)
            .to(transaction.to)
            .input(transaction.data.clone().into())
            .value(transaction.value)
            .gas_limit(transaction.gas_limit)
            .nonce(transaction.nonce);
        request.chain_id = Some(self.chain_id);
        let envelope = transaction
            .fees
            .apply(request)
            .build(&self.wallet)
            .await
            .map_err(|error| ChainError::Signing {
                name: format!("transaction {} of {}", transaction.nonce, self.account),
                reason: error.to_string(),
            })?;
        Ok(SignedTransaction {
            hash: *envelope.tx_hash(),
            raw: envelope.encoded_2718(),
        })
    }
}

/// What a node made of a transaction it was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It has it.
    Yes,
    /// The nonce was used by another transaction.
    NonceUsed,
    /// Another transaction with the nonce is pending and pays too much to be replaced by this one; or the node takes nothing that cheap.
    Underpriced,
}

/// What became of an included transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionOutcome {
    /// Its block.
    pub block: BlockId,
    /// Whether it did what it was to do; if not, it changed nothing and was paid for.
    pub succeeded: bool,
    /// The gas it used.
    pub gas_used: u64,
    /// What a unit of gas was paid, in wei.
    pub gas_price: u128,
}

impl HostChain {
    /// Offers signed bytes to the chain's node. Nodes word their refusals differently; those that are no failure are sorted out here. Offering the same
    /// bytes again changes nothing.
    ///
    /// # Errors
    /// [`ChainError::Refused`] for what is a failure, and as all reads.
    pub async fn offer(&self, raw: &[u8]) -> Result<Taken, ChainError> {
        let Err(error) = self.send_raw(raw).await else {
            return Ok(Taken::Yes);
        };
        let ChainError::Refused { message, .. } = &error else {
            return Err(error);
        };
        let message = message.to_lowercase().replace([' ', '_'], "");
        let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
        if says(&[
            "alreadyknown",
            "knowntransaction",
            "alreadyimported",
            "alreadyinpool",
            "existingtxwithsamehash",
        ]) {
            Ok(Taken::Yes)
        } else if says(&["noncetoolow", "oldnonce", "noncealready", "noncehasalready"]) {
            Ok(Taken::NonceUsed)
        } else if says(&[
            "underpriced",
            "couldnotreplace",
            "replacementnotallowed",
            "feetoolow",
            "replacementtransaction",
        ]) {
            Ok(Taken::Underpriced)
        } else {
            Err(error)
        }
    }

    /// Says what became of a transaction; nothing if it is in no block that the node knows.
    ///
    /// # Errors
    /// As all reads of a chain.
    pub async fn outcome(&self, transaction: B256) -> Result<Option<TransactionOutcome>, ChainError> {
        let receipt: Option<TransactionReceipt> = self.receipt(transaction).await?;
        Ok(receipt.and_then(|receipt| {
            Some(TransactionOutcome {
                block: BlockId {
                    number: receipt.block_number?,
                    hash: receipt.block_hash?,
                },
                succeeded: receipt.status(),
                gas_used: receipt.gas_used,
                gas_price: receipt.effective_gas_price,
            })
        }))
    }

    /// Returns the gas that a call of an account uses now. The account need not have a key, nor what it gives away: with `wei` it is taken to have as
    /// much.
    ///
    /// # Errors
    /// [`ChainError::Refused`] if it would fail, and as all reads.
    pub async fn gas_of_call(&self, from: Address, to: Address, data: Bytes, wei: U256) -> Result<u64, ChainError> {
        let request = TransactionRequest::default().from(from).to(to).input(data.into()).value(wei);
        if wei.is_zero() {
            return self.estimate_gas(&request).await;
        }
        let mut state = StateOverride::default();
        state.entry(from).or_default().balance = Some(wei);
        let gas: U256 = self.request("eth_estimateGas", (request, BlockNumberOrTag::Latest, state)).await?;
        Ok(gas.saturating_to())
    }
}

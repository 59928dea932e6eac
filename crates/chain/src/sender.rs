//! Sends transactions of one account and sees them included, whatever the chain's node does meanwhile.
//!
//! **Roles.** The account is ours alone while a [`TransactionSender`] works: it hands out nonces one after the other. The node is outside: it may
//! be busy, forget transactions, or answer late.
//!
//! **Flow.** Gas is estimated first, so that a transaction that would fail is never paid for. It is signed, sent, and looked for. If it stays out
//! for [`SendOptions::stuck_after`], it is sent again with the same nonce and a quarter more fees; whichever of the two is included counts. At the
//! end [`TransactionSender::confirm`] waits until everything is as deep as asked, and sends again what a reorganisation dropped.
//!
//! **Restart.** Nothing is kept: the account's nonce on the chain is the progress. A transaction of an earlier process that is still pending has
//! the nonce that is used next, so it is either replaced or included, and never doubled.

use std::time::{Duration, Instant};

use alloy::{
    eips::{BlockNumberOrTag, eip2718::Encodable2718},
    network::{EthereumWallet, NetworkTransactionBuilder},
    primitives::{Address, B256, Bytes, TxKind},
    rpc::types::{TransactionReceipt, TransactionRequest},
    signers::local::PrivateKeySigner,
};

use crate::{
    error::ChainError,
    fees::{Fees, gwei},
    host_chain::HostChain,
    transaction::Taken,
};

/// How often to look for a receipt at first, and at most.
const RECEIPT_PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(2));

/// How long a used nonce without a receipt of ours may be a node that lags behind.
const STRANGER_AFTER: Duration = Duration::from_secs(5);

/// How often a transaction is replaced before its sender gives up on raising fees and only waits.
const MAX_REPLACEMENTS: u32 = 20;

/// How transactions are paid for and waited for.
#[derive(Clone, Debug)]
pub struct SendOptions {
    /// How many blocks, the including one counted, make a transaction final enough; at least 1.
    pub confirmations: u64,
    /// The most wei that a unit of gas may cost; `None` is no limit.
    pub max_fee_per_gas: Option<u128>,
    /// Send transactions with a gas price even if the chain has a base fee.
    pub force_legacy: bool,
    /// How long a transaction may stay out before it is replaced by one that pays more.
    pub stuck_after: Duration,
    /// How long to wait for one transaction in all.
    pub patience: Duration,
}

impl Default for SendOptions {
    fn default() -> Self {
        Self {
            confirmations: 1,
            max_fee_per_gas: None,
            force_legacy: false,
            stuck_after: Duration::from_secs(60),
            patience: Duration::from_secs(15 * 60),
        }
    }
}

/// A transaction to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What it does, for messages.
    pub name: String,
    /// The called contract, or `None` for a creation.
    pub to: Option<Address>,
    /// The call or creation data.
    pub data: Bytes,
}

/// An included transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Included {
    /// Its hash.
    pub hash: B256,
    /// Its nonce.
    pub nonce: u64,
    /// The number of its block.
    pub block: u64,
    /// The gas it used.
    pub gas_used: u64,
    /// What a unit of gas was paid, in wei.
    pub gas_price: u128,
    /// The contract it created.
    pub created: Option<Address>,
}

/// What happens to a transaction, for progress messages and records.
#[derive(Clone, Copy, Debug)]
pub enum SendEvent<'a> {
    /// It was signed and is about to be sent.
    Sending {
        /// The transaction.
        call: &'a Call,
        /// Its nonce.
        nonce: u64,
        /// Its hash.
        hash: B256,
        /// What it offers.
        fees: Fees,
        /// How many times it was replaced.
        replacements: u32,
    },
    /// It would cost more than the limit, so that it waits for cheaper times.
    TooExpensive {
        /// The transaction.
        call: &'a Call,
        /// What the chain asks for, in wei per unit of gas.
        needed: u128,
    },
    /// A reorganisation dropped it; it is sent again.
    Dropped {
        /// The transaction's hash.
        hash: B256,
    },
}

/// Told what happens while transactions are sent.
pub type Observer<'a> = dyn FnMut(SendEvent<'_>) + Send + 'a;

/// Sends transactions of one account, one after the other.
#[derive(Debug)]
pub struct TransactionSender {
    chain: HostChain,
    wallet: EthereumWallet,
    account: Address,
    chain_id: u64,
    options: SendOptions,
    /// What was included and is not known to be deep enough, oldest first, with the signed bytes.
    unconfirmed: Vec<(Included, Vec<u8>)>,
}

impl TransactionSender {
    /// Prepares to send from an account.
    ///
    /// # Errors
    /// If the chain's node does not answer.
    pub async fn new(chain: &HostChain, signer: PrivateKeySigner, options: SendOptions) -> Result<Self, ChainError> {
        Ok(Self {
            chain: chain.clone(),
            account: signer.address(),
            wallet: EthereumWallet::from(signer),
            chain_id: chain.chain_id().await?,
            options,
            unconfirmed: Vec::new(),
        })
    }

    /// Returns the account.
    #[must_use]
    pub const fn account(&self) -> Address {
        self.account
    }

    /// Returns the nonce of the account's next transaction.
    ///
    /// # Errors
    /// As all reads of a chain.
    pub async fn next_nonce(&self) -> Result<u64, ChainError> {
        self.chain.nonce(self.account).await
    }

    /// Sends a transaction with this nonce, and returns once it is included.
    ///
    /// # Errors
    /// [`ChainError::Refused`] if it would fail, [`ChainError::TransactionFailed`] if it did, [`ChainError::NonceUsed`] if another transaction
    /// of the account was included with this nonce, [`ChainError::FeesAboveLimit`] or [`ChainError::NotIncluded`] if patience ran out, and what
    /// reading can meet.
    pub async fn send(&mut self, call: &Call, nonce: u64, observer: &mut Observer<'_>) -> Result<Included, ChainError> {
        let request = self.request(call, nonce).await?;
        let start = Instant::now();
        let mut fees = self.affordable(call, start, observer).await?;
        let mut attempts: Vec<(B256, Vec<u8>)> = Vec::new();
        loop {
            let (hash, raw) = self.sign(call, fees.apply(request.clone())).await?;
            observer(SendEvent::Sending {
                call,
                nonce,
                hash,
                fees,
                replacements: u32::try_from(attempts.len()).unwrap_or(u32::MAX),
            });
            let taken = self.chain.offer(&raw).await?;
            attempts.push((hash, raw));
            let deadline = match taken {
                Taken::Yes => Instant::now() + self.options.stuck_after,
                // What has the nonce is either one of ours or a stranger to be told about; looking once tells.
                Taken::NonceUsed | Taken::Underpriced => Instant::now(),
            };
            if let Some((receipt, raw)) = self.wait(&attempts, nonce, deadline).await? {
                return self.included(call, nonce, &receipt, raw);
            }
            if start.elapsed() >= self.options.patience {
                return Err(ChainError::NotIncluded {
                    name: call.name.clone(),
                    hash,
                    limit: self.options.patience,
                });
            }
            let raised = fees.replacing(Fees::quote(&self.chain, self.options.force_legacy).await?);
            let may_raise = attempts.len() <= usize::try_from(MAX_REPLACEMENTS).unwrap_or(usize::MAX);
            match raised.within(self.options.max_fee_per_gas) {
                Some(raised) if may_raise => fees = raised,
                _ => {
                    // It cannot be raised, so it only waits; it is offered again in case that the node forgot it.
                    attempts.pop();
                    tokio::time::sleep(RECEIPT_PAUSES.1.min(self.options.stuck_after)).await;
                }
            }
        }
    }

    /// Waits until everything that was sent is as deep as asked for, and sends again what a reorganisation dropped.
    ///
    /// # Errors
    /// [`ChainError::NotIncluded`] if patience ran out, and what reading can meet.
    pub async fn confirm(&mut self, observer: &mut Observer<'_>) -> Result<(), ChainError> {
        let start = Instant::now();
        let (mut pause, longest) = RECEIPT_PAUSES;
        while let Some((included, raw)) = self.unconfirmed.first().cloned() {
            let name = || format!("confirmation of transaction {}", included.nonce);
            match self.chain.receipt(included.hash).await? {
                Some(receipt) if !receipt.status() => {
                    return Err(ChainError::TransactionFailed {
                        name: name(),
                        hash: included.hash,
                    });
                }
                Some(receipt) => {
                    let block = receipt.block_number.unwrap_or(included.block);
                    let head = self.chain.header(BlockNumberOrTag::Latest).await?.map_or(0, |header| header.number);
                    if head.saturating_add(1) >= block.saturating_add(self.options.confirmations) {
                        self.unconfirmed.remove(0);
                        continue;
                    }
                }
                None => {
                    observer(SendEvent::Dropped { hash: included.hash });
                    if matches!(self.chain.offer(&raw).await?, Taken::NonceUsed) && self.chain.receipt(included.hash).await?.is_none() {
                        return Err(ChainError::NonceUsed {
                            account: self.account,
                            nonce: included.nonce,
                        });
                    }
                }
            }
            if start.elapsed() >= self.options.patience {
                return Err(ChainError::NotIncluded {
                    name: name(),
                    hash: included.hash,
                    limit: self.options.patience,
                });
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(longest);
        }
        Ok(())
    }

    /// Builds the transaction with a gas limit, which the node's simulation of it gives.
    async fn request(&self, call: &Call, nonce: u64) -> Result<TransactionRequest, ChainError> {
        let mut request = request(self.account, call);
        request.nonce = Some(nonce);
        request.chain_id = Some(self.chain_id);
        let gas = self.chain.estimate_gas(&request).await?;
        let room = gas.saturating_add(gas / 5);
        let block = self
            .chain
            .header(BlockNumberOrTag::Latest)
            .await?
            .map_or(room, |header| header.gas_limit);
        Ok(request.gas_limit(room.min(block).max(gas)))
    }

    /// Asks for fees until they are within the limit.
    async fn affordable(&self, call: &Call, start: Instant, observer: &mut Observer<'_>) -> Result<Fees, ChainError> {
        let mut told = false;
        loop {
            let quote = Fees::quote(&self.chain, self.options.force_legacy).await?;
            if let Some(fees) = quote.within(self.options.max_fee_per_gas) {
                return Ok(fees);
            }
            if !told {
                observer(SendEvent::TooExpensive {
                    call,
                    needed: quote.most(),
                });
                told = true;
            }
            if start.elapsed() >= self.options.patience {
                return Err(ChainError::FeesAboveLimit {
                    name: call.name.clone(),
                    needed_gwei: gwei(quote.most()),
                    limit_gwei: gwei(self.options.max_fee_per_gas.unwrap_or_default()),
                });
            }
            tokio::time::sleep(RECEIPT_PAUSES.1.min(self.options.stuck_after)).await;
        }
    }

    async fn sign(&self, call: &Call, request: TransactionRequest) -> Result<(B256, Vec<u8>), ChainError> {
        let envelope = request.build(&self.wallet).await.map_err(|error| ChainError::Signing {
            name: call.name.clone(),
            reason: error.to_string(),
        })?;
        Ok((*envelope.tx_hash(), envelope.encoded_2718()))
    }

    /// Looks for any of the attempts until the deadline, and returns the receipt with the bytes it belongs to.
    async fn wait<'a>(
        &self,
        attempts: &'a [(B256, Vec<u8>)],
        nonce: u64,
        deadline: Instant,
    ) -> Result<Option<(TransactionReceipt, &'a [u8])>, ChainError> {
        let (mut pause, longest) = RECEIPT_PAUSES;
        let mut used_since = None;
        loop {
            // The nonce is read first: if it is used and none of ours has a receipt afterwards, the user is a stranger. Providers with several
            // nodes may know the nonce before the receipt, so that the stranger is believed in only after a while.
            let is_used = self.chain.nonce(self.account).await? > nonce;
            for (hash, raw) in attempts.iter().rev() {
                if let Some(receipt) = self.chain.receipt(*hash).await? {
                    return Ok(Some((receipt, raw)));
                }
            }
            if is_used {
                let since = *used_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= STRANGER_AFTER.min(self.options.stuck_after) {
                    return Err(ChainError::NonceUsed {
                        account: self.account,
                        nonce,
                    });
                }
            } else if Instant::now() >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(longest);
        }
    }

    fn included(&mut self, call: &Call, nonce: u64, receipt: &TransactionReceipt, raw: &[u8]) -> Result<Included, ChainError> {
        let hash = receipt.transaction_hash;
        if !receipt.status() {
            return Err(ChainError::TransactionFailed {
                name: call.name.clone(),
                hash,
            });
        }
        let included = Included {
            hash,
            nonce,
            block: receipt.block_number.unwrap_or_default(),
            gas_used: receipt.gas_used,
            gas_price: receipt.effective_gas_price,
            created: receipt.contract_address,
        };
        self.unconfirmed.push((included.clone(), raw.to_vec()));
        Ok(included)
    }
}

/// Returns a call as a request of an account, for estimates.
pub(crate) fn request(from: Address, call: &Call) -> TransactionRequest {
    let mut request = TransactionRequest::default().from(from).input(call.data.clone().into());
    request.to = Some(call.to.map_or(TxKind::Create, TxKind::Call));
    request
}

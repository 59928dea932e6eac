//! The gateway contract of a chain, read: who asked for decryptions, and what was delivered.
//!
//! Logs say it. They are asked for in ranges of blocks that are taken to be final, of one node at a time, and checked: requests are numbered one after the
//! other, so that a missing one shows as a gap, and at the last block the contract's own counter says how many there are.

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256, Bytes, U256},
    rpc::types::{Filter, Header, Log, TransactionRequest},
    sol_types::{SolCall, SolEvent, decode_revert_reason},
};
use cipherloom_contracts::bindings::GatewayContract;

use crate::{error::ChainError, events::BlockId, host_chain::HostChain, log_checks::contradiction, ranges::RangeLength};

/// A decryption that a contract asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedDecryption {
    /// Its number.
    pub id: u64,
    /// What is to be decrypted.
    pub handles: Vec<B256>,
    /// The contract that asked.
    pub caller: Address,
    /// The function that takes the values.
    pub selector: [u8; 4],
    /// The wei that go with the call.
    pub wei: U256,
    /// The last second in which it can be delivered, since the Unix epoch.
    pub max_timestamp: u64,
    /// Whether the contract that asked checks the signatures itself.
    pub passes_signatures: bool,
    /// The block.
    pub block: BlockId,
    /// The transaction.
    pub transaction: B256,
}

/// A decryption that was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveredDecryption {
    /// The number of the request.
    pub id: u64,
    /// Why the called contract did not take it; nothing if it did.
    pub failure: Option<String>,
    /// The block.
    pub block: BlockId,
    /// The transaction.
    pub transaction: B256,
}

/// What some blocks said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayEvents {
    /// Requests, by number.
    pub requests: Vec<RequestedDecryption>,
    /// Deliveries, in their order.
    pub deliveries: Vec<DeliveredDecryption>,
    /// The last block that was read.
    pub last: BlockId,
    /// Its time, in seconds since the Unix epoch.
    pub last_timestamp: u64,
    /// The number that the next request will have.
    pub next_request: u64,
}

/// The head of a chain, and the last block that is taken to be final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinalHead {
    /// The newest block's number.
    pub head: u64,
    /// Its time, in seconds since the Unix epoch.
    pub head_timestamp: u64,
    /// The last final block; none if the chain is still too short for one.
    pub last_final: Option<BlockId>,
}

/// Reads the gateway contract's events.
#[derive(Debug)]
pub struct GatewayReader {
    chain: HostChain,
    range: RangeLength,
}

impl GatewayReader {
    /// Reads ranges of at most this many blocks; nodes that refuse get shorter ones.
    #[must_use]
    pub fn new(chain: HostChain, longest_range: u64) -> Self {
        Self {
            chain,
            range: RangeLength::new(longest_range),
        }
    }

    /// Returns the head of the chain, and the block that is this many below.
    ///
    /// # Errors
    /// As all reads; [`ChainError::BlockGone`] if the chain moves.
    pub async fn head(&self, finality_depth: u64) -> Result<FinalHead, ChainError> {
        let chain = self.chain.on_one_node();
        let head = chain.header(BlockNumberOrTag::Latest).await?.ok_or(ChainError::BlockGone(0))?;
        let last_final = match head.number.checked_sub(finality_depth) {
            None => None,
            Some(number) if number == head.number => Some(id(&head)),
            Some(number) => Some(id(&header_of(&chain, number).await?)),
        };
        Ok(FinalHead {
            head: head.number,
            head_timestamp: head.timestamp,
            last_final,
        })
    }

    /// Returns the hash of the block with a number; nothing if the node does not have one.
    ///
    /// # Errors
    /// As all reads.
    pub async fn hash_of(&self, number: u64) -> Result<Option<B256>, ChainError> {
        let header = self.chain.header(BlockNumberOrTag::Number(number)).await?;
        Ok(header.map(|header| header.hash))
    }

    /// Returns how many requests there were before a block: the number of the first one from there on. 0 if the chain does not tell any more.
    ///
    /// # Errors
    /// As all reads.
    pub async fn requests_before(&self, block: u64) -> Result<u64, ChainError> {
        match block.checked_sub(1) {
            None => Ok(0),
            Some(before) => Ok(counter_at(&self.chain, before).await?.unwrap_or(0)),
        }
    }

    /// Reads from a block on, at most to the last final one. The number that the next request must have is known from what was read before; 0 at the
    /// contract's beginning.
    ///
    /// # Errors
    /// As all reads; [`ChainError::BlockGone`] if the chain moved meanwhile, [`ChainError::Contradiction`] if logs are missing or make no sense: ask
    /// again later.
    pub async fn read(&mut self, first: u64, next_request: u64, last_final: BlockId) -> Result<GatewayEvents, ChainError> {
        let chain = self.chain.on_one_node();
        let events = self.read_node(&chain, first, next_request, last_final).await;
        if let Err(ChainError::Contradiction { .. } | ChainError::BlockGone(_)) = &events {
            chain.distrust_node();
        }
        events
    }

    async fn read_node(
        &mut self,
        chain: &HostChain,
        first: u64,
        next_request: u64,
        last_final: BlockId,
    ) -> Result<GatewayEvents, ChainError> {
        let (last, logs) = loop {
            let last = last_final.number.min(first.saturating_add(self.range.blocks() - 1));
            let length = last.saturating_sub(first) + 1;
            match logs_of_range(chain, first, last).await {
                Ok(logs) => {
                    self.range.accepted(length, logs.len());
                    break (last, logs);
                }
                Err(error) if self.range.refused(first, length, &error) => {
                    tracing::debug!(%error, blocks = self.range.blocks(), "the chain's node refused a range of logs, trying a shorter one");
                }
                Err(error) => return Err(error),
            }
        };
        let header = header_of(chain, last).await?;
        // If the last block is the one that was final before the logs were read, they are of its branch.
        if last == last_final.number && header.hash != last_final.hash {
            return Err(ChainError::BlockGone(last));
        }
        let (requests, deliveries) = decoded(chain, logs, first, last)?;
        let mut next = next_request;
        for request in &requests {
            if request.id != next {
                let reason = format!("request {} of the gateway contract follows where {next} should", request.id);
                return Err(contradiction(chain, "eth_getLogs", reason));
            }
            next = next.saturating_add(1);
        }
        if last == last_final.number
            && let Some(counter) = counter_at(chain, last).await?
            && counter != next
        {
            let reason = format!("the gateway contract has counted {counter} requests at block {last}, and its logs tell of {next}");
            return Err(contradiction(chain, "eth_getLogs", reason));
        }
        Ok(GatewayEvents {
            requests,
            deliveries,
            last: id(&header),
            last_timestamp: header.timestamp,
            next_request: next,
        })
    }
}

impl HostChain {
    /// Says whether an account may deliver decryptions.
    ///
    /// # Errors
    /// As all reads of a contract.
    pub async fn is_relayer(&self, account: Address) -> Result<bool, ChainError> {
        self.read(self.addresses().gateway_contract, GatewayContract::isRelayerCall { account })
            .await
    }

    /// Says whether a requested decryption was delivered or is out of time.
    ///
    /// # Errors
    /// As all reads of a contract; [`ChainError::Refused`] if there is no such request.
    pub async fn is_decryption_over(&self, request: u64) -> Result<bool, ChainError> {
        let call = GatewayContract::isExpiredOrFulfilledCall {
            requestID: U256::from(request),
        };
        self.read(self.addresses().gateway_contract, call).await
    }
}

async fn logs_of_range(chain: &HostChain, first: u64, last: u64) -> Result<Vec<Log>, ChainError> {
    let topics = vec![
        GatewayContract::EventDecryption::SIGNATURE_HASH,
        GatewayContract::ResultCallback::SIGNATURE_HASH,
    ];
    let filter = Filter::new()
        .address(chain.addresses().gateway_contract)
        .event_signature(topics)
        .from_block(first)
        .to_block(last);
    chain.request("eth_getLogs", (filter,)).await
}

/// Reads how many requests there were after a block; nothing if the node does not say, as where the contract was not there yet or the state is gone.
async fn counter_at(chain: &HostChain, block: u64) -> Result<Option<u64>, ChainError> {
    let call = GatewayContract::getCounterCall {};
    let request = TransactionRequest::default()
        .to(chain.addresses().gateway_contract)
        .input(call.abi_encode().into());
    match chain
        .request::<_, Bytes>("eth_call", (request, BlockNumberOrTag::Number(block)))
        .await
    {
        Ok(answer) => Ok(GatewayContract::getCounterCall::abi_decode_returns(&answer)
            .ok()
            .and_then(|counter| u64::try_from(counter).ok())),
        Err(ChainError::Refused { code, message, .. }) => {
            tracing::debug!(code, message, block, "the gateway contract's counter cannot be read");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

type Decoded = (Vec<RequestedDecryption>, Vec<DeliveredDecryption>);

fn decoded(chain: &HostChain, mut logs: Vec<Log>, first: u64, last: u64) -> Result<Decoded, ChainError> {
    let wrong = |reason: &str| contradiction(chain, "eth_getLogs", reason.to_owned());
    let emitter = chain.addresses().gateway_contract;
    logs.sort_by_key(|log| (log.block_number, log.log_index));
    logs.dedup();
    let (mut requests, mut deliveries) = (Vec::new(), Vec::new());
    for log in logs {
        let (Some(number), Some(hash), Some(transaction), false) = (log.block_number, log.block_hash, log.transaction_hash, log.removed)
        else {
            return Err(wrong("a log of the gateway contract does not say where it is, or is removed"));
        };
        if !(first..=last).contains(&number) || log.address() != emitter {
            return Err(wrong("logs answered that were not asked for"));
        }
        let block = BlockId { number, hash };
        let malformed = || wrong("a log of the gateway contract cannot be read; is the address that of a gateway contract?");
        match log.topic0() {
            Some(topic) if *topic == GatewayContract::EventDecryption::SIGNATURE_HASH => {
                let event = GatewayContract::EventDecryption::decode_log(&log.inner)
                    .map_err(|_| malformed())?
                    .data;
                requests.push(RequestedDecryption {
                    id: u64::try_from(event.requestID).map_err(|_| malformed())?,
                    handles: event.cts,
                    caller: event.contractCaller,
                    selector: event.callbackSelector.0,
                    wei: event.msgValue,
                    // The contract's limit is a day from now.
                    max_timestamp: u64::try_from(event.maxTimestamp).map_err(|_| malformed())?,
                    passes_signatures: event.passSignaturesToCaller,
                    block,
                    transaction,
                });
            }
            Some(topic) if *topic == GatewayContract::ResultCallback::SIGNATURE_HASH => {
                let event = GatewayContract::ResultCallback::decode_log(&log.inner)
                    .map_err(|_| malformed())?
                    .data;
                deliveries.push(DeliveredDecryption {
                    id: u64::try_from(event.requestID).map_err(|_| malformed())?,
                    failure: (!event.success).then(|| failure(&event.result)),
                    block,
                    transaction,
                });
            }
            _ => return Err(wrong("logs answered that were not asked for")),
        }
    }
    Ok((requests, deliveries))
}

/// Says why a call failed, from what it returned. The called contract chooses the words: nothing in them can move a terminal's cursor.
fn failure(result: &Bytes) -> String {
    let words = match decode_revert_reason(result) {
        Some(reason) => format!("the called contract reverted: {reason}"),
        None if result.is_empty() => "the called contract reverted without a reason, or ran out of gas".to_owned(),
        None => format!("the called contract reverted with {result}"),
    };
    words.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn id(header: &Header) -> BlockId {
    BlockId {
        number: header.number,
        hash: header.hash,
    }
}

async fn header_of(chain: &HostChain, number: u64) -> Result<Header, ChainError> {
    let header = chain.header(BlockNumberOrTag::Number(number)).await?;
    header.filter(|header| header.number == number).ok_or(ChainError::BlockGone(number))
}

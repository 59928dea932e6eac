//! What happened in a block, as far as it concerns encrypted values.

use std::collections::BTreeMap;

use alloy::rpc::types::Log;
use cipherloom_contracts::{HostAddresses, HostEvent, decode_log};
use cipherloom_primitives::{Address, B256, Computation, Handle};

/// A block by number and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockId {
    /// The number.
    pub number: u64,
    /// The hash.
    pub hash: B256,
}

/// A block and the transactions in it that concern the host contracts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockEvents {
    /// The block number.
    pub number: u64,
    /// The block hash.
    pub hash: B256,
    /// The hash of the block before it.
    pub parent_hash: B256,
    /// When the block says it was made, in seconds since the Unix epoch.
    pub timestamp: u64,
    /// The transactions, in block order.
    pub transactions: Vec<TransactionEvents>,
}

/// What one transaction asked for and granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionEvents {
    /// The transaction hash.
    pub hash: B256,
    /// The position in the block.
    pub index: u64,
    /// The computations, in event order.
    pub computations: Vec<Computation>,
    /// The rights it gave, in event order.
    pub grants: Vec<GrantEvent>,
    /// The delegations it changed, in event order.
    pub delegations: Vec<DelegationEvent>,
}

/// A right to a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantEvent {
    /// An account may use it.
    Account {
        /// The handle.
        handle: Handle,
        /// The account.
        account: Address,
    },
    /// Anyone may decrypt it.
    PublicDecryption {
        /// The handle.
        handle: Handle,
    },
}

/// A change of a delegation of user decryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelegationEvent {
    /// Whose values.
    pub delegator: Address,
    /// Who may decrypt them.
    pub delegate: Address,
    /// The contract whose values are meant.
    pub contract: Address,
    /// Until when, in seconds since the Unix epoch; zero if the delegation was revoked.
    pub expires_at: u64,
}

/// Groups the logs of one block by transaction and decodes them.
///
/// A log that the contracts cannot have emitted is left out with a warning: it must not stop what others asked for,
/// and whatever depends on it fails by itself as an unknown handle.
pub(crate) fn transactions(logs: &[Log], addresses: &HostAddresses) -> Vec<TransactionEvents> {
    let mut ordered: Vec<&Log> = logs.iter().filter(|log| !log.removed).collect();
    ordered.sort_by_key(|log| log.log_index);
    let mut transactions = BTreeMap::<u64, TransactionEvents>::new();
    for log in ordered {
        let (Some(hash), Some(index)) = (log.transaction_hash, log.transaction_index) else {
            continue;
        };
        let decoded = decode_log(log.address(), log.topics(), &log.data().data, addresses);
        match decoded {
            Ok(Some(event)) => {
                let transaction = transactions.entry(index).or_insert_with(|| TransactionEvents {
                    hash,
                    index,
                    ..TransactionEvents::default()
                });
                add(transaction, event);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%hash, log_index = log.log_index, %error, "left out a log that the host contracts cannot have emitted")
            }
        }
    }
    transactions.into_values().collect()
}

fn add(transaction: &mut TransactionEvents, event: HostEvent) {
    match event {
        HostEvent::Computation(computation) => transaction.computations.push(computation),
        HostEvent::Allowed { account, handle, .. } => transaction.grants.push(GrantEvent::Account { handle, account }),
        HostEvent::AllowedForDecryption { handles, .. } => {
            transaction
                .grants
                .extend(handles.into_iter().map(|handle| GrantEvent::PublicDecryption { handle }));
        }
        HostEvent::DelegatedForUserDecryption {
            delegator,
            delegate,
            contract,
            new_expiration,
            ..
        } => {
            transaction.delegations.push(DelegationEvent {
                delegator,
                delegate,
                contract,
                expires_at: new_expiration,
            });
        }
        HostEvent::RevokedDelegationForUserDecryption {
            delegator,
            delegate,
            contract,
            ..
        } => {
            transaction.delegations.push(DelegationEvent {
                delegator,
                delegate,
                contract,
                expires_at: 0,
            });
        }
        // The proof of an input was checked when it was admitted, and denials and permits are read from the chain when
        // they matter, so there is nothing to record for the other events.
        _ => {}
    }
}

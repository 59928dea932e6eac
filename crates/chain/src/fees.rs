//! What transactions are paid: EIP-1559 where the chain has a base fee, a gas price elsewhere.

use alloy::{
    eips::BlockNumberOrTag,
    network::TransactionBuilder,
    primitives::{U128, utils::format_units},
    rpc::types::TransactionRequest,
};

use crate::{error::ChainError, host_chain::HostChain};

/// Wei in one gwei.
pub const GWEI: u128 = 1_000_000_000;

/// What is offered per unit of gas, in wei.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fees {
    /// EIP-1559.
    Dynamic {
        /// The most that is paid, tip included.
        max_fee: u128,
        /// Of that, what the block's producer gets.
        tip: u128,
    },
    /// A price, on chains without a base fee.
    Legacy {
        /// What is paid.
        price: u128,
    },
}

impl Fees {
    /// Asks the chain what it takes now, with room for the base fee to double.
    ///
    /// # Errors
    /// As all reads of a chain.
    pub async fn quote(chain: &HostChain, force_legacy: bool) -> Result<Self, ChainError> {
        let header = chain.header(BlockNumberOrTag::Latest).await?;
        match header.and_then(|header| header.base_fee_per_gas) {
            Some(base_fee) if !force_legacy => {
                let base_fee = u128::from(base_fee);
                let tip = suggested_tip(chain, base_fee).await?;
                Ok(Self::Dynamic {
                    max_fee: base_fee.saturating_mul(2).saturating_add(tip),
                    tip,
                })
            }
            // Prices move between question and inclusion; an eighth more is the usual room.
            _ => Ok(Self::Legacy {
                price: with_eighth(chain.gas_price().await?),
            }),
        }
    }

    /// Returns the most that a unit of gas can cost.
    #[must_use]
    pub const fn most(&self) -> u128 {
        match self {
            Self::Dynamic { max_fee, .. } => *max_fee,
            Self::Legacy { price } => *price,
        }
    }

    /// Returns what replaces a transaction with these fees: a quarter more of each, since nodes ask for at least a tenth or an eighth, and no
    /// less than what the chain takes now.
    #[must_use]
    pub fn replacing(self, now: Self) -> Self {
        match (self, now) {
            (
                Self::Dynamic { max_fee, tip },
                Self::Dynamic {
                    max_fee: max_fee_now,
                    tip: tip_now,
                },
            ) => {
                let tip = with_quarter(tip).max(tip_now);
                Self::Dynamic {
                    max_fee: with_quarter(max_fee).max(max_fee_now).max(tip),
                    tip,
                }
            }
            (before, now) => Self::Legacy {
                price: with_quarter(before.most()).max(now.most()),
            },
        }
    }

    /// Keeps the fees below a limit of the user's; `None` if what must be paid is above it.
    #[must_use]
    pub fn within(self, limit: Option<u128>) -> Option<Self> {
        match (self, limit) {
            (fees, None) => Some(fees),
            (fees, Some(limit)) if fees.most() <= limit => Some(fees),
            // The room for a rising base fee is what can be given up; the tip and the base fee of now cannot.
            (Self::Dynamic { max_fee, tip }, Some(limit)) if (max_fee - tip) / 2 + tip <= limit => {
                Some(Self::Dynamic { max_fee: limit, tip })
            }
            _ => None,
        }
    }

    /// Writes them into a transaction.
    pub(crate) fn apply(self, request: TransactionRequest) -> TransactionRequest {
        match self {
            Self::Dynamic { max_fee, tip } => request.max_fee_per_gas(max_fee).max_priority_fee_per_gas(tip),
            Self::Legacy { price } => request.with_gas_price(price),
        }
    }
}

/// Writes wei per gas in gwei, for people.
#[must_use]
pub fn gwei(wei: u128) -> String {
    short(format_units(wei, "gwei").unwrap_or_else(|_| format!("{wei} wei")))
}

/// Writes wei in ether, for people.
#[must_use]
pub fn ether(wei: u128) -> String {
    short(format_units(wei, "ether").unwrap_or_else(|_| format!("{wei} wei")))
}

/// Leaves out zeros at the end.
fn short(number: String) -> String {
    if !number.contains('.') {
        return number;
    }
    let kept = number.trim_end_matches('0').trim_end_matches('.');
    if kept.is_empty() { "0".to_owned() } else { kept.to_owned() }
}

/// Asks for the tip; nodes that have no opinion get the gas price's share above the base fee.
async fn suggested_tip(chain: &HostChain, base_fee: u128) -> Result<u128, ChainError> {
    match chain.request::<_, U128>("eth_maxPriorityFeePerGas", ()).await {
        Ok(tip) => Ok(tip.to()),
        Err(ChainError::Refused { .. }) => Ok(chain.gas_price().await?.saturating_sub(base_fee)),
        Err(error) => Err(error),
    }
}

const fn with_eighth(fee: u128) -> u128 {
    fee.saturating_add(fee / 8)
}

const fn with_quarter(fee: u128) -> u128 {
    fee.saturating_add(fee / 4).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_pays_enough_more_for_every_node_and_no_less_than_now() {
        let before = Fees::Dynamic { max_fee: 100, tip: 8 };
        let quiet = Fees::Dynamic { max_fee: 50, tip: 1 };
        assert_eq!(before.replacing(quiet), Fees::Dynamic { max_fee: 126, tip: 11 });
        let busy = Fees::Dynamic { max_fee: 400, tip: 40 };
        assert_eq!(before.replacing(busy), busy);
        let free = Fees::Legacy { price: 0 };
        assert_eq!(free.replacing(free), Fees::Legacy { price: 1 });
    }

    #[test]
    fn a_limit_takes_the_room_first_and_then_refuses() {
        let fees = Fees::Dynamic { max_fee: 210, tip: 10 };
        assert_eq!(fees.within(None), Some(fees));
        assert_eq!(fees.within(Some(300)), Some(fees));
        assert_eq!(fees.within(Some(150)), Some(Fees::Dynamic { max_fee: 150, tip: 10 }));
        assert_eq!(fees.within(Some(109)), None);
        assert_eq!(Fees::Legacy { price: 7 }.within(Some(6)), None);
    }

    #[test]
    fn amounts_are_written_without_zeros_at_the_end() {
        assert_eq!(gwei(1_500_000_000), "1.5");
        assert_eq!(ether(2_000_000_000_000_000_000), "2");
        assert_eq!(ether(0), "0");
    }
}

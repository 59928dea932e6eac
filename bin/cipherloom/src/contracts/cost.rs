//! What transactions may cost, and whether the payer can pay.

use alloy::primitives::{Address, U256};
use anyhow::{Result, ensure};
use cipherloom_chain::{Fees, HostChain, fees};

use super::options::SendingOptions;

/// What transactions may cost, and who pays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// The gas they use.
    pub(crate) gas: u64,
    /// The most that a unit costs now, in wei.
    pub(crate) price: u128,
    /// What the payer has, in wei.
    pub(crate) balance: U256,
}

impl Cost {
    /// Asks the chain for its fees and the payer's balance.
    ///
    /// # Errors
    /// If it does not answer.
    pub(crate) async fn of(chain: &HostChain, payer: Address, gas: u64, legacy: bool) -> Result<Self> {
        Ok(Self {
            gas,
            price: Fees::quote(chain, legacy).await?.most(),
            balance: chain.balance(payer).await?,
        })
    }

    /// Returns the most that everything costs, in wei.
    pub(crate) fn most(&self) -> u128 {
        self.price.saturating_mul(u128::from(self.gas))
    }

    /// Refuses to begin what the payer cannot pay.
    ///
    /// # Errors
    /// If the balance is too small, with both amounts.
    pub(crate) fn require_funds(&self, payer: Address) -> Result<()> {
        ensure!(
            self.balance >= U256::from(self.most()),
            "account {payer} has {} ether, and this takes up to {}: {} gas at {} gwei; send it some",
            fees::ether(self.balance.saturating_to()),
            fees::ether(self.most()),
            self.gas,
            fees::gwei(self.price)
        );
        Ok(())
    }

    /// Describes it in one line.
    pub(crate) fn sentence(&self) -> String {
        format!(
            "{} gas, up to {} ether at {} gwei; the account has {}",
            self.gas,
            fees::ether(self.most()),
            fees::gwei(self.price),
            fees::ether(self.balance.saturating_to())
        )
    }
}

impl SendingOptions {
    /// Asks the chain what so much gas costs this payer.
    ///
    /// # Errors
    /// If it does not answer.
    pub(crate) async fn cost(&self, chain: &HostChain, payer: Address, gas: u64) -> Result<Cost> {
        Cost::of(chain, payer, gas, self.legacy).await
    }
}

//! What a process that serves callbacks is told.

use std::{path::PathBuf, time::Duration};

use alloy::{
    primitives::{Address, U256, utils::parse_units},
    signers::local::PrivateKeySigner,
};
use anyhow::{Result, ensure};
use cipherloom_callbacks::RelayConfig;
use cipherloom_service::key_file::{self, KeyFile};
use clap::Args;

/// Options about decryption callbacks.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Decryption callbacks")]
pub(crate) struct CallbacksSection {
    /// Deliver decryptions that contracts ask for, paid by this account: a file with its private key, 64 hexadecimal digits. The gateway
    /// contract must know the account as a relayer. Use it for nothing else.
    #[arg(long, value_name = "FILE")]
    pub(crate) callbacks_relayer_key_file: Option<PathBuf>,

    /// How many blocks must follow a request before it counts, and a delivery before it is taken for done. Not less than what the KMS asks of
    /// the access list. Blocks of native chains are final at once.
    #[arg(long, value_name = "BLOCKS", default_value_t = 12)]
    pub(crate) callbacks_finality: u64,

    /// The most gas that a delivery is given; what takes more has failed.
    #[arg(long, value_name = "GAS", default_value_t = 5_000_000)]
    pub(crate) callbacks_max_gas: u64,

    /// The most that a unit of gas may cost, in gwei; above, deliveries wait.
    #[arg(long, value_name = "GWEI", default_value = "200", value_parser = gwei)]
    pub(crate) callbacks_max_fee_gwei: u128,

    /// After how many seconds a transaction that is not included is replaced by one that pays a quarter more.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) callbacks_stuck_after_s: u64,

    /// Below this balance nothing is sent; requests wait until the account has more.
    #[arg(long, value_name = "ETHER", default_value = "0.02", value_parser = ether)]
    pub(crate) callbacks_min_balance_ether: U256,

    /// Below this balance there is a warning.
    #[arg(long, value_name = "ETHER", default_value = "0.2", value_parser = ether)]
    pub(crate) callbacks_alarm_balance_ether: U256,

    /// The most wei that a call may carry. They are the account's own: whoever asks for them gets them.
    #[arg(long, value_name = "WEI", default_value = "0")]
    pub(crate) callbacks_max_wei: U256,

    /// Serve this contract, and no others but those that are named too [default: all].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) callbacks_caller: Vec<Address>,

    /// Send transactions with a gas price even if the chain has a base fee.
    #[arg(long)]
    pub(crate) callbacks_legacy_transactions: bool,
}

impl CallbacksSection {
    /// Reads the key of the paying account, if callbacks are to be served.
    ///
    /// # Errors
    /// If the file holds none.
    pub(crate) fn key(&self) -> Result<Option<PrivateKeySigner>> {
        self.callbacks_relayer_key_file
            .as_deref()
            .map(|file| key_file::read(file, KeyFile::RELAYER))
            .transpose()
    }

    /// Returns the limits as a relay takes them.
    ///
    /// # Errors
    /// If they contradict each other.
    pub(crate) fn config(&self) -> Result<RelayConfig> {
        ensure!(
            self.callbacks_min_balance_ether <= self.callbacks_alarm_balance_ether,
            "--callbacks-alarm-balance-ether is below --callbacks-min-balance-ether: the warning would come after the end"
        );
        Ok(RelayConfig {
            finality_depth: self.callbacks_finality,
            max_gas: self.callbacks_max_gas,
            max_fee_per_gas: self.callbacks_max_fee_gwei,
            force_legacy: self.callbacks_legacy_transactions,
            stuck_after: Duration::from_secs(self.callbacks_stuck_after_s),
            min_balance: self.callbacks_min_balance_ether,
            alarm_balance: self.callbacks_alarm_balance_ether,
            max_wei: self.callbacks_max_wei,
            callers: self.callbacks_caller.iter().copied().collect(),
            ..RelayConfig::default()
        })
    }
}

/// Reads an amount of ether, in wei.
fn ether(text: &str) -> Result<U256, String> {
    wei(text, "ether", "an amount of ether, such as 0.5")
}

/// Reads a price in gwei, in wei.
pub(crate) fn gwei(text: &str) -> Result<u128, String> {
    let price = wei(text, "gwei", "a price in gwei, such as 1.5")?;
    u128::try_from(price).map_err(|_| "this is more than any gas can cost".to_owned())
}

fn wei(text: &str, unit: &str, what: &str) -> Result<U256, String> {
    let is_decimal =
        text.chars().all(|letter| letter.is_ascii_digit() || letter == '.') && text.chars().any(|letter| letter.is_ascii_digit());
    let parsed = if is_decimal { parse_units(text, unit).ok() } else { None };
    parsed.map(Into::into).ok_or_else(|| format!("this is not {what}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        section: CallbacksSection,
    }

    fn parse(arguments: &[&str]) -> Result<CallbacksSection, String> {
        let line = Line::try_parse_from(["x"].iter().chain(arguments)).map_err(|error| error.to_string())?;
        Ok(line.section)
    }

    #[test]
    fn defaults_are_those_of_the_relay() {
        let section = parse(&[]).unwrap();
        assert_eq!(section.config().unwrap(), RelayConfig::default());
        assert!(section.key().unwrap().is_none());
    }

    #[test]
    fn amounts_are_read_with_their_units() {
        let section = parse(&["--callbacks-max-fee-gwei", "1.5", "--callbacks-alarm-balance-ether", "3"]).unwrap();
        let config = section.config().unwrap();
        assert_eq!(config.max_fee_per_gas, 1_500_000_000);
        assert_eq!(config.alarm_balance, U256::from(3_000_000_000_000_000_000_u64));
        for wrong in ["-1", "1 gwei", "", "1e9"] {
            assert!(parse(&["--callbacks-max-fee-gwei", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_warning_after_the_end_is_refused() {
        let error = parse(&["--callbacks-min-balance-ether", "1"]).unwrap().config().unwrap_err();
        assert!(error.to_string().contains("--callbacks-alarm-balance-ether"), "{error}");
    }
}

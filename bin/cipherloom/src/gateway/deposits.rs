//! What a gateway is told about deposits of inputs on native chains.

use std::path::PathBuf;

use alloy::signers::local::PrivateKeySigner;
use anyhow::Result;
use cipherloom_service::{
    chains::Chain,
    examination::Examination,
    key_file::{self, KeyFile},
};
use clap::{Args, value_parser};

use crate::{callbacks::gwei, remote::native::deposits::DepositLimits};

const DEPOSITS: &str = "deposits";

/// Options about deposits of inputs.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Inputs of native chains")]
pub(crate) struct DepositsSection {
    /// Bring inputs to native chains before their users do, paid by this account: a file with its private key, 64 hexadecimal digits. Applications with
    /// published SDKs need that. Use the account for nothing else, and with one gateway
    #[arg(long, value_name = "FILE")]
    pub(crate) native_deposits_key_file: Option<PathBuf>,

    /// The most inputs that are brought to a chain within an hour; more are refused
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = value_parser!(u32).range(1..))]
    pub(crate) native_deposits_per_hour: u32,

    /// The most that a unit of gas may cost, in gwei; above, deposits wait
    #[arg(long, value_name = "GWEI", default_value = "200", value_parser = gwei)]
    pub(crate) native_deposits_max_fee_gwei: u128,
}

impl DepositsSection {
    /// Reads the key of the paying account, if inputs are to be deposited.
    ///
    /// # Errors
    /// If the file holds none.
    pub(crate) fn key(&self) -> Result<Option<PrivateKeySigner>> {
        const DEPOSITOR: KeyFile = KeyFile {
            what: "the key of the account that pays for deposits of inputs",
            option: "--native-deposits-key-file",
        };
        let key = self.native_deposits_key_file.as_deref();
        key.map(|file| key_file::read(file, DEPOSITOR)).transpose()
    }

    /// Returns what deposits may cost.
    pub(crate) const fn limits(&self) -> DepositLimits {
        DepositLimits {
            per_hour: self.native_deposits_per_hour,
            max_fee_per_gas: self.native_deposits_max_fee_gwei,
        }
    }

    /// Looks whether a native chain takes deposits, and whether the account can pay.
    pub(super) async fn check(&self, chain: &Chain, examination: &mut Examination) {
        let account = match self.key() {
            Ok(Some(key)) => key.address(),
            Ok(None) => return,
            Err(error) => return examination.wrong(DEPOSITS, format!("{error:#}"), "name the file with the key"),
        };
        let id = chain.id;
        match chain.host.takes_input_deposits().await {
            Ok(takes) => examination.expect(DEPOSITS, takes, format!("chain {id}: its InputVerifier takes deposits"), || {
                (
                    format!("chain {id}: its InputVerifier takes no deposits of inputs; it is of an earlier version"),
                    "leave --native-deposits-key-file out, or have the contract's owner upgrade it".to_owned(),
                )
            }),
            Err(error) => examination.not_yet(DEPOSITS, format!("chain {id}: {error}"), "check its node"),
        }
        match chain.host.balance(account).await {
            Ok(balance) => examination.expect(
                DEPOSITS,
                !balance.is_zero(),
                format!("chain {id}: account {account} pays for deposits of inputs"),
                || {
                    (
                        format!("chain {id}: account {account} has no ether to pay for deposits of inputs"),
                        "send it some".to_owned(),
                    )
                },
            ),
            Err(error) => examination.not_yet(DEPOSITS, format!("chain {id}: {error}"), "check its node"),
        }
    }
}

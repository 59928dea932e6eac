//! `cipherloom contracts addresses`: where the contracts will be, before anything is sent.

use std::{fs, path::PathBuf};

use alloy::primitives::Address;
use anyhow::{Context, Result, bail};
use cipherloom_chain::{LocalProfile, profile};
use cipherloom_contracts::{HostAddresses, HostContract};
use clap::{Args, ValueEnum};

use super::{environment::Environment, keys, keys::KeyOptions, reports};

pub(crate) const HELP: &str = "\
Print where the contracts of a deployer are or will be. Nothing is sent, and no chain is asked.

The account must not have sent anything before it deploys: the addresses follow from its address and its nonces from 0 on, whatever the chain.";

/// A deployer, and how to print.
#[derive(Clone, Debug, Args)]
pub(crate) struct AddressesOptions {
    /// The account that deploys [default: that of the key].
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["key_file", "mnemonic_file", "insecure_key", "profile"])]
    deployer: Option<Address>,

    /// The account that deploys the GatewayContract, if it is another.
    #[arg(long, value_name = "ADDRESS")]
    gateway_deployer: Option<Address>,

    /// The account of a published address plan.
    #[arg(long, value_enum, conflicts_with_all = ["key_file", "mnemonic_file", "insecure_key"])]
    profile: Option<Profile>,

    #[command(flatten)]
    key: KeyOptions,

    /// Take variables from this file too: NAME=value in lines.
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,

    /// Write the .env files with addresses, as the 0.6 generation's precomputation does, below this directory.
    #[arg(long, value_name = "DIR")]
    write_env: Option<PathBuf>,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is known of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// Chain 31337, which published libraries, SDKs and mocks know. The deployer's key is public.
    #[value(alias = "31337")]
    Development,
    /// Chain 12345, which published end-to-end suites know. The deployer's key is public.
    #[value(alias = "12345")]
    EndToEnd,
    /// A deployment of one's own.
    New,
}

impl Profile {
    /// Returns the published plan, if there is one.
    pub(crate) const fn local(self) -> Option<LocalProfile> {
        match self {
            Self::Development => Some(profile::DEVELOPMENT),
            Self::EndToEnd => Some(profile::END_TO_END),
            Self::New => None,
        }
    }
}

/// Prints the addresses.
///
/// # Errors
/// If no account is named, or a file cannot be read or written.
pub(crate) fn run(options: &AddressesOptions) -> Result<()> {
    let environment = Environment::load(options.env_file.as_deref())?;
    let deployer = deployer(options, &environment)?;
    let gateway_deployer = match options.gateway_deployer {
        Some(account) => Some(account),
        // The account of a key in the environment counts only where the deployer's comes from there too.
        None if options.deployer.is_none() && options.profile.is_none() => {
            keys::gateway_deployer(None, &environment)?.map(|signer| signer.address())
        }
        None => None,
    };
    let addresses = gateway_deployer.map_or_else(
        || HostAddresses::of_deployer(deployer),
        |gateway| HostAddresses::of_deployers(deployer, gateway),
    );
    if let Some(directory) = &options.write_env {
        for (path, text) in reports::env_files(&addresses, environment.coprocessor()?) {
            let path = directory.join(path);
            let unwritable = || format!("cannot write {}", path.display());
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).with_context(unwritable)?;
            }
            fs::write(&path, text).with_context(unwritable)?;
        }
    }
    if options.json {
        println!("{}", reports::named_addresses(&addresses));
        return Ok(());
    }
    println!("deployer {deployer}, from nonce 0 on");
    for contract in HostContract::ALL {
        println!("  {:<16} {}", contract.name(), contract.address(&addresses));
    }
    Ok(())
}

fn deployer(options: &AddressesOptions, environment: &Environment) -> Result<Address> {
    if let Some(deployer) = options.deployer {
        return Ok(deployer);
    }
    if let Some(profile) = options.profile.and_then(Profile::local) {
        return Ok(profile.deployer);
    }
    match options.key.named(environment)? {
        Some(signer) => Ok(signer.address()),
        None => bail!(
            "no deployer is named: give its address with --deployer, its key with --key-file, or --profile development for the published plan of chain \
             31337"
        ),
    }
}

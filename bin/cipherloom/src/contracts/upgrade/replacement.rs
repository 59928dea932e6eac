//! An implementation of the operator's own: a compiled artifact that extends one of ours.

use std::{
    fs,
    path::{Path, PathBuf},
};

use alloy::{
    hex,
    primitives::{Address, Bytes},
};
use anyhow::{Context, Result, bail, ensure};
use cipherloom_chain::upgrade::{Upgrade, constructor_arguments};
use cipherloom_contracts::{HostContract, StorageLayout, Wiring};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;

/// The largest artifact that is read, in bytes.
const MAX_ARTIFACT_BYTES: u64 = 16 * 1024 * 1024;

/// What replaces a contract.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReplacementOptions {
    /// Upgrade the one contract that is named to the implementation in this compiled artifact: JSON with `abi` and `bytecode`.
    #[arg(long, value_name = "FILE")]
    artifact: Option<PathBuf>,

    /// The constructor's arguments of the artifact, ABI-encoded in hexadecimal digits [default: those of the contract it replaces].
    #[arg(long, value_name = "HEX", requires = "artifact", value_parser = parse_hex)]
    constructor_arguments: Option<Bytes>,

    /// How the artifact lays out its storage: JSON as in contracts/snapshots/storage.
    #[arg(long, value_name = "FILE", requires = "artifact")]
    storage_layout: Option<PathBuf>,

    /// Call this on the new implementation in the same transaction: a migration, in hexadecimal digits.
    #[arg(long, value_name = "HEX", value_parser = parse_hex)]
    migration: Option<Bytes>,
}

/// A replacement, read.
pub(crate) struct Replacement {
    creation_code: Bytes,
    layout: Option<StorageLayout>,
    migration: Bytes,
}

/// What is needed of an artifact.
#[derive(Deserialize)]
struct Artifact {
    abi: Vec<Value>,
    bytecode: String,
}

impl ReplacementOptions {
    /// Reads the artifact, if one is named.
    ///
    /// # Errors
    /// If not exactly one contract is named with it, or a file cannot be used.
    pub(crate) fn read(&self, contracts: &[HostContract], wiring: &Wiring) -> Result<Option<Replacement>> {
        let Some(path) = &self.artifact else { return Ok(None) };
        let [contract] = contracts else {
            bail!(
                "--artifact replaces one contract: name it, such as `cipherloom contracts upgrade ACL --artifact {}`",
                path.display()
            );
        };
        let artifact: Artifact = json(path)?;
        let code = hex::decode(&artifact.bytecode)
            .with_context(|| format!("the bytecode in {} is not complete: link its libraries first", path.display()))?;
        ensure!(
            !code.is_empty(),
            "{} has no bytecode: it is an interface or abstract",
            path.display()
        );
        let arguments = match &self.constructor_arguments {
            Some(arguments) => arguments.clone(),
            None => {
                let (own, ours) = (parameters(&artifact.abi), our_parameters(*contract)?);
                ensure!(
                    own == ours,
                    "the constructor in {} takes ({}), and that of the {contract} takes ({}); give the arguments with --constructor-arguments",
                    path.display(),
                    own.join(","),
                    ours.join(",")
                );
                constructor_arguments(*contract, wiring)
            }
        };
        let layout = self.storage_layout.as_deref().map(json).transpose()?;
        Ok(Some(Replacement {
            creation_code: [code.as_slice(), &arguments].concat().into(),
            layout,
            migration: self.migration(),
        }))
    }

    /// Returns the migration; empty for none.
    pub(crate) fn migration(&self) -> Bytes {
        self.migration.clone().unwrap_or_default()
    }
}

impl Replacement {
    /// Returns the upgrade of a contract to this.
    pub(crate) fn upgrade(&self, contract: HostContract, from: Address) -> Upgrade {
        Upgrade {
            contract,
            from,
            creation_code: self.creation_code.clone(),
            layout: self.layout.clone(),
            migration: self.migration.clone(),
        }
    }
}

/// Returns the types of a constructor's parameters.
fn parameters(abi: &[Value]) -> Vec<String> {
    let constructor = abi
        .iter()
        .find(|item| item.get("type").and_then(Value::as_str) == Some("constructor"));
    let inputs = constructor
        .and_then(|constructor| constructor.get("inputs"))
        .and_then(Value::as_array);
    let types = inputs
        .into_iter()
        .flatten()
        .filter_map(|input| input.get("type").and_then(Value::as_str));
    types.map(str::to_owned).collect()
}

/// Returns the types of the constructor's parameters of one of our contracts.
fn our_parameters(contract: HostContract) -> Result<Vec<String>> {
    let types: &[&str] = match contract {
        HostContract::Acl => &["address", "address", "address", "uint8"],
        HostContract::FhevmExecutor => &["address", "address", "address", "uint8"],
        HostContract::KmsVerifier | HostContract::HcuLimit => &["address", "address", "uint8"],
        HostContract::InputVerifier | HostContract::ProtocolConfig | HostContract::PauserSet => &["address"],
        HostContract::GatewayContract => &["address", "address"],
        other => bail!("nothing is known about the constructor of the {other}"),
    };
    Ok(types.iter().map(|name| (*name).to_owned()).collect())
}

fn json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let unusable = || format!("cannot use {}", path.display());
    let size = fs::metadata(path).with_context(unusable)?.len();
    ensure!(size <= MAX_ARTIFACT_BYTES, "{} is too large", path.display());
    serde_json::from_slice(&fs::read(path).with_context(unusable)?).with_context(unusable)
}

fn parse_hex(text: &str) -> Result<Bytes, String> {
    hex::decode(text)
        .map(Bytes::from)
        .map_err(|_| "hexadecimal digits are expected, with or without 0x".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_our_constructors_are_those_of_the_artifacts() {
        for contract in HostContract::ALL {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../contracts/artifacts")
                .join(format!("{contract}.json"));
            let artifact: Artifact = json(&path).unwrap();
            assert_eq!(parameters(&artifact.abi), our_parameters(contract).unwrap(), "{contract}");
        }
    }
}

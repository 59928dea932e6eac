//! What happens to transactions, as people and programs want to read it; and files about a deployment that others read.

use std::{fs, path::Path};

use alloy::primitives::Address;
use anyhow::{Context, Result};
use cipherloom_chain::{Call, Deployment, Included, SendEvent, fees::gwei};
use cipherloom_contracts::{HostAddresses, HostContract};
use serde_json::{Map, Value, json};

/// Prints progress for people on standard error, so that standard output stays the result.
pub(crate) struct Progress {
    quiet: bool,
}

impl Progress {
    /// Tells people, or nobody.
    pub(crate) const fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    /// Says something.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// Says what happens to a transaction, where that is worth a line.
    pub(crate) fn transaction(&self, event: SendEvent<'_>) {
        match event {
            SendEvent::Sending {
                call,
                nonce,
                fees,
                replacements,
                ..
            } if replacements > 0 => {
                self.say(&format!(
                    "          {}: nonce {nonce} is not included; sent again with up to {} gwei",
                    call.name,
                    gwei(fees.most())
                ));
            }
            SendEvent::TooExpensive { call, needed } => {
                self.say(&format!(
                    "          {}: the chain asks for {} gwei; waiting for less",
                    call.name,
                    gwei(needed)
                ));
            }
            SendEvent::Dropped { hash } => self.say(&format!("          a reorganisation dropped {hash}; sent again")),
            SendEvent::Sending { .. } => {}
        }
    }

    /// Says that a transaction is included.
    pub(crate) fn included(&self, position: &str, call: &Call, included: &Included) {
        self.say(&format!(
            "  {position:<8}{:<34} block {:<9} gas {:<8} {}",
            call.name, included.block, included.gas_used, included.hash
        ));
    }
}

/// Lists addresses of contracts by their names, with checksums.
pub(crate) fn named_addresses(addresses: &HostAddresses) -> Value {
    let entries = HostContract::ALL
        .into_iter()
        .map(|contract| (contract.name().to_owned(), checksummed(contract.address(addresses))));
    Value::Object(entries.collect::<Map<_, _>>())
}

/// Writes an address with its checksum, since SDKs refuse it without.
pub(crate) fn checksummed(address: Address) -> Value {
    address.to_checksum(None).into()
}

/// Writes a transaction that somebody else is to send: the owner's multisignature wallet, for example.
pub(crate) fn call(call: &Call) -> Value {
    json!({
        "name": call.name,
        "to": call.to.map(checksummed),
        "value": "0",
        "data": call.data,
    })
}

/// Writes the files with addresses that the 0.6 generation's services and scripts read, and returns their paths below the directory.
///
/// # Errors
/// If one cannot be written.
pub(crate) fn write_env_files(directory: &Path, record: &Deployment) -> Result<Vec<String>> {
    let files = env_files(&record.addresses(), record.coprocessors.signers.first().copied());
    for (path, text) in &files {
        let path = directory.join(path);
        let unwritable = || format!("cannot write {}", path.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(unwritable)?;
        }
        fs::write(&path, text).with_context(unwritable)?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

/// Returns paths and texts of the files. The variable in `.env.fhegaslimit` has the name of what the contract replaced, as it always had.
pub(crate) fn env_files(addresses: &HostAddresses, coprocessor: Option<Address>) -> Vec<(String, String)> {
    let line = |name: &str, address: Address| format!("{name}={}\n", address.to_checksum(None));
    let gateway = line("GATEWAY_CONTRACT_PREDEPLOY_ADDRESS", addresses.gateway_contract);
    let host = [
        ("ACL_CONTRACT_ADDRESS", addresses.acl),
        ("FHEVM_EXECUTOR_CONTRACT_ADDRESS", addresses.executor),
        ("KMS_VERIFIER_CONTRACT_ADDRESS", addresses.kms_verifier),
        ("INPUT_VERIFIER_CONTRACT_ADDRESS", addresses.input_verifier),
        ("HCU_LIMIT_CONTRACT_ADDRESS", addresses.hcu_limit),
        ("PROTOCOL_CONFIG_CONTRACT_ADDRESS", addresses.protocol_config),
        ("PAUSER_SET_CONTRACT_ADDRESS", addresses.pauser_set),
        ("GATEWAY_CONTRACT_ADDRESS", addresses.gateway_contract),
    ];
    let mut files = vec![
        ("addresses/.env.acl".to_owned(), line("ACL_CONTRACT_ADDRESS", addresses.acl)),
        (
            "addresses/.env.exec".to_owned(),
            line("TFHE_EXECUTOR_CONTRACT_ADDRESS", addresses.executor),
        ),
        (
            "addresses/.env.kmsverifier".to_owned(),
            line("KMS_VERIFIER_CONTRACT_ADDRESS", addresses.kms_verifier),
        ),
        (
            "addresses/.env.inputverifier".to_owned(),
            line("INPUT_VERIFIER_CONTRACT_ADDRESS", addresses.input_verifier),
        ),
        (
            "addresses/.env.fhegaslimit".to_owned(),
            line("FHE_PAYMENT_CONTRACT_ADDRESS", addresses.hcu_limit),
        ),
        // Documentation puts this file into gateway/, and scripts look for it in addresses/.
        ("addresses/.env.gateway".to_owned(), gateway.clone()),
        ("gateway/.env.gateway".to_owned(), gateway),
        (
            "addresses/.env.host".to_owned(),
            host.into_iter().map(|(name, address)| line(name, address)).collect(),
        ),
    ];
    if let Some(coprocessor) = coprocessor {
        files.push(("addresses/.env.coprocessor".to_owned(), line("COPROCESSOR_ADDRESS", coprocessor)));
    }
    files
}

//! Keys that transactions are signed with: from a file, from the environment, or from a mnemonic.

use std::{
    convert::Infallible,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use alloy::{
    primitives::Address,
    signers::local::{MnemonicBuilder, PrivateKeySigner},
};
use anyhow::{Context, Result, anyhow, ensure};
use cipherloom_chain::LocalProfile;
use cipherloom_service::key_file::{self, KeyFile};
use clap::Args;
use zeroize::Zeroizing;

use super::environment::{self, Environment};

/// The longest file with a mnemonic, in bytes: 24 words of at most 8 letters.
const MAX_MNEMONIC_BYTES: u64 = 512;

/// What is signed with.
#[derive(Clone, Debug, Args)]
pub(crate) struct KeyOptions {
    /// Sign with the key in this file, 64 hexadecimal digits [default: PRIVATE_KEY_FHEVM_DEPLOYER in the environment; on the chains 31337 and 12345
    /// the deployer of their published address plans, whose key everybody knows].
    #[arg(
        long,
        value_name = "FILE",
        visible_aliases = ["deployer-key-file", "owner-key-file"],
        conflicts_with_all = ["mnemonic_file", "insecure_key"]
    )]
    key_file: Option<PathBuf>,

    /// Sign with the key that the words in this file give, on the path m/44'/60'/0'/0/INDEX. CIPHERLOOM_DEPLOYER_MNEMONIC in the environment is used
    /// in the same way.
    #[arg(long, value_name = "FILE", conflicts_with = "insecure_key")]
    mnemonic_file: Option<PathBuf>,

    /// The index of the key that a mnemonic gives.
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    mnemonic_index: u32,

    /// INSECURE: sign with this key. Everybody on this machine sees it in the list of processes, and the shell keeps it in its history.
    #[arg(long, value_name = "KEY", hide_short_help = true)]
    insecure_key: Option<VisibleKey>,
}

/// A key from the command line. Others see it anyhow; at least logs do not repeat it.
#[derive(Clone)]
struct VisibleKey(Zeroizing<String>);

impl FromStr for VisibleKey {
    type Err = Infallible;

    fn from_str(key: &str) -> Result<Self, Infallible> {
        Ok(Self(Zeroizing::new(key.to_owned())))
    }
}

impl fmt::Debug for VisibleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VisibleKey")
    }
}

impl KeyOptions {
    /// Finds the key.
    ///
    /// # Errors
    /// If none is named, or the one that is cannot be read.
    pub(crate) fn signer(&self, environment: &Environment, chain_id: u64) -> Result<PrivateKeySigner> {
        if let Some(signer) = self.named(environment)? {
            return Ok(signer);
        }
        match LocalProfile::of_chain(chain_id) {
            Some(profile) => Ok(profile.insecure_deployer()?),
            None => Err(anyhow!(
                "no key to sign with: name a file with --key-file, or set {} in the environment",
                environment::DEPLOYER_KEY
            )),
        }
    }

    /// Finds the key that options or the environment name; `None` if they name none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn named(&self, environment: &Environment) -> Result<Option<PrivateKeySigner>> {
        if let Some(path) = &self.key_file {
            return key_file::read(path, KeyFile::DEPLOYER).map(Some);
        }
        if let Some(path) = &self.mnemonic_file {
            return self.derived(&mnemonic(path)?, &path.display().to_string()).map(Some);
        }
        if let Some(key) = &self.insecure_key {
            eprintln!(
                "warning: a key on the command line is seen by everybody on this machine in the list of processes, and kept in the shell's history; \
                 use --key-file for a key that is worth something"
            );
            return parse(&key.0, "--insecure-key").map(Some);
        }
        if let Some(key) = environment.variable(environment::DEPLOYER_KEY) {
            return parse(&key, environment::DEPLOYER_KEY).map(Some);
        }
        match environment.variable(environment::DEPLOYER_MNEMONIC) {
            Some(words) => self.derived(&words, environment::DEPLOYER_MNEMONIC).map(Some),
            None => Ok(None),
        }
    }

    fn derived(&self, words: &str, source: &str) -> Result<PrivateKeySigner> {
        let words = Zeroizing::new(words.split_whitespace().collect::<Vec<_>>().join(" "));
        // The library's errors may repeat words.
        MnemonicBuilder::from_phrase(words.as_str())
            .index(self.mnemonic_index)
            .and_then(|builder| builder.build())
            .map_err(|_| anyhow!("{source} holds no mnemonic of 12 to 24 words with a right checksum"))
    }
}

/// Finds the key of the GatewayContract's own deployer, if it has one.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn gateway_deployer(file: Option<&Path>, environment: &Environment) -> Result<Option<PrivateKeySigner>> {
    const GATEWAY_DEPLOYER: KeyFile = KeyFile {
        what: "the key that deploys the GatewayContract",
        option: "--gateway-deployer-key-file",
    };
    if let Some(path) = file {
        return key_file::read(path, GATEWAY_DEPLOYER).map(Some);
    }
    match environment.variable(environment::GATEWAY_DEPLOYER_KEY) {
        Some(key) => parse(&key, environment::GATEWAY_DEPLOYER_KEY).map(Some),
        None => Ok(None),
    }
}

/// Refuses a key of another account than the one that can do what is asked.
///
/// # Errors
/// If the accounts differ.
pub(crate) fn require_account(signer: &PrivateKeySigner, needed: Address, role: &str) -> Result<()> {
    let account = signer.address();
    ensure!(
        account == needed,
        "the key is that of {account}, and {role} is {needed}; name its key with --key-file, or use --print-calls to get transactions that {role} can \
         send by other means"
    );
    Ok(())
}

fn parse(key: &str, source: &str) -> Result<PrivateKeySigner> {
    let malformed = || anyhow!("{source} holds no private key: it is 64 hexadecimal digits, with or without 0x");
    let digits = key.trim();
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(digits.strip_prefix("0x").unwrap_or(digits), bytes.as_mut_slice()).map_err(|_| malformed())?;
    PrivateKeySigner::from_slice(bytes.as_slice()).map_err(|_| malformed())
}

fn mnemonic(path: &Path) -> Result<Zeroizing<String>> {
    let unreadable = || format!("cannot read the mnemonic in {}", path.display());
    let size = std::fs::metadata(path).with_context(unreadable)?.len();
    ensure!(size <= MAX_MNEMONIC_BYTES, "{} is too long for a mnemonic", path.display());
    std::fs::read_to_string(path).map(Zeroizing::new).with_context(unreadable)
}

#[cfg(test)]
mod tests {
    use cipherloom_contracts::development;

    use super::*;

    fn options() -> KeyOptions {
        KeyOptions {
            key_file: None,
            mnemonic_file: None,
            mnemonic_index: 0,
            insecure_key: None,
        }
    }

    fn nothing() -> Environment {
        Environment::load(None).unwrap()
    }

    #[test]
    fn a_mnemonic_gives_the_key_of_its_index() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("words");
        std::fs::write(&path, format!("  {}\n", development::INSECURE_DEPLOYER_MNEMONIC)).unwrap();
        let options = KeyOptions {
            mnemonic_file: Some(path.clone()),
            mnemonic_index: development::DEPLOYER_INDEX,
            ..options()
        };
        let signer = options.named(&nothing()).unwrap().unwrap();
        assert_eq!(signer.address(), development::DEPLOYER);
        std::fs::write(&path, "adapt mosquito move").unwrap();
        let error = options.named(&nothing()).unwrap_err().to_string();
        assert!(!error.contains("mosquito"), "{error}");
    }

    #[test]
    fn a_malformed_key_is_not_repeated() {
        let options = KeyOptions {
            insecure_key: "0xabcdef12345".parse().ok(),
            ..options()
        };
        let error = options.named(&nothing()).unwrap_err().to_string();
        assert!(error.contains("64 hexadecimal digits") && !error.contains("abcdef"), "{error}");
    }

    #[test]
    fn local_chains_have_a_public_deployer_and_others_need_a_key() {
        for profile in LocalProfile::ALL {
            let signer = options().signer(&nothing(), profile.chain_id()).unwrap();
            assert_eq!(signer.address(), profile.deployer);
        }
        let error = options().signer(&nothing(), 11_155_111).unwrap_err().to_string();
        assert!(error.contains("--key-file"), "{error}");
    }
}

//! The development accounts: derived from public mnemonics, unlocked, worthless elsewhere.

use std::fmt;

use alloy::primitives::{Address, B256, Signature, hex};
use alloy::signers::SignerSync;
use alloy::signers::local::{MnemonicBuilder, PrivateKeySigner};

use crate::config::AccountsConfig;
use crate::error::{NodeError, Result};

/// The mnemonic that Ethereum development tools share.
pub const DEV_MNEMONIC: &str = "test test test test test test test test test test test junk";

/// The mnemonic behind the host contracts' published addresses on chain 31337.
pub const DEPLOYER_MNEMONIC: &str = "adapt mosquito move limb mobile illegal tree voyage juice mosquito burger raise father hope layer";

/// The derivation path of the deployer under [`DEPLOYER_MNEMONIC`]; its address is
/// `0x8B8f5091f8b9817EF69cFC1E8B2f721BafF60DF4`.
pub const DEPLOYER_PATH: &str = "m/44'/60'/0'/0/5";

/// Most accounts that one configuration may derive.
const MAX_ACCOUNTS: u32 = 1000;

/// A funded account whose private key everybody knows.
#[derive(Clone)]
pub struct DevAccount {
    signer: PrivateKeySigner,
}

impl DevAccount {
    /// Derives the account at `path` of a BIP-39 `mnemonic`.
    ///
    /// # Errors
    ///
    /// [`NodeError::Accounts`] if the phrase or the path is not valid.
    pub fn derive(mnemonic: &str, path: &str) -> Result<Self> {
        let signer = MnemonicBuilder::from_phrase(mnemonic)
            .derivation_path(path)
            .and_then(|builder| builder.build())
            .map_err(|error| NodeError::Accounts(error.to_string()))?;
        Ok(Self { signer })
    }

    /// Returns the account's address.
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// Returns the private key as `0x` and 64 hex digits, for printing to a developer.
    ///
    /// "Insecure" because the key comes from a public mnemonic and is handed out freely.
    pub fn insecure_private_key_hex(&self) -> String {
        hex::encode_prefixed(self.signer.to_bytes())
    }

    /// Signs a 32-byte digest.
    pub(crate) fn sign_digest(&self, digest: &B256) -> Result<Signature> {
        self.signer
            .sign_hash_sync(digest)
            .map_err(|error| NodeError::Accounts(error.to_string()))
    }
}

impl fmt::Debug for DevAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DevAccount").field(&self.address()).finish()
    }
}

/// Derives the development accounts and, if asked for, the deployer.
pub(crate) fn derive_accounts(config: &AccountsConfig) -> Result<(Vec<DevAccount>, Option<DevAccount>)> {
    if config.count > MAX_ACCOUNTS {
        return Err(NodeError::Accounts(format!(
            "{} accounts asked for, at most {MAX_ACCOUNTS} are possible",
            config.count
        )));
    }
    let accounts = (0..config.count)
        .map(|index| DevAccount::derive(&config.mnemonic, &format!("m/44'/60'/0'/0/{index}")))
        .collect::<Result<_>>()?;
    let deployer = config
        .fund_deployer
        .then(|| DevAccount::derive(DEPLOYER_MNEMONIC, DEPLOYER_PATH))
        .transpose()?;
    Ok((accounts, deployer))
}

#[cfg(test)]
mod tests {
    use alloy::primitives::address;

    use super::*;

    #[test]
    fn published_mnemonics_give_the_published_addresses() {
        let (accounts, deployer) = derive_accounts(&AccountsConfig::default()).unwrap();
        assert_eq!(accounts.len(), 10);
        assert_eq!(accounts[0].address(), address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266"));
        assert_eq!(accounts[9].address(), address!("a0Ee7A142d267C1f36714E4a8F75612F20a79720"));
        assert_eq!(deployer.unwrap().address(), address!("8B8f5091f8b9817EF69cFC1E8B2f721BafF60DF4"));
        assert_eq!(
            accounts[0].insecure_private_key_hex(),
            "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
        );
    }

    #[test]
    fn a_wrong_mnemonic_is_refused() {
        assert!(matches!(
            DevAccount::derive("test test", "m/44'/60'/0'/0/0"),
            Err(NodeError::Accounts(_))
        ));
    }
}

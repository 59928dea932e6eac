//! The development chain: a [`Chain`] that mines by itself and signs for accounts whose keys everybody knows.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::watch;

use super::Chain;
use super::core::Core;
use super::interval::MiningInterval;
use crate::accounts::{DevAccount, derive_accounts};
use crate::config::DevChainConfig;
use crate::error::Result;

/// A development chain; clones share it. What it has in common with other chains is in [`Chain`].
#[derive(Clone)]
pub struct DevChain {
    chain: Chain,
    development: Arc<Development>,
}

/// What only a development chain has.
struct Development {
    accounts: Vec<DevAccount>,
    deployer: Option<DevAccount>,
    /// What the task that mines by itself listens to.
    interval: watch::Sender<Option<MiningInterval>>,
}

impl DevChain {
    /// Creates the chain, or restores it from the configured data directory.
    ///
    /// # Errors
    ///
    /// [`NodeError::Accounts`] for an unusable mnemonic, [`NodeError::InvalidConfig`], and the journal's errors:
    /// [`NodeError::Io`], [`NodeError::DataDirLocked`], [`NodeError::JournalOfOtherChain`],
    /// [`NodeError::JournalCorrupt`], [`NodeError::ReplayMismatch`].
    ///
    /// [`NodeError::Accounts`]: crate::NodeError::Accounts
    /// [`NodeError::InvalidConfig`]: crate::NodeError::InvalidConfig
    /// [`NodeError::Io`]: crate::NodeError::Io
    /// [`NodeError::DataDirLocked`]: crate::NodeError::DataDirLocked
    /// [`NodeError::JournalOfOtherChain`]: crate::NodeError::JournalOfOtherChain
    /// [`NodeError::JournalCorrupt`]: crate::NodeError::JournalCorrupt
    /// [`NodeError::ReplayMismatch`]: crate::NodeError::ReplayMismatch
    pub fn new(config: DevChainConfig) -> Result<Self> {
        let (accounts, deployer) = derive_accounts(&config.accounts)?;
        let unlocked = accounts.iter().chain(&deployer).map(DevAccount::address);
        let funded = unlocked.chain(config.accounts.extra_funded.iter().copied()).collect::<Vec<_>>();
        Ok(Self {
            chain: Chain::of(Core::open(config, &funded)?),
            development: Arc::new(Development {
                accounts,
                deployer,
                interval: watch::Sender::new(None),
            }),
        })
    }

    /// Returns the funded, unlocked development accounts, without the deployer.
    pub fn accounts(&self) -> &[DevAccount] {
        &self.development.accounts
    }

    /// Returns the funded, unlocked account that deploys the host contracts at their published
    /// addresses, if configured.
    pub fn deployer(&self) -> Option<&DevAccount> {
        self.development.deployer.as_ref()
    }

    /// Asks the system to put the journal on the disk; without a data directory it does nothing.
    ///
    /// # Errors
    ///
    /// [`NodeError::Io`](crate::NodeError::Io).
    pub fn sync(&self) -> Result<()> {
        self.core()?.sync()
    }

    /// Puts the journal on the disk and gives up the data directory, for all clones of this chain:
    /// reading goes on, changes fail with [`NodeError::ShutDown`](crate::NodeError::ShutDown). A chain without a data directory
    /// is not affected.
    ///
    /// # Errors
    ///
    /// [`NodeError::Io`](crate::NodeError::Io).
    pub fn close(&self) -> Result<()> {
        self.change(Core::close)
    }

    /// The wanted pause between blocks that come by themselves, to be read, changed and listened to.
    pub(super) fn interval(&self) -> &watch::Sender<Option<MiningInterval>> {
        &self.development.interval
    }
}

impl Deref for DevChain {
    type Target = Chain;

    fn deref(&self) -> &Chain {
        &self.chain
    }
}

impl fmt::Debug for DevChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevChain")
            .field("chain_id", &self.chain_id())
            .finish_non_exhaustive()
    }
}

//! Which chain a stack runs on: one of its own in this process, or one that is there already.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use cipherloom_chain::{CallLimits, HostChain};
use cipherloom_contracts::{Face, development};
use clap::Args;

/// Which chain a stack runs on.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ChainOptions {
    /// Attach to the chain behind this URL instead of running one: JSON-RPC over http://, https://, ws:// or wss://. Given several times, the
    /// others are used when the first fails.
    #[arg(long, value_name = "URL")]
    pub(crate) rpc: Vec<String>,

    /// The deployment of the host contracts on that chain: the file that `cipherloom contracts deploy` wrote [default: what an earlier start
    /// deployed, or the known address plan of chain 31337 or 12345].
    #[arg(long, value_name = "FILE", requires = "rpc")]
    pub(crate) deployment: Option<PathBuf>,

    /// Deploy the host contracts with this key if there are none: a file with 64 hexadecimal digits. Chains 31337 and 12345 have a deployer
    /// that everybody knows.
    #[arg(long, value_name = "FILE", requires = "rpc", conflicts_with = "deployment")]
    pub(crate) deployer_key_file: Option<PathBuf>,

    /// Deliver decryptions that contracts ask for, paid by this account: a file with its private key, 64 hexadecimal digits. The gateway
    /// contract must know it as a relayer [default: on chains 31337 and 12345 a funded account that everybody knows, on others callbacks are off].
    #[arg(long, value_name = "FILE", requires = "rpc")]
    pub(crate) relayer_key_file: Option<PathBuf>,

    /// From which depth on a block is final: later ones are watched for reorganisations, and withdrawn if the chain drops them [default: 64].
    #[arg(long, value_name = "BLOCKS", requires = "rpc")]
    pub(crate) finality: Option<u64>,

    /// Which version of the protocol the host contracts speak for where this stack deploys them, 0.12 or 0.14: client SDKs choose wire formats by
    /// it [default: 0.12]. Contracts that are there already have to show it.
    #[arg(long, value_name = "VERSION", value_parser = str::parse::<Face>)]
    pub(crate) face: Option<Face>,
}

/// A chain, before its contracts are looked at.
#[derive(Clone, Debug)]
pub(crate) enum Network {
    /// One of the stack's own, in this process.
    Embedded,
    /// One that is there already.
    External {
        /// The URLs of its nodes, the preferred one first.
        urls: Vec<String>,
        /// The chain id that they report.
        chain_id: u64,
    },
}

impl Network {
    /// Finds the chain of the options, and asks its node which one it is.
    ///
    /// # Errors
    /// If a URL is none of a node, or no node answers.
    pub(crate) async fn find(options: &ChainOptions) -> Result<Self> {
        if options.rpc.is_empty() {
            return Ok(Self::Embedded);
        }
        let urls = options.rpc.clone();
        // No contract is asked anything yet, so it does not matter where they are.
        let node = HostChain::connect_all(&urls, development::addresses(), CallLimits::default(), None)?;
        let chain_id = node
            .chain_id()
            .await
            .with_context(|| format!("cannot attach to the chain at {}", urls.join(", ")))?;
        ensure!(chain_id != 0, "the node at {} reports chain 0", urls.join(", "));
        Ok(Self::External { urls, chain_id })
    }

    /// Returns the chain's id.
    pub(crate) const fn chain_id(&self) -> u64 {
        match self {
            Self::Embedded => development::HOST_CHAIN_ID,
            Self::External { chain_id, .. } => *chain_id,
        }
    }

    /// Says whether the chain outlives the stack.
    pub(crate) const fn is_external(&self) -> bool {
        matches!(self, Self::External { .. })
    }
}

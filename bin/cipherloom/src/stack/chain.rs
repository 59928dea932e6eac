//! The chain under a stack, running, and with host contracts on it that know the stack.
//!
//! The two kinds of chains differ in who runs the node and in who may deploy. Everything after that is the same.

use std::{path::Path, time::Duration};

use alloy::{primitives::Address, signers::local::PrivateKeySigner};
use anyhow::{Context, Result, ensure};
use cipherloom_chain::{
    CallLimits, DeployEvent, Deployers, Deployment, DeploymentRun, FollowerConfig, HostChain, SendOptions, SignerSetOnChain, survey::Survey,
};
use cipherloom_contracts::{Face, HostAddresses, KmsConfig};
use cipherloom_node::{DevAccount, DevChain, DevChainConfig, DevChainHandle};
use cipherloom_primitives::{U256, eip712::SigningDomains};

use super::{
    Listen, accounts,
    network::Network,
    site::{Deployer, Site},
};

/// How often the follower looks for new blocks of the stack's own chain. It is in the same process, so that looking costs next to nothing.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The same for a chain outside, where each look is a request.
const EXTERNAL_POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The most gas that a deployment takes.
const DEPLOYMENT_GAS: u64 = 60_000_000;

/// A chain with host contracts that know this stack.
pub(crate) struct StackChain {
    /// The node, if it is in this process.
    node: Option<DevChainHandle>,
    host: HostChain,
    site: Site,
    /// Accounts with ether whose keys everybody knows.
    accounts: Vec<DevAccount>,
}

/// Whose signatures the contracts are to accept.
#[derive(Clone, Debug)]
pub(crate) struct Signers {
    /// The coprocessor's.
    pub(crate) coprocessor: Address,
    /// The KMS's: one, or those of a committee in the order of its parties.
    pub(crate) kms: Vec<Address>,
}

/// Returns what contracts are to be told of a KMS that signs with these keys.
///
/// Of a committee in which `t` may be corrupt, `t + 1` have to sign, one of whom is honest then; and `2t + 1` have to answer users, so that `t` wrong
/// answers among all can be told from the others.
pub(crate) fn kms_config(signers: Vec<Address>) -> KmsConfig {
    let corrupt = (signers.len() as u64).saturating_sub(1) / 3;
    KmsConfig {
        signers,
        public_decryption_threshold: corrupt + 1,
        user_decryption_threshold: 2 * corrupt + 1,
        mpc_threshold: corrupt,
    }
}

impl Signers {
    /// Returns what the contracts are to be told of the KMS.
    pub(crate) fn kms_config(&self) -> KmsConfig {
        kms_config(self.kms.clone())
    }

    /// Returns the options of `cipherloom contracts deploy` that say the same.
    pub(crate) fn kms_options(&self) -> String {
        let signers: Vec<String> = self.kms.iter().map(|signer| format!("--kms-signer {signer}")).collect();
        signers.join(" ")
    }
}

impl StackChain {
    /// Starts the chain if it is the stack's own, deploys the host contracts if they are missing and may be deployed, and makes sure that they
    /// know this stack.
    ///
    /// # Errors
    /// If the chain does not start or answer, the contracts are missing and nobody may deploy them, or they know other signers.
    pub(crate) async fn open(site: Site, listen: &Listen, state: &Path, signers: &Signers) -> Result<Self> {
        let (node, host) = match &site.network {
            Network::Embedded => {
                let node = start(site.network.chain_id(), listen, state).await?;
                let host = HostChain::connect(&node.rpc_url(), site.addresses)?;
                (Some(node), host)
            }
            Network::External { urls, chain_id } => {
                let host = HostChain::connect_all(urls, site.addresses, CallLimits::default(), Some(*chain_id))?;
                (None, host)
            }
        };
        let accounts = match &node {
            Some(node) => node.accounts().to_vec(),
            None if site.is_development() => accounts::public_accounts(&host).await?,
            None => Vec::new(),
        };
        let mut chain = Self {
            node,
            host,
            site,
            accounts,
        };
        chain.deploy_if_missing(state, signers).await?;
        chain.expect(signers).await?;
        Ok(chain)
    }

    /// Returns the chain as the parts of a stack read it.
    pub(crate) const fn host(&self) -> &HostChain {
        &self.host
    }

    /// Returns the chain's id.
    pub(crate) const fn chain_id(&self) -> u64 {
        self.site.network.chain_id()
    }

    /// Returns where the host contracts are.
    pub(crate) const fn addresses(&self) -> &HostAddresses {
        &self.site.addresses
    }

    /// Returns where signatures are valid.
    pub(crate) const fn domains(&self) -> &SigningDomains {
        &self.site.domains
    }

    /// Returns how the chain is followed, with this finality if it is given.
    pub(crate) fn follower_config(&self, finality: Option<u64>) -> FollowerConfig {
        let defaults = FollowerConfig::default();
        FollowerConfig {
            first_block: self.site.first_block.unwrap_or_default(),
            poll_interval: if self.node.is_some() {
                POLL_INTERVAL
            } else {
                EXTERNAL_POLL_INTERVAL
            },
            finality_depth: finality.unwrap_or(defaults.finality_depth),
            // Development chains are reverted and begun anew as their users please.
            keeps_final_blocks: !self.site.is_development(),
            ..defaults
        }
    }

    /// Returns the node, if it is in this process.
    pub(super) const fn node(&self) -> Option<&DevChainHandle> {
        self.node.as_ref()
    }

    /// Says whether the chain is for development.
    pub(super) fn is_development(&self) -> bool {
        self.site.is_development()
    }

    /// Returns the key of the account that deploys the host contracts, if it is known.
    pub(super) fn deployer(&self) -> Option<PrivateKeySigner> {
        self.site.deployer.as_ref().map(|deployer| deployer.signer.clone())
    }

    /// Returns the accounts with ether whose keys everybody knows; none on a chain that is not for development.
    pub(crate) fn accounts(&self) -> &[DevAccount] {
        &self.accounts
    }

    /// Returns the URL that dApps use: of JSON-RPC over HTTP, unless the chain was given by WebSocket URLs alone.
    pub(crate) fn rpc_url(&self) -> String {
        match (&self.node, &self.site.network) {
            (Some(node), _) => node.rpc_url(),
            (None, Network::External { urls, .. }) => pick(urls, "http").or_else(|| urls.first().cloned()).unwrap_or_default(),
            (None, Network::Embedded) => String::new(),
        }
    }

    /// Returns a URL of JSON-RPC over WebSocket, if one is known.
    pub(crate) fn ws_url(&self) -> Option<String> {
        match (&self.node, &self.site.network) {
            (Some(node), _) => Some(node.ws_url()),
            (None, Network::External { urls, .. }) => pick(urls, "ws"),
            (None, Network::Embedded) => None,
        }
    }

    /// Stops the node, if it is in this process.
    pub(crate) async fn shutdown(self) {
        if let Some(node) = self.node {
            node.shutdown().await;
        }
    }

    /// Deploys the host contracts if they are missing and this stack knows who may. Whether they are right then, [`Self::expect`] says.
    async fn deploy_if_missing(&mut self, state: &Path, signers: &Signers) -> Result<()> {
        let Some(Deployer { signer, is_public }) = &self.site.deployer else {
            return Ok(());
        };
        if !self.site.is_unfinished && self.is_deployed().await {
            return Ok(());
        }
        let deployer = signer.address();
        if *is_public {
            accounts::fund(&self.host, deployer, DEPLOYMENT_GAS).await?;
        } else {
            accounts::expect_funds(&self.host, deployer, DEPLOYMENT_GAS, "deploying the host contracts").await?;
        }
        // The stack's own chain is where its contracts are; of another one they have to be remembered.
        let file = self
            .site
            .network
            .is_external()
            .then(|| state.join(Deployment::file_name(self.chain_id())));
        let config = self.site.deployment(deployer, signers);
        let run = DeploymentRun {
            config: &config,
            options: SendOptions::default(),
            file: file.as_deref(),
        };
        let deployers = Deployers {
            deployer: signer.clone(),
            gateway_deployer: None,
        };
        let mut observer = |event: DeployEvent<'_>| {
            if let DeployEvent::Included { call, included, .. } = event {
                tracing::info!(step = call.name, hash = %included.hash, "deployed");
            }
        };
        let deployed = Box::pin(run.execute(&self.host, &deployers, &mut observer)).await;
        let deployed = deployed.with_context(|| format!("cannot deploy the host contracts on chain {}", self.chain_id()))?;
        self.site.first_block = deployed.first_block;
        Ok(())
    }

    /// Says whether the last parts of a deployment answer. What does not answer is not there, or [`Self::expect`] says why.
    async fn is_deployed(&self) -> bool {
        let belong_together = self.host.check_deployment(self.chain_id()).await.is_ok();
        belong_together
            && self
                .host
                .coprocessor_signers()
                .await
                .is_ok_and(|registered| !registered.signers.is_empty())
    }

    /// Makes sure that the host contracts are there, belong together, and accept what this stack signs.
    async fn expect(&self, signers: &Signers) -> Result<()> {
        let (chain_id, host) = (self.chain_id(), &self.host);
        let acl = self.site.addresses.acl;
        ensure!(
            !host.code(acl).await?.is_empty(),
            "there are no host contracts on chain {chain_id} at {acl}, {}; was the chain started anew, or is it another one?",
            match &self.site.manifest {
                Some(manifest) => format!("where {} says they are", manifest.display()),
                None => "where the deployer's address says they are".to_owned(),
            }
        );
        host.check_deployment(chain_id)
            .await
            .with_context(|| format!("the contracts at {acl} on chain {chain_id} are no deployment that this stack can use"))?;
        let domains = host.signing_domains().await?;
        ensure!(
            domains == self.site.domains,
            "the host contracts sign for {domains:?}, and this stack is told {:?}",
            self.site.domains
        );
        if let Some(face) = self.site.face {
            let shown = self.face().await?;
            ensure!(
                shown == Some(face),
                "the host contracts on chain {chain_id} speak for protocol {}, and {face} is asked for. Start with another --data-dir, or have the \
                 contracts' owner run `cipherloom contracts upgrade --face {face}`",
                shown.map_or("of an unknown version", Face::as_str)
            );
        }
        let coprocessors = host.coprocessor_signers().await?;
        self.expect_signer("coprocessor", signers.coprocessor, &coprocessors)?;
        let registered = host.kms_signers().await?;
        match signers.kms.as_slice() {
            [one] => self.expect_signer("KMS", *one, &registered),
            _ => self.expect_committee(signers, &registered),
        }
    }

    /// Makes sure that the contracts know the committee of this stack, in its order.
    fn expect_committee(&self, signers: &Signers, registered: &SignerSetOnChain) -> Result<()> {
        let names = |signers: &[Address]| signers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        ensure!(
            registered.signers == signers.kms,
            "the host contracts on chain {} belong to another stack: they know {} as the KMS nodes, and those of this one are {}, in this order. Use that stack's --data-dir, \
             or have the contracts' owner register these with `cipherloom contracts signers`",
            self.chain_id(),
            names(&registered.signers),
            names(&signers.kms)
        );
        ensure!(
            registered.threshold <= U256::from(signers.kms.len()) && !registered.threshold.is_zero(),
            "the host contracts on chain {} ask for {} signatures of {} KMS nodes",
            self.chain_id(),
            registered.threshold,
            signers.kms.len()
        );
        Ok(())
    }

    /// Returns the version of the protocol that the contracts speak for, if it is one that this build knows.
    pub(crate) async fn face(&self) -> Result<Option<Face>> {
        Ok(Survey::take(&self.host).await?.face())
    }

    /// Makes sure that a signature of this stack's, alone, is enough for the contracts.
    fn expect_signer(&self, role: &str, ours: Address, registered: &SignerSetOnChain) -> Result<()> {
        let SignerSetOnChain { signers, threshold } = registered;
        let names: Vec<String> = signers.iter().map(ToString::to_string).collect();
        ensure!(
            signers.contains(&ours),
            "the host contracts on chain {} belong to another stack: they know {} as {role}, and this one is {ours}. Use that stack's --data-dir, \
             or have the contracts' owner register this one with `cipherloom contracts signers add`",
            self.chain_id(),
            names.join(", ")
        );
        ensure!(
            *threshold == U256::ONE,
            "the host contracts on chain {} ask for {threshold} signatures of a {role}, and this stack has one: {ours}",
            self.chain_id()
        );
        Ok(())
    }
}

/// Starts the stack's own chain.
async fn start(chain_id: u64, listen: &Listen, state: &Path) -> Result<DevChainHandle> {
    DevChain::start(DevChainConfig {
        chain_id,
        listen: listen.rpc,
        data_dir: Some(state.join("chain")),
        ..DevChainConfig::default()
    })
    .await
    .context("cannot start the chain")
}

/// Returns the first URL of a protocol, with or without TLS.
fn pick(urls: &[String], protocol: &str) -> Option<String> {
    let (plain, secured) = (format!("{protocol}://"), format!("{protocol}s://"));
    urls.iter()
        .find(|url| url.starts_with(&plain) || url.starts_with(&secured))
        .cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_has_its_url() {
        let urls = ["wss://a", "https://b", "http://c"].map(str::to_owned);
        assert_eq!(pick(&urls, "http").as_deref(), Some("https://b"));
        assert_eq!(pick(&urls, "ws").as_deref(), Some("wss://a"));
        assert_eq!(pick(&urls[1..], "ws"), None);
    }
}

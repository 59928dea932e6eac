//! The host chains of a process and, for each, the coprocessor that works for it; or none, where a native chain's validators compute.
//!
//! One chain is named by options; several stand in the config file, in a table `[[chain]]` each.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

use alloy::primitives::{Address, B256};
use anyhow::{Context, Result, bail, ensure};
use cipherloom_chain::{
    CallLimits, ChainError, Deployment, HostChain, LightClient, LightOptions, LocalProfile, NativeGenesis, WitnessOptions, WitnessedChain,
    redacted_url,
};
use cipherloom_contracts::HostAddresses;
use cipherloom_primitives::eip712::SigningDomains;
use clap::{Args, Command, CommandFactory, Parser};

use crate::{
    config_file::ConfigFile,
    coprocessor::{PART, RemoteCoprocessor},
    database_url::DatabaseUrl,
    endpoints::Place,
};

/// What a table is called.
pub const TABLE: &str = "chain";

/// Where the options about a chain stand in help texts.
const HEADING: &str = "The host chain; several stand in [[chain]] tables of the config file";

/// A host chain, and its coprocessor if it has one.
#[derive(Clone, Default, Args)]
pub struct ChainOptions {
    /// A node of the host chain: JSON-RPC over http, https, ws or wss. Given several times: others to ask while one fails
    #[arg(long, value_name = "URL", help_heading = HEADING)]
    pub rpc_url: Vec<DatabaseUrl>,

    /// The file about the deployment of the host contracts, deployment-CHAINID.json [default: the known plan of chain 31337 or 12345]
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub deployment: Option<PathBuf>,

    /// An endpoint of the coprocessor that works for the chain. Given several times: others to ask while one does not answer
    #[arg(long, value_name = "URL", help_heading = HEADING)]
    pub coprocessor_url: Vec<String>,

    /// A file with the API key of the chain's tenant, as `cipherloom tenant add` prints it
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub coprocessor_api_key_file: Option<PathBuf>,

    /// The PEM file of whoever issued the coprocessor's certificate, for https URLs
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub coprocessor_ca: Option<PathBuf>,

    /// The chain is a native one, whose validators compute: the genesis.json that it began with, from somebody you trust. Instead of a deployment and a
    /// coprocessor
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub native_genesis: Option<PathBuf>,

    /// The hash of the native chain's first block: a genesis.json of another one is refused. The hash covers all of the file, so that the file may then come
    /// from anywhere
    #[arg(long, value_name = "HASH", help_heading = HEADING)]
    pub native_genesis_hash: Option<B256>,

    /// Where the native chain's validators are kept that are trusted by now. A first file may come from somebody you trust, for a chain whose first
    /// validators you do not [default: validators-CHAINID.json in the audit directory of a KMS]
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub native_trusted_set: Option<PathBuf>,
}

/// What stands in a table.
#[derive(Parser)]
#[command(name = TABLE)]
struct Table {
    #[command(flatten)]
    chain: ChainOptions,
}

/// Describes what stands in a table.
pub fn table() -> (&'static str, Command) {
    (TABLE, Table::command())
}

/// Takes the chains of a config file.
///
/// # Errors
/// None that can occur: the file's reader has parsed the same lines.
pub fn of_file(file: Option<&ConfigFile>) -> Result<Vec<ChainOptions>> {
    let lines = file.into_iter().flat_map(|file| file.tables(TABLE));
    lines
        .map(|line: &[OsString]| Ok(Table::try_parse_from(line).context("a [[chain]] table")?.chain))
        .collect()
}

/// Returns the chains of a process: those of the file, or the one of the options.
///
/// # Errors
/// If there are none, or both.
pub fn all(one: &ChainOptions, several: &[ChainOptions]) -> Result<Vec<ChainOptions>> {
    let named = !(one.rpc_url.is_empty() && one.deployment.is_none() && one.coprocessor_url.is_empty() && one.native_genesis.is_none());
    match (named, several) {
        (true, []) => Ok(vec![one.clone()]),
        (false, [_, ..]) => Ok(several.to_vec()),
        (true, _) => bail!("the config file has [[chain]] tables and options name one more chain; write it as a table, too"),
        (false, []) => bail!(
            "no host chain: name a node with --rpc-url and the coprocessor with --coprocessor-url (for a native chain, the genesis with --native-genesis), or \
             write [[chain]] tables into the config file"
        ),
    }
}

/// A chain as it is known before anybody is asked.
pub struct Chain {
    /// Its id.
    pub id: u64,
    /// Where its contracts are, and its nodes.
    pub host: HostChain,
    /// Where signatures are valid.
    pub domains: SigningDomains,
    /// Who computes.
    pub computes: Computes,
    /// The URLs of its nodes, which may hold keys.
    urls: Vec<DatabaseUrl>,
    /// How its nodes may be named in messages.
    pub nodes: String,
    /// The chain was not told by a file but by its node.
    pub is_known_plan: bool,
    /// The first block that can hold an event of the contracts.
    pub first_block: u64,
}

/// Who computes for a chain.
pub enum Computes {
    /// A coprocessor.
    Coprocessor {
        /// The way to it.
        remote: Arc<RemoteCoprocessor>,
        /// How its endpoints may be named.
        at: String,
    },
    /// The validators of a native chain.
    Validators {
        /// What the chain began with.
        genesis: Box<NativeGenesis>,
        /// Where those are kept that are trusted by now.
        trusted_set: Option<PathBuf>,
    },
}

/// Why a chain cannot be used now.
pub enum Trouble {
    /// It may be otherwise in a moment.
    NotYet(anyhow::Error),
    /// Somebody has to change something.
    Wrong(anyhow::Error),
}

impl Trouble {
    /// Tells whether an error of the chain may pass.
    pub fn of(error: ChainError, what: impl FnOnce() -> String) -> Self {
        let passes = error.is_retryable();
        let error = anyhow::Error::new(error).context(what());
        if passes { Self::NotYet(error) } else { Self::Wrong(error) }
    }
}

impl Chain {
    /// Finds out which chain the options mean. A node is asked only if no file tells.
    ///
    /// # Errors
    /// [`Trouble::NotYet`] if no node answers that has to be asked, [`Trouble::Wrong`] if something cannot be used.
    pub async fn open(options: &ChainOptions) -> Result<Self, Trouble> {
        let wrong = Trouble::Wrong;
        let urls: Vec<&str> = options.rpc_url.iter().map(DatabaseUrl::expose).collect();
        let nodes = urls.iter().map(|url| redacted_url(url)).collect::<Vec<_>>().join(", ");
        if urls.is_empty() {
            return Err(wrong(anyhow::anyhow!("a chain has no node: name one with rpc-url")));
        }
        let mut first_block = 0;
        let native = native(options).map_err(wrong)?;
        let (id, addresses, domains) = match (&native, &options.deployment) {
            (Some(genesis), _) => (genesis.chain_id, genesis.contracts, genesis.signing_domains()),
            (None, Some(file)) => {
                let read = Deployment::read(file).with_context(|| format!("cannot use the deployment in {}", file.display()));
                let deployment = read.map_err(wrong)?;
                first_block = deployment.first_block.unwrap_or_default();
                (deployment.chain_id, deployment.addresses(), deployment.signing_domains())
            }
            (None, None) => known_plan(&urls, &nodes).await?,
        };
        let host = HostChain::connect_all(&urls, addresses, CallLimits::default(), Some(id));
        let host = host.with_context(|| format!("the nodes of chain {id}")).map_err(wrong)?;
        let is_known_plan = native.is_none() && options.deployment.is_none();
        let computes = match native {
            Some(genesis) => Computes::Validators {
                genesis: Box::new(genesis),
                trusted_set: options.native_trusted_set.clone(),
            },
            None => Computes::Coprocessor {
                remote: Arc::new(of_coprocessor(options, id).map_err(wrong)?),
                at: options.coprocessor_url.join(", "),
            },
        };
        Ok(Self {
            id,
            host,
            domains,
            computes,
            urls: options.rpc_url.clone(),
            nodes,
            is_known_plan,
            first_block,
        })
    }

    /// Returns its coprocessor with how its endpoints may be named, if one works for it.
    #[must_use]
    pub fn coprocessor(&self) -> Option<(&Arc<RemoteCoprocessor>, &str)> {
        match &self.computes {
            Computes::Coprocessor { remote, at } => Some((remote, at)),
            Computes::Validators { .. } => None,
        }
    }

    /// Returns what it began with, if it is a native chain.
    #[must_use]
    pub fn native(&self) -> Option<&NativeGenesis> {
        match &self.computes {
            Computes::Coprocessor { .. } => None,
            Computes::Validators { genesis, .. } => Some(genesis),
        }
    }

    /// Returns a native chain as a KMS node reads it, following its validators; `None` if it is none. What is trusted is kept in the options' file, or else in
    /// this directory.
    ///
    /// # Errors
    /// If there are fewer nodes than must agree, or the file cannot be used.
    pub fn followed(&self, options: LightOptions, directory: &Path) -> Result<Option<LightClient>> {
        let Computes::Validators { trusted_set, .. } = &self.computes else {
            return Ok(None);
        };
        let kept = trusted_set
            .clone()
            .unwrap_or_else(|| directory.join(format!("validators-{}.json", self.id)));
        self.followed_with(LightOptions {
            trusted_file: Some(kept),
            ..options
        })
    }

    /// The same for a node that believes nothing on its disk: it begins with the genesis at every start, and keeps nothing.
    ///
    /// # Errors
    /// If there are fewer nodes than must agree.
    pub fn followed_from_genesis(&self, options: LightOptions) -> Result<Option<LightClient>> {
        self.followed_with(LightOptions {
            trusted_file: None,
            ..options
        })
    }

    fn followed_with(&self, options: LightOptions) -> Result<Option<LightClient>> {
        let Computes::Validators { genesis, .. } = &self.computes else {
            return Ok(None);
        };
        let urls: Vec<&str> = self.urls.iter().map(DatabaseUrl::expose).collect();
        let client = LightClient::connect(&urls, genesis, CallLimits::default(), options);
        client.map(Some).with_context(|| format!("the nodes of chain {}", self.id))
    }

    /// Returns the chain as a KMS node reads it: a number of its nodes must agree.
    ///
    /// # Errors
    /// If there are fewer nodes than must agree.
    pub fn witnessed(&self, options: WitnessOptions) -> Result<WitnessedChain> {
        let urls: Vec<&str> = self.urls.iter().map(DatabaseUrl::expose).collect();
        let chain = WitnessedChain::connect(&urls, *self.host.addresses(), CallLimits::default(), self.id, options);
        chain.with_context(|| format!("the nodes of chain {}", self.id))
    }

    /// Asks the chain whether it is the right one, and its contracts whether they are those.
    ///
    /// # Errors
    /// [`Trouble::NotYet`] if no node answers, [`Trouble::Wrong`] if anything is otherwise.
    pub async fn check(&self) -> Result<(), Trouble> {
        let what = || format!("chain {} at {}", self.id, self.nodes);
        let id = self.host.chain_id().await.map_err(|error| Trouble::of(error, what))?;
        if id != self.id {
            return Err(Trouble::Wrong(anyhow::anyhow!(
                "the node at {} serves chain {id}, and the deployment is on chain {}",
                self.nodes,
                self.id
            )));
        }
        if let Some(genesis) = self.native() {
            let first = self.host.header(0.into()).await.map_err(|error| Trouble::of(error, what))?;
            // Only a hint for operators: whoever decrypts believes certificates alone.
            if first.is_some_and(|first| first.hash != genesis.hash) {
                return Err(Trouble::Wrong(anyhow::anyhow!(
                    "the node at {} began with another block than the genesis has, {}",
                    self.nodes,
                    genesis.hash
                )));
            }
        }
        let acl = self.host.addresses().acl;
        let deployed = || format!("the host contracts at {acl} on chain {}", self.id);
        let code = self.host.code(acl).await.map_err(|error| Trouble::of(error, what))?;
        if code.is_empty() {
            let hint = if self.is_known_plan {
                "; name the file about yours with --deployment"
            } else {
                ""
            };
            return Err(Trouble::Wrong(anyhow::anyhow!(
                "there are no host contracts on chain {} at {acl}{hint}",
                self.id
            )));
        }
        self.host
            .check_deployment(self.id)
            .await
            .map_err(|error| Trouble::of(error, deployed))?;
        let domains = self.host.signing_domains().await.map_err(|error| Trouble::of(error, deployed))?;
        if domains != self.domains {
            return Err(Trouble::Wrong(anyhow::anyhow!(
                "the contracts on chain {} sign for {domains:?}, and this process is told {:?}",
                self.id,
                self.domains
            )));
        }
        Ok(())
    }
}

/// Reads the genesis of a native chain, if the options name one.
fn native(options: &ChainOptions) -> Result<Option<NativeGenesis>> {
    let Some(file) = &options.native_genesis else {
        ensure!(
            options.native_trusted_set.is_none() && options.native_genesis_hash.is_none(),
            "native-trusted-set and native-genesis-hash are for a native chain: native-genesis is missing"
        );
        return Ok(None);
    };
    ensure!(
        options.deployment.is_none() && options.coprocessor_url.is_empty() && options.coprocessor_api_key_file.is_none(),
        "native-genesis says where the contracts of the chain are, and no coprocessor works for it: leave out deployment and the coprocessor's options"
    );
    let genesis = NativeGenesis::read(file).with_context(|| format!("cannot use the genesis in {}", file.display()))?;
    if let Some(wanted) = options.native_genesis_hash {
        ensure!(
            genesis.hash == wanted,
            "the genesis in {} is of a chain whose first block is {}, and native-genesis-hash says {wanted}: it is another chain, or the file was exchanged",
            file.display(),
            genesis.hash
        );
    }
    Ok(Some(genesis))
}

fn of_coprocessor(options: &ChainOptions, chain: u64) -> Result<RemoteCoprocessor> {
    let place = Place {
        part: PART,
        urls: &options.coprocessor_url,
        ca: options.coprocessor_ca.as_deref(),
        key: options.coprocessor_api_key_file.as_ref(),
    };
    coprocessor(&place).with_context(|| format!("the coprocessor of chain {chain}"))
}

fn coprocessor(place: &Place<'_>) -> Result<RemoteCoprocessor> {
    ensure!(!place.urls.is_empty(), "there is none: name it with coprocessor-url");
    ensure!(
        place.key.is_some(),
        "it asks for the API key of the chain's tenant: name a file that holds it with coprocessor-api-key-file"
    );
    RemoteCoprocessor::new(place)
}

/// Finds where the host contracts of a chain are: in the genesis of a native chain if one is named, and else as [`host_addresses`] does.
///
/// # Errors
/// As [`host_addresses`], also of the genesis.
pub fn contract_addresses(chain_id: u64, deployment: Option<&Path>, native_genesis: Option<&Path>) -> Result<HostAddresses> {
    let Some(file) = native_genesis else {
        return host_addresses(chain_id, deployment);
    };
    let genesis = NativeGenesis::read(file).with_context(|| format!("cannot use the genesis in {}", file.display()))?;
    ensure!(
        genesis.chain_id == chain_id,
        "the genesis in {} is of chain {}, and the node serves chain {chain_id}",
        file.display(),
        genesis.chain_id
    );
    Ok(genesis.contracts)
}

/// Finds where the host contracts of a chain are: in the file about their deployment or, without one, by the plan of a chain that everybody knows.
///
/// # Errors
/// If the file cannot be used or is about another chain, or if there is none and nobody knows the chain.
pub fn host_addresses(chain_id: u64, deployment: Option<&Path>) -> Result<HostAddresses> {
    match (deployment, LocalProfile::of_chain(chain_id)) {
        (Some(file), _) => {
            let record = Deployment::read(file).with_context(|| format!("cannot use the deployment in {}", file.display()))?;
            ensure!(
                record.chain_id == chain_id,
                "the deployment in {} is on chain {}, and the node serves chain {chain_id}",
                file.display(),
                record.chain_id
            );
            Ok(record.addresses())
        }
        (None, Some(profile)) => Ok(profile.addresses()),
        (None, None) => {
            bail!("nothing says where the host contracts are on chain {chain_id}: name the file about the deployment with --deployment")
        }
    }
}

/// Finds the plan of a chain that everybody knows.
async fn known_plan(urls: &[&str], nodes: &str) -> Result<(u64, HostAddresses, SigningDomains), Trouble> {
    // No contract is asked anything yet.
    let node = HostChain::connect_all(urls, HostAddresses::of_deployer(Address::ZERO), CallLimits::default(), None);
    let node = node.context("the nodes of a chain").map_err(Trouble::Wrong)?;
    let id = node
        .chain_id()
        .await
        .map_err(|error| Trouble::of(error, || format!("the chain at {nodes}")))?;
    let plan = LocalProfile::of_chain(id).with_context(|| {
        format!("nothing says where the host contracts are on chain {id}: name the file that `cipherloom contracts deploy` wrote with deployment")
    });
    let plan = plan.map_err(Trouble::Wrong)?;
    Ok((id, plan.addresses(), plan.domains))
}

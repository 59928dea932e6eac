//! What `cipherloom node run` can be told.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use cipherloom_consensus::{Timeouts, p2p::PeerAddress};
use cipherloom_engine::Policy;
use cipherloom_service::{process_options::ProcessOptions, settings::Settings};
use clap::{Args, value_parser};

use crate::{
    compute::{EmbeddedOptions, RemoteOptions},
    directory::NodeDirectory,
};

const FILES: &str = "Files";
const PEERS: &str = "Peers";
const COMPUTING: &str = "Computing";
const TIME: &str = "Time; all validators of a chain should have the same";

/// Options of `node run`.
#[derive(Clone, Args)]
pub struct RunOptions {
    /// The node's directory, as `cipherloom node init` makes it: what the options about files do not name is looked for there
    #[arg(long, value_name = "DIR", help_heading = FILES)]
    pub dir: Option<PathBuf>,

    /// What the chain begins with [default: DIR/genesis.json]
    #[arg(long, value_name = "FILE", help_heading = FILES)]
    pub genesis: Option<PathBuf>,

    /// The key that peers know the node by; a validator signs with it. 64 hexadecimal digits, with or without 0x [default: DIR/node.key]
    #[arg(long, value_name = "FILE", help_heading = FILES)]
    pub node_key: Option<PathBuf>,

    /// The directory of the chain's key set; the secret key should not be there [default: DIR/keys]
    #[arg(long, value_name = "DIR", help_heading = FILES)]
    pub keys: Option<PathBuf>,

    /// Where blocks, state and the log of consensus are kept [default: DIR/data]
    #[arg(long, value_name = "DIR", help_heading = FILES)]
    pub data_dir: Option<PathBuf>,

    /// After how many blocks the state is written to the data directory. A node that is killed executes the blocks since then again when it starts
    #[arg(long, value_name = "BLOCKS", default_value_t = 1024, value_parser = value_parser!(u32).range(1..), help_heading = FILES)]
    pub state_interval: u32,

    /// Where JSON-RPC is served, HTTP and WebSocket. Port 0 picks a free one, which is printed
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8545")]
    pub rpc_addr: SocketAddr,

    /// Where metrics and health are: /metrics and /health. Port 0 picks a free one, which is printed
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9104")]
    pub metrics_addr: SocketAddr,

    /// Never propose or vote, even if the node's key is one of a validator
    #[arg(long)]
    pub full_node: bool,

    /// Where peers connect. Port 0 picks a free one, which is printed
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:30333", help_heading = PEERS)]
    pub p2p_addr: SocketAddr,

    /// A peer to stay connected to: 0xADDRESS@host:port, where the address is that of the peer's key, or host:port. May be given several times
    #[arg(long, value_name = "PEER", help_heading = PEERS)]
    pub peer: Vec<String>,

    /// Let in nobody but the named peers, whose addresses have to be given then
    #[arg(long, help_heading = PEERS)]
    pub closed: bool,

    /// Connect to peers that other peers tell of, and tell them of others
    #[arg(long, help_heading = PEERS, conflicts_with = "closed")]
    pub discovery: bool,

    /// The address that others should be told of, if it is not the one that peers see
    #[arg(long, value_name = "ADDRESS", help_heading = PEERS)]
    pub advertise: Option<SocketAddr>,

    /// How many peers that nobody named may be connected to this node
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = value_parser!(u16).range(0..=4096), help_heading = PEERS)]
    pub maximum_inbound: u16,

    /// An executor: a URL of `cipherloom executor`. Given several times: they share the computations of each block, and stand in for one that does not answer
    #[arg(long, value_name = "URL", help_heading = COMPUTING, conflicts_with = "embedded_executor")]
    pub executor_url: Vec<String>,

    /// The PEM file of whoever issued the executors' certificates, for https URLs
    #[arg(long, value_name = "FILE", help_heading = COMPUTING)]
    pub executor_ca: Option<PathBuf>,

    /// How long one executor may take for a block before the next one is asked
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = value_parser!(u32).range(1..=3600), help_heading = COMPUTING)]
    pub executor_timeout_seconds: u32,

    /// Into how many requests a block is cut at most, which executors compute at the same time: for a URL with several executors behind it [default: one for
    /// each URL]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=256), help_heading = COMPUTING, requires = "executor_url")]
    pub executor_requests: Option<u16>,

    /// Compute in this process instead of asking executors
    #[arg(long, help_heading = COMPUTING)]
    pub embedded_executor: bool,

    /// In which order the embedded executor does bootstraps: BATCHED, LOOP, FINE_GRAIN, MAX_PARALLELISM or MAX_LOCALITY. Results do not depend on it
    #[arg(long, value_name = "POLICY", env = "FHEVM_DF_SCHEDULE", default_value_t, value_parser = str::parse::<Policy>, help_heading = COMPUTING)]
    pub schedule: Policy,

    /// Threads of the embedded executor for bootstraps [default: one per processor]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=4096), help_heading = COMPUTING)]
    pub compute_threads: Option<u16>,

    /// The least time from one block to the next
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1000, value_parser = value_parser!(u32).range(10..=60_000), help_heading = TIME)]
    pub block_interval_ms: u32,

    /// How long a round waits for its block. What a block's computations take has to fit in twice, once with the proposer and once with the others
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 30_000, value_parser = value_parser!(u32).range(100..=600_000), help_heading = TIME)]
    pub propose_timeout_ms: u32,

    /// How long a round's proposer may show no sign of life before it is not waited for; a quarter of it if the proposer is not there at all
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 3000, value_parser = value_parser!(u32).range(50..=600_000), help_heading = TIME)]
    pub silence_ms: u32,

    /// How long a round waits for votes
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1000, value_parser = value_parser!(u32).range(50..=600_000), help_heading = TIME)]
    pub vote_timeout_ms: u32,

    /// How the process starts, and what it does instead of serving.
    #[command(flatten)]
    pub process: ProcessOptions,

    /// The service's name in OTLP traces
    #[arg(long, value_name = "NAME", default_value = "validator")]
    pub service_name: String,

    /// INSECURE: take part in a chain whose key set hides nothing, for tests
    #[arg(long)]
    pub insecure_keys: bool,

    /// Read options from this file: TOML with a line for each, under the option's name without its dashes [default: DIR/validator.toml, if it is there]
    #[arg(long, value_name = "FILE", env = "CIPHERLOOM_NODE_CONFIG")]
    pub config: Option<PathBuf>,

    /// All options in effect and where they come from.
    #[arg(skip)]
    pub settings: Settings,
}

impl RunOptions {
    /// Returns the config file: the one that is named, or that of the node's directory.
    #[must_use]
    pub fn config_file(&self) -> Option<PathBuf> {
        let usual = || self.dir.as_deref().map(|directory| NodeDirectory::at(directory).config);
        self.config.clone().or_else(|| usual().filter(|file| file.exists()))
    }

    /// Says where the node's files are.
    ///
    /// # Errors
    /// If one is not named, and no directory to look for it.
    pub fn files(&self) -> Result<NodeDirectory> {
        let directory = self.dir.as_deref().map(NodeDirectory::at);
        let find = |option: &str, named: &Option<PathBuf>, usual: fn(&NodeDirectory) -> &PathBuf| {
            let found = named
                .clone()
                .or_else(|| directory.as_ref().map(|directory| usual(directory).clone()));
            found.with_context(|| format!("name the node's directory with --dir, or --{option}"))
        };
        Ok(NodeDirectory {
            genesis: find("genesis", &self.genesis, |directory| &directory.genesis)?,
            key: find("node-key", &self.node_key, |directory| &directory.key)?,
            keys: find("keys", &self.keys, |directory| &directory.keys)?,
            data: find("data-dir", &self.data_dir, |directory| &directory.data)?,
            config: self.config_file().unwrap_or_default(),
        })
    }

    /// Reads the peers.
    ///
    /// # Errors
    /// If one is no peer.
    pub fn peers(&self) -> Result<Vec<PeerAddress>> {
        let peer = |text: &String| text.parse::<PeerAddress>().with_context(|| format!("--peer {text}"));
        self.peer.iter().map(peer).collect()
    }

    /// Refuses options that do not go together. Those of a config file count, so that the command line's own rules would not do.
    ///
    /// # Errors
    /// Which do not.
    pub fn check_together(&self) -> Result<()> {
        self.files()?;
        ensure!(
            self.executor_url.is_empty() || !self.embedded_executor,
            "--executor-url and --embedded-executor: a node asks executors or computes by itself; name one of them"
        );
        ensure!(
            self.full_node || self.embedded_executor || !self.executor_url.is_empty(),
            "who computes? Name executors with --executor-url, or compute in this process with --embedded-executor; a node that never proposes or votes, \
             --full-node, needs neither"
        );
        let peers = self.peers()?;
        ensure!(
            !(self.closed && self.discovery),
            "--closed and --discovery: whoever lets in nobody else has no use for others' addresses"
        );
        ensure!(
            !self.closed || peers.iter().all(|peer| peer.id.is_some()),
            "--closed lets in the named peers alone, and knows them by the addresses of their keys: write each --peer as 0xADDRESS@host:port"
        );
        Ok(())
    }

    /// Tells where executors are, if they are asked.
    #[must_use]
    pub fn remote(&self) -> Option<RemoteOptions> {
        (!self.executor_url.is_empty()).then(|| RemoteOptions {
            urls: self.executor_url.clone(),
            ca: self.executor_ca.clone(),
            timeout: Duration::from_secs(self.executor_timeout_seconds.into()),
            requests: self.executor_requests.and_then(|count| NonZeroUsize::new(count.into())),
        })
    }

    /// Tells how the embedded executor computes, if there is one.
    #[must_use]
    pub fn embedded(&self) -> Option<EmbeddedOptions> {
        self.embedded_executor.then(|| EmbeddedOptions {
            schedule: self.schedule,
            threads: self.compute_threads.and_then(|threads| NonZeroUsize::new(threads.into())),
        })
    }

    /// Tells how fast rounds go.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        let milliseconds = |number: u32| Duration::from_millis(number.into());
        let (propose, vote) = (milliseconds(self.propose_timeout_ms), milliseconds(self.vote_timeout_ms));
        Timeouts {
            propose,
            propose_delta: propose / 2,
            silence: milliseconds(self.silence_ms),
            absence: milliseconds(self.silence_ms) / 4,
            prevote: vote,
            precommit: vote,
            vote_delta: vote / 2,
            block_interval: milliseconds(self.block_interval_ms),
            ..Timeouts::default()
        }
    }
}

impl std::fmt::Debug for RunOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.settings.iter().map(|setting| &setting.name)).finish()
    }
}

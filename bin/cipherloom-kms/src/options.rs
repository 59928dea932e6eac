//! What `cipherloom kms node` can be told.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use anyhow::Result;
use cipherloom_chain::{AclSource, Finality};
use cipherloom_service::{
    chains::{self, ChainOptions},
    config_file::ConfigFile,
    connections::ConnectionLimits,
    process_options::ProcessOptions,
    settings::Settings,
};
use clap::{Args, value_parser};

use crate::party::PartyOptions;

/// Where options of a centralised node stand in help texts.
pub const CENTRALISED: &str = "Centralised, with the whole secret key";

/// Options of `kms node`.
#[derive(Clone, Args)]
pub struct NodeOptions {
    /// The directory of the key set: of a centralised node with the secret key, as `cipherloom keys generate` makes it. A party of a committee needs it for
    /// native chains alone, to squash noise with, and without anything secret, as `cipherloom keys export` and `cipherloom kms ceremony` write it
    #[arg(long, value_name = "DIR")]
    pub keys: Option<PathBuf>,

    /// Options of a party of a committee.
    #[command(flatten)]
    pub party: PartyOptions,

    /// The key that answers are signed with: 64 hexadecimal digits, with or without 0x. Its address is registered on each chain
    #[arg(long, value_name = "FILE", default_value = "./kms.key", help_heading = CENTRALISED)]
    pub signing_key_file: PathBuf,

    /// Where decryptions are written down, a file per chain. An answer without its record never leaves [default for a party: PARTY-DIR/audit]
    #[arg(long, value_name = "DIR")]
    pub audit_dir: Option<PathBuf>,

    /// Where gateways call; those of a party, with evidence. Port 0 picks a free one, which is printed
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50061")]
    pub server_addr: SocketAddr,

    /// Where metrics and health are: /metrics and /health. Port 0 picks a free one, which is printed
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9101")]
    pub metrics_addr: SocketAddr,

    /// Serve over TLS with the certificate chain in this PEM file
    #[arg(long, value_name = "FILE", help_heading = CENTRALISED)]
    pub tls_certificate: Option<PathBuf>,

    /// The certificate's private key, a PEM file
    #[arg(long, value_name = "FILE", help_heading = CENTRALISED)]
    pub tls_private_key: Option<PathBuf>,

    /// INSECURE: let other machines connect without encryption
    #[arg(long, help_heading = CENTRALISED)]
    pub insecure_plaintext: bool,

    /// Answer only who sends the token in this file. The node trusts nobody either way; strangers are turned away earlier
    #[arg(long, value_name = "FILE", help_heading = CENTRALISED)]
    pub access_token_file: Option<PathBuf>,

    /// The chain that options name.
    #[command(flatten)]
    pub chain: ChainOptions,

    /// The chains of the config file.
    #[arg(skip)]
    pub chains: Vec<ChainOptions>,

    /// What is believed about rights: `call` asks the nodes, `proof` takes nothing without storage proofs, `both` wants them to agree. On a native chain it is
    /// always `proof`, against a block that its validators certified
    #[arg(long, value_name = "HOW", default_value = "call", value_parser = AclSource::from_str, help_heading = "Rights")]
    pub acl_check: AclSource,

    /// At which block rights are looked at: latest, safe, finalized, or a number of blocks below the newest
    #[arg(long, value_name = "BLOCK", default_value = "latest", value_parser = Finality::from_str, help_heading = "Rights")]
    pub finality: Finality,

    /// How many of a chain's nodes must agree. On a native chain only about what cannot be proven, such as signatures of wallets that are contracts
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u8).range(1..=16), help_heading = "Rights")]
    pub rpc_quorum: u8,

    /// How old the block may be that counts, by its own time [default: any age; 300 on a native chain]
    #[arg(long, value_name = "SECONDS", value_parser = value_parser!(u32).range(1..=604_800), help_heading = "Rights")]
    pub maximum_block_age_seconds: Option<u32>,

    /// How many connections there may be; more are closed
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = value_parser!(u16).range(1..))]
    pub maximum_connections: u16,

    /// How many of them may come from one address
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = value_parser!(u16).range(1..))]
    pub maximum_connections_per_address: u16,

    /// How many requests are answered at a time, for each chain; more are refused
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = value_parser!(u16).range(1..=4096))]
    pub maximum_requests: u16,

    /// How many requests are decrypted at a time, for each chain; others wait for their turn
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = value_parser!(u16).range(1..=256))]
    pub concurrent_decryptions: u16,

    /// How the process starts, and what it does instead of serving.
    #[command(flatten)]
    pub process: ProcessOptions,

    /// How long requests under way may take to finish at the end
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = value_parser!(u32).range(0..=3600))]
    pub drain_seconds: u32,

    /// The service's name in OTLP traces
    #[arg(long, value_name = "NAME", default_value = "kms")]
    pub service_name: String,

    /// INSECURE: serve a key set that hides nothing, for tests
    #[arg(long)]
    pub insecure_keys: bool,

    /// Read options from this file: TOML with a line for each, under the option's name without its dashes
    #[arg(long, value_name = "FILE", env = "CIPHERLOOM_KMS_CONFIG")]
    pub config: Option<PathBuf>,

    /// All options in effect and where they come from.
    #[arg(skip)]
    pub settings: Settings,
}

impl NodeOptions {
    /// Takes the chains of the config file.
    ///
    /// # Errors
    /// As [`chains::of_file`].
    pub fn take_tables(&mut self, file: Option<&ConfigFile>) -> Result<()> {
        self.chains = chains::of_file(file)?;
        Ok(())
    }

    /// Says whether the node is one party of a committee.
    #[must_use]
    pub const fn is_party(&self) -> bool {
        self.party.party_dir.is_some()
    }

    /// Tells how many connections there may be.
    pub(crate) fn connection_limits(&self) -> ConnectionLimits {
        ConnectionLimits {
            connections: self.maximum_connections.into(),
            per_address: self.maximum_connections_per_address.into(),
        }
    }
}

impl std::fmt::Debug for NodeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.settings.iter().map(|setting| &setting.name)).finish()
    }
}

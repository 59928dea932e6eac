//! What `cipherloom gateway` can be told.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use anyhow::Result;
use cipherloom_chain::Finality;
use cipherloom_gateway::AddressRange;
use cipherloom_service::{
    chains::{self, ChainOptions},
    config_file::ConfigFile,
    database_url::DatabaseUrl,
    process_options::ProcessOptions,
    settings::Settings,
};
use clap::{Args, value_parser};

use super::{
    clients::{self, ClientOptions},
    deposits::DepositsSection,
};
use crate::{
    callbacks::CallbacksSection,
    committee::{AttestationOptions, HEADING, NodePlace},
};

/// Options of `gateway`.
#[derive(Clone, Args)]
pub(crate) struct GatewayOptions {
    /// Where clients connect. Port 0 picks a free one, which is printed
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8546")]
    pub(crate) listen: SocketAddr,

    /// The base URL that clients use, such as `https://fhe.example` [default: what each request calls us]
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<String>,

    /// Serve over TLS with the certificate chain in this PEM file. A new one is taken up without a restart
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_certificate: Option<PathBuf>,

    /// The certificate's private key, a PEM file
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_private_key: Option<PathBuf>,

    /// INSECURE: let other machines connect without encryption; for a gateway behind a proxy that encrypts
    #[arg(long)]
    pub(crate) insecure_plaintext: bool,

    /// A proxy whose X-Forwarded-For is believed: an address, or a range such as 10.0.0.0/8. May be given several times
    #[arg(long, value_name = "RANGE")]
    pub(crate) trusted_proxy: Vec<AddressRange>,

    /// Where metrics and health are for operators: /metrics and /health. Port 0 picks a free one, which is printed
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9102")]
    pub(crate) metrics_addr: SocketAddr,

    #[command(flatten)]
    pub(crate) chain: ChainOptions,

    /// The chains of the config file.
    #[arg(skip)]
    pub(crate) chains: Vec<ChainOptions>,

    /// An endpoint of the KMS, where one node has the whole key. Given several times: others to ask while one does not answer
    #[arg(long, value_name = "URL", help_heading = "The KMS")]
    pub(crate) kms_url: Vec<String>,

    /// A file with the token that the KMS asks for, if it does
    #[arg(long, value_name = "FILE", help_heading = "The KMS")]
    pub(crate) kms_access_token_file: Option<PathBuf>,

    /// The PEM file of whoever issued the KMS's certificate, for https URLs
    #[arg(long, value_name = "FILE", help_heading = "The KMS")]
    pub(crate) kms_ca: Option<PathBuf>,

    /// Send storage proofs of rights along, for a KMS that asks for them: its node must know `eth_getProof`
    #[arg(long, help_heading = "The KMS")]
    pub(crate) acl_proofs: bool,

    /// At which block rights are proven: latest, safe, finalized, or a number of blocks below the newest; as the KMS has it
    #[arg(long, value_name = "BLOCK", default_value = "latest", value_parser = Finality::from_str, help_heading = "The KMS")]
    pub(crate) finality: Finality,

    /// A node of the committee, `NUMBER=HOST:PORT`: its place among the signers registered on chain, from 1, and its attested port. Given for each node
    #[arg(long, value_name = "NODE", value_parser = NodePlace::from_str, help_heading = HEADING)]
    pub(crate) kms_node: Vec<NodePlace>,

    #[command(flatten)]
    pub(crate) attestation: AttestationOptions,

    #[command(flatten)]
    pub(crate) callbacks: CallbacksSection,

    #[command(flatten)]
    pub(crate) deposits: DepositsSection,

    /// Serve the public key of this key set directory [default: the coprocessor's; native chains have none that could tell]
    #[arg(long, value_name = "DIR", help_heading = "Keys")]
    pub(crate) keys: Option<PathBuf>,

    /// Keep the coprocessor's public key here, by the key set's id, so that the gateway can start while the coprocessor is away
    #[arg(long, value_name = "DIR", help_heading = "Keys")]
    pub(crate) key_cache: Option<PathBuf>,

    /// INSECURE: serve a key set that hides nothing, for tests
    #[arg(long, help_heading = "Keys")]
    pub(crate) insecure_keys: bool,

    /// Keep jobs in this database, so that an accepted one is answered whatever happens: `postgres://USER:PASSWORD@HOST/DATABASE` for several gateways,
    /// `sqlite:FILE` for one
    #[arg(
        long,
        value_name = "URL",
        env = "CIPHERLOOM_GATEWAY_DATABASE_URL",
        hide_env_values = true,
        help_heading = "Jobs"
    )]
    pub(crate) jobs_database_url: Option<DatabaseUrl>,

    /// Keep jobs in memory: a restart loses them, and clients have to ask again
    #[arg(long, help_heading = "Jobs")]
    pub(crate) jobs_in_memory: bool,

    /// The name under which gateways share jobs in a database
    #[arg(long, value_name = "NAME", default_value = "gateway", help_heading = "Jobs")]
    pub(crate) jobs_deployment: String,

    /// Input proofs given to coprocessors at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = value_parser!(u16).range(1..=1024), help_heading = "Jobs")]
    pub(crate) maximum_running_inputs: u16,

    /// Decryptions under way at a time, those included that wait for a computation
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = value_parser!(u16).range(1..=16_384), help_heading = "Jobs")]
    pub(crate) maximum_running_decryptions: u16,

    /// Jobs that wait or run; more are refused
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = value_parser!(u32).range(1..=1_000_000), help_heading = "Jobs")]
    pub(crate) maximum_unfinished_jobs: u32,

    /// How long an answer is kept for clients that poll
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = value_parser!(u32).range(60..=604_800), help_heading = "Jobs")]
    pub(crate) job_retention_seconds: u32,

    /// How long a job may take, waiting included
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = value_parser!(u32).range(1..=86_400), help_heading = "Jobs")]
    pub(crate) job_deadline_seconds: u32,

    /// For how long a job asks again while a part does not answer
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = value_parser!(u32).range(0..=86_400), help_heading = "Jobs")]
    pub(crate) retry_unreachable_seconds: u32,

    /// How long a job belongs to a gateway unless it renews that: what one that was killed had waits as long
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = value_parser!(u32).range(1..=3600), help_heading = "Jobs")]
    pub(crate) job_lease_seconds: u32,

    /// Serve only clients with an API key, of the `[[client]]` tables in the config file
    #[arg(long, help_heading = "Clients")]
    pub(crate) require_api_key: bool,

    /// The clients of the config file.
    #[arg(skip)]
    pub(crate) clients: Vec<ClientOptions>,

    /// How many requests a client may post per second in the long run [default: any number]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1_000_000), help_heading = "Clients")]
    pub(crate) rate_limit_per_second: Option<u32>,

    /// How many requests a client may post at once after a pause [default: ten times as many as per second]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1_000_000), help_heading = "Clients")]
    pub(crate) rate_limit_burst: Option<u32>,

    /// Connections open at a time; more wait
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = value_parser!(u32).range(1..=1_000_000), help_heading = "Clients")]
    pub(crate) maximum_connections: u32,

    /// Make an API key for a client, print it with its digest for the `[[client]]` table, and exit
    #[arg(long, help_heading = "Clients")]
    pub(crate) new_client_key: bool,

    #[command(flatten)]
    pub(crate) process: ProcessOptions,

    /// How long responses under way may take to finish at the end
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = value_parser!(u32).range(0..=3600))]
    pub(crate) drain_seconds: u32,

    /// The service's name in OTLP traces
    #[arg(long, value_name = "NAME", default_value = "gateway")]
    pub(crate) service_name: String,

    /// Read options from this file: TOML with a line for each, under the option's name without its dashes
    #[arg(long, value_name = "FILE", env = "CIPHERLOOM_GATEWAY_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// All options in effect and where they come from.
    #[arg(skip)]
    pub(crate) settings: Settings,
}

impl GatewayOptions {
    /// Takes the chains and clients of the config file.
    ///
    /// # Errors
    /// As [`chains::of_file`].
    pub(crate) fn take_tables(&mut self, file: Option<&ConfigFile>) -> Result<()> {
        self.chains = chains::of_file(file)?;
        self.clients = clients::of_file(file)?;
        Ok(())
    }
}

impl std::fmt::Debug for GatewayOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.settings.iter().map(|setting| &setting.name)).finish()
    }
}

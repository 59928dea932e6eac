//! The coprocessor of the 0.6 generation, in this process: its gRPC server on the loopback, its workers, and a client with the tenant's key.

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use alloy::{
    primitives::{Address, B256},
    signers::local::PrivateKeySigner,
};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use cipherloom_coprocessor::{
    Machine, Tenancy, TenancyOptions, Workers, WorkersOptions,
    server::{CoprocessorServer, ServerConfig, ServerHandle},
};
use cipherloom_fhe::KeySet;
use cipherloom_kms::{
    LegacySite, SourceError,
    legacy::{LegacyCiphertexts, ServedCiphertext},
};
use cipherloom_rpc::fhevm::coprocessor::{
    AsyncComputation, AsyncComputeRequest, GetCiphertextBatch, InputCiphertextResponse, InputToUpload, InputUploadBatch,
    fhevm_coprocessor_client::FhevmCoprocessorClient,
};
use cipherloom_store::{ApiKey, Database, NewTenant, SqliteStore, Tenant};
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::tenant::key_sets::{read_keys, store_keys};

/// The tenant's name.
const TENANT: &str = "legacy-0.6";
/// How long a request may take: the check of a proof takes a minute of CPU.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(900);
/// The largest answer that is taken: a packed value has a few kilobytes.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// A running coprocessor.
pub(super) struct LegacyCoprocessor {
    server: ServerHandle,
    workers: JoinHandle<()>,
    client: CoprocessorClient,
}

impl LegacyCoprocessor {
    /// Starts it for one chain.
    ///
    /// # Errors
    /// If the directory cannot be used, or belongs to other contracts or keys.
    pub(super) async fn start(
        state: &Path,
        keys: Arc<KeySet>,
        signer: PrivateKeySigner,
        site: LegacySite,
        stop: CancellationToken,
    ) -> Result<Self> {
        let database: Arc<dyn Database> = Arc::new(SqliteStore::open(&state.join("store.sqlite")).await?);
        let api_key = api_key(&state.join("api-key"))?;
        let tenant = tenant(&*database, &api_key, site).await?;
        attach(&*database, &tenant, &keys).await?;

        let tenancy = Tenancy::new(database, signer, TenancyOptions::new(Machine::whole()));
        let mut config = ServerConfig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        config.request_timeout = REQUEST_TIMEOUT;
        let server = CoprocessorServer::start(config, tenancy.clone()).await?;
        let workers = Workers::new(tenancy, WorkersOptions::default());
        let workers = tokio::spawn(async move { workers.run(stop).await });
        let client = CoprocessorClient::new(server.address(), &api_key)?;
        Ok(Self { server, workers, client })
    }

    /// Returns a client of it.
    pub(super) fn client(&self) -> CoprocessorClient {
        self.client.clone()
    }

    /// Stops it, after the token it was started with is cancelled.
    pub(super) async fn shutdown(self) {
        if let Err(error) = self.server.shutdown().await {
            tracing::error!(%error, "the coprocessor of the 0.6 generation had stopped by itself");
        }
        if let Err(error) = self.workers.await {
            tracing::error!(%error, "the workers of the 0.6 generation ended with a panic");
        }
    }
}

/// Finds the tenant, or adds it at the first start.
async fn tenant(database: &dyn Database, api_key: &ApiKey, site: LegacySite) -> Result<Tenant> {
    let found = database.tenants().await?.into_iter().find(|tenant| tenant.name == TENANT);
    let Some(tenant) = found else {
        let new = NewTenant {
            name: TENANT.to_owned(),
            chain_id: site.chain_id,
            acl: site.acl,
            input_verifier: site.input_verifier,
            is_admin: false,
        };
        return Ok(database.add_tenant(&new, api_key.digest()).await?);
    };
    let same = (tenant.chain_id, tenant.acl, tenant.input_verifier) == (site.chain_id, site.acl, site.input_verifier);
    ensure!(
        same,
        "the data directory has a stack of the 0.6 generation for other contracts; use another --data-dir or the former --legacy-deployer"
    );
    Ok(tenant)
}

/// Gives the tenant the key set, unless it has it.
async fn attach(database: &dyn Database, tenant: &Tenant, keys: &KeySet) -> Result<()> {
    let id = B256::from(*keys.manifest().id.as_bytes());
    if database.key_sets_of(tenant.id).await?.iter().any(|key_set| key_set.id == id) {
        return Ok(());
    }
    let directory = keys.directory().to_path_buf();
    let read = tokio::task::spawn_blocking(move || read_keys(&directory))
        .await
        .context("reading the keys was interrupted")??;
    store_keys(database, tenant, read).await.map(drop)
}

/// Reads the tenant's API key, or makes it at the first start.
fn api_key(path: &Path) -> Result<ApiKey> {
    match std::fs::read_to_string(path) {
        Ok(text) => ApiKey::parse(text.trim()).with_context(|| format!("{} holds no API key", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes).context("no randomness")?;
            let key = ApiKey::from_random(bytes);
            write_private(path, key.expose()).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes a file that only its owner can read.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Speaks that generation's gRPC with a coprocessor, with a tenant's key.
#[derive(Clone)]
pub(super) struct CoprocessorClient {
    client: FhevmCoprocessorClient<Channel>,
    authorization: MetadataValue<Ascii>,
}

impl CoprocessorClient {
    fn new(address: SocketAddr, api_key: &ApiKey) -> Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{address}"))?.connect_lazy();
        let mut authorization: MetadataValue<Ascii> = format!("Bearer {}", api_key.expose()).parse().context("the API key")?;
        authorization.set_sensitive(true);
        Ok(Self {
            client: FhevmCoprocessorClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES),
            authorization,
        })
    }

    /// Has an input verified and its handles signed.
    pub(super) async fn upload(&self, list: Bytes, contract: Address, user: Address) -> Result<InputCiphertextResponse, Status> {
        let input = InputToUpload {
            input_payload: list,
            contract_address: contract.to_checksum(None),
            user_address: user.to_checksum(None),
            signatures: Vec::new(),
        };
        let request = self.authorized(InputUploadBatch {
            input_ciphertexts: vec![input],
        });
        let answers = self.client.clone().upload_inputs(request).await?.into_inner().upload_responses;
        answers
            .into_iter()
            .next()
            .ok_or_else(|| Status::data_loss("one list was uploaded, and nothing was answered"))
    }

    /// Has computations recorded.
    pub(super) async fn compute(&self, computations: Vec<AsyncComputation>) -> Result<(), Status> {
        let request = self.authorized(AsyncComputeRequest { computations });
        self.client.clone().async_compute(request).await.map(drop)
    }

    fn authorized<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.authorization.clone());
        request
    }
}

impl LegacyCiphertexts for CoprocessorClient {
    fn ciphertext(&self, handle: B256) -> BoxFuture<'_, Result<ServedCiphertext, SourceError>> {
        Box::pin(async move {
            let request = self.authorized(GetCiphertextBatch {
                handles: vec![Bytes::copy_from_slice(handle.as_slice())],
            });
            let answer = self.client.clone().get_ciphertexts(request).await;
            let answer = answer.map_err(|status| SourceError::Unavailable(status.message().to_owned()))?;
            let fetched = answer
                .into_inner()
                .responses
                .into_iter()
                .next()
                .and_then(|response| response.ciphertext);
            let fetched = fetched.ok_or(SourceError::NotReady)?;
            Ok(ServedCiphertext {
                bytes: fetched.ciphertext_bytes.into(),
                signature: fetched.signature.into(),
            })
        })
    }
}

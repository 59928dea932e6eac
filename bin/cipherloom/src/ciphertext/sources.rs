//! Where ciphertexts come from: a mirror, a coprocessor, a database. What comes out of here has been checked.

use std::{path::Path, sync::Arc, time::Duration};

use alloy::primitives::{Address, U256};
use anyhow::{Context, Result, bail, ensure};
use cipherloom_coprocessor::mirror::{CiphertextRecord, Mirror};
use cipherloom_primitives::{CiphertextForm, FheType, eip712::recover_signer, generation_0_6::served_ciphertext_digest};
use cipherloom_rpc::fhevm::coprocessor::{GetCiphertextBatch, fhevm_coprocessor_client::FhevmCoprocessorClient};
use cipherloom_store::{ApiKey, Database, HandleState, ObjectsUrl, PostgresConfig, PostgresDatabase, SqliteStore, Tenant, object_digest};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use super::{DeploymentOptions, GetOptions, Report, Signature, read};

/// How long a coprocessor may take to answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A ciphertext that was checked.
pub(super) struct Found {
    pub(super) report: Report,
    pub(super) bytes: Vec<u8>,
    /// The record, if it came from a mirror.
    pub(super) record: Option<CiphertextRecord>,
}

/// Fetches a ciphertext from where the options say, and checks it.
///
/// # Errors
/// If it cannot be had or does not verify.
pub(super) async fn fetch(options: &GetOptions) -> Result<Found> {
    if let Some(url) = &options.mirror {
        return from_mirror(options, url).await;
    }
    if let (Some(url), Some(key)) = (&options.server, &options.api_key_file) {
        return from_server(options, url, key).await;
    }
    ensure!(
        options.deployment.database_url.is_some(),
        "say where to fetch it: --mirror URL, --server URL with --api-key-file FILE, or --database-url URL"
    );
    from_database(options).await
}

async fn from_mirror(options: &GetOptions, url: &ObjectsUrl) -> Result<Found> {
    let expected = options.signers.expected()?;
    let handle = options
        .handle
        .handle()
        .with_context(|| format!("{} is no handle; a mirror knows values by their handles alone", options.handle))?;
    let mirror = Mirror::new(url.open().context("cannot use the mirror")?);
    let signers: Vec<Address> = if options.signers.any_signer {
        let manifest = mirror
            .manifest()
            .await
            .with_context(|| format!("cannot read the manifest of {url}"))?;
        let chains = manifest.chains.into_iter().filter(|chain| chain.chain_id == handle.chain_id());
        chains.flat_map(|chain| chain.signers).collect()
    } else {
        expected.to_vec()
    };
    let fetched = mirror
        .fetch(handle, &signers)
        .await
        .with_context(|| format!("{handle} of {url} does not verify"))?;
    Ok(Found {
        report: Report::of_record(&fetched.record, &options.signers, "mirror"),
        bytes: fetched.bytes,
        record: Some(fetched.record),
    })
}

async fn from_server(options: &GetOptions, url: &str, key_file: &Path) -> Result<Found> {
    options.signers.expected()?;
    let name = &options.handle.0;
    ensure!(
        name.len() <= 32,
        "a name of more than 32 bytes is served without a signature, so that nothing can be checked; --database-url fetches it"
    );
    let mut client = FhevmCoprocessorClient::new(channel(url, &options.tls_roots)?).max_decoding_message_size(MAX_ANSWER_BYTES);
    let mut request = Request::new(GetCiphertextBatch {
        handles: vec![name.clone().into()],
    });
    request.metadata_mut().insert("authorization", authorization(key_file)?);
    let answer = client
        .get_ciphertexts(request)
        .await
        .map_err(|status| anyhow::anyhow!("the coprocessor answers {}: {}", status.code(), status.message()))?;
    let served = answer
        .into_inner()
        .responses
        .into_iter()
        .next()
        .and_then(|response| response.ciphertext);
    let served = served.with_context(|| {
        format!(
            "the coprocessor has no ciphertext of {}, or has not computed it yet",
            options.handle
        )
    })?;
    let digest = object_digest(&served.ciphertext_bytes);
    let signed = served_ciphertext_digest(U256::from_be_slice(name), digest);
    let signer =
        recover_signer(signed, &served.signature).context("the coprocessor's signature is none: nobody vouches for these bytes")?;
    ensure!(
        options.signers.accepts(signer),
        "the bytes are signed by {signer}, who is none of the expected signers; or by nobody, for other bytes or another handle"
    );
    let fhe_type = u8::try_from(served.ciphertext_type).ok().and_then(|id| FheType::try_from(id).ok());
    let fhe_type = fhe_type.with_context(|| format!("the coprocessor says type {}, which there is not", served.ciphertext_type))?;
    if let Some(handle) = options.handle.handle() {
        ensure!(
            handle.fhe_type() == fhe_type,
            "the coprocessor says type {fhe_type}, the handle {}",
            handle.fhe_type()
        );
    }
    let bytes: Vec<u8> = served.ciphertext_bytes.into();
    Ok(Found {
        report: Report {
            source: "server",
            handle: options.handle.to_string(),
            fhe_type,
            key_set_id: None,
            form: CiphertextForm::Packed,
            digest,
            size_bytes: length(&bytes),
            signature: Some(Signature {
                signer,
                expected: !options.signers.any_signer,
            }),
            engine_version: None,
        },
        bytes,
        record: None,
    })
}

fn channel(url: &str, roots: &Path) -> Result<Channel> {
    let endpoint =
        Endpoint::from_shared(url.to_owned()).with_context(|| format!("{url} is no URL of a server, such as http://127.0.0.1:50051"))?;
    let endpoint = endpoint.timeout(REQUEST_TIMEOUT).connect_timeout(Duration::from_secs(10));
    if !url.starts_with("https://") {
        return Ok(endpoint.connect_lazy());
    }
    let roots = read(roots).context("a server with https is checked against certificates; name them with --tls-roots")?;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(roots));
    Ok(endpoint.tls_config(tls)?.connect_lazy())
}

fn authorization(file: &Path) -> Result<MetadataValue<Ascii>> {
    let text = zeroize::Zeroizing::new(read(file)?);
    let key = std::str::from_utf8(&text).ok().and_then(|text| ApiKey::parse(text.trim()));
    let key = key.with_context(|| {
        format!(
            "{} does not hold an API key: a UUID such as 123e4567-e89b-42d3-a456-426614174000",
            file.display()
        )
    })?;
    let header = zeroize::Zeroizing::new(format!("Bearer {}", key.expose()));
    let mut value: MetadataValue<Ascii> = header.parse().context("the API key cannot be sent")?;
    value.set_sensitive(true);
    Ok(value)
}

async fn from_database(options: &GetOptions) -> Result<Found> {
    let (database, tenant) = tenant(&options.deployment).await?;
    let store = database.store(&tenant);
    let own = options.handle.handle().filter(|handle| handle.chain_id() == tenant.chain_id);
    let handle = match own {
        Some(handle) => Some(handle),
        None => store
            .handles_of_names(std::slice::from_ref(&options.handle.0))
            .await?
            .pop()
            .flatten(),
    };
    let handle = handle.with_context(|| format!("tenant {} knows no value {}", tenant.name, options.handle))?;
    let Some(stored) = store.ciphertext(handle).await? else {
        bail!(match store.handle_state(handle).await? {
            HandleState::Unknown => format!("tenant {} knows nothing of {handle}", tenant.name),
            HandleState::Pending => format!("{handle} is not computed yet; `cipherloom computations show` says what it waits for"),
            HandleState::Failed(reason) => format!("{handle} can never be computed: {reason}"),
            _ => format!("{handle} is an input that nobody used yet, so that only its list is stored; --server expands it"),
        });
    };
    let digest = object_digest(&stored.bytes);
    ensure!(
        digest == stored.digest,
        "the bytes in the database are damaged: they have digest {digest:x}, not {:x}",
        stored.digest
    );
    Ok(Found {
        report: Report {
            source: "database",
            handle: handle.to_string(),
            fhe_type: handle.fhe_type(),
            key_set_id: Some(stored.key_set_id),
            form: stored.form,
            digest,
            size_bytes: length(&stored.bytes),
            signature: None,
            engine_version: None,
        },
        bytes: stored.bytes,
        record: None,
    })
}

/// Opens the database and finds the tenant.
async fn tenant(options: &DeploymentOptions) -> Result<(Arc<dyn Database>, Tenant)> {
    let url = options.database_url.as_deref().unwrap_or_default();
    let database = open_database(url, options.ciphertext_store.as_ref()).await?;
    let mut tenants = database.tenants().await?;
    if let Some(name) = &options.tenant {
        tenants.retain(|tenant| tenant.name == *name);
    }
    match (tenants.pop(), tenants.is_empty()) {
        (Some(tenant), true) => Ok((database, tenant)),
        (Some(_), false) => bail!("the deployment has several tenants; say which with --tenant NAME"),
        (None, _) => bail!("there is no such tenant; `cipherloom tenant list` shows all"),
    }
}

/// Opens a deployment's database as it is.
///
/// # Errors
/// If it cannot be reached, its schema is not the newest, or another process uses the embedded one.
pub(super) async fn open_database(url: &str, objects: Option<&ObjectsUrl>) -> Result<Arc<dyn Database>> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = Path::new(path.strip_prefix("//").unwrap_or(path));
        ensure!(path.exists(), "there is no embedded database {}", path.display());
        let store = Box::pin(SqliteStore::open(path))
            .await
            .context("cannot open the embedded database")?;
        return Ok(Arc::new(store));
    }
    let database = PostgresDatabase::open_migrated(PostgresConfig::new(url)?.max_connections(4))
        .await
        .context("cannot open the database")?;
    Ok(match objects {
        Some(objects) => Arc::new(database.with_objects(objects.open().context("cannot use the place for ciphertexts")?)),
        None => Arc::new(database),
    })
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

//! What has to be so before a node runs: its files belong together, and whoever computes for it can.

use std::sync::Arc;

use alloy::signers::local::PrivateKeySigner;
use cipherloom_fhe::{FheBackend, KeySet};
use cipherloom_node::native::{BlockWork, ComputeBlock, ComputeUnavailable, Genesis, Results};
use cipherloom_primitives::B256;
use cipherloom_service::{
    endpoints::{is_unanswered, with_causes},
    examination::Examination,
    key_file,
};
use futures_util::future::BoxFuture;

use crate::{
    compute::{EmbeddedExecutor, RemoteExecutors, SharedCounts},
    directory::{KEY, NodeDirectory},
    options::RunOptions,
};

const FILES: &str = "files";
const KEYS: &str = "keys";
const EXECUTOR: &str = "executor";

/// What a node is made of, read and checked.
pub(crate) struct Found {
    pub(crate) genesis: Genesis,
    pub(crate) key: PrivateKeySigner,
    pub(crate) backend: Arc<dyn FheBackend>,
    pub(crate) compute: Computing,
}

/// Who computes.
#[derive(Clone)]
pub(crate) enum Computing {
    Embedded(Arc<EmbeddedExecutor>),
    Remote(Arc<RemoteExecutors>),
    Nobody,
}

impl Computing {
    pub(crate) fn as_compute(&self) -> Arc<dyn ComputeBlock> {
        match self {
            Self::Embedded(executor) => Arc::clone(executor) as _,
            Self::Remote(executors) => Arc::clone(executors) as _,
            Self::Nobody => Arc::new(Nobody),
        }
    }

    pub(crate) fn counts(&self) -> SharedCounts {
        match self {
            Self::Embedded(executor) => executor.counts(),
            Self::Remote(executors) => executors.counts(),
            Self::Nobody => SharedCounts::default(),
        }
    }
}

/// A full node's executor: it has none, and needs none.
struct Nobody;

impl ComputeBlock for Nobody {
    fn compute(&self, _: BlockWork) -> BoxFuture<'_, Result<Results, ComputeUnavailable>> {
        let refused = ComputeUnavailable::new("this node has no executor: it takes ciphertexts from decided blocks");
        Box::pin(std::future::ready(Err(refused)))
    }
}

/// What was read at an earlier look, because reading it takes long.
#[derive(Default)]
pub(crate) struct Read {
    backend: Option<Arc<dyn FheBackend>>,
}

/// Looks at everything.
pub(crate) async fn look(options: &RunOptions, read: &mut Read) -> (Examination, Option<Found>) {
    let mut examination = Examination::default();
    let found = Box::pin(find(options, read, &mut examination)).await;
    (examination, found)
}

async fn find(options: &RunOptions, read: &mut Read, examination: &mut Examination) -> Option<Found> {
    if let Err(error) = options.check_together() {
        examination.wrong("options", format!("{error:#}"), "`cipherloom node run --help` tells about each");
        return None;
    }
    let files = options.files().ok()?;
    let genesis = genesis(&files, examination)?;
    let key = key(options, &files, &genesis, examination)?;
    let keys = key_set(options, &files, &genesis, examination)?;
    let id = genesis.key_set_id;
    let backend = match &read.backend {
        Some(backend) => Arc::clone(backend),
        None => Arc::clone(read.backend.insert(backend(keys, examination).await?)),
    };
    let compute = computing(options, &backend, id, examination).await?;
    Some(Found {
        genesis,
        key,
        backend,
        compute,
    })
}

fn genesis(files: &NodeDirectory, examination: &mut Examination) -> Option<Genesis> {
    let file = files.genesis.display();
    match Genesis::read(&files.genesis) {
        Ok(genesis) => {
            let hash = genesis.hash.unwrap_or_default();
            examination.ok(FILES, format!("chain {} begins with {file}, hash {hash}", genesis.chain_id));
            Some(genesis)
        }
        Err(error) => {
            let remedy = "get the chain's file from whoever made it with `cipherloom node genesis`";
            examination.wrong(FILES, format!("cannot use the genesis file {file}: {error}"), remedy);
            None
        }
    }
}

fn key(options: &RunOptions, files: &NodeDirectory, genesis: &Genesis, examination: &mut Examination) -> Option<PrivateKeySigner> {
    let key = match key_file::read(&files.key, KEY) {
        Ok(key) => key,
        Err(error) => {
            examination.wrong(FILES, format!("{error:#}"), "make one with `cipherloom node init`");
            return None;
        }
    };
    let address = key.address();
    let first = if genesis.validators.contains(&address) {
        "a validator of the first blocks"
    } else {
        "no validator of the first blocks"
    };
    examination.ok(
        FILES,
        match options.full_node {
            true => format!("node {address}, which never votes"),
            false => format!("node {address}, {first}"),
        },
    );
    Some(key)
}

fn key_set(options: &RunOptions, files: &NodeDirectory, genesis: &Genesis, examination: &mut Examination) -> Option<KeySet> {
    let directory = files.keys.display();
    let keys = match KeySet::open(&files.keys) {
        Ok(keys) => keys,
        Err(error) => {
            let remedy = "name the directory of the chain's key set with --keys; it needs the evaluation key, and not the secret key";
            examination.wrong(KEYS, format!("cannot use the keys in {directory}: {error}"), remedy);
            return None;
        }
    };
    let (id, parameters) = (keys.manifest().id, keys.parameters());
    examination.expect(
        KEYS,
        B256::from(*id.as_bytes()) == genesis.key_set_id,
        format!("key set {id}, {parameters}"),
        || {
            (
                format!(
                    "{directory} holds key set {id}, and the chain has {}",
                    hex::encode(genesis.key_set_id)
                ),
                "put the chain's key set there".to_owned(),
            )
        },
    );
    let worthless = format!("INSECURE: key set {id} is {parameters}, which hides nothing");
    let remedy = "do not put anything of value on this chain; --insecure-keys accepts it";
    match (parameters.is_secure(), options.insecure_keys) {
        (true, _) => {}
        (false, true) => examination.warn(KEYS, worthless, remedy),
        (false, false) => examination.wrong(KEYS, worthless, remedy),
    }
    if parameters.is_secure() && keys.has_secret_key() {
        examination.warn(
            KEYS,
            format!("{directory} holds the secret key, which decrypts everything on the chain"),
            "keep it with the KMS alone; `cipherloom keys export` makes a copy without it",
        );
    }
    let usable = B256::from(*id.as_bytes()) == genesis.key_set_id && (parameters.is_secure() || options.insecure_keys);
    usable.then_some(keys)
}

/// Reads the evaluation key, which takes seconds of CPU on production parameters.
async fn backend(keys: KeySet, examination: &mut Examination) -> Option<Arc<dyn FheBackend>> {
    let read = tokio::task::spawn_blocking(move || keys.evaluation()).await;
    let reason = match read {
        Ok(Ok(backend)) => return Some(backend),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    examination.wrong(
        KEYS,
        format!("the evaluation key cannot be used: {reason}"),
        "copy the key set again",
    );
    None
}

async fn computing(
    options: &RunOptions,
    backend: &Arc<dyn FheBackend>,
    key_set_id: B256,
    examination: &mut Examination,
) -> Option<Computing> {
    if let Some(embedded) = options.embedded() {
        return match EmbeddedExecutor::start(Arc::clone(backend), key_set_id, embedded) {
            Ok(executor) => {
                examination.ok(EXECUTOR, "computes in this process");
                Some(Computing::Embedded(Arc::new(executor)))
            }
            Err(error) => {
                examination.wrong(EXECUTOR, format!("{error:#}"), "give it fewer threads with --compute-threads");
                None
            }
        };
    }
    let Some(remote) = options.remote() else {
        examination.ok(EXECUTOR, "none; ciphertexts come with decided blocks");
        return Some(Computing::Nobody);
    };
    let executors = match RemoteExecutors::new(&remote, key_set_id) {
        Ok(executors) => executors,
        Err(error) => {
            examination.wrong(EXECUTOR, format!("{error:#}"), "check --executor-url and --executor-ca");
            return None;
        }
    };
    match executors.describe().await {
        Ok(description) => {
            examination.ok(EXECUTOR, format!("version {} at {}", description.version, remote.urls.join(", ")));
            examination.expect(
                EXECUTOR,
                description.version == env!("CARGO_PKG_VERSION"),
                "it is of this version",
                || {
                    (
                        format!(
                            "it is of version {}, this node of {}",
                            description.version,
                            env!("CARGO_PKG_VERSION")
                        ),
                        "executors of another version may compute other bytes, which other validators refuse: run the same".to_owned(),
                    )
                },
            );
        }
        Err(status) => {
            let remedy = "start it with `cipherloom executor` and the chain's key set, or name another one with --executor-url";
            let message = format!("no executor answers: {}", with_causes(&status));
            match is_unanswered(&status) {
                true => examination.not_yet(EXECUTOR, message, remedy),
                false => examination.wrong(EXECUTOR, message, remedy),
            }
        }
    }
    Some(Computing::Remote(Arc::new(executors)))
}

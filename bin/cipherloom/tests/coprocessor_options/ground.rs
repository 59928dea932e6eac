//! What the tests stand on: a database, a tenant on plaintext keys, a process with the options under test, and requests.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cipherloom_fhe::{KeySet, ParameterSet};
use cipherloom_load::{Deployment, Process, Role, TenantAccess, TenantClient};
use cipherloom_primitives::{Address, FheType, U256, input::InputMetadata};
use cipherloom_private_postgres::shared;
use cipherloom_rpc::fhevm::{
    common::FheOperation,
    coprocessor::{
        AsyncComputation, AsyncComputationInput, AsyncComputeRequest, InputToUpload, InputUploadBatch, InputUploadResponse,
        async_computation_input::Input, fhevm_coprocessor_client::FhevmCoprocessorClient,
    },
};
use tempfile::TempDir;
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The chain of the tenant.
pub(crate) const CHAIN: u64 = 12_345;

/// A deployment with a tenant whose keys hide nothing.
pub(crate) struct Ground {
    pub(crate) deployment: Deployment,
    pub(crate) tenant: Arc<TenantAccess>,
    pub(crate) keys: KeySet,
    pub(crate) directory: TempDir,
}

impl Ground {
    /// Prepares an embedded database.
    pub(crate) fn embedded() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("store.sqlite").display());
        Self::on(directory, &url)
    }

    /// Prepares a PostgreSQL database; returns its name too.
    pub(crate) fn on_postgres() -> (Self, String) {
        let url = shared().create_database().unwrap();
        let name = url.split('?').next().unwrap().rsplit('/').next().unwrap().to_owned();
        let ground = Self::on(tempfile::tempdir().unwrap(), &url);
        (ground, name)
    }

    fn on(directory: TempDir, url: &str) -> Self {
        let keys = KeySet::generate(&directory.path().join("keys"), ParameterSet::InsecureClear, &()).unwrap();
        let deployment = Deployment::insecure_new(env!("CARGO_BIN_EXE_cipherloom"), url, directory.path()).unwrap();
        if url.starts_with("postgres") {
            assert!(deployment.command(&["db", "migrate"]).output().unwrap().status.success());
        }
        let tenant = deployment.add_tenant("shop", CHAIN, Some(keys.directory())).unwrap();
        Self {
            deployment,
            tenant,
            keys,
            directory,
        }
    }

    /// Starts a process with more options.
    pub(crate) fn start(&self, role: Role, options: &[&str]) -> Process {
        self.deployment.start(role, options).unwrap()
    }

    /// Makes a client of the tenant.
    pub(crate) fn client(&self, server: &Process) -> TenantClient {
        TenantClient::new(&server.url().unwrap(), Arc::clone(&self.tenant), PATIENCE).unwrap()
    }

    /// Encrypts a list of this many values for the tenant.
    pub(crate) fn list(&self, values: usize) -> InputToUpload {
        let metadata = InputMetadata {
            contract: Address::repeat_byte(0xc0),
            user: Address::repeat_byte(0xaa),
            acl: self.tenant.acl,
            chain_id: CHAIN,
        };
        let values: Vec<_> = (0..values).map(|number| (FheType::Uint8, U256::from(number))).collect();
        let list = self.keys.encryptor().unwrap().encrypt(&values, &metadata).unwrap();
        InputToUpload {
            input_payload: list.into(),
            contract_address: metadata.contract.to_string(),
            user_address: metadata.user.to_string(),
            signatures: Vec::new(),
        }
    }

    /// Waits until a value is there.
    pub(crate) async fn await_value(&self, client: &TenantClient, name: &Bytes) {
        let start = Instant::now();
        while !is_there(client, name).await {
            assert!(start.elapsed() < PATIENCE, "the value was not computed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Has a database note, from now on, how many transactions each lease takes, who takes them, and for how long.
pub(crate) fn note_leases(database: &str) {
    let sql = "CREATE TABLE noted (count BIGINT, owner TEXT, seconds DOUBLE PRECISION);
        CREATE FUNCTION note() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO noted SELECT count(*), min(now.lease_owner), max(now.lease_expires_at_ms) / 1000.0 - extract(epoch FROM now())
                FROM rows_before AS former JOIN rows_now AS now USING (id)
                WHERE former.lease_owner IS NULL AND now.lease_owner IS NOT NULL HAVING count(*) > 0;
            RETURN NULL;
        END $$;
        CREATE TRIGGER note AFTER UPDATE ON transactions REFERENCING OLD TABLE AS rows_before NEW TABLE AS rows_now
            FOR EACH STATEMENT EXECUTE FUNCTION note()";
    shared().execute(database, sql).unwrap();
}

/// Makes a request of a tenant.
pub(crate) fn authorized<T>(tenant: &TenantAccess, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let key = format!("Bearer {}", tenant.api_key).parse().unwrap();
    request.metadata_mut().insert("authorization", key);
    request
}

/// Connects to a server.
pub(crate) async fn service(url: String) -> FhevmCoprocessorClient<Channel> {
    FhevmCoprocessorClient::new(Endpoint::from_shared(url).unwrap().connect().await.unwrap())
}

/// Uploads input lists, once.
pub(crate) async fn upload(url: String, tenant: &TenantAccess, lists: Vec<InputToUpload>) -> Result<InputUploadResponse, Status> {
    let request = authorized(tenant, InputUploadBatch { input_ciphertexts: lists });
    Ok(service(url).await.upload_inputs(request).await?.into_inner())
}

/// Says whether a value is there.
pub(crate) async fn is_there(client: &TenantClient, name: &Bytes) -> bool {
    client.fetch_once(vec![name.clone()]).await.unwrap()[0].is_some()
}

/// Makes a request for this many public values, which are transactions of their own, and says how they are called. Other numbers give other names.
pub(crate) fn values(first: u32, count: u32) -> (AsyncComputeRequest, Vec<Bytes>) {
    let computations: Vec<_> = (first..first + count)
        .map(|number| {
            let scalar = |bytes: Vec<u8>| AsyncComputationInput {
                input: Some(Input::Scalar(bytes.into())),
            };
            AsyncComputation {
                operation: FheOperation::FheTrivialEncrypt as i32,
                output_handle: format!("value {number}").into_bytes().into(),
                inputs: vec![scalar(number.to_be_bytes().to_vec()), scalar(vec![FheType::Uint32.id()])],
            }
        })
        .collect();
    let names = computations.iter().map(|computation| computation.output_handle.clone()).collect();
    (AsyncComputeRequest { computations }, names)
}

/// Makes a request for the negation of a value, and says what it is called.
pub(crate) fn negation(of: &Bytes) -> (AsyncComputeRequest, Bytes) {
    let name = Bytes::from([b"not ", of.as_ref()].concat());
    let computation = AsyncComputation {
        operation: FheOperation::FheNeg as i32,
        output_handle: name.clone(),
        inputs: vec![AsyncComputationInput {
            input: Some(Input::InputHandle(of.clone())),
        }],
    };
    let request = AsyncComputeRequest {
        computations: vec![computation],
    };
    (request, name)
}

/// Asks a monitoring address for a page; returns the head and the body.
pub(crate) fn get(address: &str, path: &str) -> (String, String) {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(connection, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Reads a metric without labels.
pub(crate) fn metric(process: &Process, name: &str) -> f64 {
    let (_, page) = get(&process.metrics_address().unwrap(), "/metrics");
    let line = page.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .unwrap_or_else(|| panic!("there is no metric {name} in {page}"))
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Counts the names of a process's threads that begin so. Each thread that is counted has a name of its own; others have the name of the thread that
/// started them until they get one.
pub(crate) fn threads(process: &Process, prefix: &str) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.id())).unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    let names: std::collections::BTreeSet<String> = names.filter(|name| name.starts_with(prefix)).collect();
    names.len()
}

//! What the tests stand on: a database, tenants with keys, processes, clients.

use std::{path::Path, sync::Arc, time::Duration};

use cipherloom_fhe::{Decrypt, KeySet, ParameterSet};
use cipherloom_load::{Batch, Deployment, Ledger, LoadError, Process, TenantAccess, TenantClient, Traffic};
use cipherloom_primitives::{Address, input::InputMetadata};
use cipherloom_private_postgres::{Server, shared};
use tempfile::TempDir;

use crate::scale::{PATIENCE, STALL};

/// How long a lease lasts here; what a killed worker had waits as long.
pub(crate) const LEASE_SECONDS: &str = "3";

/// How many transactions go into a request.
const TOGETHER: usize = 50;

/// How many values the input lists have.
const INPUT_VALUES: usize = 12;

/// How many public values are stored at the start.
const PUBLIC_VALUES: usize = 40;

/// Where rows can be counted.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    server: &'a Server,
    database: String,
}

impl<'a> Rows<'a> {
    /// Makes a database on a server; returns its URL too.
    pub(crate) fn new(server: &'a Server) -> (Self, String) {
        let url = server.create_database().unwrap();
        (Self::of(server, &url), url)
    }

    /// Counts in a database that is there.
    pub(crate) fn of(server: &'a Server, url: &str) -> Self {
        let database = url.split('?').next().unwrap().rsplit('/').next().unwrap().to_owned();
        Self { server, database }
    }

    /// Returns what a statement says, rows as lines.
    pub(crate) fn ask(&self, sql: &str) -> String {
        self.server.execute(&self.database, sql).unwrap()
    }

    /// Returns the number that a statement says.
    pub(crate) fn count(&self, sql: &str) -> usize {
        let text = self.ask(sql);
        text.parse().unwrap_or_else(|_| panic!("{sql} says {text:?}"))
    }

    /// Ends every connection to the database but this one.
    pub(crate) fn cut_connections(&self) {
        self.ask(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
    }

    /// Checks that everything recorded is done, nothing failed, nobody holds a lease, and there are exactly so many transactions and
    /// ciphertexts.
    pub(crate) fn check_all_done(&self, transactions: usize, ciphertexts: usize) {
        let states = self.ask("SELECT state, count(*) FROM transactions GROUP BY state ORDER BY state");
        assert_eq!(states, format!("done|{transactions}"));
        assert_eq!(self.count("SELECT count(*) FROM transaction_outputs WHERE failure IS NOT NULL"), 0);
        assert_eq!(self.leases(), 0);
        assert_eq!(self.count("SELECT count(*) FROM transaction_waits"), 0);
        assert_eq!(
            self.count("SELECT count(*) FROM ciphertexts WHERE created_block_number IS NOT NULL"),
            ciphertexts
        );
    }

    /// Counts leases, expired ones included.
    pub(crate) fn leases(&self) -> usize {
        self.count("SELECT count(*) FROM transactions WHERE lease_owner IS NOT NULL")
    }
}

/// A key set without any secrecy, whose results can be checked in microseconds.
pub(crate) struct ClearKeys {
    pub(crate) keys: KeySet,
    pub(crate) decryptor: Arc<dyn Decrypt>,
}

impl ClearKeys {
    pub(crate) fn new(directory: &Path) -> Self {
        let keys = KeySet::generate(directory, ParameterSet::InsecureClear, &()).unwrap();
        let decryptor = keys.decryptor().unwrap();
        Self { keys, decryptor }
    }
}

/// A deployment with tenants on clear keys.
pub(crate) struct Ground {
    pub(crate) deployment: Deployment,
    pub(crate) clear: ClearKeys,
    pub(crate) tenants: Vec<Arc<TenantAccess>>,
    pub(crate) directory: TempDir,
}

impl Ground {
    /// Prepares a PostgreSQL database, and this many tenants.
    pub(crate) fn on_postgres(tenants: u64) -> (Self, Rows<'static>) {
        let (rows, url) = Rows::new(shared());
        (Self::on_database(&url, tenants), rows)
    }

    /// Prepares a database, and this many tenants, each of a chain of its own.
    pub(crate) fn on_database(url: &str, tenants: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clear = ClearKeys::new(&directory.path().join("clear"));
        let deployment = deployment(url, directory.path());
        if url.starts_with("postgres") {
            deployment.run(&["db", "migrate"]).unwrap();
        }
        let keys = clear.keys.directory();
        let tenants = (0..tenants)
            .map(|number| {
                deployment
                    .add_tenant(&format!("tenant-{number}"), 12_000 + number, Some(keys))
                    .unwrap()
            })
            .collect();
        Self {
            deployment,
            clear,
            tenants,
            directory,
        }
    }

    /// Prepares an embedded database.
    pub(crate) fn embedded(tenants: u64) -> Self {
        let place = tempfile::tempdir().unwrap().keep();
        Self::on_database(&format!("sqlite:{}", place.join("store.sqlite").display()), tenants)
    }

    /// Makes the traffic of a tenant, for a server.
    pub(crate) fn source(&self, tenant: usize, server: &Process, seed: u64) -> Source {
        let access = Arc::clone(&self.tenants[tenant]);
        let traffic = Traffic::new(seed, access.chain_id);
        let client = TenantClient::new(&server.url().unwrap(), access, PATIENCE).unwrap();
        Source {
            client,
            traffic,
            ledger: Ledger::default(),
            transactions: 0,
            decryptor: Arc::clone(&self.clear.decryptor),
        }
    }
}

/// Describes a deployment of the binary under test, with short leases.
pub(crate) fn deployment(url: &str, directory: &Path) -> Deployment {
    Deployment::insecure_new(env!("CARGO_BIN_EXE_cipherloom"), url, directory)
        .unwrap()
        .with(&["--lease-seconds", LEASE_SECONDS, "--drain-seconds", "20"])
}

/// One tenant's traffic, what was accepted of it, and what has come out.
pub(crate) struct Source {
    pub(crate) client: TenantClient,
    pub(crate) traffic: Traffic,
    pub(crate) ledger: Ledger,
    /// How many transactions were accepted.
    pub(crate) transactions: usize,
    decryptor: Arc<dyn Decrypt>,
}

impl Source {
    /// Sends what later transactions stand on: balances, public values, encrypted inputs.
    pub(crate) async fn open(&mut self, keys: &KeySet) -> Result<(), LoadError> {
        let opening = self.traffic.opening();
        self.send(opening).await?;
        let (requests, values) = self.traffic.public_values(PUBLIC_VALUES);
        self.client.trivial_encrypt(&requests).await?;
        self.check_now(&values).await?;
        let metadata = InputMetadata {
            contract: Address::repeat_byte(0xc0),
            user: Address::repeat_byte(0xaa),
            acl: self.client.tenant().acl,
            chain_id: self.client.tenant().chain_id,
        };
        let plaintexts = self.traffic.plaintexts(INPUT_VALUES);
        let list = keys.encryptor()?.encrypt(&plaintexts, &metadata)?;
        let inputs = self
            .client
            .upload_values(&list, &plaintexts, metadata.contract, metadata.user)
            .await?;
        inputs.into_iter().for_each(|value| self.traffic.keep(value));
        Ok(())
    }

    /// Sends transactions until so many more are accepted.
    pub(crate) async fn feed(&mut self, transactions: usize) -> Result<(), LoadError> {
        let mut left = transactions;
        while left > 0 {
            let batch = self.traffic.batch(left.min(TOGETHER));
            left -= batch.transactions;
            self.send(batch).await?;
        }
        Ok(())
    }

    async fn send(&mut self, batch: Batch) -> Result<(), LoadError> {
        self.client.compute(&batch.request).await?;
        self.transactions += batch.transactions;
        self.ledger.accepted(batch.results);
        Ok(())
    }

    /// Waits for all results and checks each.
    pub(crate) async fn await_all(&mut self) -> Result<(), LoadError> {
        self.client.await_all(&mut self.ledger, self.decryptor.as_ref(), STALL).await
    }

    /// Reads all results once more: they must be there, and be the bytes that they were.
    pub(crate) async fn check_again(&mut self) -> Result<(), LoadError> {
        let values = self.ledger.values().to_vec();
        let fetched = self.client.fetch(&values).await?;
        let found = self.ledger.check(&values, &fetched, self.decryptor.as_ref())?;
        assert_eq!(found, values.len(), "a value that was there is gone");
        Ok(())
    }

    /// Checks values that must be there already.
    async fn check_now(&mut self, values: &[cipherloom_load::Value]) -> Result<(), LoadError> {
        let fetched = self.client.fetch(values).await?;
        let found = self.ledger.check(values, &fetched, self.decryptor.as_ref())?;
        assert_eq!(found, values.len(), "public values are there as soon as they are accepted");
        Ok(())
    }
}

/// Checks again and again until something holds.
///
/// # Panics
/// If it does not within [`STALL`].
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < STALL, "{what} did not happen within {STALL:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

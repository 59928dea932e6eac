//! Databases and processes on them.

use std::{
    collections::BTreeMap,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use alloy::primitives::{Address, B256};
use cipherloom_contracts::development;
use cipherloom_primitives::Handle;
use cipherloom_private_postgres::shared;
use cipherloom_store::{Database, PostgresConfig, PostgresDatabase, Tenant, Tenants, TransactionKey};
use serde_json::Value;

use crate::chain::Truth;

/// Long enough for anything that is expected to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A database with tenants of chain 31337, whose number differs only in the database.
pub(crate) struct Ground {
    url: String,
    name: String,
    pub(crate) database: PostgresDatabase,
}

/// A follower process; it is killed when this is dropped.
pub(crate) struct Follower(Child);

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Ground {
    pub(crate) async fn new() -> Self {
        let url = shared().create_database().unwrap();
        let name = url.split('?').next().unwrap().rsplit('/').next().unwrap().to_owned();
        let database = PostgresDatabase::open(PostgresConfig::new(&url).unwrap()).await.unwrap();
        Self { url, name, database }
    }

    /// Runs a command of operators.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_cipherloom"))
            .args(arguments)
            .env("DATABASE_URL", &self.url)
            .output()
            .unwrap()
    }

    /// Runs a command that must succeed, and returns the JSON it prints.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Adds a tenant of the usual chain, and has it followed.
    pub(crate) async fn follow(&self, name: &str, urls: &[String]) -> Tenant {
        let host = development::addresses();
        let (acl, verifier) = (host.acl.to_string(), host.input_verifier.to_string());
        self.json(&[
            "tenant",
            "add",
            name,
            "--chain-id",
            "31337",
            "--acl-contract-address",
            &acl,
            "--verifying-contract-address",
            &verifier,
        ]);
        let mut arguments = vec!["tenant", "follow", name];
        urls.iter().for_each(|url| arguments.extend(["--rpc", url.as_str()]));
        self.json(&arguments);
        let all = self.database.tenants().await.unwrap();
        all.into_iter().find(|tenant| tenant.name == name).unwrap()
    }

    /// Starts a process that follows.
    pub(crate) fn start(&self, name: &str) -> Follower {
        let child = Command::new(env!("CARGO_BIN_EXE_cipherloom"))
            .args(["coprocessor", "--run-follower", "--worker-name", name])
            .args(["--metrics-addr", "127.0.0.1:0", "--follower-polling-interval-ms", "20"])
            .args(["--follower-rollback-seconds", "1", "--follower-lease-seconds", "1", "--json"])
            .env("DATABASE_URL", &self.url)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Follower(child)
    }

    /// Returns what a statement says, rows as lines.
    fn ask(&self, sql: &str) -> String {
        shared().execute(&self.name, sql).unwrap()
    }

    /// The newest recorded block of a tenant.
    pub(crate) async fn newest(&self, tenant: &Tenant) -> Option<(u64, B256)> {
        let store = Database::store(&self.database, tenant);
        let blocks = store.recent_blocks(tenant.chain_id, 1).await.unwrap();
        blocks.first().map(|block| (block.number, block.hash))
    }

    /// Waits until a tenant's newest recorded block is as it should be.
    pub(crate) async fn wait(&self, tenant: &Tenant, patience: Duration, mut is_right: impl FnMut((u64, B256)) -> bool) -> bool {
        let start = Instant::now();
        while start.elapsed() < patience {
            if self.newest(tenant).await.is_some_and(&mut is_right) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// Reads everything that is recorded of a tenant's chain.
    pub(crate) async fn recorded(&self, tenant: &Tenant) -> Truth {
        let number = tenant.id.number();
        let inspection = Database::inspection(&self.database, tenant);
        let mut truth = Truth::default();
        let rows = self.ask(&format!(
            "SELECT encode(hash, 'hex') FROM transactions WHERE tenant_id = {number} ORDER BY block_number, transaction_index"
        ));
        for row in rows.lines().filter(|row| !row.is_empty()) {
            let hash: B256 = row.parse().unwrap();
            let detail = inspection.transaction(&TransactionKey::Hash(hash)).await.unwrap().unwrap();
            let place = detail.summary.position;
            truth
                .transactions
                .push((place.block_number, place.index, hash, detail.computations));
        }
        let rows = self.ask(&format!(
            "SELECT encode(handle, 'hex'), encode(account, 'hex'), block_number FROM grants WHERE tenant_id = {number}"
        ));
        let grants: BTreeMap<_, _> = rows.lines().filter(|row| !row.is_empty()).map(grant).collect();
        truth.grants = grants;
        truth
    }
}

fn grant(row: &str) -> ((Handle, Option<Address>), u64) {
    let [handle, account, block] = row.split('|').collect::<Vec<_>>()[..] else {
        panic!("{row}")
    };
    let handle = Handle::try_from(handle.parse::<B256>().unwrap()).unwrap();
    let account = (!account.is_empty()).then(|| account.parse().unwrap());
    ((handle, account), block.parse().unwrap())
}

//! What operators see of the work, and trying again what failed. The work is recorded and leased as servers and workers do it.

use std::{future::Future, path::Path, sync::Arc};

use cipherloom_primitives::{B256, Computation, FheType, Handle, TypedOperation, U256};
use cipherloom_store::{
    Database, Finished, LeaseRequest, LeasedTransaction, OutputFailure, PostgresConfig, PostgresDatabase, PushedWork, RecordedTransaction,
    SqliteStore, Store, Tenant,
};
use serde_json::Value;

use crate::{
    operators::{json, text},
    process::{self, Running},
    tenants::{add, databases},
};

pub(crate) const CHAIN: u64 = 12345;

/// Runs something asynchronous to its end.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

/// Opens a database as a server does.
async fn open(url: &str) -> Arc<dyn Database> {
    match url.strip_prefix("sqlite:") {
        Some(path) => Arc::new(Box::pin(SqliteStore::open(Path::new(path))).await.unwrap()),
        None => Arc::new(PostgresDatabase::open(PostgresConfig::new(url).unwrap()).await.unwrap()),
    }
}

/// Opens the part of the only tenant.
async fn store(url: &str) -> (Tenant, Arc<dyn Store>) {
    let database = open(url).await;
    let tenant = database.tenants().await.unwrap().remove(0);
    let store = database.store(&tenant);
    (tenant, store)
}

pub(crate) fn handle(number: u8) -> Handle {
    Handle::computed(B256::repeat_byte(number), CHAIN, FheType::Uint64)
}

pub(crate) fn hash(number: u8) -> B256 {
    B256::repeat_byte(0xf0 | number)
}

/// A chain of transactions: the first encrypts, each of the others negates the result of the one before.
pub(crate) fn chain_of(count: u8) -> PushedWork {
    let ty = FheType::Uint64;
    let transactions = (1..=count).map(|number| {
        let (operation, inputs) = match number {
            1 => (TypedOperation::TrivialEncrypt { value: U256::from(7), ty }, Vec::new()),
            _ => (TypedOperation::Neg { ty }, vec![handle(number - 1)]),
        };
        RecordedTransaction {
            hash: hash(number),
            index: u64::from(number),
            computations: vec![Computation {
                operation,
                inputs: inputs.clone(),
                result: handle(number),
            }],
            boundary: inputs,
            outputs: vec![handle(number)],
            grants: Vec::new(),
            delegations: Vec::new(),
        }
    });
    PushedWork {
        transactions: transactions.collect(),
        received_at_s: now_ms() / 1000,
        ..PushedWork::default()
    }
}

fn now_ms() -> u64 {
    u64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}

/// Leases what can run, as a worker does.
pub(crate) async fn lease(store: &dyn Store) -> Vec<LeasedTransaction> {
    let request = LeaseRequest {
        chain_id: CHAIN,
        owner: "worker-7".to_owned(),
        now_ms: now_ms(),
        duration_ms: 60_000,
        limit: 10,
        first: Vec::new(),
    };
    store.lease_transactions(&request).await.unwrap()
}

/// Says that a leased transaction can never be computed.
async fn fail(store: &dyn Store, leased: &LeasedTransaction, reason: &str) {
    let finished = Finished {
        failures: leased
            .outputs
            .iter()
            .map(|handle| OutputFailure {
                handle: *handle,
                reason: reason.to_owned(),
            })
            .collect(),
        ..Finished::default()
    };
    store.finish_transaction(&leased.lease, &finished).await.unwrap();
}

fn computations(url: &str, arguments: &[&str]) -> Value {
    json(&[&["computations"], arguments, &["--json", "--database-url", url]].concat())
}

fn refusal(url: &str, arguments: &[&str]) -> String {
    let output = process::run(&[&["computations"], arguments, &["--database-url", url]].concat());
    assert!(!output.status.success(), "{arguments:?}: {}", text(&output.stdout));
    text(&output.stderr)
}

fn states(listed: &Value) -> Vec<&str> {
    let list = listed["transactions"].as_array().unwrap();
    list.iter().map(|transaction| transaction["state"].as_str().unwrap()).collect()
}

#[test]
fn work_is_listed_by_page_and_shown_with_what_it_waits_for() {
    let directory = tempfile::tempdir().unwrap();
    for url in databases(directory.path()) {
        add(&url, "shop", &CHAIN.to_string(), &[]);
        wait(async { store(&url).await.1.record_pushed(CHAIN, &chain_of(3)).await.unwrap() });

        let listed = computations(&url, &["list"]);
        assert_eq!(states(&listed), ["waiting", "waiting", "pending"], "newest first: {listed}");
        let first_page = computations(&url, &["list", "--tenant", "shop", "--limit", "2", "--state", "pending"]);
        let last = &first_page["transactions"][1];
        let before = format!("{}/{}", last["block"], last["index"]);
        let second_page = computations(&url, &["list", "--limit", "2", "--before", &before]);
        assert_eq!(second_page["transactions"].as_array().unwrap().len(), 1);
        assert_eq!(second_page["transactions"][0]["hash"].as_str(), Some(hash(1).to_string().as_str()));
        let by_handle = computations(&url, &["list", "--handle", &handle(2).to_string()]);
        assert_eq!(by_handle["transactions"][0]["hash"].as_str(), Some(hash(2).to_string().as_str()));
        assert_eq!(
            computations(&url, &["list", "--transaction", &hash(3).to_string()])["transactions"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        assert!(states(&computations(&url, &["list", "--state", "done"])).is_empty());

        // By hash and by handle it is the same one, with the tree below it.
        let shown = computations(&url, &["show", &handle(3).to_string()]);
        assert_eq!(shown["hash"].as_str(), Some(hash(3).to_string().as_str()));
        let nodes = shown["tree"]["nodes"].as_array().unwrap();
        let tree: Vec<_> = nodes
            .iter()
            .map(|node| (node["depth"].as_u64().unwrap(), node["transaction"].as_str().unwrap().to_owned()))
            .collect();
        assert_eq!(tree, [(0, hash(2).to_string()), (1, hash(1).to_string())]);
        let for_people = process::run(&["computations", "show", &hash(3).to_string(), "--database-url", &url]);
        let page = text(&for_people.stdout);
        assert!(
            page.contains("fheNeg") && page.contains("waits for:") && page.contains(&hash(1).to_string()),
            "{page}"
        );
        let cut = computations(&url, &["show", &hash(3).to_string(), "--depth", "1"]);
        assert_eq!(cut["tree"]["cut"], true);

        assert!(refusal(&url, &["show", &hash(9).to_string()]).contains("no tenant has"));
        assert!(refusal(&url, &["show", "0x12"]).contains("no tenant has"), "it could be a name");
        assert!(refusal(&url, &["show", "none"]).contains("hexadecimal digits"));
        assert!(refusal(&url, &["list", "--tenant", "nobody"]).contains("there are shop"));
    }
}

#[test]
fn failures_are_shown_with_their_reason_and_tried_again_when_confirmed() {
    let directory = tempfile::tempdir().unwrap();
    for url in databases(directory.path()) {
        add(&url, "shop", &CHAIN.to_string(), &[]);
        wait(async {
            let (_, store) = store(&url).await;
            store.record_pushed(CHAIN, &chain_of(3)).await.unwrap();
            for reason in ["it divides by zero", "an input of it failed"] {
                let leased = lease(store.as_ref()).await;
                assert_eq!(leased.len(), 1);
                fail(store.as_ref(), &leased[0], reason).await;
            }
        });
        let listed = computations(&url, &["list", "--state", "poisoned"]);
        assert_eq!(states(&listed), ["poisoned", "poisoned"]);
        assert_eq!(listed["transactions"][1]["failure"], "it divides by zero");
        let page = text(&process::run(&["computations", "show", &hash(1).to_string(), "--database-url", &url]).stdout);
        assert!(
            page.contains("failed because it divides by zero") && page.contains("computations retry"),
            "{page}"
        );

        // A number that is not the one there is changes nothing.
        let wrong = refusal(&url, &["retry", "--all-poisoned", "--confirm", "7"]);
        assert!(wrong.contains("2 failed transactions") && wrong.contains("--confirm 2"), "{wrong}");
        assert_eq!(states(&computations(&url, &["list", "--state", "poisoned"])).len(), 2);
        assert_eq!(computations(&url, &["retry", "--all-poisoned", "--confirm", "2"])["retried"], 2);
        assert_eq!(states(&computations(&url, &["list"])), ["waiting", "waiting", "pending"]);
        assert!(refusal(&url, &["retry", &hash(1).to_string()]).contains("has not failed"));
        assert!(refusal(&url, &["retry", "--all-poisoned", "--confirm", "0"]).contains("no failed transactions"));

        // One by one, by a handle; with what failed because of it.
        wait(async {
            let (_, store) = store(&url).await;
            for _ in 0..2 {
                let leased = lease(store.as_ref()).await;
                fail(store.as_ref(), &leased[0], "once more").await;
            }
        });
        assert_eq!(computations(&url, &["retry", &handle(1).to_string()])["retried"], 2);
        assert!(states(&computations(&url, &["list", "--state", "poisoned"])).is_empty());
    }
}

#[test]
fn who_computes_what_is_seen_while_it_happens() {
    let directory = tempfile::tempdir().unwrap();
    let [url, _] = databases(directory.path());
    add(&url, "shop", &CHAIN.to_string(), &[]);
    wait(async {
        let (_, store) = store(&url).await;
        store.record_pushed(CHAIN, &chain_of(2)).await.unwrap();
        assert_eq!(lease(store.as_ref()).await.len(), 1);
    });
    let leased = computations(&url, &["list", "--state", "leased"]);
    assert_eq!(states(&leased), ["leased"]);
    assert_eq!(leased["transactions"][0]["lease"]["owner"], "worker-7");
    let mut watching = Running::start(&["computations", "list", "--watch=1", "--json", "--database-url", &url]);
    for _ in 0..2 {
        let counts: Value = serde_json::from_str(&watching.wait_for("pending")).unwrap();
        let counts = [&counts["pending"], &counts["runnable"], &counts["leased"], &counts["poisoned"]].map(|count| count.as_u64().unwrap());
        assert_eq!(counts, [2, 1, 1, 0]);
    }
    assert!(watching.interrupt());
}

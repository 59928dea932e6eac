//! The load test tool: small amounts on both databases, and against a server that runs already. What it says, not how fast anything is.

use cipherloom_fhe::insecure_test_keys;
use cipherloom_load::{Deployment, Role};
use cipherloom_private_postgres::shared;
use serde_json::Value;

use crate::ground::Ground;

const SMALL: [&str; 12] = [
    "--rows",
    "20000",
    "--window",
    "1000",
    "--transactions",
    "60",
    "--workers",
    "2",
    "--wakeups",
    "4",
    "--transfers",
    "2",
];

fn number(report: &Value, pointer: &str) -> f64 {
    let number = report.pointer(pointer).and_then(Value::as_f64);
    number.unwrap_or_else(|| panic!("{pointer} is no number in {report}"))
}

/// Measures with processes of the tool's own.
fn bench(deployment: &Deployment, database: &[&str]) -> Value {
    let keys = insecure_test_keys().unwrap();
    let keys = ["--insecure-toy", "--keys", keys.directory().to_str().unwrap()];
    deployment
        .ask(&[&["bench", "coprocessor", "--json"], SMALL.as_slice(), &keys, database].concat())
        .unwrap()
}

#[test]
fn the_load_test_tool_measures_both_databases_and_checks_results() {
    let directory = tempfile::tempdir().unwrap();
    let url = shared().create_database().unwrap();
    let deployment = Deployment::insecure_new(env!("CARGO_BIN_EXE_cipherloom"), &url, directory.path()).unwrap();
    for (name, database) in [("SQLite", [].as_slice()), ("PostgreSQL", &["--database-url", &url])] {
        let report = bench(&deployment, database);
        assert_eq!(report["database"], name);
        assert!(number(&report, "/ingestion/large/rows") >= 20_000.0);
        for positive in [
            "/ingestion/small/computations_per_second",
            "/ingestion/large/computations_per_second",
            "/ingestion/time_ratio",
            "/latency/ms_from_request/median",
            "/throughput/transactions_per_second",
            "/throughput/results_checked",
            "/fhe/cpu_seconds_per_transfer",
            "/fhe/results_checked",
        ] {
            assert!(number(&report, positive) > 0.0, "{positive} in {report}");
        }
        assert!(number(&report, "/latency/ms_from_answer/median") <= number(&report, "/latency/ms_from_request/median"));
        let outside = number(&report, "/fhe/cpu_outside_fhe");
        assert!((0.0..1.0).contains(&outside), "{outside}");
    }
    let left = deployment.ask(&["tenant", "list", "--json"]).unwrap();
    assert_eq!(
        left["tenants"].as_array().map(Vec::len),
        Some(0),
        "the tool removes its tenants: {left}"
    );
}

#[test]
fn a_deployment_that_runs_already_is_measured_from_outside() {
    let (ground, _rows) = Ground::on_postgres(1);
    let both = ground.deployment.start(Role::Both, &[]).unwrap();
    let tenant = &ground.tenants[0];
    let key = ground.directory.path().join("api.key");
    std::fs::write(&key, &tenant.api_key).unwrap();
    let (url, chain, acl) = (both.url().unwrap(), tenant.chain_id.to_string(), tenant.acl.to_string());
    let given = [
        "--server",
        &url,
        "--chain-id",
        &chain,
        "--acl-contract-address",
        &acl,
        "--api-key-file",
    ];
    let place = [given.as_slice(), &[key.to_str().unwrap()]].concat();
    let keys = ["--keys", ground.clear.keys.directory().to_str().unwrap()];
    let small = ["--transactions", "40", "--measure", "throughput"];
    let bench = ["bench", "coprocessor", "--json"];
    let report = ground.deployment.ask(&[&bench, place.as_slice(), &keys, &small].concat()).unwrap();
    assert!(number(&report, "/throughput/results_checked") > 40.0);
    let report = ground
        .deployment
        .ask(&[&bench, place.as_slice(), &small, &["--seed", "2"]].concat())
        .unwrap();
    assert!(number(&report, "/throughput/results") > 40.0);
    assert_eq!(number(&report, "/throughput/results_checked"), 0.0);
    // What happens inside of processes cannot be seen from outside.
    let refused = ground
        .deployment
        .ask(&[&bench, place.as_slice(), &["--measure", "latency"]].concat())
        .unwrap_err();
    assert!(refused.to_string().contains("inside of the processes"), "{refused}");
}

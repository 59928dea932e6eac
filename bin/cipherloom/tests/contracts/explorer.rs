//! Verification of sources, by an explorer in this process that compiles nothing but checks everything else.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{Query, State},
    routing::get,
};
use serde_json::{Value, json};

use crate::ground::{Ground, contracts, json, refused};

const KEY: &str = "SECRETEXPLORERKEY";

type Fields = BTreeMap<String, String>;

/// What the explorer was sent.
#[derive(Default)]
struct Explorer {
    submissions: Vec<Fields>,
    links: Vec<Fields>,
    /// Tickets that were asked about once.
    asked: BTreeSet<String>,
    /// Contracts that are verified.
    verified: BTreeSet<String>,
    /// How many requests are refused because there were too many.
    busy: usize,
}

type Shared = Arc<Mutex<Explorer>>;

fn answer(status: &str, result: &str) -> Json<Value> {
    Json(json!({ "status": status, "message": if status == "1" { "OK" } else { "NOTOK" }, "result": result }))
}

/// Reads a form as browsers write it.
fn form(body: &str) -> Fields {
    let url = reqwest::Url::parse(&format!("form:?{body}")).unwrap();
    url.query_pairs().into_owned().collect()
}

async fn submit(State(explorer): State<Shared>, Query(query): Query<Fields>, body: String) -> Json<Value> {
    let fields = form(&body);
    let mut explorer = explorer.lock().unwrap();
    if query.get("chainid").map(String::as_str) != Some("31337") || fields.get("apikey").map(String::as_str) != Some(KEY) {
        return answer("0", "Invalid API Key");
    }
    if explorer.busy > 0 {
        explorer.busy -= 1;
        return answer("0", "Max rate limit reached");
    }
    let address = fields.get("contractaddress").or_else(|| fields.get("address")).unwrap().clone();
    match fields["action"].as_str() {
        "verifysourcecode" if explorer.verified.contains(&address) => answer("0", "Contract source code already verified"),
        "verifysourcecode" => {
            explorer.submissions.push(fields);
            answer("1", &format!("ticket-{address}"))
        }
        "verifyproxycontract" => {
            explorer.links.push(fields);
            answer("1", &format!("link-{address}"))
        }
        other => answer("0", &format!("no action {other}")),
    }
}

async fn status(State(explorer): State<Shared>, Query(query): Query<Fields>) -> Json<Value> {
    let mut explorer = explorer.lock().unwrap();
    let ticket = query["guid"].clone();
    if explorer.asked.insert(ticket.clone()) {
        return answer("0", "Pending in queue");
    }
    if let Some(address) = ticket.strip_prefix("ticket-") {
        explorer.verified.insert(address.to_owned());
    }
    answer("1", "Pass - Verified")
}

async fn start() -> (String, Shared) {
    let explorer = Shared::default();
    explorer.lock().unwrap().busy = 2;
    let app = Router::new()
        .route("/api", get(status).post(submit))
        .with_state(Arc::clone(&explorer));
    // Sources are some hundred kilobytes.
    let app = app.layer(axum::extract::DefaultBodyLimit::max(16 * 1024 * 1024));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, explorer)
}

/// The folder with our sources, in which the libraries are installed.
fn sources() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts");
    if !folder.join("node_modules/solc").is_dir() {
        let installed = Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
            .current_dir(&folder)
            .status();
        assert!(installed.unwrap().success(), "npm ci failed");
    }
    folder.to_str().unwrap().to_owned()
}

/// Has the explorer verify everything.
fn verify(ground: &Ground, url: &str, sources: &str, key: &str) -> Command {
    let mut command = ground.contracts(&[
        "verify",
        "--explorer",
        "--explorer-url",
        url,
        "--sources",
        sources,
        "--explorer-pause",
        "0",
    ]);
    command.env("ETHERSCAN_API_KEY", key);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn every_contract_is_verified_once_and_proxies_are_linked() {
    let ground = Ground::deployed().await;
    let (url, explorer) = start().await;
    let sources = sources();
    let run = || json(verify(&ground, &url, &sources, KEY));
    let report = run();
    assert_eq!(report["ok"], true);
    let record = ground.record();
    {
        let explorer = explorer.lock().unwrap();
        // Seven implementations with their proxies, and the PauserSet.
        assert_eq!((explorer.submissions.len(), explorer.links.len()), (15, 7));
        let acl = explorer
            .submissions
            .iter()
            .find(|fields| fields["contractname"].ends_with(":ACL"))
            .unwrap();
        assert_eq!(acl["contractname"], "@cipherloom/solidity/src/host/ACL.sol:ACL");
        assert_eq!(acl["compilerversion"], "v0.8.29+commit.ab55807c");
        assert_eq!(acl["codeformat"], "solidity-standard-json-input");
        let executor = record.contracts.executor.into_word();
        assert!(acl["constructorArguements"].starts_with(&alloy::hex::encode(executor)));
        let input: Value = serde_json::from_str(&acl["sourceCode"]).unwrap();
        assert!(input["sources"]["@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol"]["content"].is_string());
        let link = explorer
            .links
            .iter()
            .find(|fields| fields["address"] == record.contracts.acl.to_checksum(None))
            .unwrap();
        assert_eq!(
            link["expectedimplementation"],
            record.implementations[&cipherloom_contracts::HostContract::Acl]
                .address
                .to_checksum(None)
        );
    }
    let again = run();
    let verdicts = again["explorer"].as_array().unwrap();
    assert_eq!(
        verdicts
            .iter()
            .filter(|verdict| verdict["verdict"] == "was verified already")
            .count(),
        15
    );
    assert_eq!(explorer.lock().unwrap().submissions.len(), 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_in_the_explorers_words_without_the_key() {
    let ground = Ground::deployed().await;
    let (url, _) = start().await;
    let sources = sources();
    let errors = refused(verify(&ground, &url, &sources, "WRONGKEY"));
    assert!(errors.contains("Invalid API Key") && !errors.contains("WRONGKEY"), "{errors}");
    let errors = refused(ground.contracts(&["verify", "--explorer"]));
    assert!(errors.contains("ETHERSCAN_API_KEY"), "{errors}");
}

#[test]
fn the_standard_input_compiles_to_the_committed_artifacts() {
    let folder = sources();
    let directory = tempfile::tempdir().unwrap();
    let input = directory.path().join("input.json");
    let written = contracts(&["standard-json", "--sources", &folder, "--out", input.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    // The explorer's side: the pinned compiler, and nothing but the input.
    let script = "const fs = require('fs'); const solc = require('solc'); \
                  const output = JSON.parse(solc.compile(fs.readFileSync(process.argv[1], 'utf8'))); \
                  const code = {}; for (const file of Object.values(output.contracts)) for (const [name, contract] of Object.entries(file)) \
                  code[name] = contract.evm.bytecode.object; \
                  process.stdout.write(JSON.stringify({ version: solc.version(), code }));";
    let compiled = Command::new("node")
        .args(["-e", script, input.to_str().unwrap()])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let compiled: Value = serde_json::from_slice(&compiled.stdout).unwrap();
    assert!(compiled["version"].as_str().unwrap().starts_with("0.8.29+commit.ab55807c"));
    for name in [
        "ACL",
        "FHEVMExecutor",
        "KMSVerifier",
        "InputVerifier",
        "HCULimit",
        "ProtocolConfig",
        "PauserSet",
        "GatewayContract",
        "HostProxy",
    ] {
        let artifact = std::fs::read(Path::new(&folder).join(format!("artifacts/{name}.json"))).unwrap();
        let artifact: Value = serde_json::from_slice(&artifact).unwrap();
        let code = format!("0x{}", compiled["code"][name].as_str().unwrap());
        assert_eq!(artifact["bytecode"].as_str().unwrap(), code, "{name}");
    }
}

//! What anybody finds out about a committee from the command line, on a development stack whose committee has decrypted something.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is how a failure is reported"
)]

mod audited;
#[expect(dead_code, reason = "tests of other kinds need more of it")]
#[path = "../whole/process.rs"]
mod process;

use std::path::Path;

use serde_json::Value;

use crate::{audited::Audited, process::Running};

#[test]
fn a_committee_is_checked_from_outside_and_its_log_from_end_to_end() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().to_str().unwrap();
    let committee = ["--insecure-toy", "--kms-nodes"];
    // Has values decrypted, in public and by an account.
    assert_eq!(process::demo(directory.path(), &committee)["ok"], true);
    let options = ["dev", "--json", "--data-dir", data_dir, "--rpc-port", "0", "--gateway-port", "0"];
    let mut dev = Running::start(&[&options[..], &committee].concat());
    let summary: Value = serde_json::from_str(&dev.wait_for("rpcUrl")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let nodes = summary["kmsNodes"].as_array().unwrap();
    let files = tempfile::tempdir().unwrap();
    let state = text(&summary["dataDir"]);
    Audited {
        nodes: nodes.iter().map(|node| text(&node["publicUrl"])).collect(),
        rpc_url: text(&summary["rpcUrl"]),
        gateway_url: text(&summary["gatewayUrl"]),
        party_dir: &Path::new(&state).join("kms").join("1"),
        directory: files.path(),
    }
    .check();
}

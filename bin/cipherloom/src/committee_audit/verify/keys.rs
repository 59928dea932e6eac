//! Whether the keys that clients get from a gateway are those of the record.

use alloy::primitives::B256;
use anyhow::{Context, Result, ensure};
use cipherloom_ceremony::Record;
use cipherloom_fhe::{KeySetId, ParameterSet};
use cipherloom_service::report::Report;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::committee_audit::web::Web;

const AREA: &str = "keys";

/// The longest list of keys, and the longest key, in bytes.
const MAX_KEYURL_BYTES: usize = 64 << 10;
const MAX_KEY_BYTES: usize = 256 << 20;

/// Downloads the gateway's keys and compares them.
pub(super) async fn check(web: &Web, gateway: Option<&str>, record: Option<&Record>, report: &mut Report) {
    let Some(gateway) = gateway else {
        report.warn(
            AREA,
            "NOT CHECKED: what clients encrypt to: no gateway was named",
            "name the gateway that clients use with --gateway",
        );
        return;
    };
    let Some(record) = record else {
        report.warn(
            AREA,
            format!("NOT CHECKED: the keys of {gateway}: there is no record to compare them with"),
            "see what was found about the ceremony",
        );
        return;
    };
    match compare(web, gateway, record).await {
        Ok(checked) => checked.into_iter().for_each(|line| report.ok(AREA, line)),
        Err(error) => report.fail(
            AREA,
            format!("{error:#}"),
            "do not encrypt to this gateway's key: whoever made it can read what is encrypted to it",
        ),
    }
}

async fn compare(web: &Web, gateway: &str, record: &Record) -> Result<Vec<String>> {
    let url = format!("{gateway}/v2/keyurl");
    let answer = web.get(&url, MAX_KEYURL_BYTES).await?.expect_ok(&url)?;
    let list: Value = serde_json::from_slice(&answer.body).with_context(|| format!("{url} answers no list of keys"))?;
    let at = |pointer: &str| -> Result<String> {
        let found = list.pointer(pointer).and_then(Value::as_str);
        found.map(str::to_owned).with_context(|| format!("{url} names no key at {pointer}"))
    };
    let entries = list.pointer("/response/fheKeyInfo").and_then(Value::as_array);
    ensure!(
        entries.is_some_and(|entries| entries.len() == 1),
        "{url} does not name exactly one public key: clients might take another one"
    );
    let public_key = download(web, &at("/response/fheKeyInfo/0/fhePublicKey/urls/0")?).await?;
    let crs = download(web, &at("/response/crs/2048/urls/0")?).await?;
    let mut checked = Vec::new();
    for (what, bytes) in [("public key", &public_key), ("reference string", &crs)] {
        let digest = B256::from_slice(&Sha256::digest(bytes));
        let listed = record.core.material.iter().find(|material| material.digest == digest);
        let listed = listed.with_context(|| format!("{gateway}: the {what} that it hands out, {digest}, is not in the record"))?;
        let name: String = listed.name.chars().filter(|char| !char.is_control()).collect();
        checked.push(format!("{gateway}: its {what} is {name} of the record, {} bytes", bytes.len()));
    }
    let parameters = ParameterSet::from_name(&record.core.parameters).with_context(|| {
        format!("this version does not know the record's parameters, so that the key set's id cannot be computed for {gateway}")
    })?;
    let id = KeySetId::of(parameters, &public_key, &crs);
    ensure!(
        id.as_bytes() == record.core.key_id.as_slice(),
        "{gateway}: its keys have the id {id}, and the record is about {}",
        record.core.key_id
    );
    checked.push(format!("{gateway}: the two give the id of the key set whose shares the nodes have"));
    Ok(checked)
}

async fn download(web: &Web, url: &str) -> Result<Vec<u8>> {
    Ok(web.get(url, MAX_KEY_BYTES).await?.expect_ok(url)?.body)
}

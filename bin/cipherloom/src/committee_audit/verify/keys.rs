//! Whether the keys that clients get from a gateway are those of the record.

use alloy::primitives::B256;
use anyhow::{Context, Result, ensure};
use cipherloom_ceremony::Record;
use cipherloom_fhe::{KeySetId, ParameterSet};
use cipherloom_service::report::Report;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::committee_audit::web::{self, Web};

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

async fn download(http: &Web, url: &str) -> Result<Vec<u8>> {
    // As the parser writes it, without characters that a terminal would obey: it comes from the gateway, and stands in messages.
    let url = web::parse(url)?.to_string();
    Ok(http.get(&url, MAX_KEY_BYTES).await?.expect_ok(&url)?.body)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::{Router, extract::State, routing::get};
    use cipherloom_ceremony::{Core, Material, Seats, VERSION};
    use cipherloom_primitives::Address;
    use serde_json::json;

    use super::*;

    const PUBLIC_KEY: &[u8] = b"a public key";
    const CRS: &[u8] = b"a reference string";

    /// A record with the digests of this material; who signs it is another module's question.
    fn record(public_key: &[u8], key_id: B256) -> Record {
        let material = |name: &str, bytes: &[u8]| Material {
            name: name.into(),
            digest: B256::from_slice(&Sha256::digest(bytes)),
            size_bytes: bytes.len() as u64,
        };
        Record {
            core: Core {
                version: VERSION,
                nonce: B256::ZERO,
                chain_id: 31337,
                parameters: ParameterSet::InsecureClear.name().into(),
                seats: Seats {
                    context: B256::ZERO,
                    epoch: B256::ZERO,
                    threshold: 1,
                    members: (1..=4).map(Address::repeat_byte).collect(),
                },
                previous: None,
                dealer: None,
                cards: Vec::new(),
                key_id,
                manifest: alloy::primitives::Bytes::new(),
                material: vec![material("public key", public_key), material("crs", CRS)],
                known: Vec::new(),
                broadcasts: B256::ZERO,
            },
            dealer_evidence: None,
            acceptances: Vec::new(),
        }
    }

    fn id() -> B256 {
        B256::from(*KeySetId::of(ParameterSet::InsecureClear, PUBLIC_KEY, CRS).as_bytes())
    }

    /// A gateway that lists so many public keys.
    async fn gateway(keys: usize) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let entry = json!({ "fhePublicKey": { "dataId": "k", "urls": [format!("{url}/key")] } });
        let list = json!({ "response": { "fheKeyInfo": vec![entry; keys], "crs": { "2048": { "dataId": "c", "urls": [format!("{url}/crs")] } } } });
        let router = Router::new()
            .route("/v2/keyurl", get(async |State(list): State<Arc<Value>>| list.to_string()))
            .route("/key", get(async || PUBLIC_KEY))
            .route("/crs", get(async || CRS))
            .with_state(Arc::new(list));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    async fn compared(keys: usize, record: &Record) -> Result<usize, String> {
        let lines = compare(&Web::new(None).unwrap(), &gateway(keys).await, record).await;
        lines.map(|lines| lines.len()).map_err(|error| format!("{error:#}"))
    }

    #[tokio::test]
    async fn keys_of_the_record_are_recognised() {
        assert_eq!(compared(1, &record(PUBLIC_KEY, id())).await, Ok(3));
    }

    #[tokio::test]
    async fn any_other_key_is_told() {
        let foreign = compared(1, &record(b"another public key", id())).await.unwrap_err();
        assert!(foreign.contains("is not in the record"), "{foreign}");
        let id = compared(1, &record(PUBLIC_KEY, B256::ZERO)).await.unwrap_err();
        assert!(id.contains("its keys have the id"), "{id}");
    }

    #[tokio::test]
    async fn a_gateway_with_two_keys_or_none_is_told() {
        for keys in [0, 2] {
            let error = compared(keys, &record(PUBLIC_KEY, id())).await.unwrap_err();
            assert!(error.contains("exactly one"), "{error}");
        }
    }
}

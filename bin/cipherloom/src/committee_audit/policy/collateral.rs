//! `cipherloom kms policy collateral`: fetches the manufacturer's statements.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};
use cipherloom_attest::{
    Collateral, CollateralStore, Policy, Verifier,
    pcs::{Answer, MAX_ANSWER_BYTES, Piece, PlatformFamily},
};

use super::{CollateralOptions, read_limited, write_whole};
use crate::committee_audit::{nodes::Node, time, web::Web};

/// What `--help` begins with.
pub(super) const HELP: &str = "\
Fetch the manufacturer's statements that verification needs, or newer ones.

Which platforms they are about is read from quotes, of nodes or in files. The statements are public, verified whenever a quote is, and expire after about a month: run this \
from a timer, and give the directory to nodes, gateways and `cipherloom kms verify`.

  cipherloom kms policy collateral --node https://kms-1.example --output /etc/cipherloom/collateral
  cipherloom kms policy collateral --quote quote.bin --service https://pccs.example --output collateral

A quote that does not verify with what was fetched is told as a warning; the file is written in any case, since newer statements may say that a platform is out of date.";

/// The longest file with a quote: in hexadecimal.
const MAX_QUOTE_FILE_BYTES: usize = 64 << 10;

/// Fetches and writes.
///
/// # Errors
/// If a quote cannot be had, or the service does not answer as it should.
pub(super) async fn run(options: &CollateralOptions) -> Result<()> {
    let web = Web::new(options.ca.as_deref())?;
    let mut quotes = Vec::new();
    for path in &options.quote {
        quotes.push((path.display().to_string(), quote_in(path)?));
    }
    for url in &options.nodes {
        let (signed, _) = Node::new(&web, url).attestation().await?;
        quotes.push((url.clone(), signed.document.evidence.quote.to_vec()));
    }
    std::fs::create_dir_all(&options.output).with_context(|| format!("cannot make {}", options.output.display()))?;
    let mut done: Vec<(PlatformFamily, Arc<CollateralStore>)> = Vec::new();
    for (from, quote) in quotes {
        let family = PlatformFamily::of_quote(&quote).with_context(|| from.clone())?;
        let store = match done.iter().find(|(other, _)| *other == family) {
            Some((_, store)) => Arc::clone(store),
            None => {
                let collateral = fetch(&web, &options.service, &family).await?;
                let path = options.output.join(format!("{}.json", family.name()));
                write_whole(&path, &collateral.to_json()?)?;
                println!("wrote {}", path.display());
                let store = Arc::new(CollateralStore::default());
                store.insert(collateral);
                done.push((family, Arc::clone(&store)));
                store
            }
        };
        match Verifier::new(Policy::insecure_simulated_only(), store)?.platform(&quote, time::now()) {
            Ok(report) => println!(
                "{from}: {}, until {} nothing needs to be fetched again",
                report.tcb_status,
                time::date_time(report.collateral_expires)
            ),
            Err(error) => eprintln!("warning: {from}: with these statements the quote does not verify: {error}"),
        }
    }
    Ok(())
}

/// Fetches all pieces for a family.
async fn fetch(web: &Web, service: &str, family: &PlatformFamily) -> Result<Collateral> {
    let mut answers: [Answer; 4] = Default::default();
    for (piece, answer) in Piece::ALL.into_iter().zip(&mut answers) {
        let url = family.url(service, piece);
        let fetched = web.get(&url, MAX_ANSWER_BYTES).await?.expect_ok(&url)?;
        let header = piece.issuer_headers().iter().find_map(|name| fetched.headers.get(*name));
        *answer = Answer {
            issuer: header.and_then(|value| value.to_str().ok()).map(str::to_owned),
            body: fetched.body,
        };
    }
    family
        .assemble(answers)
        .with_context(|| format!("{service} answered something that cannot be used"))
}

/// Reads a quote from a file: its bytes, or hexadecimal digits of them.
fn quote_in(path: &Path) -> Result<Vec<u8>> {
    let bytes = read_limited(path, MAX_QUOTE_FILE_BYTES)?;
    anyhow::ensure!(bytes.len() <= MAX_QUOTE_FILE_BYTES, "{} is too long for a quote", path.display());
    let text = bytes.trim_ascii();
    let digits = text.strip_prefix(b"0x").unwrap_or(text);
    if !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit) {
        return alloy::hex::decode(digits).with_context(|| path.display().to_string());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        extract::{Request, State},
        http::{HeaderMap, StatusCode},
        response::IntoResponse,
    };
    use serde_json::Value;

    use super::*;

    const QUOTE: &[u8] = include_bytes!("../../../../../crates/attest/tests/recorded/tdx10.quote");
    const RECORDED: &[u8] = include_bytes!("../../../../../crates/attest/tests/recorded/tdx10.collateral.json");

    /// Serves the recorded statements as a cache of the manufacturer's service does.
    async fn cache() -> String {
        async fn answer(State(recorded): State<Arc<Value>>, request: Request) -> impl IntoResponse {
            let member = |name: &str| recorded[name].as_str().unwrap().to_owned();
            let escaped = |name: &str| {
                let bytes = member(name).into_bytes().into_iter();
                bytes.map(|byte| format!("%{byte:02X}")).collect::<String>().parse().unwrap()
            };
            let statement = |name: &str, of: &str| {
                format!(
                    r#"{{"{name}":{},"signature":"{}"}}"#,
                    member(of),
                    member(&format!("{of}_signature"))
                )
            };
            let mut headers = HeaderMap::new();
            let body = match request.uri().to_string().as_str() {
                "/sgx/certification/v4/pckcrl?ca=platform&encoding=der" => {
                    headers.insert("SGX-PCK-CRL-Issuer-Chain", escaped("pck_crl_issuer_chain"));
                    alloy::hex::decode(member("pck_crl")).unwrap()
                }
                "/sgx/certification/v4/rootcacrl" => member("root_ca_crl").into_bytes(),
                "/tdx/certification/v4/tcb?fmspc=B0C06F000000" => {
                    headers.insert("TCB-Info-Issuer-Chain", escaped("tcb_info_issuer_chain"));
                    statement("tcbInfo", "tcb_info").into_bytes()
                }
                "/tdx/certification/v4/qe/identity" => {
                    headers.insert("SGX-Enclave-Identity-Issuer-Chain", escaped("qe_identity_issuer_chain"));
                    statement("enclaveIdentity", "qe_identity").into_bytes()
                }
                _ => return (StatusCode::NOT_FOUND, headers, Vec::new()),
            };
            (StatusCode::OK, headers, body)
        }
        let recorded: Value = serde_json::from_slice(RECORDED).unwrap();
        let router = Router::new().fallback(answer).with_state(Arc::new(recorded));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    fn options(service: String, directory: &Path) -> CollateralOptions {
        CollateralOptions {
            nodes: Vec::new(),
            quote: vec![directory.join("quote.hex"), directory.join("quote.bin")],
            output: directory.join("collateral"),
            service,
            ca: None,
        }
    }

    #[tokio::test]
    async fn statements_are_fetched_and_verify_the_quote() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("quote.bin"), QUOTE).unwrap();
        std::fs::write(directory.path().join("quote.hex"), alloy::hex::encode_prefixed(QUOTE) + "\n").unwrap();
        run(&options(cache().await, directory.path())).await.unwrap();
        let store = CollateralStore::read_directory(&directory.path().join("collateral")).unwrap();
        assert_eq!(store.families(), 1);
        /// 2025-07-01, inside the window of the recorded statements.
        const JULY_2025: u64 = 1_751_328_000;
        let verifier = Verifier::new(Policy::insecure_simulated_only(), Arc::new(store)).unwrap();
        assert_eq!(verifier.platform(QUOTE, JULY_2025).unwrap().tcb_status, "UpToDate");
    }

    #[tokio::test]
    async fn a_server_that_is_no_such_service_is_told_of() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("quote.bin"), QUOTE).unwrap();
        std::fs::write(directory.path().join("quote.hex"), b"nonsense").unwrap();
        let broken = run(&options(cache().await, directory.path())).await;
        assert!(format!("{:#}", broken.unwrap_err()).contains("quote.hex"));
        std::fs::write(directory.path().join("quote.hex"), QUOTE).unwrap();
        let elsewhere = run(&options(format!("{}/elsewhere", cache().await), directory.path())).await;
        assert!(format!("{:#}", elsewhere.unwrap_err()).contains("404"));
        assert!(!directory.path().join("collateral/B0C06F000000.json").exists());
    }
}

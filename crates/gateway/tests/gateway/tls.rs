//! HTTPS, with certificates for `localhost` whose keys are public: they are for these tests alone.

use std::{path::Path, sync::Arc, time::Duration};

use cipherloom_gateway::{Gateway, GatewayError, TlsConfig};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use crate::{
    client::Client,
    services::{Backend, Stack, handle, public_body},
};

const FIRST: [&str; 2] = [include_str!("insecure-first.pem"), include_str!("insecure-first.key")];
const SECOND: [&str; 2] = [include_str!("insecure-second.pem"), include_str!("insecure-second.key")];

fn write(directory: &Path, [certificate, key]: [&str; 2]) -> TlsConfig {
    let files = TlsConfig {
        check_interval: Duration::from_millis(20),
        ..TlsConfig::new(directory.join("certificate.pem"), directory.join("key.pem"))
    };
    std::fs::write(&files.certificate, certificate).unwrap();
    std::fs::write(&files.key, key).unwrap();
    files
}

async fn start(files: &TlsConfig, idle: Duration) -> Stack {
    Stack::start_with(Backend::new(), |config| {
        config.tls = Some(files.clone());
        config.idle_timeout = idle;
    })
    .await
}

/// Connects as somebody who trusts one certificate.
async fn connect(stack: &Stack, trusted: &str) -> std::io::Result<Client<TlsStream<TcpStream>>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(stack.gateway.address()).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    Ok(Client::over(stream, format!("localhost:{}", stack.gateway.address().port())))
}

#[tokio::test]
async fn clients_that_trust_the_certificate_are_served_and_nobody_in_clear() {
    let directory = tempfile::tempdir().unwrap();
    let stack = start(&write(directory.path(), FIRST), Duration::from_secs(180)).await;
    assert!(stack.gateway.url().starts_with("https://"));
    stack.backend.publish(handle(1), 5);
    let mut client = connect(&stack, FIRST[0]).await.unwrap();
    assert_eq!(client.post("/v1/public-decrypt", &public_body(&[handle(1)])).await.status, 200);
    let urls = client.get("/v2/keyurl").await.json();
    let url = urls.pointer("/response/fheKeyInfo/0/fhePublicKey/urls/0").unwrap();
    let expected = format!("https://localhost:{}/v2/keys/public-key/key-1", stack.gateway.address().port());
    assert_eq!(url.as_str(), Some(expected.as_str()));
    // Large answers, too.
    assert_eq!(client.get("/v2/keys/crs/crs-1").await.body.len(), 4_571_368);

    assert!(connect(&stack, SECOND[0]).await.is_err(), "nobody vouches for the certificate");
    let mut in_clear = stack.client().await;
    in_clear.write("GET", "/liveness", &[], b"").await.unwrap();
    assert!(in_clear.read("GET").await.is_err());
}

#[tokio::test]
async fn a_new_certificate_is_used_for_new_connections() {
    let directory = tempfile::tempdir().unwrap();
    let stack = start(&write(directory.path(), FIRST), Duration::from_secs(180)).await;
    let mut old = connect(&stack, FIRST[0]).await.unwrap();
    write(directory.path(), SECOND);
    while connect(&stack, SECOND[0]).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(connect(&stack, FIRST[0]).await.is_err());
    assert_eq!(old.get("/liveness").await.status, 200, "who is connected stays so");
    let loaded = "cipherloom_gateway_certificates_loaded_total 2\n";
    assert!(String::from_utf8(old.get("/metrics").await.body).unwrap().contains(loaded));

    // Files that do not belong together change nothing.
    std::fs::write(directory.path().join("key.pem"), FIRST[1]).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(connect(&stack, SECOND[0]).await.is_ok());
}

#[cfg(unix)]
#[tokio::test]
async fn a_hangup_has_the_certificate_read_at_once() {
    // Until somebody listens, the signal would end this process.
    let _heard = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let files = TlsConfig {
        check_interval: Duration::from_secs(3600),
        ..write(directory.path(), FIRST)
    };
    let stack = start(&files, Duration::from_secs(180)).await;
    let mut old = connect(&stack, FIRST[0]).await.unwrap();
    // There is a look at the start and then none for an hour: at least one of two changes is seen because of the signal alone.
    for (new, former) in [(SECOND, FIRST), (FIRST, SECOND)] {
        write(directory.path(), new);
        while connect(&stack, new[0]).await.is_err() {
            let process = std::process::id().to_string();
            assert!(
                std::process::Command::new("kill")
                    .args(["-HUP", &process])
                    .status()
                    .unwrap()
                    .success()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(connect(&stack, former[0]).await.is_err());
    }
    assert_eq!(old.get("/liveness").await.status, 200, "who is connected stays so");
}

#[tokio::test]
async fn a_handshake_that_stalls_holds_nobody_up_and_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let stack = start(&write(directory.path(), FIRST), Duration::from_millis(500)).await;
    let mut silent = stack.client().await;
    let mut client = connect(&stack, FIRST[0]).await.unwrap();
    assert_eq!(client.get("/liveness").await.status, 200);
    assert!(!silent.closed().await);
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_told_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let stack = Stack::start().await;
    let unusable = [
        [FIRST[0], SECOND[1]],
        [FIRST[0], "no key"],
        ["no certificate", FIRST[1]],
        [FIRST[1], FIRST[1]],
    ];
    for files in unusable {
        let mut config = cipherloom_gateway::Config::new(1);
        config.tls = Some(write(directory.path(), files));
        let error = Gateway::start(config, stack.services()).await.err().unwrap();
        assert!(matches!(error, GatewayError::Tls { .. }), "{error}");
        assert!(!error.to_string().contains("PRIVATE"), "{error}");
    }
    let mut config = cipherloom_gateway::Config::new(1);
    config.tls = Some(TlsConfig::new("/nonexistent/certificate.pem", "/nonexistent/key.pem"));
    let error = Gateway::start(config, stack.services()).await.err().unwrap();
    assert!(error.to_string().contains("/nonexistent/certificate.pem"), "{error}");
}

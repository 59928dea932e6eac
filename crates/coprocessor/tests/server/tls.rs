//! Encrypted connections, with a certificate for `localhost` whose key is public: it is for these tests alone.

use cipherloom_coprocessor::server::{CoprocessorServer, ServerConfig, TlsIdentity};
use cipherloom_rpc::fhevm::coprocessor::{GetCiphertextBatch, fhevm_coprocessor_client::FhevmCoprocessorClient};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::fixture::{Bench, Kind, clear_keys, with_key};

const CERTIFICATE: &str = include_str!("insecure-localhost.pem");
const KEY: &str = include_str!("insecure-localhost.key");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_trusts_the_certificate_is_served_and_others_are_not() {
    let bench = Bench::with(Kind::Sqlite, clear_keys(), |config| {
        config.tls = Some(TlsIdentity::from_pem(CERTIFICATE, KEY));
    })
    .await;
    let port = bench.handle.address().port();
    let trusting = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(CERTIFICATE));
    let endpoint = Endpoint::from_shared(format!("https://localhost:{port}")).unwrap();
    let channel = endpoint.clone().tls_config(trusting).unwrap().connect().await.unwrap();
    let request = || with_key(&bench.key, GetCiphertextBatch::default());
    assert!(FhevmCoprocessorClient::new(channel).get_ciphertexts(request()).await.is_ok());

    let wary = endpoint.tls_config(ClientTlsConfig::new()).unwrap();
    assert!(wary.connect().await.is_err(), "nobody vouches for the certificate");
    assert!(
        bench.client().get_ciphertexts(request()).await.is_err(),
        "the server does not speak in clear"
    );
}

#[tokio::test]
async fn a_key_that_cannot_be_read_is_told_at_the_start() {
    let bench = Bench::new(Kind::Sqlite).await;
    let mut config = ServerConfig::new("127.0.0.1:0".parse().unwrap());
    config.tls = Some(TlsIdentity::from_pem(CERTIFICATE, "no key"));
    let started = CoprocessorServer::start(config, bench.tenancy.clone()).await;
    assert!(started.is_err());
}

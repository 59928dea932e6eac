//! A peer that does as it likes: the protocol written a second time, from its description, without the limits that honest nodes keep.

use std::{net::SocketAddr, sync::Arc};

use alloy::{
    primitives::{Address, B256, U256},
    signers::{SignerSync, local::PrivateKeySigner},
    sol,
    sol_types::{Eip712Domain, SolStruct},
};
use rustls::{
    ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::nodes::{CHAIN_ID, genesis};

sol! {
    struct Hello {
        bytes32 exporter;
        string role;
        bytes endpoint;
    }
}

pub(crate) const HELLO_BYTES: usize = 2 + 8 + 32 + 20 + 19 + 65;

/// What a peer says about itself.
pub(crate) struct Claim<'a> {
    pub(crate) key: &'a PrivateKeySigner,
    pub(crate) id: Address,
    pub(crate) chain_id: u64,
    pub(crate) genesis: B256,
    pub(crate) role: &'a str,
}

impl<'a> Claim<'a> {
    /// The truth about the holder of a key who connects.
    pub(crate) fn of(key: &'a PrivateKeySigner) -> Self {
        Self {
            key,
            id: key.address(),
            chain_id: CHAIN_ID,
            genesis: genesis(),
            role: "dialer",
        }
    }

    pub(crate) fn hello(&self, exporter: B256) -> Vec<u8> {
        let endpoint = [0; 19];
        let domain = Eip712Domain::new(
            Some("Cipherloom network".into()),
            Some("1".into()),
            Some(U256::from(self.chain_id)),
            None,
            Some(self.genesis),
        );
        let signed = Hello {
            exporter,
            role: self.role.to_owned(),
            endpoint: endpoint.to_vec().into(),
        };
        let signature = self.key.sign_hash_sync(&signed.eip712_signing_hash(&domain)).unwrap();
        let mut hello = 1_u16.to_be_bytes().to_vec();
        hello.extend(self.chain_id.to_be_bytes());
        hello.extend(self.genesis);
        hello.extend(self.id);
        hello.extend(endpoint);
        hello.extend(signature.as_bytes());
        hello
    }
}

/// A connection to a node, at most secured.
pub(crate) struct RawPeer {
    pub(crate) stream: TlsStream<TcpStream>,
}

impl RawPeer {
    /// Only TLS.
    pub(crate) async fn secure(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("anything.invalid").unwrap();
        let (certificate, key) = certificate();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_client_auth_cert(vec![certificate], key)
            .unwrap();
        config.resumption = rustls::client::Resumption::disabled();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        Self { stream: stream.into() }
    }

    /// Takes a connection as a node would.
    pub(crate) async fn accept(stream: TcpStream) -> Self {
        let (certificate, key) = certificate();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(Arc::new(Anybody))
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap();
        Self { stream: stream.into() }
    }

    /// A connection on which messages can be sent, by whoever holds a key.
    pub(crate) async fn connect(address: SocketAddr, key: &PrivateKeySigner) -> Self {
        let mut peer = Self::secure(address).await;
        let hello = Claim::of(key).hello(peer.exporter());
        peer.write(&hello).await;
        let mut answer = [0; HELLO_BYTES];
        peer.stream.read_exact(&mut answer).await.unwrap();
        peer.write(&[0]).await;
        assert_eq!(peer.stream.read_u8().await.unwrap(), 0, "the node does not want the connection");
        peer
    }

    pub(crate) fn exporter(&self) -> B256 {
        let mut material = B256::ZERO;
        let (output, label) = (material.as_mut_slice(), b"EXPORTER-cipherloom-network-v1");
        match &self.stream {
            TlsStream::Client(stream) => stream.get_ref().1.export_keying_material(output, label, None).map(|_| ()),
            TlsStream::Server(stream) => stream.get_ref().1.export_keying_material(output, label, None).map(|_| ()),
        }
        .unwrap();
        material
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Sends a frame's header, as it is told.
    pub(crate) async fn header(&mut self, lane: u8, flags: u8, length: u16, remaining: u32) {
        let mut header = vec![lane, flags];
        header.extend(length.to_be_bytes());
        header.extend(remaining.to_be_bytes());
        self.write(&header).await;
    }

    /// Sends a short message, as gossip.
    pub(crate) async fn gossip(&mut self, lane: u8, message: &[u8]) {
        self.header(
            lane,
            3,
            u16::try_from(message.len()).unwrap(),
            u32::try_from(message.len()).unwrap(),
        )
        .await;
        self.write(message).await;
    }

    /// Reads until the node closes the connection.
    pub(crate) async fn closed(&mut self) {
        let mut buffer = vec![0; 64 << 10];
        while matches!(self.stream.read(&mut buffer).await, Ok(1..)) {}
    }
}

fn certificate() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["peer.invalid".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    (made.cert.der().clone(), key)
}

#[derive(Debug)]
struct Anybody;

fn schemes() -> Vec<SignatureScheme> {
    ring::default_provider().signature_verification_algorithms.supported_schemes()
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

impl ClientCertVerifier for Anybody {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

//! Who is on the other end of a connection.
//!
//! TLS 1.3 keeps a connection secret; its certificates are made anew whenever a node starts and say nothing. Then both sides send a *hello*: chain, genesis and
//! where the node listens, signed with the node key over the connection's exported keying material. Somebody in the middle has two connections with different
//! material, so a hello that is passed on does not verify; the role in what is signed keeps a hello from being sent back to its author.
//!
//! ```text
//! hello = version u16 | chain id u64 | genesis hash 32 | node 20 | endpoint 19 | signature 65          all integers big-endian
//! endpoint = 0 | zeros 18          nobody can connect to this node
//!          | 1 | zeros 16 | port u16          the address is the one that the peer sees
//!          | 2 | IPv6 or mapped IPv4 address 16 | port u16
//! signature: EIP-712 struct Hello(bytes32 exporter,string role,bytes endpoint)
//!            under domain (name "Cipherloom network", version "1", chain id, salt = genesis hash); role is "dialer" or "listener"
//! ```

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use alloy::{
    primitives::{B256, Signature, U256},
    signers::{SignerSync, local::PrivateKeySigner},
    sol,
    sol_types::{Eip712Domain, SolStruct},
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{
    ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    version::TLS13,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::{NetworkConfig, PeerError, peer::Direction};
use crate::network::PeerId;

sol! {
    /// What a node signs on every connection.
    #[derive(Debug)]
    struct Hello {
        bytes32 exporter;
        string role;
        bytes endpoint;
    }
}

/// The label under which keying material is exported.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-cipherloom-network-v1";

/// The name in the TLS handshake. Nobody looks at it.
const SERVER_NAME: &str = "peer.invalid";

/// What this version of the protocol is called.
const VERSION: u16 = 1;

const ENDPOINT_BYTES: usize = 19;
const HELLO_BYTES: usize = 2 + 8 + 32 + 20 + ENDPOINT_BYTES + 65;

/// What a peer says about itself, proven.
#[derive(Clone, Debug)]
pub(super) struct Introduced {
    /// Who it is.
    pub(super) id: PeerId,
    /// Where it says that others can connect to it.
    pub(super) endpoint: Endpoint,
}

/// Where a node can be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// Nowhere.
    None,
    /// At the address that its peers see, on this port.
    Seen(u16),
    /// Here.
    At(SocketAddr),
}

/// This node's side of every connection.
pub(super) struct Identity {
    key: PrivateKeySigner,
    chain_id: u64,
    genesis_hash: B256,
    endpoint: Endpoint,
    client: TlsConnector,
    server: TlsAcceptor,
}

impl Identity {
    /// Makes a TLS key with a certificate; `listening` is where the node really listens.
    pub(super) fn new(config: &NetworkConfig, listening: Option<SocketAddr>) -> Result<Self, PeerError> {
        let failed = |error: rustls::Error| PeerError::Tls(error.to_string());
        let (certificate, key) = throw_away_certificate()?;
        let provider = Arc::new(ring::default_provider());
        let peers = Arc::new(AnyCertificate {
            provider: Arc::clone(&provider),
        });
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(failed)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&peers) as _)
            .with_client_auth_cert(vec![certificate.clone()], key.clone_key())
            .map_err(failed)?;
        client.resumption = rustls::client::Resumption::disabled();
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(failed)?
            .with_client_cert_verifier(peers)
            .with_single_cert(vec![certificate], key)
            .map_err(failed)?;
        server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let endpoint = match (config.advertise, listening) {
            (Some(address), _) => Endpoint::At(address),
            (None, Some(address)) => Endpoint::Seen(address.port()),
            (None, None) => Endpoint::None,
        };
        Ok(Self {
            key: config.key.clone(),
            chain_id: config.chain_id,
            genesis_hash: config.genesis_hash,
            endpoint,
            client: TlsConnector::from(Arc::new(client)),
            server: TlsAcceptor::from(Arc::new(server)),
        })
    }

    /// Who this node is.
    pub(super) const fn id(&self) -> PeerId {
        self.key.address()
    }

    /// Secures a connection and finds out who is on the other end. The caller limits the time.
    pub(super) async fn introduce<S>(&self, stream: S, direction: Direction) -> Result<(TlsStream<S>, Introduced), PeerError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let lost = |error: std::io::Error| PeerError::Connection(error.to_string());
        let mut stream = match direction {
            Direction::Outbound => {
                let name = ServerName::try_from(SERVER_NAME).map_err(|error| PeerError::Tls(error.to_string()))?;
                TlsStream::from(self.client.connect(name, stream).await.map_err(lost)?)
            }
            Direction::Inbound => TlsStream::from(self.server.accept(stream).await.map_err(lost)?),
        };
        let exporter = exported(&stream)?;
        let hello = self.hello(exporter, direction)?;
        stream.write_all(&hello).await.map_err(lost)?;
        stream.flush().await.map_err(lost)?;
        let mut hello = [0; HELLO_BYTES];
        stream.read_exact(&mut hello).await.map_err(lost)?;
        let introduced = self.check(&hello, exporter, direction)?;
        Ok((stream, introduced))
    }

    fn hello(&self, exporter: B256, direction: Direction) -> Result<Vec<u8>, PeerError> {
        let endpoint = encode_endpoint(self.endpoint);
        let digest = self.digest(exporter, role(direction), &endpoint);
        let signature = self
            .key
            .sign_hash_sync(&digest)
            .map_err(|error| PeerError::Unproven(format!("this node cannot sign: {error}")))?;
        let mut hello = Vec::with_capacity(HELLO_BYTES);
        hello.extend_from_slice(&VERSION.to_be_bytes());
        hello.extend_from_slice(&self.chain_id.to_be_bytes());
        hello.extend_from_slice(self.genesis_hash.as_slice());
        hello.extend_from_slice(self.id().as_slice());
        hello.extend_from_slice(&endpoint);
        hello.extend_from_slice(&signature.as_bytes());
        Ok(hello)
    }

    /// Checks the peer's hello; `direction` is how this node sees the connection.
    fn check(&self, hello: &[u8; HELLO_BYTES], exporter: B256, direction: Direction) -> Result<Introduced, PeerError> {
        let short = || PeerError::Protocol("the hello is too short".to_owned());
        let (version, rest) = hello.split_first_chunk::<2>().ok_or_else(short)?;
        let (chain_id, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let (genesis_hash, rest) = rest.split_first_chunk::<32>().ok_or_else(short)?;
        let (id, rest) = rest.split_first_chunk::<20>().ok_or_else(short)?;
        let (endpoint, signature) = rest.split_first_chunk::<ENDPOINT_BYTES>().ok_or_else(short)?;
        let differs = |what, found: String, expected: String| Err(PeerError::WrongPeer { what, found, expected });
        let version = u16::from_be_bytes(*version);
        if version != VERSION {
            return differs("version of the protocol", version.to_string(), VERSION.to_string());
        }
        let chain_id = u64::from_be_bytes(*chain_id);
        if chain_id != self.chain_id {
            return differs("chain", chain_id.to_string(), self.chain_id.to_string());
        }
        if self.genesis_hash != *genesis_hash {
            return differs("genesis", B256::from(*genesis_hash).to_string(), self.genesis_hash.to_string());
        }
        let id = PeerId::from(*id);
        let theirs = match direction {
            Direction::Inbound => Direction::Outbound,
            Direction::Outbound => Direction::Inbound,
        };
        let digest = self.digest(exporter, role(theirs), endpoint);
        let signer = Signature::from_raw(signature)
            .and_then(|signature| signature.recover_address_from_prehash(&digest))
            .map_err(|error| PeerError::Unproven(error.to_string()))?;
        // Any signature recovers to some address: only the one that the peer claims says that it was made for this connection.
        if signer != id {
            return Err(PeerError::Unproven(format!(
                "it claims to be {id}, and did not sign for this connection"
            )));
        }
        Ok(Introduced {
            id,
            endpoint: decode_endpoint(endpoint)?,
        })
    }

    fn digest(&self, exporter: B256, role: &str, endpoint: &[u8]) -> B256 {
        let domain = Eip712Domain::new(
            Some("Cipherloom network".into()),
            Some("1".into()),
            Some(U256::from(self.chain_id)),
            None,
            Some(self.genesis_hash),
        );
        let hello = Hello {
            exporter,
            role: role.to_owned(),
            endpoint: endpoint.to_vec().into(),
        };
        hello.eip712_signing_hash(&domain)
    }
}

/// What a side of a connection is called in what it signs.
const fn role(direction: Direction) -> &'static str {
    match direction {
        Direction::Outbound => "dialer",
        Direction::Inbound => "listener",
    }
}

fn exported<S>(stream: &TlsStream<S>) -> Result<B256, PeerError> {
    let mut material = B256::ZERO;
    let output = material.as_mut_slice();
    let exported = match stream {
        TlsStream::Client(stream) => stream.get_ref().1.export_keying_material(output, EXPORTER_LABEL, None),
        TlsStream::Server(stream) => stream.get_ref().1.export_keying_material(output, EXPORTER_LABEL, None),
    };
    exported.map(|_| ()).map_err(|error| PeerError::Tls(error.to_string()))?;
    Ok(material)
}

fn encode_endpoint(endpoint: Endpoint) -> [u8; ENDPOINT_BYTES] {
    let (kind, ip, port) = match endpoint {
        Endpoint::None => (0, Ipv6Addr::UNSPECIFIED, 0),
        Endpoint::Seen(port) => (1, Ipv6Addr::UNSPECIFIED, port),
        Endpoint::At(address) => (2, mapped(address.ip()), address.port()),
    };
    let mut bytes = [0; ENDPOINT_BYTES];
    if let Some((first, rest)) = bytes.split_first_mut()
        && let Some((octets, number)) = rest.split_first_chunk_mut::<16>()
    {
        *first = kind;
        *octets = ip.octets();
        number.copy_from_slice(&port.to_be_bytes());
    }
    bytes
}

fn decode_endpoint(bytes: &[u8; ENDPOINT_BYTES]) -> Result<Endpoint, PeerError> {
    let wrong = || PeerError::Protocol("it does not say where it listens".to_owned());
    let (kind, rest) = bytes.split_first().ok_or_else(wrong)?;
    let (octets, port) = rest.split_first_chunk::<16>().ok_or_else(wrong)?;
    let port = u16::from_be_bytes(port.try_into().map_err(|_| wrong())?);
    match (kind, port) {
        (0, _) => Ok(Endpoint::None),
        (1, 1..) => Ok(Endpoint::Seen(port)),
        (2, 1..) => Ok(Endpoint::At(SocketAddr::new(Ipv6Addr::from(*octets).to_canonical(), port))),
        _ => Err(wrong()),
    }
}

/// Returns an address as IPv6, IPv4 addresses mapped into it.
pub(super) const fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

fn throw_away_certificate() -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), PeerError> {
    let failed = |error: rcgen::Error| PeerError::Tls(format!("the certificate: {error}"));
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = CertificateParams::new(Vec::<String>::new()).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    let certificate = params.self_signed(&key).map_err(failed)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| PeerError::Tls(format!("the key: {error}")))?;
    Ok((certificate.der().clone(), key))
}

/// Takes every certificate, as long as the peer holds its key: who it is comes with its hello.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl AnyCertificate {
    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn only_tls13() -> rustls::Error {
    rustls::Error::General("only TLS 1.3 is spoken".into())
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

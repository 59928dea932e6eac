//! Connections between attested endpoints.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use alloy_primitives::B256;
use rustls::{
    ClientConfig, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
    version::TLS13,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::{Clock, Expected, Peer, certificate::Identity, handshake::PeerVerifier};
use crate::{AttestError, Attestor, Evidence, MAX_EVIDENCE_BYTES, Occasion, Statement, Verifier};

/// The label under which keying material is exported.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-cipherloom-attestation-v1";

/// How long handshake and evidence may take; a quote takes about a second.
const SETUP_TIMEOUT: Duration = Duration::from_secs(60);

/// The name in the handshake. Nobody looks at it.
const SERVER_NAME: &str = "attested.invalid";

/// One end of attested connections.
pub struct Endpoint {
    statement: Statement,
    attestor: Arc<dyn Attestor>,
    public_key: Vec<u8>,
    peers: Arc<PeerVerifier>,
    client: TlsConnector,
    server: TlsAcceptor,
}

impl Endpoint {
    /// Makes a TLS key, has the hardware vouch for it, and prepares both directions.
    ///
    /// # Errors
    /// If the hardware gives no evidence, or TLS cannot be set up.
    pub async fn new(
        statement: Statement,
        attestor: Arc<dyn Attestor>,
        verifier: Verifier,
        expected: Expected,
        clock: Clock,
    ) -> Result<Self, AttestError> {
        let failed = |error: rustls::Error| AttestError::Channel(error.to_string());
        let identity = Identity::new(&statement, &*attestor).await?;
        let provider = Arc::new(ring::default_provider());
        let peers = Arc::new(PeerVerifier {
            verifier,
            expected,
            clock,
            provider: Arc::clone(&provider),
        });
        let Identity {
            certificate,
            key,
            public_key,
        } = identity;
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(failed)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&peers) as _)
            .with_client_auth_cert(vec![certificate.clone()], key.clone_key())
            .map_err(failed)?;
        // A resumed session would skip the certificate and with it the evidence.
        client.resumption = rustls::client::Resumption::disabled();
        client.alpn_protocols = vec![b"h2".to_vec()];
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(failed)?
            .with_client_cert_verifier(Arc::clone(&peers) as _)
            .with_single_cert(vec![certificate], key)
            .map_err(failed)?;
        server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            statement,
            attestor,
            public_key,
            peers,
            client: TlsConnector::from(Arc::new(client)),
            server: TlsAcceptor::from(Arc::new(server)),
        })
    }

    /// Returns what this endpoint states.
    #[must_use]
    pub const fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Opens a channel over a connection that this side made.
    ///
    /// # Errors
    /// If the peer's evidence is not believed, ours is not, or the connection fails or takes too long.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin + Send>(&self, stream: S) -> Result<Channel<S>, AttestError> {
        let name = ServerName::try_from(SERVER_NAME).map_err(|error| AttestError::Channel(error.to_string()))?;
        let setup = async {
            let stream = self.client.connect(name, stream).await.map_err(|error| refused(&error))?;
            let (_, connection) = stream.get_ref();
            let exported = exported(|output| connection.export_keying_material(output, EXPORTER_LABEL, None).map(|_| ()))?;
            let certificate = first(connection.peer_certificates())?;
            self.exchange(TlsStream::from(stream), certificate, exported).await
        };
        within(setup).await
    }

    /// Opens a channel over a connection that the peer made.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin + Send>(&self, stream: S) -> Result<Channel<S>, AttestError> {
        let setup = async {
            let stream = self.server.accept(stream).await.map_err(|error| refused(&error))?;
            let (_, connection) = stream.get_ref();
            let exported = exported(|output| connection.export_keying_material(output, EXPORTER_LABEL, None).map(|_| ()))?;
            let certificate = first(connection.peer_certificates())?;
            self.exchange(TlsStream::from(stream), certificate, exported).await
        };
        within(setup).await
    }

    /// Sends fresh evidence for this connection and verifies the peer's.
    async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &self,
        mut stream: TlsStream<S>,
        certificate: CertificateDer<'static>,
        exported: B256,
    ) -> Result<Channel<S>, AttestError> {
        // Both ends export the same material; statement and TLS key in what is signed keep one's evidence from serving as the other's.
        let occasion = Occasion::Connection(exported);
        let evidence = self
            .attestor
            .evidence(self.statement.report_data(&self.public_key, &occasion))
            .await?;
        let message = evidence.to_json()?;
        let length = u32::try_from(message.len()).map_err(|_| AttestError::Malformed("the evidence is too long".into()))?;
        let lost = |error: io::Error| AttestError::Channel(format!("the peer left while evidence was exchanged: {error}"));
        stream.write_u32(length).await.map_err(lost)?;
        stream.write_all(&message).await.map_err(lost)?;
        stream.flush().await.map_err(lost)?;
        let length = stream.read_u32().await.map_err(lost)? as usize;
        if length > MAX_EVIDENCE_BYTES {
            return Err(AttestError::Malformed(format!("the peer announces evidence of {length} bytes")));
        }
        let mut message = vec![0; length];
        stream.read_exact(&mut message).await.map_err(lost)?;
        let (peer, public_key) = self.peers.peer(&certificate)?;
        let fresh = Evidence::from_json(&message)?;
        let claims = self
            .peers
            .verifier
            .verify(&fresh, &peer.statement, &public_key, &occasion, (self.peers.clock)())?;
        Ok(Channel {
            stream,
            peer: Peer { claims, ..peer },
        })
    }
}

/// A connection to an attested peer.
#[derive(Debug)]
pub struct Channel<S> {
    stream: TlsStream<S>,
    peer: Peer,
}

impl<S> Channel<S> {
    /// Returns who is on the other end, with the claims of the fresh evidence.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Channel<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Channel<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

async fn within<T>(setup: impl Future<Output = Result<T, AttestError>>) -> Result<T, AttestError> {
    tokio::time::timeout(SETUP_TIMEOUT, setup).await.unwrap_or_else(|_| {
        Err(AttestError::Channel(format!(
            "it was not set up within {} s",
            SETUP_TIMEOUT.as_secs()
        )))
    })
}

/// Words a failed handshake; the reason of our own refusal stands in the chain of causes.
fn refused(error: &io::Error) -> AttestError {
    AttestError::Channel(format!("TLS: {error}"))
}

fn exported(export: impl FnOnce(&mut [u8]) -> Result<(), rustls::Error>) -> Result<B256, AttestError> {
    let mut material = B256::ZERO;
    export(material.as_mut_slice()).map_err(|error| AttestError::Channel(error.to_string()))?;
    Ok(material)
}

fn first(certificates: Option<&[CertificateDer<'_>]>) -> Result<CertificateDer<'static>, AttestError> {
    certificates
        .and_then(<[_]>::first)
        .map(|certificate| certificate.clone().into_owned())
        .ok_or_else(|| AttestError::Channel("the peer showed no certificate".into()))
}

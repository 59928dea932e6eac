//! HTTPS, with certificates that can be replaced while the gateway runs.
//!
//! A handshake is part of its connection, not of accepting it: whoever stalls in the middle of one holds the slot of a connection, and
//! nobody else up. The rules for connections ([`crate::connection`]) hold from its first byte.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll, ready},
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{Accept, TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::{config::TlsConfig, error::GatewayError, metrics::Metrics};

/// The longest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The certificate for new connections.
pub(crate) struct Certificates {
    files: TlsConfig,
    current: RwLock<Loaded>,
    metrics: Arc<Metrics>,
}

#[derive(Clone)]
struct Loaded {
    config: Arc<ServerConfig>,
    /// Of both files, to see that they changed without keeping the key.
    digest: [u8; 32],
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// [`GatewayError::Tls`] if one cannot be read, or they do not belong together.
    pub(crate) fn load(files: TlsConfig, metrics: Arc<Metrics>) -> Result<Arc<Self>, GatewayError> {
        let loaded = load(&files)?;
        metrics.certificate_loaded();
        Ok(Arc::new(Self {
            files,
            current: RwLock::new(loaded),
            metrics,
        }))
    }

    /// Begins a handshake on a new connection.
    pub(crate) fn accept(&self, stream: TcpStream) -> Transport {
        let config = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).config);
        Transport::Handshake(Box::new(TlsAcceptor::from(config).accept(stream)))
    }

    /// Looks at the files now and then and at SIGHUP, until `stop`. Files that cannot be used are logged, and the former certificate stays.
    pub(crate) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut look = tokio::time::interval(self.files.check_interval);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut hangup = Hangup::listen();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = look.tick() => {}
                () = hangup.wait() => {}
            }
            let this = Arc::clone(&self);
            // Reading files blocks.
            if let Err(error) = tokio::task::spawn_blocking(move || this.reload()).await {
                tracing::error!(%error, "looking at the certificate ended with a panic");
            }
        }
    }

    fn reload(&self) {
        match load(&self.files) {
            Ok(loaded) => {
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                if current.digest != loaded.digest {
                    *current = loaded;
                    self.metrics.certificate_loaded();
                    tracing::info!(certificate = %self.files.certificate.display(), "new certificate in use");
                }
            }
            // A file may be half written; the next look finds it whole.
            Err(error) => tracing::error!(%error, "the certificate in use stays"),
        }
    }
}

fn load(files: &TlsConfig) -> Result<Loaded, GatewayError> {
    let (certificate, key) = (read(&files.certificate)?, read(&files.key)?);
    let chain = CertificateDer::pem_slice_iter(&certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| failed(&files.certificate, &error))?;
    if chain.is_empty() {
        return Err(failed(&files.certificate, &"it holds no certificate in PEM"));
    }
    // What the parser says could quote the key.
    let private = PrivateKeyDer::from_pem_slice(&key).map_err(|_| failed(&files.key, &"it holds no private key in PEM"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&files.certificate, &error))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| failed(&files.certificate, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let digest = Sha256::new_with_prefix(Sha256::digest(&certificate)).chain_update(&key).finalize();
    Ok(Loaded {
        config: Arc::new(config),
        digest: digest.into(),
    })
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, GatewayError> {
    let length = std::fs::metadata(path).map_err(|error| failed(path, &error))?.len();
    if length > MAX_FILE_BYTES {
        return Err(failed(path, &format!("it has {length} bytes, which no certificate or key has")));
    }
    std::fs::read(path).map(Zeroizing::new).map_err(|error| failed(path, &error))
}

fn failed(path: &Path, reason: &dyn std::fmt::Display) -> GatewayError {
    GatewayError::Tls {
        path: path.to_path_buf(),
        reason: reason.to_string(),
    }
}

/// The signal by which operators have files read again.
struct Hangup(#[cfg(unix)] Option<tokio::signal::unix::Signal>);

impl Hangup {
    #[cfg(unix)]
    fn listen() -> Self {
        let signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
        Self(signal.inspect_err(|error| tracing::warn!(%error, "SIGHUP is not listened to")).ok())
    }

    #[cfg(not(unix))]
    fn listen() -> Self {
        Self()
    }

    #[cfg(unix)]
    async fn wait(&mut self) {
        let received = match &mut self.0 {
            Some(signal) => signal.recv().await,
            None => None,
        };
        if received.is_none() {
            std::future::pending().await
        }
    }

    #[cfg(not(unix))]
    async fn wait(&mut self) {
        std::future::pending().await
    }
}

/// A connection's bytes, encrypted or not.
pub(crate) enum Transport {
    Plain(TcpStream),
    Handshake(Box<Accept<TcpStream>>),
    Encrypted(Box<TlsStream<TcpStream>>),
    /// The handshake failed.
    Closed,
}

impl Transport {
    /// Ready when bytes can be read and written.
    fn poll_established(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) | Self::Encrypted(_) => Poll::Ready(Ok(())),
            Self::Handshake(accept) => match ready!(Pin::new(accept.as_mut()).poll(cx)) {
                Ok(stream) => {
                    *self = Self::Encrypted(Box::new(stream));
                    Poll::Ready(Ok(()))
                }
                Err(error) => {
                    tracing::debug!(%error, "a TLS handshake failed");
                    *self = Self::Closed;
                    Poll::Ready(Err(error))
                }
            },
            Self::Closed => Poll::Ready(Err(closed())),
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the TLS handshake failed")
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_established(cx))?;
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Encrypted(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
            Self::Handshake(_) | Self::Closed => Poll::Ready(Err(closed())),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_established(cx))?;
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, data),
            Self::Encrypted(stream) => Pin::new(stream.as_mut()).poll_write(cx, data),
            Self::Handshake(_) | Self::Closed => Poll::Ready(Err(closed())),
        }
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_established(cx))?;
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, data),
            Self::Encrypted(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, data),
            Self::Handshake(_) | Self::Closed => Poll::Ready(Err(closed())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        // Both kinds of connections can; a handshake becomes one.
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Encrypted(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            // Nothing was written.
            Self::Handshake(_) | Self::Closed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Encrypted(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            // The socket closes when it is dropped.
            Self::Handshake(_) | Self::Closed => Poll::Ready(Ok(())),
        }
    }
}

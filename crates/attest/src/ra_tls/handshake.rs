//! Verification of the peer's certificate inside the TLS handshake, in both directions.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use super::{Clock, Expected, Peer, certificate};
use crate::{AttestError, Occasion, Role, Statement, Verifier};

/// Decides about certificates; shared by both directions.
pub(super) struct PeerVerifier {
    pub(super) verifier: Verifier,
    pub(super) expected: Expected,
    pub(super) clock: Clock,
    pub(super) provider: Arc<CryptoProvider>,
}

impl fmt::Debug for PeerVerifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PeerVerifier")
            .field("expected", &self.expected)
            .finish_non_exhaustive()
    }
}

impl PeerVerifier {
    /// Verifies a certificate and says who is behind it.
    pub(super) fn peer(&self, certificate: &CertificateDer<'_>) -> Result<(Peer, Vec<u8>), AttestError> {
        let (public_key, presented) = certificate::read(certificate)?;
        check_statement(&presented.statement, &self.expected)?;
        let claims = self.verifier.verify(
            &presented.evidence,
            &presented.statement,
            &public_key,
            &Occasion::Certificate,
            (self.clock)(),
        )?;
        let peer = Peer {
            statement: presented.statement,
            claims,
        };
        Ok((peer, public_key))
    }

    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        self.peer(certificate).map(|_| ()).map_err(|error| {
            tracing::warn!(%error, "refused the certificate of a peer");
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
        })
    }

    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Checks that a peer is whom the endpoint wants to talk to; its evidence has to show that it may say so.
pub(super) fn check_statement(statement: &Statement, expected: &Expected) -> Result<(), AttestError> {
    let differs = |what, found: String, expected: String| Err(AttestError::WrongPeer { what, found, expected });
    if statement.chain_id != expected.chain_id {
        return differs("chain", statement.chain_id.to_string(), expected.chain_id.to_string());
    }
    if statement.context != expected.context {
        return differs("committee", statement.context.to_string(), expected.context.to_string());
    }
    if !expected.roles.contains(&statement.role) {
        let roles: Vec<&str> = expected.roles.iter().map(|role| role.as_str()).collect();
        return differs("role", statement.role.as_str().to_owned(), roles.join(" or "));
    }
    if let Some(party) = expected.party
        && statement.party != party
    {
        return differs("party", statement.party.to_string(), party.to_string());
    }
    if statement.role == Role::KmsNode && !expected.members.contains(&(statement.party, statement.signer)) {
        return differs(
            "party and signer",
            format!("{} with {}", statement.party, statement.signer),
            "a member of the committee".into(),
        );
    }
    Ok(())
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

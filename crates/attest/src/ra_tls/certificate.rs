//! Self-signed certificates that carry a statement and its evidence.

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use x509_cert::{
    Certificate,
    der::{Decode, Encode, oid::ObjectIdentifier},
};

use crate::{AttestError, Attestor, Evidence, MAX_EVIDENCE_BYTES, Occasion, Statement};

/// The extension's object identifier: under the arc for UUIDs (ITU-T X.667), so that nobody has to assign it.
const EXTENSION: &str = "2.25.286071427";
const EXTENSION_ARCS: [u64; 3] = [2, 25, 286_071_427];

/// The longest certificate that is read.
const MAX_CERTIFICATE_BYTES: usize = MAX_EVIDENCE_BYTES + (8 << 10);

/// What the extension holds, as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Presented {
    pub(super) statement: Statement,
    pub(super) evidence: Evidence,
}

/// A TLS key, its certificate, and what stands in it.
pub(super) struct Identity {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
    /// The public key as `SubjectPublicKeyInfo`.
    pub(super) public_key: Vec<u8>,
}

impl Identity {
    /// Makes a new key and has the hardware vouch for it.
    pub(super) async fn new(statement: &Statement, attestor: &dyn Attestor) -> Result<Self, AttestError> {
        let failed = |error: rcgen::Error| AttestError::Channel(format!("the TLS certificate: {error}"));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let public_key = key.subject_public_key_info();
        let evidence = attestor
            .evidence(statement.report_data(&public_key, &Occasion::Certificate))
            .await?;
        evidence.check_size()?;
        let presented = Presented {
            statement: statement.clone(),
            evidence,
        };
        let content = serde_json::to_vec(&presented).map_err(|error| AttestError::Malformed(error.to_string()))?;
        if content.len() > MAX_EVIDENCE_BYTES {
            return Err(AttestError::Malformed(format!("the evidence has {} bytes", content.len())));
        }
        let mut params = CertificateParams::new(Vec::<String>::new()).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        params.custom_extensions = vec![CustomExtension::from_oid_content(&EXTENSION_ARCS, content)];
        let certificate = params.self_signed(&key).map_err(failed)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| AttestError::Channel(format!("the TLS key: {error}")))?;
        Ok(Self {
            certificate: certificate.der().clone(),
            key,
            public_key,
        })
    }
}

/// Reads a peer's certificate: its public key, and what stands in its extension. Nothing is verified.
pub(super) fn read(certificate: &CertificateDer<'_>) -> Result<(Vec<u8>, Presented), AttestError> {
    let malformed = |problem: String| AttestError::Malformed(format!("certificate: {problem}"));
    if certificate.len() > MAX_CERTIFICATE_BYTES {
        return Err(malformed(format!("it has {} bytes", certificate.len())));
    }
    let parsed = Certificate::from_der(certificate).map_err(|error| malformed(error.to_string()))?;
    let tbs = parsed.tbs_certificate();
    let public_key = tbs
        .subject_public_key_info()
        .to_der()
        .map_err(|error| malformed(error.to_string()))?;
    let wanted = ObjectIdentifier::new_unwrap(EXTENSION);
    let mut found = tbs
        .extensions()
        .into_iter()
        .flatten()
        .filter(|extension| extension.extn_id == wanted);
    let (Some(extension), None) = (found.next(), found.next()) else {
        return Err(malformed(
            "it does not carry evidence exactly once: the peer is not an attested process".into(),
        ));
    };
    let content = extension.extn_value.as_bytes();
    if content.len() > MAX_EVIDENCE_BYTES {
        return Err(malformed(format!("the evidence has {} bytes", content.len())));
    }
    let presented = serde_json::from_slice(content).map_err(|error| malformed(error.to_string()))?;
    Ok((public_key, presented))
}

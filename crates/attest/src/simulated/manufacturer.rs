//! Keys that everybody knows, and what a manufacturer signs with them.

use dcap_qvl::QuoteCollateralV3;
use p256::ecdsa::{DerSignature, Signature, SigningKey, signature::Signer};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer,
    KeyIdMethod, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{AttestError, Collateral};

/// The family of the simulated platforms.
const FMSPC: [u8; 6] = *b"SIMULA";

/// When the simulated statements were made and until when they hold.
const ISSUED: &str = "2024-01-01T00:00:00Z";
const EXPIRES: &str = "2199-12-31T00:00:00Z";

/// The number of the simulated evaluation of platforms.
pub(crate) const EVALUATION: u32 = 17;

/// A key derived from its name.
pub(super) struct PublicKnowledge {
    key: SigningKey,
    point: Vec<u8>,
}

impl PublicKnowledge {
    pub(super) fn new(name: &str) -> Result<Self, AttestError> {
        let digest = Sha256::digest(format!("insecure simulated manufacturer: {name}"));
        let key = SigningKey::from_slice(&digest).map_err(|error| AttestError::Quote(error.to_string()))?;
        let point = key.verifying_key().to_encoded_point(false).as_bytes().to_vec();
        Ok(Self { key, point })
    }

    /// Signs as quotes and statements want it: `r ‖ s`.
    pub(super) fn sign_raw(&self, message: &[u8]) -> [u8; 64] {
        let signature: Signature = self.key.sign(message);
        signature.to_bytes().into()
    }

    /// Returns the public key as quotes hold it: `x ‖ y`.
    pub(super) fn coordinates(&self) -> Vec<u8> {
        self.point.iter().copied().skip(1).collect()
    }
}

impl PublicKeyData for PublicKnowledge {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for PublicKnowledge {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature: DerSignature = self.key.sign(message);
        Ok(signature.as_bytes().to_vec())
    }
}

/// A manufacturer that keeps nothing secret. Everything it makes is the same each time.
pub struct Manufacturer {
    root_der: Vec<u8>,
    platform_chain: String,
    statement_chain: String,
    root_crl: Vec<u8>,
    platform_crl: Vec<u8>,
    statement_key: PublicKnowledge,
    pub(super) platform_key: PublicKnowledge,
    pub(super) quoting_key: PublicKnowledge,
}

impl Manufacturer {
    /// Sets it up.
    ///
    /// # Errors
    /// If a certificate cannot be made.
    pub fn new() -> Result<Self, AttestError> {
        Self::make().map_err(|error| AttestError::Quote(format!("simulated certificates: {error}")))
    }

    fn make() -> Result<Self, failure::Failure> {
        let root_key = PublicKnowledge::new("root")?;
        let authority_key = PublicKnowledge::new("platform authority")?;
        let platform_key = PublicKnowledge::new("platform")?;
        let statement_key = PublicKnowledge::new("statements")?;

        let root_params = authority("Insecure Simulated Root");
        let root = root_params.self_signed(&root_key)?;
        let root_issuer = Issuer::from_params(&root_params, &root_key);
        let authority_params = authority("Insecure Simulated Platform CA");
        let platform_authority = authority_params.signed_by(&authority_key, &root_issuer)?;
        let authority_issuer = Issuer::from_params(&authority_params, &authority_key);
        let mut platform_params = leaf("Insecure Simulated Platform");
        platform_params.custom_extensions = vec![CustomExtension::from_oid_content(
            &[1, 2, 840, 113_741, 1, 13, 1],
            platform_extension(),
        )];
        let platform = platform_params.signed_by(&platform_key, &authority_issuer)?;
        let statements = leaf("Insecure Simulated Statements").signed_by(&statement_key, &root_issuer)?;
        Ok(Self {
            root_crl: revocations().signed_by(&root_issuer)?.der().to_vec(),
            platform_crl: revocations().signed_by(&authority_issuer)?.der().to_vec(),
            platform_chain: [platform.pem(), platform_authority.pem(), root.pem()].concat(),
            statement_chain: [statements.pem(), root.pem()].concat(),
            root_der: root.der().to_vec(),
            statement_key,
            platform_key,
            quoting_key: PublicKnowledge::new("quoting enclave")?,
        })
    }

    /// Returns the root certificate in DER.
    #[must_use]
    pub fn root(&self) -> &[u8] {
        &self.root_der
    }

    /// Returns the certificates of the platform, as they stand in its quotes.
    pub(super) fn platform_chain(&self) -> &str {
        &self.platform_chain
    }

    /// Returns statements that say that the platform is up to date.
    ///
    /// # Errors
    /// Never for these statements.
    pub fn collateral(&self) -> Result<Collateral, AttestError> {
        self.collateral_with("UpToDate", &[], ISSUED, EXPIRES)
    }

    /// Returns statements that say something else of the platform.
    ///
    /// # Errors
    /// [`AttestError::Malformed`] if the times or words are not in their form.
    pub fn collateral_with(&self, status: &str, advisories: &[&str], issued: &str, expires: &str) -> Result<Collateral, AttestError> {
        let zeros = "00".repeat(48);
        let components = vec![json!({ "svn": 0 }); 16];
        let tcb_info = json!({
            "id": "TDX", "version": 3, "issueDate": issued, "nextUpdate": expires, "fmspc": hex::encode_upper(FMSPC), "pceId": "0000", "tcbType": 0,
            "tcbEvaluationDataNumber": EVALUATION,
            "tdxModule": { "mrsigner": zeros, "attributes": "0000000000000000", "attributesMask": "FFFFFFFFFFFFFFFF" },
            "tcbLevels": [{
                "tcb": { "sgxtcbcomponents": components, "pcesvn": 0, "tdxtcbcomponents": components },
                "tcbDate": ISSUED, "tcbStatus": status, "advisoryIDs": advisories,
            }],
        })
        .to_string();
        let qe_identity = json!({
            "id": "TD_QE", "version": 2, "issueDate": issued, "nextUpdate": expires, "tcbEvaluationDataNumber": EVALUATION,
            "miscselect": "00000000", "miscselectMask": "FFFFFFFF",
            "attributes": "11000000000000000000000000000000", "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
            "mrsigner": hex::encode_upper(super::quote::QUOTING_ENCLAVE_SIGNER), "isvprodid": 2,
            "tcbLevels": [{ "tcb": { "isvsvn": 4 }, "tcbDate": ISSUED, "tcbStatus": "UpToDate" }],
        })
        .to_string();
        Collateral::new(QuoteCollateralV3 {
            pck_crl_issuer_chain: self.platform_chain.clone(),
            root_ca_crl: self.root_crl.clone(),
            pck_crl: self.platform_crl.clone(),
            tcb_info_issuer_chain: self.statement_chain.clone(),
            tcb_info_signature: self.statement_key.sign_raw(tcb_info.as_bytes()).to_vec(),
            tcb_info,
            qe_identity_issuer_chain: self.statement_chain.clone(),
            qe_identity_signature: self.statement_key.sign_raw(qe_identity.as_bytes()).to_vec(),
            qe_identity,
            pck_certificate_chain: None,
        })
    }
}

/// The two ways in which making certificates fails, as one.
mod failure {
    #[derive(Debug, thiserror::Error)]
    pub(super) enum Failure {
        #[error(transparent)]
        Certificate(#[from] rcgen::Error),
        #[error(transparent)]
        Key(#[from] crate::AttestError),
    }
}

fn params(name: &str) -> CertificateParams {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name;
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2199, 12, 31);
    params.use_authority_key_identifier_extension = true;
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

fn revocations() -> CertificateRevocationListParams {
    CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(2199, 12, 31),
        crl_number: SerialNumber::from(1u64),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    }
}

/// The platform's properties, in the extension that Intel defines: a sequence of pairs of identifier and value.
fn platform_extension() -> Vec<u8> {
    // 1.2.840.113741.1.13.1 in the encoding of object identifiers; its members add one or two arcs.
    const BASE: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01];
    let pair = |arcs: &[u8], value: Vec<u8>| {
        let identifier = tlv(0x06, &[&BASE[..], arcs].concat());
        tlv(0x30, &[identifier, value].concat())
    };
    let octets = |bytes: &[u8]| tlv(0x04, bytes);
    let integer = |value: u8| tlv(0x02, &[value]);
    let components = (1..=16).map(|index| pair(&[2, index], integer(0)));
    let tcb = components
        .chain([pair(&[2, 17], integer(0)), pair(&[2, 18], octets(&[0; 16]))])
        .collect::<Vec<_>>()
        .concat();
    let members = [
        pair(&[1], octets(&[0x51; 16])),
        pair(&[2], tlv(0x30, &tcb)),
        pair(&[3], octets(&[0; 2])),
        pair(&[4], octets(&FMSPC)),
        pair(&[5], tlv(0x0a, &[0])),
    ];
    tlv(0x30, &members.concat())
}

/// A tag, a length and a value in DER, for values of up to 65,535 bytes.
fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    let [high, low] = length.to_be_bytes();
    let mut encoded = match (high, low) {
        (0, 0..=0x7f) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    encoded.extend_from_slice(value);
    encoded
}

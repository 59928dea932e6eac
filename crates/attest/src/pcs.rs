//! Where collateral comes from: Intel's Provisioning Certification Service (PCS), or a cache of it (PCCS). What to ask for, and what the answers make.
//!
//! Nothing is fetched here, and nothing that was fetched is believed: collateral is verified when a quote is, so it may come over any network.
//!
//! Source: Intel's API of the service, version 4. Of the TCB statements and the quoting enclave's identity, the text inside the answer is what is signed,
//! byte for byte; the certificates of who signed stand in a header, percent-encoded.

use alloy_primitives::hex;
use dcap_qvl::{QuoteCollateralV3, quote::Quote};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{AttestError, Collateral, collateral::family, evidence::MAX_QUOTE_BYTES};

/// Intel's own service.
pub const INTEL_SERVICE: &str = "https://api.trustedservices.intel.com";

/// Where Intel publishes which intermediate authorities are revoked. Caches serve it themselves.
pub const INTEL_ROOT_REVOCATIONS: &str = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der";

/// The longest answer that is read, in bytes.
pub const MAX_ANSWER_BYTES: usize = 256 << 10;

/// One of the things that collateral is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Which platforms' certificates are revoked.
    PlatformRevocations,
    /// Which authorities' certificates are revoked.
    RootRevocations,
    /// Which updates the family of platforms has had.
    TcbInfo,
    /// Which quoting enclaves are genuine.
    QuotingEnclave,
}

impl Piece {
    /// All that is needed.
    pub const ALL: [Self; 4] = [
        Self::PlatformRevocations,
        Self::RootRevocations,
        Self::TcbInfo,
        Self::QuotingEnclave,
    ];

    /// Returns the names of the headers in which the certificates of the signer may stand, the usual first; none if they are not needed.
    #[must_use]
    pub const fn issuer_headers(self) -> &'static [&'static str] {
        match self {
            Self::PlatformRevocations => &["sgx-pck-crl-issuer-chain"],
            Self::RootRevocations => &[],
            Self::TcbInfo => &["tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain"],
            Self::QuotingEnclave => &["sgx-enclave-identity-issuer-chain"],
        }
    }
}

/// A family of platforms, as a quote names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformFamily {
    fmspc: [u8; 6],
    authority: &'static str,
}

impl PlatformFamily {
    /// Reads which family a quote's platform is of. The quote is not verified.
    ///
    /// # Errors
    /// [`AttestError::Malformed`] if it is too long or no quote with certificates inside.
    pub fn of_quote(quote: &[u8]) -> Result<Self, AttestError> {
        if quote.len() > MAX_QUOTE_BYTES {
            return Err(AttestError::Malformed(format!("the quote has {} bytes", quote.len())));
        }
        let malformed = |problem: String| AttestError::Malformed(format!("quote: {problem}"));
        let quote = Quote::parse(quote).map_err(|error| malformed(format!("{error:#}")))?;
        let authority = dcap_qvl::intel::quote_ca(&quote).map_err(|error| malformed(format!("{error:#}")))?;
        Ok(Self {
            fmspc: family(&quote)?,
            authority: authority.as_id_str(),
        })
    }

    /// Returns the family as the manufacturer writes it.
    #[must_use]
    pub fn name(&self) -> String {
        hex::encode_upper(self.fmspc)
    }

    /// Returns where a piece is, at a service with this URL.
    #[must_use]
    pub fn url(&self, service: &str, piece: Piece) -> String {
        let service = service.trim_end_matches('/');
        match piece {
            Piece::PlatformRevocations => format!("{service}/sgx/certification/v4/pckcrl?ca={}&encoding=der", self.authority),
            Piece::RootRevocations if service == INTEL_SERVICE => INTEL_ROOT_REVOCATIONS.to_owned(),
            Piece::RootRevocations => format!("{service}/sgx/certification/v4/rootcacrl"),
            Piece::TcbInfo => format!("{service}/tdx/certification/v4/tcb?fmspc={}", self.name()),
            Piece::QuotingEnclave => format!("{service}/tdx/certification/v4/qe/identity"),
        }
    }

    /// Puts the answers together, one for each of [`Piece::ALL`] in that order.
    ///
    /// # Errors
    /// [`AttestError::Malformed`] if an answer is too long or not in its form, lacks its signer's certificates, or is about another family.
    pub fn assemble(&self, answers: [Answer; 4]) -> Result<Collateral, AttestError> {
        for answer in &answers {
            if answer.body.len() > MAX_ANSWER_BYTES {
                return Err(malformed(&format!("an answer has {} bytes", answer.body.len())));
            }
        }
        let [platform, root, tcb, enclave] = answers;
        let tcb_info_issuer_chain = tcb.issuer()?;
        let qe_identity_issuer_chain = enclave.issuer()?;
        let tcb: TcbAnswer<'_> = serde_json::from_slice(&tcb.body).map_err(|error| malformed(&format!("the TCB statement: {error}")))?;
        let enclave: EnclaveAnswer<'_> =
            serde_json::from_slice(&enclave.body).map_err(|error| malformed(&format!("the quoting enclave's identity: {error}")))?;
        let signature = |text: &str| hex::decode(text).map_err(|_| malformed("a signature is not hexadecimal"));
        let collateral = Collateral::new(QuoteCollateralV3 {
            pck_crl_issuer_chain: platform.issuer()?,
            pck_crl: der(platform.body)?,
            root_ca_crl: der(root.body)?,
            tcb_info_issuer_chain,
            tcb_info: tcb.tcb_info.get().to_owned(),
            tcb_info_signature: signature(tcb.signature)?,
            qe_identity_issuer_chain,
            qe_identity: enclave.enclave_identity.get().to_owned(),
            qe_identity_signature: signature(enclave.signature)?,
            pck_certificate_chain: None,
        })?;
        if collateral.fmspc() != self.fmspc {
            return Err(malformed(&format!(
                "the service was asked about {} and answered about {}",
                self.name(),
                hex::encode_upper(collateral.fmspc())
            )));
        }
        Ok(collateral)
    }
}

/// What the service answered about one piece.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The body.
    pub body: Vec<u8>,
    /// The header with the signer's certificates, as it came; see [`Piece::issuer_headers`].
    pub issuer: Option<String>,
}

impl Answer {
    fn issuer(&self) -> Result<String, AttestError> {
        let header = self
            .issuer
            .as_deref()
            .ok_or_else(|| malformed("an answer lacks the certificates of its signer"))?;
        if header.len() > MAX_ANSWER_BYTES {
            return Err(malformed("the certificates of a signer are too long"));
        }
        unescape(header).ok_or_else(|| malformed("the certificates of a signer are not in their form"))
    }
}

#[derive(Deserialize)]
struct TcbAnswer<'a> {
    #[serde(rename = "tcbInfo", borrow)]
    tcb_info: &'a RawValue,
    signature: &'a str,
}

#[derive(Deserialize)]
struct EnclaveAnswer<'a> {
    #[serde(rename = "enclaveIdentity", borrow)]
    enclave_identity: &'a RawValue,
    signature: &'a str,
}

/// Takes a revocation list as it came: in DER, or, from caches, in hexadecimal digits of it.
fn der(body: Vec<u8>) -> Result<Vec<u8>, AttestError> {
    /// The tag that every list begins with.
    const SEQUENCE: u8 = 0x30;

    // '0' is the same byte: digits are those that are all digits.
    let digits = body.trim_ascii();
    if digits.iter().all(u8::is_ascii_hexdigit) {
        return hex::decode(digits).map_err(|_| malformed("a revocation list is not hexadecimal"));
    }
    if body.first() == Some(&SEQUENCE) {
        Ok(body)
    } else {
        Err(malformed("a revocation list is not in its form"))
    }
}

/// Decodes percent-encoding.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                let [value] = hex::decode_to_array(digits).ok()?;
                value
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

fn malformed(problem: &str) -> AttestError {
    AttestError::Malformed(format!("collateral: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_decoded_strictly() {
        assert_eq!(unescape("-----BEGIN%20X%0A").unwrap(), "-----BEGIN X\n");
        for broken in ["%", "%2", "%zz", "%ff"] {
            assert!(unescape(broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn revocation_lists_come_in_two_forms() {
        assert_eq!(der(vec![0x30, 0x03, 0xff]).unwrap(), [0x30, 0x03, 0xff]);
        assert_eq!(der(b"3003ff\n".to_vec()).unwrap(), [0x30, 0x03, 0xff]);
        assert!(der(b"<html>".to_vec()).is_err());
        assert!(der(b"300".to_vec()).is_err());
    }
}

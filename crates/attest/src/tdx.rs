//! Verification of a TDX quote: the manufacturer's chain, the platform's state, the measurements.
//!
//! Source: Intel's TDX DCAP quoting, through the crate `dcap-qvl`, which does the certificates, revocation lists, signatures and TCB levels.

use alloy_primitives::{FixedBytes, hex};
use dcap_qvl::{
    QuoteClaims, QuotePolicy, TcbStatus as VendorStatus,
    quote::{AuthData, Quote, Report, TDAttributes, TDReport10},
    verify::QuoteVerifier,
};
use pem::{EncodeConfig, LineEnding};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    AttestError,
    collateral::CollateralStore,
    policy::{Policy, TcbPolicy, TcbStatus},
};

/// SHA-256 of the certificate of Intel's root for SGX and TDX.
const INTEL_ROOT_DIGEST: [u8; 32] = hex!("44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3");

/// What the hardware measured of a trust domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TdxMeasurements {
    /// The firmware.
    pub mr_td: FixedBytes<48>,
    /// The virtual hardware.
    pub rtmr0: FixedBytes<48>,
    /// The kernel.
    pub rtmr1: FixedBytes<48>,
    /// The command line and root file system.
    pub rtmr2: FixedBytes<48>,
    /// The application.
    pub rtmr3: FixedBytes<48>,
}

impl TdxMeasurements {
    fn of(report: &TDReport10) -> Self {
        Self {
            mr_td: FixedBytes(report.mr_td),
            rtmr0: FixedBytes(report.rt_mr0),
            rtmr1: FixedBytes(report.rt_mr1),
            rtmr2: FixedBytes(report.rt_mr2),
            rtmr3: FixedBytes(report.rt_mr3),
        }
    }
}

/// What a quote says that the manufacturer's keys vouch for, on a platform that the policy accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformReport {
    /// What the hardware measured.
    pub measurements: TdxMeasurements,
    /// What the trust domain had signed.
    pub report_data: [u8; 64],
    /// The platform's state in the manufacturer's words.
    pub tcb_status: String,
    /// The advisories that apply to the platform.
    pub advisories: Vec<String>,
    /// When the manufacturer's statements expire, in seconds since 1970.
    pub collateral_expires: u64,
}

/// Verifies a quote under a root certificate, at a time in seconds since 1970.
///
/// The debug bit is looked at first and by ourselves, so that it has its own error.
pub(crate) fn verify_quote(
    bytes: &[u8],
    root: Option<&[u8]>,
    collateral: &CollateralStore,
    policy: &Policy,
    now: u64,
) -> Result<PlatformReport, AttestError> {
    let quote = Quote::parse(bytes).map_err(|error| AttestError::Malformed(format!("quote: {error:#}")))?;
    let report = trust_domain(&quote.report)?;
    let attributes = TDAttributes::parse(report.td_attributes).map_err(|error| AttestError::Malformed(format!("quote: {error}")))?;
    if attributes.tud != 0 {
        return Err(AttestError::Debug);
    }
    check_framing(bytes, &quote)?;
    check_certificates(&quote, root)?;
    let collateral = collateral.for_quote(&quote)?;
    let verifier = root.map_or_else(QuoteVerifier::new_prod, |root| QuoteVerifier::new(root.to_vec()));
    // Signatures first; the platform's state afterwards, so that the two fail with different errors.
    let claims = verifier
        .verify_with_policy(bytes, collateral.statements(), now, &QuotePolicy::claims_only(now))
        .map_err(|error| AttestError::Quote(format!("{error:#}")))?;
    check_platform(&claims, policy, now)?;
    // The claims carry the report that was verified; the one parsed above was only for its errors.
    let report = trust_domain(&claims.report)?;
    Ok(PlatformReport {
        measurements: TdxMeasurements::of(report),
        report_data: report.report_data,
        tcb_status: claims.tcb.status.to_string(),
        advisories: claims.tcb.advisory_ids.clone(),
        collateral_expires: claims.earliest_expiration_date,
    })
}

/// Checks that nothing in the quote's framing could be otherwise: what follows the signed part is not signed itself, and readers forgive much there.
///
/// Quotes come in buffers that end in zeros; those are the only bytes that may follow.
fn check_framing(bytes: &[u8], quote: &Quote) -> Result<(), AttestError> {
    /// The length of what follows, two 64-byte values (signature and key), a type and another length.
    const BEFORE_CERTIFICATION: usize = 4 + 64 + 64 + 2 + 4;
    const CERTIFICATION_OF_QUOTING_ENCLAVE: u16 = 6;

    let refuse = || AttestError::Malformed("quote: its lengths do not fit together".into());
    let AuthData::V4(signature) = &quote.auth_data else {
        return Err(refuse());
    };
    let certification = &signature.qe_report_data;
    let inner = 384 + 64 + 2 + certification.qe_auth_data.data.len() + 2 + 4 + certification.certification_data.body.data.len();
    let inner_length = u32::try_from(inner).map_err(|_| refuse())?;
    let outer_length = u32::try_from(inner + BEFORE_CERTIFICATION - 4).map_err(|_| refuse())?;
    let rest = bytes.get(quote.signed_length()..).ok_or_else(refuse)?;
    let expected = [
        (0, outer_length.to_le_bytes().to_vec()),
        (BEFORE_CERTIFICATION - 6, CERTIFICATION_OF_QUOTING_ENCLAVE.to_le_bytes().to_vec()),
        (BEFORE_CERTIFICATION - 4, inner_length.to_le_bytes().to_vec()),
    ];
    let is_framed = expected
        .iter()
        .all(|(start, field)| rest.get(*start..start + field.len()) == Some(field));
    let padding = rest.get(BEFORE_CERTIFICATION + inner..).ok_or_else(refuse)?;
    if is_framed && padding.iter().all(|byte| *byte == 0) {
        Ok(())
    } else {
        Err(refuse())
    }
}

/// Checks that the platform's certificates stand in the quote as text that could not be otherwise, and end with the root.
///
/// Verification takes the root from the verifier, and readers of such text skip what they do not know; without this check parts of a quote could be
/// changed without anybody noticing.
fn check_certificates(quote: &Quote, root: Option<&[u8]>) -> Result<(), AttestError> {
    let refuse = |problem: &str| AttestError::Malformed(format!("quote: its certificates {problem}"));
    let chain = quote
        .raw_cert_chain()
        .map_err(|error| AttestError::Malformed(format!("quote: {error:#}")))?;
    // Quoting libraries end the text as C does, or not at all.
    let text = chain.strip_suffix(&[0]).unwrap_or(chain);
    let certificates = pem::parse_many(text).map_err(|_| refuse("are not in their form"))?;
    let canonical = pem::encode_many_config(&certificates, EncodeConfig::new().set_line_ending(LineEnding::LF));
    // Encoders differ in the empty line between certificates, and nothing else.
    if canonical.replace("\n\n", "\n").as_bytes() != text || certificates.iter().any(|certificate| certificate.tag() != "CERTIFICATE") {
        return Err(refuse("are not in their form"));
    }
    let [_platform, _authority, last] = certificates.as_slice() else {
        return Err(refuse("are not those of a platform, its authority and the root"));
    };
    let is_root = root.map_or_else(
        || Sha256::digest(last.contents())[..] == INTEL_ROOT_DIGEST,
        |root| last.contents() == root,
    );
    if is_root {
        Ok(())
    } else {
        Err(AttestError::Quote(
            "its certificates do not end with the root that is trusted".into(),
        ))
    }
}

fn trust_domain(report: &Report) -> Result<&TDReport10, AttestError> {
    report
        .as_td10()
        .ok_or_else(|| AttestError::Malformed("the quote is of an SGX enclave, not of a TDX trust domain".into()))
}

fn check_platform(claims: &QuoteClaims, policy: &Policy, now: u64) -> Result<(), AttestError> {
    let TcbPolicy {
        statuses,
        refused_advisories,
        min_evaluation,
        allow_dynamic_platform,
        allow_cached_keys,
        allow_smt,
        grace_days: _,
    } = &policy.tcb;
    if !statuses.iter().any(|status| vendor(*status) == claims.tcb.status) {
        return Err(AttestError::Platform(format!(
            "its state is {} ({}), and the policy accepts {statuses:?}",
            claims.tcb.status,
            if claims.tcb.advisory_ids.is_empty() {
                "no advisories".into()
            } else {
                claims.tcb.advisory_ids.join(", ")
            },
        )));
    }
    let strict = QuotePolicy::strict(now)
        .reject_advisories(refused_advisories)
        .platform_grace_period(policy.grace())
        .qe_grace_period(policy.grace())
        .min_tcb_eval_data_number(*min_evaluation)
        .allow_dynamic_platform(*allow_dynamic_platform)
        .allow_cached_keys(*allow_cached_keys)
        .allow_smt(*allow_smt);
    let accepted = statuses.iter().fold(strict, |policy, status| policy.allow_status(vendor(*status)));
    dcap_qvl::Policy::validate(&accepted, claims).map_err(|error| AttestError::Platform(format!("{error:#}")))
}

const fn vendor(status: TcbStatus) -> VendorStatus {
    match status {
        TcbStatus::UpToDate => VendorStatus::UpToDate,
        TcbStatus::SwHardeningNeeded => VendorStatus::SWHardeningNeeded,
        TcbStatus::ConfigurationNeeded => VendorStatus::ConfigurationNeeded,
        TcbStatus::ConfigurationAndSwHardeningNeeded => VendorStatus::ConfigurationAndSWHardeningNeeded,
        TcbStatus::OutOfDate => VendorStatus::OutOfDate,
        TcbStatus::OutOfDateConfigurationNeeded => VendorStatus::OutOfDateConfigurationNeeded,
    }
}

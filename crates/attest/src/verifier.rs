//! From evidence to claims: every check, in order.

use std::sync::Arc;

use alloy_primitives::B256;
use serde::Serialize;

use crate::{
    AttestError, Evidence, Occasion, Statement, TeeKind,
    collateral::CollateralStore,
    event_log::{self, AppIdentity},
    policy::{DEVELOPMENT_CHAINS, Image, Policy},
    tdx::{self, PlatformReport, TdxMeasurements},
};

/// What evidence proves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// What made the evidence. Claims of [`TeeKind::InsecureSimulated`] are not worth anything.
    pub kind: TeeKind,
    /// What the hardware measured.
    pub measurements: TdxMeasurements,
    /// The application that runs.
    pub app: AppIdentity,
    /// The name of the policy's image that it is; `None` for simulated evidence.
    pub image: Option<String>,
    /// The platform's state in the manufacturer's words.
    pub tcb_status: String,
    /// The advisories that apply to the platform.
    pub advisories: Vec<String>,
    /// When the manufacturer's statements expire, in seconds since 1970: look again before.
    pub collateral_expires: u64,
    /// The digest of the policy that was applied.
    pub policy: B256,
}

/// Decides whether evidence is believed.
#[derive(Clone, Debug)]
pub struct Verifier {
    policy: Arc<Policy>,
    policy_digest: B256,
    collateral: Arc<CollateralStore>,
    /// The root that vouches for hardware, in DER; Intel's without.
    root: Option<Arc<[u8]>>,
}

impl Verifier {
    /// Makes a verifier.
    ///
    /// # Errors
    /// [`AttestError::InvalidPolicy`] if the policy cannot be applied; [`AttestError::EmptyPolicy`] if nothing could ever satisfy it.
    pub fn new(policy: Policy, collateral: Arc<CollateralStore>) -> Result<Self, AttestError> {
        policy.validate()?;
        if policy.images.is_empty() && !policy.allow_insecure_simulated {
            return Err(AttestError::EmptyPolicy);
        }
        Ok(Self {
            policy_digest: policy.digest()?,
            policy: Arc::new(policy),
            collateral,
            root: None,
        })
    }

    /// Believes another root than Intel's about hardware: whoever owns it makes any evidence. For tests of what follows the signatures.
    #[cfg(feature = "insecure-simulated")]
    #[must_use]
    pub fn with_insecure_root(self, root_der: &[u8]) -> Self {
        Self {
            root: Some(root_der.into()),
            ..self
        }
    }

    /// Returns the policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Verifies only the hardware's part of a quote: the manufacturer's signatures and the platform's state, not what runs on it or what it binds.
    ///
    /// # Errors
    /// [`AttestError`] saying which check failed.
    pub fn platform(&self, quote: &[u8], now: u64) -> Result<PlatformReport, AttestError> {
        tdx::verify_quote(quote, self.root.as_deref(), &self.collateral, &self.policy, now)
    }

    /// Verifies that the evidence is for this statement, TLS key and occasion, and that the policy accepts what it shows.
    ///
    /// `now` is in seconds since 1970.
    ///
    /// # Errors
    /// [`AttestError`] saying which check failed. The order is: form, kind, the manufacturer's signatures, the platform's state, what is bound, the
    /// software.
    pub fn verify(
        &self,
        evidence: &Evidence,
        statement: &Statement,
        tls_key: &[u8],
        occasion: &Occasion,
        now: u64,
    ) -> Result<Claims, AttestError> {
        evidence.check_size()?;
        let quote = match evidence.kind {
            TeeKind::DstackTdx => self.platform(&evidence.quote, now)?,
            TeeKind::InsecureSimulated => self.verify_simulated(evidence, statement, now)?,
        };
        let expected = statement.report_data(tls_key, occasion);
        if quote.report_data != expected {
            return Err(AttestError::Binding {
                expected: Box::new(expected),
                found: Box::new(quote.report_data),
            });
        }
        let (app, image) = match evidence.kind {
            TeeKind::DstackTdx => {
                // Before the log: most often it is the firmware or kernel that is another one.
                let image = self.image_of(&quote.measurements)?;
                let app = event_log::replay(&evidence.events, &quote.measurements.rtmr3)?;
                check_application(image, &app)?;
                (app, Some(image.name.clone()))
            }
            TeeKind::InsecureSimulated => (event_log::replay(&evidence.events, &quote.measurements.rtmr3)?, None),
        };
        Ok(Claims {
            kind: evidence.kind,
            measurements: quote.measurements,
            app,
            image,
            tcb_status: quote.tcb_status,
            advisories: quote.advisories,
            collateral_expires: quote.collateral_expires,
            policy: self.policy_digest,
        })
    }

    /// Simulated evidence needs three consents at once: the policy's, the build's and the chain's.
    fn verify_simulated(&self, evidence: &Evidence, statement: &Statement, now: u64) -> Result<PlatformReport, AttestError> {
        if !self.policy.allow_insecure_simulated {
            return Err(AttestError::Simulated("the policy does not allow it"));
        }
        if !DEVELOPMENT_CHAINS.contains(&statement.chain_id) {
            return Err(AttestError::Simulated("the chain is not one for development"));
        }
        #[cfg(feature = "insecure-simulated")]
        return crate::simulated::verify_quote(&evidence.quote, &self.policy, now);
        #[cfg(not(feature = "insecure-simulated"))]
        {
            let _ = (evidence, now);
            Err(AttestError::Simulated("this build cannot check it"))
        }
    }

    fn image_of(&self, measured: &TdxMeasurements) -> Result<&Image, AttestError> {
        let matches = |image: &&Image| {
            image.mr_td == measured.mr_td
                && image.rtmr0.contains(&measured.rtmr0)
                && image.rtmr1 == measured.rtmr1
                && image.rtmr2 == measured.rtmr2
        };
        if self.policy.images.is_empty() {
            return Err(AttestError::EmptyPolicy);
        }
        self.policy
            .images
            .iter()
            .find(matches)
            .ok_or_else(|| AttestError::UnknownImage(Box::new(measured.clone())))
    }
}

fn check_application(image: &Image, app: &AppIdentity) -> Result<(), AttestError> {
    let checks = [
        (
            "compose hash",
            &app.compose_hash,
            image.compose_hashes.iter().any(|hash| *hash.as_slice() == *app.compose_hash),
        ),
        (
            "application id",
            &app.app_id,
            image.app_ids.iter().any(|id| *id.as_slice() == *app.app_id),
        ),
        ("key provider", &app.key_provider, image.key_providers.contains(&app.key_provider)),
    ];
    match checks.into_iter().find(|(_, _, is_listed)| !is_listed) {
        Some((what, found, _)) => Err(AttestError::UnknownApplication {
            what,
            found: found.to_string(),
        }),
        None => Ok(()),
    }
}

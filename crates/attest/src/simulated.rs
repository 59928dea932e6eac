//! A manufacturer whose keys everybody knows, and machines that it "made". INSECURE: for development and tests.
//!
//! It signs what Intel would sign: a root certificate, an intermediate authority, a certificate for each platform, statements about platforms and
//! quoting enclaves, and quotes. So simulated evidence goes through exactly the verification that real evidence does, under another root. What it
//! proves is nothing, since anyone can make it; [`crate::Policy::allow_insecure_simulated`] says when that is accepted.

mod manufacturer;
mod quote;

use std::sync::Arc;

use alloy_primitives::FixedBytes;
use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

pub use self::{manufacturer::Manufacturer, quote::SimulatedDomain};
use crate::{
    AttestError, Attestor, Evidence, Policy, SealingKey, TeeKind,
    collateral::CollateralStore,
    event_log::{Event, register},
    tdx::{self, PlatformReport},
};

/// Verifies a quote of the simulated manufacturer, which always has fresh collateral.
pub(crate) fn verify_quote(quote: &[u8], policy: &Policy, now: u64) -> Result<PlatformReport, AttestError> {
    let manufacturer = Manufacturer::new()?;
    let collateral = CollateralStore::default();
    collateral.insert(manufacturer.collateral()?);
    tdx::verify_quote(quote, Some(manufacturer.root()), &collateral, policy, now)
}

/// Makes evidence without hardware. Its name stands in everything it makes.
#[derive(Clone)]
pub struct InsecureSimulatedAttestor {
    manufacturer: Arc<Manufacturer>,
    domain: SimulatedDomain,
    events: Vec<Event>,
}

impl InsecureSimulatedAttestor {
    /// Simulates a trust domain that runs the application with this name.
    ///
    /// # Errors
    /// If the certificates cannot be made.
    pub fn new(application: &str) -> Result<Self, AttestError> {
        let digest = Sha256::digest(application);
        let events = vec![
            Event::new("app-id", digest.iter().copied().take(20).collect::<Vec<u8>>()),
            Event::new("compose-hash", digest.to_vec()),
            Event::new("instance-id", digest.iter().rev().copied().take(20).collect::<Vec<u8>>()),
            Event::new("key-provider", b"insecure-simulated".to_vec()),
            Event::new("system-ready", Vec::new()),
        ];
        Ok(Self::with_events(
            Arc::new(Manufacturer::new()?),
            SimulatedDomain::default(),
            events,
        ))
    }

    /// Simulates a given trust domain; RTMR3 follows from the events.
    #[must_use]
    pub fn with_events(manufacturer: Arc<Manufacturer>, domain: SimulatedDomain, events: Vec<Event>) -> Self {
        Self {
            manufacturer,
            domain: SimulatedDomain {
                rtmr3: register(&events),
                ..domain
            },
            events,
        }
    }

    /// Makes evidence at once.
    ///
    /// # Errors
    /// If the quote cannot be signed.
    pub fn make(&self, report_data: [u8; 64]) -> Result<Evidence, AttestError> {
        Ok(Evidence {
            kind: TeeKind::InsecureSimulated,
            quote: self.domain.quote(&self.manufacturer, report_data)?.into(),
            events: self.events.clone(),
        })
    }
}

impl Attestor for InsecureSimulatedAttestor {
    fn kind(&self) -> TeeKind {
        TeeKind::InsecureSimulated
    }

    fn evidence(&self, report_data: [u8; 64]) -> BoxFuture<'_, Result<Evidence, AttestError>> {
        Box::pin(async move { self.make(report_data) })
    }

    /// Derives a key that everybody can derive.
    fn sealing_key<'a>(&'a self, purpose: &'a str) -> BoxFuture<'a, Result<SealingKey, AttestError>> {
        let mut hasher = Sha256::new();
        hasher.update(b"insecure simulated sealing key");
        hasher.update(FixedBytes::<48>::as_slice(&self.domain.rtmr3));
        hasher.update(purpose);
        let key = Zeroizing::new(hasher.finalize().into());
        Box::pin(async move { Ok(key) })
    }
}

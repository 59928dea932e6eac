//! Attestation: evidence that a key lives in trusted hardware that runs known software, and the decision whether to believe it.
//!
//! Hardware is the *second* factor of a committee: the first is the threshold, which this crate knows nothing about. A node that holds a share of the
//! secret key proves to everybody who talks to it, other nodes, gateways and auditors alike, that the share is inside a trust domain whose code they
//! agreed on before.
//!
//! # Roles
//! * The *prover* is a process in a trust domain. It owns an [`Attestor`], which makes [`Evidence`] over 64 bytes of its choice.
//! * The *verifier* has a [`Policy`] that lists what it accepts, *collateral* (the manufacturer's signed statements about platforms) and a clock.
//!   A [`Verifier`] turns evidence into [`Claims`] or an [`AttestError`].
//! * Both agree on a [`Statement`]: who speaks (role, party, signing address), for which chain and committee, over which TLS key, and for which
//!   occasion. Its digest is what the hardware signs, so evidence cannot be used for another key, committee or occasion.
//!
//! # Messages
//! 1. [`ra_tls`]: both ends of a TLS 1.3 connection show self-signed certificates with evidence over the certificate's key inside. Each verifies the
//!    other's during the handshake.
//! 2. After the handshake each end sends fresh evidence bound to the *keying material exported* from this very connection. A recorded certificate and
//!    a relayed handshake are worthless without it.
//!
//! # What is refused
//! Everything that is not listed. A policy without entries accepts nothing; so does an entry without compose hashes, application ids or key
//! providers. Debug trust domains, unknown platforms, expired collateral, advisories that the policy names, and TCB (trusted computing base) states
//! that it does not name are refused.
//!
//! # Restart
//! Nothing here is stored but files sealed with [`sealing`], whose key the hardware derives again after a restart of the same software.
//!
//! # Assumptions
//! The manufacturer's root key signs only genuine hardware; the measured firmware, kernel and guest agent record the application that runs and
//! refuse to sign for another; collateral is newer than what the policy's minimum evaluation number asks for. How dstack measures is in
//! [`event_log`]. Not reviewed yet by anybody but its authors.
//!
//! # Simulation
//! With the cargo feature `insecure-simulated` there is an attestor without hardware: a manufacturer whose keys everybody knows. Its evidence goes
//! through the same verification with that manufacturer's root, and is accepted only if the policy says so and the chain is one for development.

mod attestor;
mod collateral;
mod dstack;
mod error;
pub mod event_log;
mod evidence;
pub mod pcs;
mod policy;
pub mod ra_tls;
pub mod sealing;
#[cfg(feature = "insecure-simulated")]
pub mod simulated;
mod statement;
mod tdx;
mod verifier;

pub use attestor::{Attestor, SealingKey};
pub use collateral::{Collateral, CollateralStore, MAX_COLLATERAL_BYTES};
pub use dstack::DstackAttestor;
pub use error::AttestError;
pub use event_log::AppIdentity;
pub use evidence::{Evidence, MAX_EVIDENCE_BYTES, TeeKind};
pub use policy::{DEVELOPMENT_CHAINS, Image, MAX_POLICY_BYTES, POLICY_VERSION, Policy, TcbPolicy, TcbStatus};
pub use statement::{Occasion, Role, Statement};
pub use tdx::{PlatformReport, TdxMeasurements};
pub use verifier::{Claims, Verifier};

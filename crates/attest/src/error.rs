//! What can be wrong with evidence, policies and channels.

use alloy_primitives::{FixedBytes, hex};

use crate::TdxMeasurements;

/// Why evidence was not believed, or could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttestError {
    /// The policy lists nothing, so nothing can satisfy it.
    #[error("the measurement policy lists no images, so it accepts nothing; add the measurements of the release you trust")]
    EmptyPolicy,
    /// The policy cannot be used.
    #[error("the measurement policy cannot be used: {0}")]
    InvalidPolicy(String),
    /// The evidence is too long, or not in its form.
    #[error("the evidence is malformed: {0}")]
    Malformed(String),
    /// The manufacturer's signatures, certificates or statements do not hold for this quote at this time.
    #[error("the quote does not verify: {0}")]
    Quote(String),
    /// Nothing is known about the platform of the quote.
    #[error("there is no collateral for the platform {fmspc} (FMSPC); fetch it from the manufacturer or a cache of its statements")]
    NoCollateral {
        /// The platform's family, as the manufacturer names it.
        fmspc: String,
    },
    /// The quote is about another statement: another key, committee, party or occasion, or an old nonce.
    #[error("the evidence is for something else: it binds {}…, expected {}…", short(.found), short(.expected))]
    Binding {
        /// What the statement gives.
        expected: Box<[u8; 64]>,
        /// What the hardware signed.
        found: Box<[u8; 64]>,
    },
    /// The trust domain can be read by its host.
    #[error("the trust domain runs in debug mode: its host can read its memory")]
    Debug,
    /// The platform's security state is not one that the policy accepts.
    #[error("the platform is not acceptable: {0}")]
    Platform(String),
    /// The firmware, kernel or hardware configuration is not listed.
    #[error("no image of the policy has these measurements: MRTD {}, RTMR0 {}, RTMR1 {}, RTMR2 {}", .0.mr_td, .0.rtmr0, .0.rtmr1, .0.rtmr2)]
    UnknownImage(Box<TdxMeasurements>),
    /// The log of events is not the one that was measured.
    #[error("the event log does not give RTMR3: replayed {replayed}, the quote says {quoted}")]
    EventLog {
        /// What replaying gives.
        replayed: Box<FixedBytes<48>>,
        /// What the hardware signed.
        quoted: Box<FixedBytes<48>>,
    },
    /// The application that the log names is not listed.
    #[error("the policy does not list {what} {found}")]
    UnknownApplication {
        /// Which property of the application.
        what: &'static str,
        /// Its value.
        found: String,
    },
    /// The evidence is simulated, and that is not allowed here.
    #[error("the evidence is simulated, which proves nothing: {0}")]
    Simulated(&'static str),
    /// The statement is about another chain, committee or role than the verifier talks to.
    #[error("the peer speaks for {what} {found}, expected {expected}")]
    WrongPeer {
        /// Which part of the statement.
        what: &'static str,
        /// What it says.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// The guest agent did not answer, or not as it should.
    #[error("the guest agent at {socket} {problem}")]
    GuestAgent {
        /// Where it listens.
        socket: String,
        /// What happened.
        problem: String,
    },
    /// A channel could not be set up.
    #[error("the attested channel failed: {0}")]
    Channel(String),
    /// A sealed file cannot be opened.
    #[error("the sealed file cannot be opened: {0}")]
    Sealed(String),
    /// A sealed file is from an earlier epoch than what this node has seen.
    #[error("the sealed file is of epoch {found}, and epoch {newest} exists: old shares must not come back")]
    OldEpoch {
        /// The file's.
        found: u64,
        /// The newest one known.
        newest: u64,
    },
    /// The system's source of randomness failed.
    #[error("the system gives no randomness: {0}")]
    Randomness(String),
}

/// Writes the first bytes, which are enough to see that two differ.
fn short(bytes: &[u8; 64]) -> String {
    hex::encode(bytes.first_chunk::<8>().unwrap_or(&[0; 8]))
}

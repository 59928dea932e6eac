//! The KMS: who decides what is decrypted. Centralised, as the one process that holds the secret key ([`KmsNode`]), or as one party of a committee that holds a share of it ([`committee`]).
//!
//! Both judge requests by the same code; what follows is about the centralised node.
//!
//! # Roles and messages
//! A *requester* (through a gateway, which is not trusted) asks for a public or a user decryption. The KMS node asks the *host chain*
//! who may read what, asks a *coprocessor* for the ciphertexts, decrypts, and answers: a public decryption is signed
//! so that contracts can check it; a user decryption is encrypted to the user's key and signed (see [`cipherloom_signcryption`]).
//!
//! # Flow of a request
//! 1. Limits and shape: bits, contracts, window, handles of this chain. Nothing is read for a request that fails here.
//! 2. A block is chosen; everything on chain is read at this one, through endpoints of which a quorum must agree (see
//!    [`cipherloom_chain::WitnessedChain`]).
//! 3. The signature over the permit: of the account's key, or one that the account recognises if it is a contract (ERC-1271).
//! 4. On chain: the KMS context the request names exists and this node is in it; nobody whose rights are used has invalidated the permit; the
//!    access-control contract allows every handle, by its answers or by what is proven to stand in its storage.
//! 5. Each ciphertext carries attestations over handle, key set and bytes by enough registered coprocessors; or, on a native chain, it is proven to stand in
//!    the state that the validators signed ([`cipherloom_chain::LightClient`]).
//! 6. Decryption on a blocking thread, under a limit on how many run at once.
//! 7. The audit log has the decryption on disk.
//! 8. Only then the answer is signed and leaves.
//!
//! Every step refuses when it is in doubt: an unreachable chain, a missing attestation or a full disk means no answer.
//!
//! # Restart
//! State is the signing key file and the audit log. Requests in flight at a crash are lost and repeated by clients; repeating one is safe. A
//! log record that a crash cut short belongs to an answer that never left, and is removed at the next start.
//!
//! # Threats
//! `docs/kms-centralised.md` lists them with their controls. The gateway, the coprocessor's storage and the requester may be
//! malicious, and so may some of the RPC endpoints that the chain is read through; the operator of this process and its host are trusted. That is
//! what "centralised" means, and why this form is for development and single operators.

mod admission;
pub mod alarms;
pub mod audit;
pub mod budgets;
mod checks;
pub mod committee;
pub mod error;
mod host_chain;
pub mod legacy;
pub mod node;
pub mod ports;
mod provenance;
pub mod signing_key;
pub mod timings;

pub use alarms::{Alarm, Alarms, LogAlarms};
pub use audit::{AuditError, AuditLog};
pub use budgets::{BudgetExhausted, BudgetLimits, BudgetOf, Budgets, Rate, RateError};
pub use committee::{
    Bundle, CommitteeNode, CommitteeParts, Fault, HeldShares, OpenedKeys, PublicSignature, RefusedBundle, ShareRef, Squashing,
    SquashingCounts, SquashingKeys, SquashingLimits, TrustedKeys, UserShare, party_address, party_identity,
};
pub use error::{KmsError, MORE_SHARES_NEEDED};
pub use legacy::{LegacyError, LegacyKms, LegacyKmsParts, LegacySite};
pub use node::{KmsLimits, KmsNode, KmsParts};
pub use ports::{
    ChainViewError, CiphertextSource, Clock, CoprocessorSet, HostChainView, NoCiphertexts, PinnedBlock, PinnedView, Provenance,
    SignedCiphertext, SignedSquashed, SourceError, SquashError, SquashStored, SquashedLists, SquashedSource, StoredCiphertext, SystemClock,
};
pub use signing_key::NodeKey;
pub use timings::{Step, Timings};

//! A native chain, followed from its block 0 by what its validators signed, through nodes of which none is believed.
//!
//! # Roles and messages
//! *Nodes* (JSON-RPC, at least one) hand out headers with certificates (`cipherloom_getCertificate`), the blocks at which the set of validators changed
//! (`cipherloom_validatorChanges`) and storage proofs (`eth_getProof`). The *light client* starts with the chain's genesis ([`NativeGenesis`]) or with a set that
//! it trusted before ([`TrustedState`]), and takes a header only with signatures of more than two thirds of the voting power of the set that it knows.
//!
//! # Flow
//! 1. All nodes are asked for their newest certified header; the newest one that holds is taken ([`LightClient::pin`]).
//! 2. The extra data of a header are the digest of the set that signs the next block. If it is not the known one, or the known set did not sign, the changes since are
//!    fetched; each must be signed by the set before it.
//! 3. Storage is proven against the header's state root: rights in the access-control contract, and ciphertexts at the account `0x…5e`
//!    ([`PinnedNative::ciphertext`]).
//!
//! What has no proof (contexts of the KMS, wallets that are contracts) is answered by calls on which a quorum of the nodes must agree.
//!
//! # Restart
//! The newest trusted set is kept in a file. A client that starts from it never goes back behind it, so that validators who left the set since cannot
//! show it another history. Without the file it starts from the genesis.
//!
//! # Threats
//! `docs/native-kms.md` lists them with their controls. In short: nodes may lie, be behind and hide changes; at most a third of the voting power of a set
//! may be malicious while it is the newest one; two certified blocks at one height stop the client for good.

mod block_zero;
mod client;
mod genesis;
mod inputs;
mod pinned;
mod storage;
mod trusted;

pub use client::{LightClient, LightOptions};
pub use genesis::NativeGenesis;
pub use pinned::PinnedNative;
pub use trusted::{LightError, TrustedState};

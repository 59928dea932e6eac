//! One party of a committee as a running service.
//!
//! # Roles
//! The *party* holds a share of the secret key, sealed under its hardware's key. *Gateways* carry requests to it, a *dealer* gives it its share, both over
//! connections on which both ends prove what they run ([`cipherloom_service::attested`]). *Anybody* can check it at its public port ([`crate::public`]).
//! The *chain* says who belongs to the committee and which epochs of shares there are; a party believes nobody else about that.
//!
//! # States
//! ```text
//!   awaiting registration ──► awaiting ceremony ──► serving
//!          ▲     the chain lists the signer   │ a share is activated     │
//!          └──────────────────────────────────┴──────────────────────────┘ the chain says otherwise
//! ```
//! 1. A party starts with nothing: it makes its signing key, seals it and prints the address. Its attested port takes no connections, since there is no
//!    committee that it could speak for.
//! 2. Once the chain's KMS context lists the address, the port opens. The ceremony service can be called, decryptions are refused.
//! 3. Once a share was dealt, confirmed by all and activated, and the chain has its epoch, requests are answered.
//!
//! The chain is looked at again every [`PartyConfig::poll`]. Where its committee changes, the port gets another endpoint and old connections end; where
//! it destroys an epoch, the share of it is given up.
//!
//! # Restart
//! The signing key, shares and audit logs are in files; what was in progress is repeated by callers. A share is read again and compared with the epochs that
//! the chain knows: files of epochs that the chain has destroyed are refused.
//!
//! # Threats
//! A gateway can withhold and nothing else: what it sends is checked as a stranger's. Who cannot show evidence can begin a bounded number of handshakes.
//! Who copies the party's directory has ciphertexts. Who controls the host but not the trust domain can stop the party, and put back old files, which
//! the chain's epochs reveal. Who controls the chain's endpoints can make the party refuse; what they can make it answer is limited by their quorum and by
//! storage proofs, as for a centralised node. Who exchanges the keys that a party of native chains squashes with makes it refuse, too ([`crate::key_set`]).

mod attestation;
mod ceremony;
mod check;
pub mod messages;
mod metrics;
mod options;
mod process;
mod running;
mod server;
mod watching;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use cipherloom_ceremony::{Node, Record, RecoveryKey, Store};
use cipherloom_chain::{CommitteeOnChain, HostChain};
use cipherloom_fhe::ParameterSet;
use cipherloom_kms::{AuditLog, BudgetLimits, Budgets, CommitteeNode, HeldShares, HostChainView, KmsLimits, SquashedLists, Squashing};
use cipherloom_primitives::{Address, B256, eip712::SigningDomains};
use cipherloom_service::attested::{AttestedLimits, AttestedPort};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use self::metrics::PartyMetrics;
pub(crate) use self::process::{look, run};
pub use self::{
    attestation::Attestation,
    options::{HEADING, PartyOptions},
    running::RunningParty,
};
use crate::{
    key_set::RecordedKeys,
    public::documents::{NodeState, ShareStatus},
};

/// What a party is made of.
pub struct PartyConfig {
    /// Its signing key and its shares.
    pub store: Store,
    /// What it proves, and what it believes.
    pub attestation: Attestation,
    /// The chains it answers for. The first one is where its committee is registered, and where epochs count.
    pub chains: Vec<PartyChain>,
    /// What ciphertexts are encrypted under.
    pub parameters: ParameterSet,
    /// Where decryptions are written down, a file per chain.
    pub audit_dir: PathBuf,
    /// Where gateways and dealers call. Port 0 picks a free one.
    pub attested_addr: SocketAddr,
    /// Where anybody may check the party.
    pub public_addr: SocketAddr,
    /// Where metrics and health are.
    pub metrics_addr: SocketAddr,
    /// How much it does at once.
    pub limits: KmsLimits,
    /// How much it decrypts at most.
    pub budgets: BudgetLimits,
    /// How many connections it has.
    pub connections: AttestedLimits,
    /// How often the chain is asked about the committee.
    pub poll: Duration,
    /// To whom backups are sealed; none are made without.
    pub recovery_key: Option<RecoveryKey>,
    /// What squashes ciphertexts of native chains, if there are any.
    pub squashing: Option<PartySquashing>,
}

/// What squashes ciphertexts of native chains.
#[derive(Clone)]
pub struct PartySquashing {
    /// The service that [`SquashedLists::MadeHere`] of the chains asks.
    pub service: Arc<Squashing>,
    /// Its keys, where they are used only if the record of the party's share names them.
    pub recorded: Option<Arc<RecordedKeys>>,
}

/// A chain that a party answers for.
pub struct PartyChain {
    /// Its id.
    pub id: u64,
    /// Its contracts, for whom the committee is.
    pub host: HostChain,
    /// The chain as requests are judged by.
    pub view: Arc<dyn HostChainView>,
    /// Where signatures are valid.
    pub domains: SigningDomains,
    /// Where squashed ciphertexts come from.
    pub squashed: SquashedLists,
}

/// What a party is doing, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartyState {
    /// What it is doing.
    pub state: NodeState,
    /// Why, where that is not plain.
    pub detail: Option<String>,
    /// The committee as the chain has it; nothing before the chain was read.
    pub committee: Option<CommitteeOnChain>,
    /// Its number in the committee; 0 for none.
    pub party: u32,
    /// The share that it uses.
    pub share: Option<ShareStatus>,
}

impl PartyState {
    const fn unread() -> Self {
        Self {
            state: NodeState::AwaitingRegistration,
            detail: None,
            committee: None,
            party: 0,
            share: None,
        }
    }
}

/// What all parts of a running party work with.
struct Party {
    signer: Address,
    home: HostChain,
    home_id: u64,
    /// Keeps the shares, and takes part in ceremonies.
    ceremony: Node,
    shares: Arc<HeldShares>,
    /// By the id of their chain.
    nodes: HashMap<u64, CommitteeNode>,
    audits: Vec<(u64, Arc<AuditLog>)>,
    budgets: Arc<Budgets>,
    attestation: Attestation,
    policy: B256,
    insecure_keys: bool,
    port: Arc<AttestedPort>,
    state: watch::Sender<PartyState>,
    /// What the shares in use were checked against, by their epoch.
    records: Mutex<BTreeMap<B256, Arc<Record>>>,
    recovery_key: Option<RecoveryKey>,
    squashing: Option<PartySquashing>,
    /// Told when the chain is to be looked at before its time.
    woken: Notify,
    /// Held while the chain is looked at, so that what follows from it happens in order.
    looking: tokio::sync::Mutex<()>,
    /// For which context, members and party the port is open.
    opened: tokio::sync::Mutex<Option<(B256, Vec<Address>, u32)>>,
    metrics: PartyMetrics,
    started: u64,
    /// Cancelled when no new requests are taken.
    stop: CancellationToken,
    /// Cancelled when requests have to end.
    stopped: CancellationToken,
}

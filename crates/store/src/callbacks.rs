//! Decryptions that contracts asked for: what became of each, and the transactions by which results are delivered.
//!
//! **Roles.** Any number of processes share one *site*: the gateway contract of one chain, under a name that all of them use. One of them at a time
//! serves it: it claims the site until a time and renews its claim; when it is gone the claim ends by itself and another one takes over. Everything
//! that is written names the claim and is refused with [`crate::StoreError::ClaimLost`] once it is another's.
//!
//! **Flow.** What the chain says is recorded block by block with the place that was read to ([`Callbacks::record`]), and withdrawn when the chain
//! reorganises ([`Callbacks::withdraw`]). A transaction is written down as an *attempt* before it is sent ([`Callbacks::add_attempt`]), signed bytes
//! included; attempts of one nonce replace each other. When the chain has settled the nonce, so are they ([`Callbacks::settle`]).
//!
//! **Restart.** Each method is one atomic step. After a crash at any instant the open attempts say which nonces may be under way; sending their bytes
//! again changes nothing. Whether a request is fulfilled is never decided here: the chain's own record, once it is final, overrides every state.

pub(crate) mod statements;
pub(crate) mod step;

use cipherloom_primitives::{Address, B256, U256};

use crate::StoreFuture;

/// The most handles of a request, as the gateway contract has it.
pub const MAX_CALLBACK_HANDLES: usize = 64;

/// The most characters of a reason that are kept.
pub const MAX_REASON_CHARACTERS: usize = 1_000;

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallbackState {
    /// It is to be decrypted and delivered.
    Pending,
    /// A transaction that delivers it may be under way.
    Sent,
    /// The contract that asked has got its values.
    Fulfilled,
    /// It will not be delivered, or the contract that asked did not take it; the reason says which.
    Failed,
    /// Its time was over before it was delivered.
    Expired,
}

impl CallbackState {
    /// All states.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Sent, Self::Fulfilled, Self::Failed, Self::Expired];

    /// Returns the state's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sent => "sent",
            Self::Fulfilled => "fulfilled",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }

    /// Finds the state of a name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A request as the gateway contract announced it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackRequest {
    /// Its number in the contract.
    pub id: u64,
    /// What is to be decrypted: 1 to [`MAX_CALLBACK_HANDLES`] words, which need not be handles of values.
    pub handles: Vec<B256>,
    /// The contract that asked and is called.
    pub caller: Address,
    /// The function that is called.
    pub selector: [u8; 4],
    /// How many wei the call is to carry.
    pub wei: U256,
    /// The last second in which it can be delivered, by the chain's clock, since the Unix epoch.
    pub max_timestamp: u64,
    /// Whether the contract that asked checks the signatures itself.
    pub passes_signatures: bool,
    /// The block of the request.
    pub block: u64,
    /// Its hash.
    pub block_hash: B256,
    /// The transaction that asked.
    pub transaction: B256,
}

/// A delivery as the gateway contract announced it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackDelivery {
    /// The number of the request.
    pub request: u64,
    /// Why the called contract did not take it; nothing if it did.
    pub failure: Option<String>,
    /// The block of the delivery.
    pub block: u64,
    /// Its hash.
    pub block_hash: B256,
    /// The transaction that delivered, whoever sent it.
    pub transaction: B256,
}

/// A request and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackRecord {
    /// The request.
    pub request: CallbackRequest,
    /// Where it stands.
    pub state: CallbackState,
    /// Why it failed, or what went wrong last.
    pub reason: Option<String>,
    /// How often it went wrong.
    pub tries: u32,
    /// When it is tried next, in milliseconds since the Unix epoch.
    pub next_try_ms: u64,
    /// When it was first seen, in milliseconds since the Unix epoch.
    pub seen_at_ms: u64,
    /// When it ended, in milliseconds since the Unix epoch.
    pub ended_at_ms: Option<u64>,
    /// The transaction that delivered it, if the chain has one.
    pub delivered_by: Option<B256>,
}

/// How far a chain was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallbackCursor {
    /// The last block that was read.
    pub block: u64,
    /// Its hash.
    pub block_hash: B256,
    /// The number that the next request will have.
    pub next_request: u64,
}

/// What some more blocks of a chain said.
#[derive(Clone, Copy, Debug)]
pub struct CallbackProgress<'a> {
    /// How far the chain was read now.
    pub cursor: CallbackCursor,
    /// New requests.
    pub requests: &'a [CallbackRequest],
    /// Deliveries, of new requests and of earlier ones.
    pub deliveries: &'a [CallbackDelivery],
    /// The time of the last block, in seconds since the Unix epoch: what had to be delivered before is expired.
    pub chain_time: u64,
}

/// A signed transaction that was or will be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackAttempt {
    /// The account that signed it.
    pub account: Address,
    /// Its nonce.
    pub nonce: u64,
    /// Its hash.
    pub hash: B256,
    /// The request that it delivers; none for one that only uses its nonce up.
    pub request: Option<u64>,
    /// Its bytes as they are sent.
    pub raw: Vec<u8>,
    /// The most wei that it pays per unit of gas.
    pub max_fee: u64,
    /// Of that, what the block's producer gets; none if it has a price instead.
    pub tip: Option<u64>,
    /// When it was signed, in milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// What became of it, in a word; nothing while its nonce is not settled.
    pub outcome: Option<String>,
}

/// Who writes: the process that has claimed the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallbackClaim<'a> {
    /// The name of the process.
    pub owner: &'a str,
    /// The time now, in milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// What the serving process says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackReport {
    /// The account that pays.
    pub account: Address,
    /// What it has, in wei.
    pub balance: U256,
    /// How the process is, in a word or two joined by underscores.
    pub condition: String,
}

/// Who serves a site, and how far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackSite {
    /// The name of the site.
    pub name: String,
    /// The process that serves it, or did last.
    pub owner: String,
    /// Until when it claimed to, in milliseconds since the Unix epoch.
    pub claimed_until_ms: u64,
    /// How far the chain was read.
    pub cursor: Option<CallbackCursor>,
    /// What the process said about itself last, and when in milliseconds since the Unix epoch.
    pub report: Option<(CallbackReport, u64)>,
}

/// Which requests to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallbackFilter {
    /// Only those in this state.
    pub state: Option<CallbackState>,
    /// Only those with lower numbers.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: u32,
}

/// The requests and transactions of one site; see the module's documentation.
///
/// Every method fails with [`crate::StoreError::Database`] if the database does. Those with a claim also fail with
/// [`crate::StoreError::ClaimLost`], and then change nothing.
pub trait Callbacks: Send + Sync + 'static {
    /// Claims the site for a process or renews its claim until a time, and says whether it has it. A time that is not after now gives it up.
    fn claim<'a>(&'a self, claim: CallbackClaim<'a>, until_ms: u64) -> StoreFuture<'a, bool>;

    /// Writes down how the serving process is.
    fn report<'a>(&'a self, claim: CallbackClaim<'a>, report: &'a CallbackReport) -> StoreFuture<'a, ()>;

    /// Says who serves the site; nothing if nobody ever did.
    fn site(&self) -> StoreFuture<'_, Option<CallbackSite>>;

    /// Records what some more blocks said. A request that is known from another block is begun anew; one that is known as it is stays as it is.
    ///
    /// # Errors
    /// [`crate::StoreError::OutOfRange`] for numbers a database integer cannot hold.
    fn record<'a>(&'a self, claim: CallbackClaim<'a>, progress: &'a CallbackProgress<'a>) -> StoreFuture<'a, ()>;

    /// Lists the blocks that something was recorded from, newest first, below a number if one is given.
    fn recorded_blocks(&self, below: Option<u64>, limit: u32) -> StoreFuture<'_, Vec<(u64, B256)>>;

    /// Forgets what blocks said after this one, or all of them: requests made there, and deliveries, which are to be made again. Attempts stay.
    fn withdraw<'a>(&'a self, claim: CallbackClaim<'a>, last_kept: Option<(u64, B256)>) -> StoreFuture<'a, ()>;

    /// Lists pending requests whose time to be tried has come: those that wait longest for it first, new ones before all.
    fn due(&self, now_ms: u64, limit: u32) -> StoreFuture<'_, Vec<CallbackRecord>>;

    /// Writes down that a pending request went wrong and is tried again later.
    fn postpone<'a>(&'a self, claim: CallbackClaim<'a>, request: u64, next_try_ms: u64, reason: &'a str) -> StoreFuture<'a, ()>;

    /// Writes down that a pending request has failed and is not tried again.
    fn fail<'a>(&'a self, claim: CallbackClaim<'a>, request: u64, reason: &'a str) -> StoreFuture<'a, ()>;

    /// Writes down a transaction that is about to be sent, and says whether it may be: not if the request that it delivers is neither pending nor
    /// sent any more.
    ///
    /// # Errors
    /// [`crate::StoreError::OutOfRange`] for numbers a database integer cannot hold.
    fn add_attempt<'a>(&'a self, claim: CallbackClaim<'a>, attempt: &'a CallbackAttempt) -> StoreFuture<'a, bool>;

    /// Lists the attempts whose nonces are not settled, of all accounts: by account, nonce and age.
    fn open_attempts(&self) -> StoreFuture<'_, Vec<CallbackAttempt>>;

    /// Settles a nonce of an account: what became of it, in a word. Requests that its attempts were to deliver, that are not delivered, and that no
    /// other open attempt delivers, are pending again with this reason.
    fn settle<'a>(&'a self, claim: CallbackClaim<'a>, account: Address, nonce: u64, outcome: &'a str) -> StoreFuture<'a, ()>;

    /// Makes sent requests pending again whose open attempts are all of other accounts and were signed before a time: whoever sent them is gone and
    /// what was sent does not get included. Says how many.
    fn take_over<'a>(&'a self, claim: CallbackClaim<'a>, account: Address, signed_before_ms: u64) -> StoreFuture<'a, u64>;

    /// Forgets requests that ended before a time, and settled attempts signed before it. Says how many requests.
    fn forget<'a>(&'a self, claim: CallbackClaim<'a>, ended_before_ms: u64) -> StoreFuture<'a, u64>;

    /// Forgets everything about the site.
    fn clear(&self) -> StoreFuture<'_, ()>;

    /// Lists requests, highest number first.
    fn list(&self, filter: CallbackFilter) -> StoreFuture<'_, Vec<CallbackRecord>>;

    /// Finds a request with its attempts, oldest first.
    fn find(&self, request: u64) -> StoreFuture<'_, Option<(CallbackRecord, Vec<CallbackAttempt>)>>;

    /// Has a failed request tried again, or all of them, and says how many: those that the chain says were delivered are not among them.
    fn retry(&self, request: Option<u64>) -> StoreFuture<'_, u64>;

    /// Counts the requests in each state.
    fn totals(&self) -> StoreFuture<'_, Vec<(CallbackState, u64)>>;
}

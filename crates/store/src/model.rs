//! The records a store keeps.

use std::collections::HashMap;

use cipherloom_primitives::{Address, B256, CiphertextForm, Computation, FheType, Handle, HotWindow, input::InputMetadata};

use crate::StoreError;

/// A block of a host chain that was followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRef {
    /// The block number.
    pub number: u64,
    /// The block hash.
    pub hash: B256,
    /// The hash of the block before it.
    pub parent_hash: B256,
    /// When the block says it was made, in seconds since the Unix epoch.
    pub timestamp: u64,
}

impl BlockRef {
    /// Says whether `next` may be recorded after this block: later, and a child if directly after it.
    pub(crate) fn is_followed_by(&self, next: &Self) -> bool {
        next.number > self.number && (next.number - self.number > 1 || next.parent_hash == self.hash)
    }
}

/// A block and what its transactions asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedBlock {
    /// The block itself.
    pub block: BlockRef,
    /// Its transactions that concern the host contracts, in block order.
    pub transactions: Vec<RecordedTransaction>,
}

/// A transaction of a recorded block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedTransaction {
    /// The transaction hash.
    pub hash: B256,
    /// The position in the block.
    pub index: u64,
    /// All computations it asked for, in event order.
    pub computations: Vec<Computation>,
    /// Computed handles of earlier transactions that the computations behind `outputs` need.
    pub boundary: Vec<Handle>,
    /// Handles computed here that are granted to someone, and so leave the transaction.
    pub outputs: Vec<Handle>,
    /// What it granted.
    pub grants: Vec<Grant>,
    /// The delegations it changed.
    pub delegations: Vec<Delegation>,
}

/// A right to a handle, given by a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The handle.
    pub handle: Handle,
    /// Who got the right.
    pub grantee: Grantee,
}

/// Who may use a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grantee {
    /// An account may compute with it and ask for its decryption.
    Account(Address),
    /// Anyone may ask for its decryption.
    PublicDecryption,
}

/// A change of a delegation of user decryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delegation {
    /// Whose values.
    pub delegator: Address,
    /// Who may decrypt them.
    pub delegate: Address,
    /// The contract whose values are meant.
    pub contract: Address,
    /// Until when, in seconds since the Unix epoch; zero if the delegation was revoked.
    pub expires_at: u64,
}

/// What a worker asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    /// The chain whose transactions it computes.
    pub chain_id: u64,
    /// The name of the worker, for operators. Two workers of one name still cannot use each other's leases.
    pub owner: String,
    /// The time now, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// How long the leases last, in milliseconds.
    pub duration_ms: u64,
    /// The most transactions to lease.
    pub limit: u32,
    /// Transactions to lease before others if they can run: those whose operands the worker has in memory.
    pub first: Vec<TransactionNumber>,
}

/// The store's number of a transaction. Numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionNumber(pub(crate) i64);

impl TransactionNumber {
    /// Returns the number, as it stands in the database's `transactions.id`.
    #[must_use]
    pub const fn number(self) -> i64 {
        self.0
    }
}

impl std::fmt::Display for TransactionNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The time-limited right of one worker to one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The store's number of the transaction.
    pub(crate) transaction: i64,
    /// Distinguishes this lease from earlier ones on the transaction, those of the same owner included.
    pub(crate) generation: i64,
}

impl Lease {
    /// Returns the store's number of the transaction.
    #[must_use]
    pub const fn transaction(&self) -> TransactionNumber {
        TransactionNumber(self.transaction)
    }

    /// The error of whoever no longer has this lease.
    pub(crate) const fn lost(&self) -> StoreError {
        StoreError::LeaseLost {
            transaction: self.transaction,
        }
    }
}

/// A transaction and the lease on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasedTransaction {
    /// The lease.
    pub lease: Lease,
    /// The number of its block.
    pub block_number: u64,
    /// The transaction hash.
    pub hash: B256,
    /// All computations it asked for, in event order.
    pub computations: Vec<Computation>,
    /// The handles to publish.
    pub outputs: Vec<Handle>,
    /// When its block was recorded, in milliseconds since the Unix epoch by the clock of the database; none for blocks of earlier versions.
    pub recorded_at_ms: Option<u64>,
    /// How often it was leased and neither finished nor released, this time included.
    pub attempts: u32,
}

/// What a worker publishes for a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// The results.
    pub ciphertexts: Vec<StoredCiphertext>,
    /// The outputs that can never be computed. A transaction with one is marked poisoned.
    pub failures: Vec<OutputFailure>,
}

/// An output that can never be computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputFailure {
    /// The handle.
    pub handle: Handle,
    /// Why, for operators and users.
    pub reason: String,
}

/// A ciphertext in one of its canonical forms.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredCiphertext {
    /// What it is the value of. The type and the chain are part of the handle.
    pub handle: Handle,
    /// The key set it is encrypted under.
    pub key_set_id: B256,
    /// The block of the transaction that published it; none for an input. The store sets it: what a caller gives is ignored.
    pub created_block: Option<u64>,
    /// The Keccak hash of its raw form, kept also where that form is not.
    pub raw_digest: B256,
    /// Which form `bytes` are. What a transaction publishes is raw.
    pub form: CiphertextForm,
    /// The Keccak hash of `bytes`.
    pub digest: B256,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl StoredCiphertext {
    /// A value in raw form, as it comes out of a computation.
    #[must_use]
    pub const fn raw(handle: Handle, key_set_id: B256, digest: B256, bytes: Vec<u8>) -> Self {
        Self {
            handle,
            key_set_id,
            created_block: None,
            raw_digest: digest,
            form: CiphertextForm::Raw,
            digest,
            bytes,
        }
    }

    /// Everything but the bytes.
    #[must_use]
    pub const fn head(&self) -> CiphertextHead {
        CiphertextHead {
            handle: self.handle,
            key_set_id: self.key_set_id,
            created_block: self.created_block,
            raw_digest: self.raw_digest,
            form: self.form,
            digest: self.digest,
        }
    }

    /// The same value in packed form.
    #[must_use]
    pub fn packed(self, digest: B256, bytes: Vec<u8>) -> Self {
        Self {
            form: CiphertextForm::Packed,
            digest,
            bytes,
            ..self
        }
    }
}

impl std::fmt::Debug for StoredCiphertext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The bytes are left out: they are large, and on the clear backend they are the plaintext.
        f.debug_struct("StoredCiphertext")
            .field("handle", &self.handle)
            .field("key_set_id", &self.key_set_id)
            .field("created_block", &self.created_block)
            .field("raw_digest", &self.raw_digest)
            .field("form", &self.form)
            .field("digest", &self.digest)
            .field("size_bytes", &self.bytes.len())
            .finish()
    }
}

/// A stored ciphertext without its bytes: the fields of [`StoredCiphertext`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CiphertextHead {
    /// What it is the value of.
    pub handle: Handle,
    /// The key set it is encrypted under.
    pub key_set_id: B256,
    /// The block of the transaction that published it.
    pub created_block: Option<u64>,
    /// The Keccak hash of its raw form.
    pub raw_digest: B256,
    /// Which form is stored.
    pub form: CiphertextForm,
    /// The Keccak hash of the stored bytes.
    pub digest: B256,
}

impl CiphertextHead {
    /// The ciphertext with these bytes.
    pub(crate) fn with_bytes(self, bytes: Vec<u8>) -> StoredCiphertext {
        StoredCiphertext {
            handle: self.handle,
            key_set_id: self.key_set_id,
            created_block: self.created_block,
            raw_digest: self.raw_digest,
            form: self.form,
            digest: self.digest,
            bytes,
        }
    }
}

/// Which raw forms may be replaced by packed ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoolingRequest {
    /// The chain.
    pub chain_id: u64,
    /// The key set's window.
    pub window: HotWindow,
    /// How many blocks beyond the window a value must lie behind the newest recorded block: deeper reorganisations are not
    /// expected.
    pub margin_blocks: u64,
    /// The most handles to return.
    pub limit: u32,
}

/// An input list whose proof was verified.
#[derive(Clone, PartialEq, Eq)]
pub struct AdmittedInput {
    /// The hash of the list, [`cipherloom_primitives::input::list_digest`].
    pub digest: B256,
    /// What the proof is bound to.
    pub metadata: InputMetadata,
    /// The types of the values, in order.
    pub types: Vec<FheType>,
    /// The list as it was received.
    pub list: Vec<u8>,
}

impl std::fmt::Debug for AdmittedInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The list is left out for the reason given at `StoredCiphertext`.
        f.debug_struct("AdmittedInput")
            .field("digest", &self.digest)
            .field("metadata", &self.metadata)
            .field("types", &self.types)
            .field("size_bytes", &self.list.len())
            .finish()
    }
}

/// How to find an admitted input list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKey {
    /// By the handle of one of its values.
    Handle(Handle),
    /// By chain and the hash of the list.
    Digest {
        /// The chain.
        chain_id: u64,
        /// The hash of the list.
        digest: B256,
    },
}

/// What a store knows about a handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandleState {
    /// Nothing: no recorded transaction publishes it and no admitted list contains it.
    Unknown,
    /// It is a value of an admitted input list whose ciphertext was not needed yet.
    Admitted,
    /// A recorded transaction will publish it.
    Pending,
    /// Its ciphertext is stored.
    Stored,
    /// It can never be computed, for this reason.
    Failed(String),
}

impl HandleState {
    /// Decides what several things that are known about a handle come to: a ciphertext outweighs everything, and a handle that is being
    /// computed again has not failed yet.
    pub(crate) fn of(stored: bool, pending: bool, failure: Option<String>, admitted: bool) -> Self {
        match failure {
            _ if stored => Self::Stored,
            _ if pending => Self::Pending,
            Some(reason) => Self::Failed(reason),
            None if admitted => Self::Admitted,
            None => Self::Unknown,
        }
    }
}

/// Puts ciphertexts into the order of the handles that were asked for. A handle may be there twice.
pub(crate) fn in_order(handles: &[Handle], mut found: HashMap<Handle, StoredCiphertext>) -> Vec<Option<StoredCiphertext>> {
    let mut left: HashMap<Handle, usize> = HashMap::with_capacity(handles.len());
    for handle in handles {
        *left.entry(*handle).or_default() += 1;
    }
    let mut take = |handle: &Handle| {
        let left = left.get_mut(handle)?;
        *left -= 1;
        // The last one asked for gets the bytes themselves.
        if *left == 0 {
            found.remove(handle)
        } else {
            found.get(handle).cloned()
        }
    };
    handles.iter().map(&mut take).collect()
}

//! What can go wrong in a store.

use std::path::PathBuf;

use cipherloom_primitives::{B256, Handle};
use sqlx::postgres::PgDatabaseError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database refused or failed.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// The data file cannot be created, opened or locked.
    #[error("data file {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Another process uses the data file.
    #[error("data file {0} is in use by another process; stop it or choose another data directory")]
    InUse(PathBuf),
    /// The data file was written by a newer version of this software.
    #[error("the data file has schema version {found}, this software knows versions up to {known}")]
    NewerSchema {
        /// The version found.
        found: i64,
        /// The newest version this software knows.
        known: i64,
    },
    /// The lease expired and was taken over, or its transaction was withdrawn by a chain reorganisation.
    #[error("the lease on transaction {transaction} is lost")]
    LeaseLost {
        /// The store's number of the transaction.
        transaction: i64,
    },
    /// A block does not continue the recorded chain.
    #[error("block {number} does not continue the recorded blocks of chain {chain_id}")]
    NotAChild {
        /// The chain.
        chain_id: u64,
        /// The number of the block.
        number: u64,
    },
    /// Pushed work needs handles that nothing will compute.
    #[error("nothing is known about the handles {}", list(.0))]
    UnknownHandles(Vec<Handle>),
    /// Pushed work has outputs that are known already, or one twice. Without them it can be recorded.
    #[error("the outputs {} are known already", list(.0))]
    KnownHandles(Vec<Handle>),
    /// The tenant may not have more transactions pending.
    #[error("the tenant may have {limit} transactions pending; try again when some are finished")]
    Backlog {
        /// How many it may have.
        limit: u64,
    },
    /// Work was pushed to a tenant whose blocks are followed.
    #[error("the tenant's chain is followed; work cannot be pushed to it too")]
    Followed,
    /// A chain was followed for a tenant to which work is pushed.
    #[error("work is pushed to this tenant; its chain cannot be followed too")]
    PushedTo,
    /// A name was to stand for another handle than the one it stands for.
    #[error("the name of a handle stands for {0} already")]
    NameTaken(Handle),
    /// A handle's name is empty or too long.
    #[error("a handle's name has 1 to 256 bytes, not {0}")]
    HandleName(usize),
    /// The database was made by an older version of this software, and was to be used as it is.
    #[error("the database has schema version {found}, this software needs {known}; run `cipherloom db migrate`")]
    OlderSchema {
        /// The version found.
        found: i64,
        /// The version needed.
        known: i64,
    },
    /// A migration that the database has is not the one this software knows by that number.
    #[error(
        "migration {version} ({name}) of the database is not the one this software knows; it was made by other software, or changed by hand"
    )]
    ChangedMigration {
        /// The migration's number.
        version: i64,
        /// The name it was recorded with.
        name: String,
    },
    /// A database URL cannot be read. The URL itself is not repeated: it may hold a password.
    #[error("the database URL cannot be used: {0}")]
    DatabaseUrl(String),
    /// What was to be written belongs to another chain than the tenant's.
    #[error("this tenant's chain is {expected}, not {found}")]
    ForeignChain {
        /// The tenant's chain.
        expected: u64,
        /// The chain of what was to be written.
        found: u64,
    },
    /// The bytes of a ciphertext are in an object store, and this process was not told which.
    #[error("the database's ciphertexts are in an object store; say where with --ciphertext-store or --ciphertext-dir")]
    NoObjectStore,
    /// The object store lacks the bytes of a ciphertext.
    #[error("the object store has no object {digest}")]
    MissingObject {
        /// The Keccak hash of the bytes.
        digest: B256,
    },
    /// An object has other bytes than it should have. They are not used.
    #[error("object {digest:x} is damaged: the place has {size_bytes} bytes of another digest under its name")]
    DamagedObject {
        /// The Keccak hash that the bytes should have.
        digest: B256,
        /// How many bytes the place has.
        size_bytes: usize,
    },
    /// The place of ciphertext bytes failed: a full disk, a network that is gone, credentials that have ended.
    #[error("cannot {action} {object}: {source}")]
    Object {
        /// What was to be done.
        action: &'static str,
        /// The object, with its place.
        object: String,
        /// What the place said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The place of ciphertext bytes is one that others publish.
    #[error("{0} can only be read from")]
    ReadOnlyPlace(String),
    /// The URL of a place of ciphertext bytes cannot be used. The URL itself is not repeated: somebody may have put a secret into it.
    #[error("the URL of a place for ciphertexts cannot be used: {0}")]
    ObjectsUrl(String),
    /// A tenant of this name is there already, or in SQLite another one of this chain.
    #[error("there is a tenant {0:?} already, or in an embedded store another one of its chain")]
    TenantExists(String),
    /// There is no such tenant.
    #[error("there is no tenant {0}")]
    UnknownTenant(String),
    /// A tenant's name is too short, too long, or has control characters.
    #[error("a tenant's name has 1 to 64 characters, and no control characters")]
    TenantName,
    /// There is no such key set.
    #[error("there is no key set {0}")]
    UnknownKeySet(B256),
    /// Another process serves the callbacks of a site now, or the claim on it has ended.
    #[error("the callbacks of {0} are served by another process now, or the claim on them has ended")]
    ClaimLost(String),
    /// A number does not fit a database integer.
    #[error("{what} {value} does not fit a 63-bit database integer")]
    OutOfRange {
        /// What the number is.
        what: &'static str,
        /// The number.
        value: u64,
    },
    /// A stored record cannot be read back.
    #[error("corrupt record: {what}: {reason}")]
    Corrupt {
        /// Which record.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// The handles an error lists, the first of them in full.
fn list(handles: &[Handle]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = handles.iter().take(SHOWN).map(ToString::to_string).collect();
    match handles.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

impl StoreError {
    /// Says whether the same call may succeed later: the database or the place of ciphertext bytes was busy, full or unreachable.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::PoolTimedOut | sqlx::Error::Io(_)) => true,
            Self::Database(sqlx::Error::Database(error)) => match error.try_downcast_ref::<PgDatabaseError>() {
                // PostgreSQL: connection trouble, a serialization failure or deadlock, no resources left, a lock or statement
                // given up, the server stopping or starting.
                Some(error) => matches!(error.code().get(..2), Some("08" | "40" | "53" | "57")) || error.code() == "55P03",
                // SQLite: busy, locked, an I/O error, a full disk. What else it reports stays as it is.
                None => {
                    let code = error.code().and_then(|code| code.parse::<u32>().ok());
                    code.is_some_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13))
                }
            },
            // Whatever is wrong with a place is put right by people, and nothing that was accepted is given up before.
            Self::Object { .. } | Self::MissingObject { .. } | Self::DamagedObject { .. } => true,
            _ => false,
        }
    }

    /// Builds [`Self::Corrupt`].
    pub(crate) fn corrupt(what: &'static str, reason: impl ToString) -> Self {
        Self::Corrupt {
            what,
            reason: reason.to_string(),
        }
    }
}

//! What can go wrong in a store.

use std::path::PathBuf;

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

impl StoreError {
    /// Says whether the same call may succeed later: the database was busy or unreachable.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::PoolTimedOut | sqlx::Error::Io(_)) => true,
            // SQLite: busy, locked, an I/O error, a full disk. What else it reports stays as it is.
            Self::Database(sqlx::Error::Database(error)) => {
                let code = error.code().and_then(|code| code.parse::<u32>().ok());
                code.is_some_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13))
            }
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

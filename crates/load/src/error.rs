//! What can go wrong with a load.

use std::{path::PathBuf, time::Duration};

use cipherloom_fhe::FheError;

/// Why a load ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A process could not be started, told something, or read from.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A process ended although it should run, or did not end well although it should.
    #[error("{what} ended with {status}; the end of its log: {log}")]
    Ended {
        /// Which process.
        what: String,
        /// How.
        status: String,
        /// The last lines it logged.
        log: String,
    },
    /// A process did not do something in time.
    #[error("{what} took more than {within:?}")]
    TooSlow {
        /// What.
        what: String,
        /// The time it had.
        within: Duration,
    },
    /// A process printed something else than it should.
    #[error("{what} printed {text:?}")]
    Output {
        /// Which process or command.
        what: String,
        /// What it printed.
        text: String,
    },
    /// The address of a server is not one.
    #[error("{0:?} is not the address of a server")]
    Address(String),
    /// An API key cannot be sent: it has characters that headers have not.
    #[error("the API key in {0} cannot be sent in a header")]
    ApiKey(PathBuf),
    /// The server refused, or could not be reached for longer than the client's patience.
    #[error("the server answered {:?}: {}", .0.code(), .0.message())]
    Refused(Box<tonic::Status>),
    /// The server answered something that does not fit the question.
    #[error("the server's answer does not fit the question: {0}")]
    Answer(String),
    /// A value is not what it must be.
    #[error("value {name} must be {expected}, and is {found}")]
    Wrong {
        /// Its name, in hexadecimal.
        name: String,
        /// What it must be.
        expected: String,
        /// What came out.
        found: String,
    },
    /// Keys or ciphertexts cannot be used.
    #[error(transparent)]
    Fhe(#[from] FheError),
}

impl LoadError {
    /// Wraps an error of the operating system.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

impl From<tonic::Status> for LoadError {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

//! Why a request is refused, in the words that clients of the 0.6 generation know and with the status codes that they lacked.

use bytes::Bytes;
use cipherloom_primitives::{FheType, OperationError, UnknownFheType};
use cipherloom_store::StoreError;
use tonic::{Code, Status};

use crate::CoprocessorError;

/// How many handles an error names.
const MAX_LISTED: usize = 16;

/// Why a request is refused. What it says is for the caller; what went wrong inside is logged instead.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error("API key unknown/invalid/not provided")]
    Unauthenticated,
    #[error("the server answers as many requests as it may; try again")]
    Busy,
    #[error("the server is stopping; ask another one")]
    Stopping,
    #[error("More than maximum input blobs uploaded, maximum allowed: {maximum}, uploaded: {uploaded}")]
    TooManyInputs { maximum: usize, uploaded: usize },
    #[error(
        "Input blob contains too many ciphertexts, input blob index: {index}, ciphertexts in blob: {count}, maximum ciphertexts in blob \
         allowed: {maximum}"
    )]
    TooManyValues { index: usize, count: usize, maximum: usize },
    #[error("Requested more than maximum ciphertexts allowed to download, maximum allowed: {maximum}, requested: {requested}")]
    TooManyToGet { maximum: usize, requested: usize },
    #[error("maximum ciphertexts exceeded in batch, maximum: {maximum}, got: {got}")]
    TooManyToSchedule { maximum: usize, got: usize },
    #[error("Duplicate output handle in ciphertext batch: {}", hex(.0))]
    Duplicate(Bytes),
    #[error("Found ciphertext handle longer than 256 bytes: {}…", hex(.0.get(..32).unwrap_or_default()))]
    LongHandle(Bytes),
    #[error("Found ciphertext handle is empty: 0x")]
    EmptyHandle,
    #[error("Ciphertexts not found: {}", listed(.first, *.count))]
    NotFound { first: Vec<Bytes>, count: usize },
    #[error("Output handle is also on of the input handles: {}", hex(.0))]
    OutputIsInput(Bytes),
    #[error("fhe computation with output handle {} has circular dependency and is uncomputable", hex(.0))]
    Circular(Bytes),
    #[error("computation has undefined input, output handle: {}, input index: {index}", hex(.output))]
    UndefinedInput { output: Bytes, index: usize },
    #[error("computation with output handle {}: there is no operation number {number}", hex(.output))]
    UnknownOperation { output: Bytes, number: i32 },
    #[error("computation with output handle {}: {source}", hex(.output))]
    Operation { output: Bytes, source: OperationError },
    #[error("computation with output handle {} gives {given}, but that handle stands for {found}", hex(.output))]
    OtherType { output: Bytes, given: FheType, found: FheType },
    #[error("output handle {} is that of an encrypted input", hex(.0))]
    ComputedInput(Bytes),
    #[error("{0}")]
    Type(MissingType),
    #[error("scalar of {size} bytes; at most 256 are accepted")]
    LongScalar { size: usize },
    #[error("Cannot parse ethereum address: {0:?}")]
    Address(String),
    #[error("input blob {index} has {size} bytes; at most {maximum} are accepted")]
    LargeInput { index: usize, size: usize, maximum: usize },
    #[error("error deserializing ciphertext: input blob {index}: {reason}")]
    Input { index: usize, reason: String },
    #[error("the ciphertexts asked for have more than {maximum} bytes; ask for fewer at a time")]
    LargeAnswer { maximum: usize },
    #[error("{limit} transactions of this tenant are waiting already, which is its limit; try again")]
    Backlog { limit: u64 },
    #[error("this tenant follows its chain: computations come from there and cannot be sent too")]
    Followed,
    #[error("this tenant has no keys yet; an operator attaches them with `tenant set-keys`")]
    NoKeys,
    #[error("this tenant's keys cannot be used here; the server's log says why")]
    KeysRefused,
    #[error("{0}")]
    NoSquashing(String),
    #[error("others changed the same handles at the same time; try again")]
    Contended,
    #[error("the database is not available; try again")]
    Unavailable,
    #[error("internal error; the server's log says more")]
    Internal,
}

/// A type number that this software has no type for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MissingType(pub(super) i64);

impl std::fmt::Display for MissingType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.0 {
            1 => "euint4",
            9 => "ebytes64",
            10 => "ebytes128",
            11 => "ebytes256",
            number => return write!(f, "{number} is not the number of a type"),
        };
        write!(
            f,
            "{name} (type {}) is not supported; supported are ebool, euint8 to euint256 and eaddress",
            self.0
        )
    }
}

impl RequestError {
    /// Returns the gRPC status code.
    pub(super) const fn code(&self) -> Code {
        match self {
            Self::Unauthenticated => Code::Unauthenticated,
            Self::Busy | Self::LargeAnswer { .. } | Self::Backlog { .. } => Code::ResourceExhausted,
            Self::NotFound { .. } => Code::NotFound,
            Self::Followed | Self::NoKeys | Self::KeysRefused | Self::NoSquashing(_) => Code::FailedPrecondition,
            Self::Contended => Code::Aborted,
            Self::Stopping | Self::Unavailable => Code::Unavailable,
            Self::Internal => Code::Internal,
            _ => Code::InvalidArgument,
        }
    }

    /// Says what an operation's error means for a computation.
    pub(super) fn of_operation(output: &Bytes, source: OperationError) -> Self {
        match source {
            OperationError::UnknownType(UnknownFheType(number)) => Self::Type(MissingType(number.into())),
            source => Self::Operation {
                output: output.clone(),
                source,
            },
        }
    }

    /// Says that these are unknown. `name` gives what was sent for one, and is asked for the few that are told.
    pub(super) fn not_found<T: Copy>(unknown: &[T], name: impl Fn(T) -> Bytes) -> Self {
        Self::NotFound {
            first: unknown.iter().take(MAX_LISTED).map(|one| name(*one)).collect(),
            count: unknown.len(),
        }
    }
}

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<StoreError> for RequestError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Backlog { limit } => Self::Backlog { limit },
            StoreError::Followed => Self::Followed,
            error if error.is_retryable() => {
                tracing::warn!(%error, "a request failed: the database is not available");
                Self::Unavailable
            }
            error => {
                tracing::error!(%error, "a request failed");
                Self::Internal
            }
        }
    }
}

impl From<CoprocessorError> for RequestError {
    fn from(error: CoprocessorError) -> Self {
        match error {
            CoprocessorError::Busy | CoprocessorError::SquashingBusy => Self::Busy,
            // What to do about it is the operator's, who sees it wherever it is asked for; it names no secret.
            error @ CoprocessorError::NoSquashing { .. } => Self::NoSquashing(error.to_string()),
            CoprocessorError::ThreadLost => Self::Stopping,
            CoprocessorError::NoKeys { .. } => Self::NoKeys,
            // Logged where it was found.
            CoprocessorError::KeysRefused { .. } => Self::KeysRefused,
            CoprocessorError::Store(error) => error.into(),
            error => {
                tracing::error!(%error, "a request failed");
                Self::Internal
            }
        }
    }
}

/// Writes a handle.
fn hex(bytes: &[u8]) -> String {
    alloy::hex::encode_prefixed(bytes)
}

fn listed(first: &[Bytes], count: usize) -> String {
    let shown: Vec<String> = first.iter().map(|name| hex(name)).collect();
    match count.saturating_sub(first.len()) {
        0 => format!("[{}]", shown.join(", ")),
        rest => format!("[{}, … and {rest} more]", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_that_clients_know() {
        let name = Bytes::from_static(&[0xab, 1]);
        for (error, text) in [
            (RequestError::Unauthenticated, "API key unknown/invalid/not provided"),
            (
                RequestError::TooManyInputs { maximum: 10, uploaded: 11 },
                "More than maximum input blobs uploaded, maximum allowed: 10, uploaded: 11",
            ),
            (
                RequestError::Duplicate(name.clone()),
                "Duplicate output handle in ciphertext batch: 0xab01",
            ),
            (RequestError::not_found(&[()], |()| name.clone()), "Ciphertexts not found: [0xab01]"),
            (
                RequestError::OutputIsInput(name.clone()),
                "Output handle is also on of the input handles: 0xab01",
            ),
            (
                RequestError::Circular(name),
                "fhe computation with output handle 0xab01 has circular dependency and is uncomputable",
            ),
            (
                RequestError::TooManyToSchedule { maximum: 5, got: 6 },
                "maximum ciphertexts exceeded in batch, maximum: 5, got: 6",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn long_lists_and_long_handles_are_cut() {
        let text = RequestError::not_found(&[1u8; 100], |byte| vec![byte].into()).to_string();
        assert!(text.ends_with("and 84 more]") && text.len() < 200, "{text}");
        let text = RequestError::LongHandle(vec![1; 5000].into()).to_string();
        assert!(text.len() < 150, "{text}");
    }

    #[test]
    fn missing_types_have_their_names() {
        assert!(MissingType(1).to_string().starts_with("euint4 (type 1) is not supported"));
        assert_eq!(MissingType(77).to_string(), "77 is not the number of a type");
    }

    #[test]
    fn what_went_wrong_inside_is_not_told() {
        let error = StoreError::UnknownTenant("secret detail".to_owned());
        assert!(!RequestError::from(error).to_string().contains("secret"));
    }
}

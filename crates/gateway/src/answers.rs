//! Answers as the JSON that SDKs read.
//!
//! Source: public protocol, section 4.2. Where a `0x` stands and where it does not is part of the format.

use alloy_primitives::{Bytes, hex};
use cipherloom_primitives::decryption::UserDecryptionShare;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{desk::Waiting, error::Label, jobs::Answer, services::ServiceError};

/// The body of an accepted submission.
pub(crate) fn accepted(request_id: Uuid, job_id: Uuid) -> Value {
    json!({ "status": "queued", "requestId": request_id, "result": { "jobId": job_id } })
}

/// The body for a job that has not ended. SDKs read the first two fields and ignore the rest.
pub(crate) fn queued(request_id: Uuid, waiting: &Waiting) -> Value {
    let mut progress = Map::new();
    let is_computing = waiting.progress.is_some_and(|progress| progress.pending_handles > 0);
    let phase = match waiting.running {
        false => "waiting",
        true if is_computing => "computing",
        true => "running",
    };
    progress.insert("phase".to_owned(), phase.into());
    if let Some(elapsed) = waiting.elapsed {
        progress.insert(
            "elapsedMs".to_owned(),
            u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).into(),
        );
    }
    if let Some(known) = waiting.progress {
        progress.insert("pendingHandles".to_owned(), known.pending_handles.into());
        if let Some(pending) = known.pending_computations {
            progress.insert("pendingComputations".to_owned(), pending.into());
        }
    }
    json!({ "status": "queued", "requestId": request_id, "progress": progress })
}

/// The body for a job that has an answer.
pub(crate) fn succeeded(request_id: Uuid, answer: &Answer) -> Value {
    let result = match answer {
        Answer::Input(input) => json!({
            "accepted": true,
            "handles": texts(&input.handles),
            "signatures": input.signatures.iter().map(prefixed).collect::<Vec<_>>(),
            "extraData": prefixed(&input.extra_data),
        }),
        Answer::RejectedInput { extra_data } => json!({ "accepted": false, "extraData": prefixed(extra_data) }),
        Answer::Public(answer) => json!({
            "decryptedValue": bare(&answer.decrypted_result),
            "signatures": answer.signatures.iter().map(bare).collect::<Vec<_>>(),
            "extraData": prefixed(&answer.extra_data),
        }),
        // SDKs expect the list one level deeper than other results.
        Answer::User(shares) => json!({ "result": self::shares(shares) }),
    };
    json!({ "status": "succeeded", "requestId": request_id, "result": result })
}

/// The body of the synchronous routes of version 1, which have no shape for a rejected input.
pub(crate) fn version_1(answer: &Answer) -> Result<Value, ServiceError> {
    let response = match answer {
        Answer::Input(input) => json!({
            "handles": texts(&input.handles),
            "signatures": input.signatures.iter().map(prefixed).collect::<Vec<_>>(),
        }),
        Answer::RejectedInput { .. } => {
            return Err(ServiceError::new(
                Label::RequestError,
                "the proof of the input does not hold for this contract, user and chain",
            ));
        }
        Answer::Public(answer) => json!([{
            "decrypted_value": bare(&answer.decrypted_result),
            "signatures": answer.signatures.iter().map(bare).collect::<Vec<_>>(),
        }]),
        Answer::User(shares) => self::shares(shares),
    };
    Ok(json!({ "status": "success", "response": response }))
}

fn shares(shares: &[UserDecryptionShare]) -> Value {
    let share = |share: &UserDecryptionShare| json!({ "payload": bare(&share.payload), "signature": bare(&share.signature), "extraData": prefixed(&share.extra_data) });
    shares.iter().map(share).collect()
}

fn texts<T: std::fmt::Display>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

fn prefixed(bytes: &Bytes) -> String {
    hex::encode_prefixed(bytes)
}

fn bare(bytes: &Bytes) -> String {
    hex::encode(bytes)
}

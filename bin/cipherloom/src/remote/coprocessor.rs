//! What a gateway asks of a coprocessor in another process, in the gateway's words.

use std::time::Duration;

use anyhow::Result;
use cipherloom_gateway::{
    Label, ServiceError,
    services::{Admission, AdmissionRequest, AdmittedInput},
};
use cipherloom_primitives::{Address, Handle};
use cipherloom_rpc::cipherloom::coprocessor::v1::{AdmitInputRequest, HandleState, admit_input_response};
use cipherloom_service::{
    coprocessor::{PART, RemoteCoprocessor},
    messages::{address, read_handle},
};
use tonic::Status;

use super::failure::service_error;

/// Has an input admitted whose proof is bound to this access-control contract.
///
/// # Errors
/// The coprocessor's, and `gateway_not_reachable` if none answers.
pub(crate) async fn admit(coprocessor: &RemoteCoprocessor, request: &AdmissionRequest, acl: Address) -> Result<Admission, ServiceError> {
    let message = AdmitInputRequest {
        chain_id: request.chain_id,
        acl: address(&acl),
        contract: address(&request.contract),
        user: address(&request.user),
        list: request.list.0.clone(),
        extra_data: request.extra_data.0.clone(),
    };
    let answer = coprocessor.admit(message).await.map_err(|status| failed(&status))?;
    match answer.outcome {
        Some(admit_input_response::Outcome::Admitted(admitted)) => {
            let handles = admitted.handles.iter().map(read_handle).collect::<Result<_>>();
            Ok(Admission::Admitted(AdmittedInput {
                handles: handles.map_err(|error| failed(&Status::internal(format!("an answer is not of its form: {error:#}"))))?,
                signatures: admitted.signatures.into_iter().map(Into::into).collect(),
                extra_data: admitted.extra_data.into(),
            }))
        }
        Some(admit_input_response::Outcome::Rejected(reason)) => Ok(Admission::Rejected { reason }),
        None => Err(failed(&Status::internal("an answer about an input says nothing"))),
    }
}

/// Asks what became of handles, as soon as one of them is done and at the latest after this time. There is a state for each of them.
///
/// # Errors
/// The coprocessor's, and `gateway_not_reachable` if none answers.
pub(crate) async fn watch(
    coprocessor: &RemoteCoprocessor,
    handles: &[Handle],
    at_most: Duration,
) -> Result<Vec<HandleState>, ServiceError> {
    coprocessor.watch(handles, at_most).await.map_err(|status| failed(&status))
}

fn failed(status: &Status) -> ServiceError {
    match service_error(PART, status) {
        // The client did nothing wrong, and may find another gateway.
        error if error.label == Label::RequestError => ServiceError::new(Label::InternalServerError, error.message),
        error => error,
    }
}

//! What a gateway does for a native chain, where no coprocessor works: its validators check inputs and compute in their blocks.

use cipherloom_chain::{ChainError, HostChain};
use cipherloom_gateway::{
    Label, ServiceError,
    services::{Admission, AdmissionRequest, AdmittedInput},
};
use cipherloom_primitives::input::input_handles;

/// Names the handles of an input, which nobody signs: the answer's extra data are the list itself. So what the protocol has clients put together (numbers of
/// handles and of signatures, handles, no signatures, the answer's extra data) is the proof that a native chain takes.
///
/// # Errors
/// `request_error` if the request has extra data of its own, `gateway_not_reachable` if the chain's node does not answer.
pub(crate) async fn admit(host: &HostChain, request: &AdmissionRequest) -> Result<Admission, ServiceError> {
    let extra_data: &[u8] = &request.extra_data;
    // A lone zero byte is how SDKs write that there are none.
    if !matches!(extra_data, [] | [0]) {
        let message = "a native chain's inputs have no extra data: nobody signs over them";
        return Err(ServiceError::new(Label::RequestError, message));
    }
    let types = host
        .native_input_types(request.user, request.contract, request.list.clone())
        .await
        .map_err(|error| unreadable(&error))?;
    let Some(types) = types else {
        return Ok(Admission::Rejected {
            reason: "the chain's node refuses the list".to_owned(),
        });
    };
    let acl = host.addresses().acl;
    let handles = input_handles(&request.list, &types, acl, request.chain_id).filter(|handles| !handles.is_empty());
    Ok(match handles {
        Some(handles) => Admission::Admitted(AdmittedInput {
            handles,
            signatures: Vec::new(),
            extra_data: request.list.clone(),
        }),
        None => Admission::Rejected {
            reason: format!("the list has {} values", types.len()),
        },
    })
}

fn unreadable(error: &ChainError) -> ServiceError {
    tracing::warn!(%error, "the types of an input cannot be read");
    let message = "the chain's node does not answer; try again";
    ServiceError::new(Label::GatewayNotReachable, message)
}

#[cfg(test)]
mod tests;

//! What a gateway does for a native chain, where no coprocessor works: its validators check inputs and compute in their blocks.

pub(crate) mod deposits;

use std::sync::Arc;

use cipherloom_chain::HostChain;
use cipherloom_fhe::{EncryptInputs, FheError};
use cipherloom_gateway::{
    Label, ServiceError,
    services::{Admission, AdmissionRequest, AdmittedInput},
};
use cipherloom_primitives::{
    Bytes,
    input::{InputMetadata, input_handles},
};

use self::deposits::Deposits;

/// What SDKs write for no extra data.
const NO_EXTRA_DATA: &[u8] = &[0];

/// The inputs of a native chain.
pub(crate) struct NativeInputs {
    host: HostChain,
    checker: Arc<dyn EncryptInputs>,
    deposits: Option<Deposits>,
}

impl NativeInputs {
    /// Looks at inputs under the chain's key set, and deposits them if somebody pays for it.
    pub(crate) const fn new(host: HostChain, checker: Arc<dyn EncryptInputs>, deposits: Option<Deposits>) -> Self {
        Self { host, checker, deposits }
    }

    /// Checks an input and names its handles, which nobody signs.
    ///
    /// Where inputs are deposited, they are on the chain when the answer comes, and the handles are all that the user's transaction needs. Otherwise the
    /// answer's extra data are the list itself: so what the protocol has clients put together (numbers of handles and of signatures, handles, no
    /// signatures, the answer's extra data) is the proof that a native chain takes.
    ///
    /// # Errors
    /// `request_error` if the request has extra data of its own, and what [`Deposits::deposit`] can meet.
    pub(crate) async fn admit(&self, request: &AdmissionRequest) -> Result<Admission, ServiceError> {
        let extra_data: &[u8] = &request.extra_data;
        if !extra_data.is_empty() && extra_data != NO_EXTRA_DATA {
            let message = "a native chain's inputs have no extra data: nobody signs over them";
            return Err(ServiceError::new(Label::RequestError, message));
        }
        let bound_to = InputMetadata {
            contract: request.contract,
            user: request.user,
            acl: self.host.addresses().acl,
            chain_id: request.chain_id,
        };
        // It takes tens of milliseconds of CPU.
        let checked = tokio::task::spawn_blocking({
            let (checker, list) = (Arc::clone(&self.checker), request.list.clone());
            move || checker.check(&list, &bound_to)
        });
        let types = match checked.await {
            Ok(Ok(types)) => types,
            Ok(Err(error @ (FheError::MalformedInput(_) | FheError::InvalidProof))) => {
                return Ok(Admission::Rejected { reason: error.to_string() });
            }
            Ok(Err(error)) => return Err(failed(&error)),
            Err(error) => return Err(failed(&error)),
        };
        let handles = input_handles(&request.list, &types, bound_to.acl, bound_to.chain_id).filter(|handles| !handles.is_empty());
        let Some(handles) = handles else {
            let reason = format!("the list has {} values", types.len());
            return Ok(Admission::Rejected { reason });
        };
        let extra_data = match &self.deposits {
            Some(deposits) => {
                deposits.deposit(&bound_to, &handles, &request.list).await?;
                Bytes::from_static(NO_EXTRA_DATA)
            }
            None => request.list.clone(),
        };
        Ok(Admission::Admitted(AdmittedInput {
            handles,
            signatures: Vec::new(),
            extra_data,
        }))
    }
}

fn failed(error: &dyn std::fmt::Display) -> ServiceError {
    tracing::error!(%error, "an input cannot be checked");
    ServiceError::new(Label::InternalServerError, "the input cannot be checked now")
}

#[cfg(test)]
mod tests;

//! The service `cipherloom.coprocessor.v1.Coprocessor`: what gateways and KMS nodes ask.
//!
//! A caller is a tenant, as in the service of the 0.6 generation, and its calls go through the same steps. What differs is what inputs get: handles of the
//! tenant's chain as its contracts have them today, signed where its `InputVerifier` says. **A gateway and a KMS node are not trusted**: they can ask for
//! what anybody may have, and for proofs to be checked.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cipherloom_primitives::{
    Address, B256, Handle,
    input::{InputMetadata, MAX_INPUT_LIST_BYTES},
};
use cipherloom_rpc::{
    cipherloom::coprocessor::v1::{
        AdmitInputRequest, AdmitInputResponse, AdmittedInput, DescribeRequest, DescribeResponse, GetKeyFileRequest, GetKeyFileResponse,
        GetSignedCiphertextRequest, GetSignedCiphertextResponse, GetSquashedCiphertextRequest, GetSquashedCiphertextResponse,
        HandleProgress, HandleState, KeyFileKind, SignedCiphertext, SignedSquashedCiphertext, WatchHandlesRequest, WatchHandlesResponse,
        admit_input_response, coprocessor_server::Coprocessor as Parts, get_signed_ciphertext_response, get_squashed_ciphertext_response,
    },
    codec::MAX_WATCHED_HANDLES,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{authentication::Caller, domains, failure::PartFailure, service::Shared, watch};
use crate::{CoprocessorError, HandleStatus, admission::MAX_EXTRA_DATA_BYTES, metrics::Method};

/// The longest that handles are watched with one call.
pub(super) const LONGEST_WATCH: Duration = Duration::from_secs(30);

/// The largest request: an input list with what stands beside it.
pub(super) const MAX_REQUEST_BYTES: usize = MAX_INPUT_LIST_BYTES + (64 << 10);

/// The service.
#[derive(Clone)]
pub(super) struct PartsService {
    pub(super) shared: Arc<Shared>,
}

#[tonic::async_trait]
impl Parts for PartsService {
    async fn describe(&self, request: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        let work = async |caller: &Caller, _: DescribeRequest| describe(&self.shared, caller).await;
        Box::pin(self.shared.answer(Method::Describe, request, one, work)).await
    }

    async fn get_key_file(&self, request: Request<GetKeyFileRequest>) -> Result<Response<GetKeyFileResponse>, Status> {
        let work = async |caller: &Caller, request: GetKeyFileRequest| key_file(&self.shared, caller, request).await;
        Box::pin(self.shared.answer(Method::GetKeyFile, request, one, work)).await
    }

    async fn admit_input(&self, request: Request<AdmitInputRequest>) -> Result<Response<AdmitInputResponse>, Status> {
        let work = async |caller: &Caller, request: AdmitInputRequest| admit(&self.shared, caller, request).await;
        Box::pin(self.shared.answer(Method::AdmitInput, request, check_input, work)).await
    }

    async fn watch_handles(&self, request: Request<WatchHandlesRequest>) -> Result<Response<WatchHandlesResponse>, Status> {
        let check = |request: &WatchHandlesRequest| match request.handles.len() {
            0 => Err(PartFailure::malformed("there are no handles to watch")),
            count @ 1..=MAX_WATCHED_HANDLES => Ok(count),
            _ => Err(PartFailure::malformed("too many handles are watched with one call")),
        };
        let work = async |caller: &Caller, request: WatchHandlesRequest| {
            let handles = request.handles.iter().map(handle).collect::<Result<Vec<_>, _>>()?;
            let at_most = Duration::from_millis(request.at_most_ms.into()).min(LONGEST_WATCH);
            let states = watch::watch(caller, &self.shared.tenancy.options().coprocessors, &handles, at_most).await?;
            Ok(WatchHandlesResponse { states })
        };
        Box::pin(self.shared.answer(Method::WatchHandles, request, check, work)).await
    }

    async fn get_signed_ciphertext(
        &self,
        request: Request<GetSignedCiphertextRequest>,
    ) -> Result<Response<GetSignedCiphertextResponse>, Status> {
        let work = async |caller: &Caller, request: GetSignedCiphertextRequest| {
            let outcome = ciphertext(&self.shared, caller, handle(&request.handle)?).await?;
            Ok(GetSignedCiphertextResponse { outcome: Some(outcome) })
        };
        Box::pin(self.shared.answer(Method::GetSignedCiphertext, request, one, work)).await
    }

    async fn get_squashed_ciphertext(
        &self,
        request: Request<GetSquashedCiphertextRequest>,
    ) -> Result<Response<GetSquashedCiphertextResponse>, Status> {
        let work = async |caller: &Caller, request: GetSquashedCiphertextRequest| {
            let at_most = Duration::from_millis(request.at_most_ms.into()).min(LONGEST_WATCH);
            let outcome = squashed(&self.shared, caller, handle(&request.handle)?, at_most).await?;
            Ok(GetSquashedCiphertextResponse { outcome: Some(outcome) })
        };
        Box::pin(self.shared.answer(Method::GetSquashedCiphertext, request, one, work)).await
    }
}

async fn describe(shared: &Shared, caller: &Caller) -> Result<DescribeResponse, PartFailure> {
    let tenant = &caller.tenant;
    let keys = shared.tenancy.keys_of(tenant).await?;
    let followed = domains::followed(shared.tenancy.database().as_ref(), tenant).await?;
    Ok(DescribeResponse {
        chain_id: tenant.chain_id,
        acl: tenant.acl.to_vec().into(),
        input_verifier: tenant.input_verifier.to_vec().into(),
        signer: shared.tenancy.signer_address().to_vec().into(),
        key_set_id: keys.id.to_vec().into(),
        manifest: keys.manifest_json().to_owned(),
        followed: followed.is_some(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

async fn key_file(shared: &Shared, caller: &Caller, request: GetKeyFileRequest) -> Result<GetKeyFileResponse, PartFailure> {
    let keys = shared.tenancy.keys_of(&caller.tenant).await?;
    if request.key_set_id.as_ref() != keys.id.as_slice() {
        return Err(PartFailure::unavailable("the tenant has other keys by now; ask for them"));
    }
    let file = match request.kind() {
        KeyFileKind::PublicKey => keys.public_key(shared.tenancy.database().as_ref()).await?,
        KeyFileKind::Crs => keys.crs(shared.tenancy.database().as_ref()).await?,
        KeyFileKind::Unspecified => return Err(PartFailure::malformed("there is no such file in a key set")),
    };
    let content = file.ok_or_else(|| PartFailure::misconfigured("the database lacks a part of the tenant's key set"))?;
    Ok(GetKeyFileResponse {
        content: Bytes::from_owner(content),
    })
}

fn check_input(request: &AdmitInputRequest) -> Result<usize, PartFailure> {
    if request.list.len() > MAX_INPUT_LIST_BYTES {
        let issue = format!("has {} bytes; at most {MAX_INPUT_LIST_BYTES} are accepted", request.list.len());
        return Err(PartFailure::invalid("ciphertextWithInputVerification", &issue));
    }
    if request.extra_data.len() > MAX_EXTRA_DATA_BYTES {
        let issue = format!(
            "has {} bytes; at most {MAX_EXTRA_DATA_BYTES} are accepted",
            request.extra_data.len()
        );
        return Err(PartFailure::invalid("extraData", &issue));
    }
    Ok(1)
}

async fn admit(shared: &Shared, caller: &Caller, request: AdmitInputRequest) -> Result<AdmitInputResponse, PartFailure> {
    let metadata = InputMetadata {
        contract: address(&request.contract)?,
        user: address(&request.user)?,
        acl: address(&request.acl)?,
        chain_id: request.chain_id,
    };
    let domains = shared.domains.of(shared.tenancy.database().as_ref(), &caller.tenant).await?;
    let coprocessor = shared.coprocessor(caller).await?;
    let admitted = coprocessor
        .admit_input_for(&domains, metadata, request.list.to_vec(), request.extra_data.to_vec())
        .await;
    let outcome = match admitted {
        Ok(admitted) => admit_input_response::Outcome::Admitted(AdmittedInput {
            handles: admitted.handles.iter().map(|handle| handle.as_slice().to_vec().into()).collect(),
            signatures: admitted
                .signatures
                .iter()
                .map(|signature| signature.as_bytes().to_vec().into())
                .collect(),
            extra_data: admitted.extra_data.into(),
        }),
        Err(error @ (CoprocessorError::InputRefused(_) | CoprocessorError::EmptyInput)) => {
            admit_input_response::Outcome::Rejected(error.to_string())
        }
        Err(error) => return Err(error.into()),
    };
    Ok(AdmitInputResponse { outcome: Some(outcome) })
}

async fn ciphertext(shared: &Shared, caller: &Caller, handle: Handle) -> Result<get_signed_ciphertext_response::Outcome, PartFailure> {
    let coprocessor = shared.coprocessor(caller).await?;
    let missing = |status| get_signed_ciphertext_response::Outcome::Missing(state(status));
    let signed = match coprocessor.signed_ciphertext(handle).await {
        Ok(signed) => signed,
        Err(CoprocessorError::NotComputed(_)) => return Ok(missing(HandleStatus::Pending)),
        Err(CoprocessorError::UnknownHandle(_) | CoprocessorError::WrongChain { .. }) => return Ok(missing(HandleStatus::Unknown)),
        Err(CoprocessorError::Failed { reason, .. }) => return Ok(missing(HandleStatus::Failed(reason))),
        Err(error) => return Err(error.into()),
    };
    Ok(get_signed_ciphertext_response::Outcome::Signed(SignedCiphertext {
        handle: signed.handle.as_slice().to_vec().into(),
        key_set_id: signed.key_set_id.to_vec().into(),
        content: signed.bytes.into(),
        attestations: vec![signed.signature.as_bytes().to_vec().into()],
    }))
}

/// Waits for a handle to be computed and squashed.
async fn squashed(
    shared: &Shared,
    caller: &Caller,
    handle: Handle,
    at_most: Duration,
) -> Result<get_squashed_ciphertext_response::Outcome, PartFailure> {
    use get_squashed_ciphertext_response::Outcome;
    let deadline = Instant::now() + at_most;
    // Another process may compute it, whose changes only the store tells.
    let states = watch::watch(caller, &shared.tenancy.options().coprocessors, &[handle], at_most).await?;
    let found = states.into_iter().next().unwrap_or_default();
    if found.progress() != HandleProgress::Computed {
        return Ok(Outcome::Missing(found));
    }
    let coprocessor = shared.coprocessor(caller).await?;
    let left = deadline.saturating_duration_since(Instant::now());
    let missing = |status| Ok(Outcome::Missing(state(status)));
    match coprocessor.signed_squashed(handle, left).await {
        Ok(signed) => Ok(Outcome::Signed(SignedSquashedCiphertext {
            handle: signed.handle.as_slice().to_vec().into(),
            key_set_id: signed.key_set_id.to_vec().into(),
            content: signed.bytes.into(),
            attestations: vec![signed.signature.as_bytes().to_vec().into()],
        })),
        Err(CoprocessorError::NotComputed(_)) => missing(HandleStatus::Pending),
        Err(CoprocessorError::UnknownHandle(_) | CoprocessorError::WrongChain { .. }) => missing(HandleStatus::Unknown),
        Err(CoprocessorError::Failed { reason, .. }) => missing(HandleStatus::Failed(reason)),
        Err(error) => Err(error.into()),
    }
}

/// Counts a request that is about one thing.
const fn one<T>(_: &T) -> Result<usize, PartFailure> {
    Ok(1)
}

/// Writes what became of a handle.
pub(super) fn state(status: HandleStatus) -> HandleState {
    let (progress, reason) = match status {
        HandleStatus::Unknown => (HandleProgress::Unknown, String::new()),
        HandleStatus::Pending => (HandleProgress::Pending, String::new()),
        HandleStatus::Computed => (HandleProgress::Computed, String::new()),
        HandleStatus::Failed(reason) => (HandleProgress::Failed, reason),
    };
    HandleState {
        progress: progress.into(),
        reason,
    }
}

fn handle(bytes: &Bytes) -> Result<Handle, PartFailure> {
    let bytes = B256::try_from(bytes.as_ref()).map_err(|_| PartFailure::malformed("a handle has 32 bytes"))?;
    Handle::try_from(bytes.as_slice()).map_err(|error| PartFailure::malformed(&format!("{bytes} is no handle: {error}")))
}

fn address(bytes: &Bytes) -> Result<Address, PartFailure> {
    Address::try_from(bytes.as_ref()).map_err(|_| PartFailure::malformed("an address has 20 bytes"))
}

impl From<PartFailure> for super::service::Refused {
    fn from(failure: PartFailure) -> Self {
        Self {
            code: failure.code(),
            text: failure.to_string(),
            status: failure.into(),
        }
    }
}

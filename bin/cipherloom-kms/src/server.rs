//! The gRPC service of a node: `cipherloom.kms.v1.Kms`.
//!
//! A request is for one chain, which its first handle names; the node of that chain answers it, and refuses handles of others. Nothing is taken from a
//! gateway on trust.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cipherloom_kms::{KmsError, KmsNode, MORE_SHARES_NEEDED};
use cipherloom_primitives::{B256, Handle, decryption::RequestError};
use cipherloom_rpc::{
    cipherloom::kms::v1::{
        DescribeRequest, DescribeResponse, PublicDecryptRequest, PublicDecryptResponse, UserDecryptRequest, UserDecryptResponse,
        kms_server::Kms,
    },
    failure::Failure,
};
use cipherloom_service::messages::{address, public_answer, read_evidence, read_public_request, read_user_request, share};
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, metadata::MetadataMap};
use zeroize::Zeroizing;

use super::metrics::Metrics;

/// The largest request: a thousand handles with what proves that they may be read.
pub(crate) const MAX_REQUEST_BYTES: usize = 16 << 20;

/// The service.
#[derive(Clone)]
pub(crate) struct KmsService(pub(super) Arc<Shared>);

/// What all requests work with.
pub(crate) struct Shared {
    /// By the id of their chain.
    pub(crate) nodes: HashMap<u64, KmsNode>,
    pub(crate) key_set_id: B256,
    pub(crate) insecure: bool,
    /// What callers have to send, if anything.
    pub(crate) token: Option<Zeroizing<Vec<u8>>>,
    pub(crate) metrics: Metrics,
    /// Cancelled when requests have to end.
    pub(crate) stopped: CancellationToken,
}

#[tonic::async_trait]
impl Kms for KmsService {
    async fn describe(&self, request: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        self.0.authenticate(request.metadata())?;
        let mut chain_ids: Vec<u64> = self.0.nodes.keys().copied().collect();
        chain_ids.sort_unstable();
        let signer = self
            .0
            .nodes
            .values()
            .next()
            .map(|node| address(&node.address()))
            .unwrap_or_default();
        Ok(Response::new(DescribeResponse {
            key_set_id: Bytes::copy_from_slice(self.0.key_set_id.as_slice()),
            signer,
            chain_ids,
            centralised: true,
            insecure: self.0.insecure,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }

    async fn public_decrypt(&self, request: Request<PublicDecryptRequest>) -> Result<Response<PublicDecryptResponse>, Status> {
        let work = async |request: PublicDecryptRequest| {
            let evidence = read_evidence(&request.acl_evidence).map_err(|error| malformed(&error))?;
            let request = read_public_request(request).map_err(|error| malformed(&error))?;
            let node = node_of(&self.0.nodes, &request.handles)?;
            let answer = node.public_decrypt_with(request, evidence).await.map_err(|error| refused(&error))?;
            Ok(public_answer(answer))
        };
        Box::pin(self.0.answer("public_decrypt", request, work)).await
    }

    async fn user_decrypt(&self, request: Request<UserDecryptRequest>) -> Result<Response<UserDecryptResponse>, Status> {
        let work = async |request: UserDecryptRequest| {
            let evidence = read_evidence(&request.acl_evidence).map_err(|error| malformed(&error))?;
            let request = read_user_request(request).map_err(|error| malformed(&error))?;
            let node = node_of(&self.0.nodes, &request.handles())?;
            let answer = node.user_decrypt_with(request, evidence).await.map_err(|error| refused(&error))?;
            Ok(UserDecryptResponse {
                shares: vec![share(answer)],
            })
        };
        Box::pin(self.0.answer("user_decrypt", request, work)).await
    }
}

impl Shared {
    async fn answer<T, A>(
        &self,
        what: &'static str,
        request: Request<T>,
        work: impl AsyncFnOnce(T) -> Result<A, (Code, Failure)>,
    ) -> Result<Response<A>, Status> {
        self.authenticate(request.metadata())?;
        let stopping = "the KMS is stopping; try again";
        carry_out(&self.metrics, &self.stopped, stopping, what, work(request.into_inner())).await
    }

    /// Compares the token of a call, in constant time.
    fn authenticate(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let Some(token) = &self.token else { return Ok(()) };
        let given = metadata
            .get("authorization")
            .and_then(|value| value.as_bytes().split_at_checked("Bearer ".len()));
        match given {
            Some((scheme, given)) if scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(given.ct_eq(token.as_slice())) => Ok(()),
            _ => Err(
                Failure::new("internal_server_error", "the KMS does not know the gateway's access token")
                    .into_status(Code::Unauthenticated),
            ),
        }
    }
}

/// Does what a request asks for unless the process stops before, and counts how it went.
pub(crate) async fn carry_out<A>(
    metrics: &Metrics,
    stopped: &CancellationToken,
    stopping: &str,
    what: &'static str,
    work: impl Future<Output = Result<A, (Code, Failure)>>,
) -> Result<Response<A>, Status> {
    let (start, _in_progress) = (Instant::now(), metrics.begin());
    let answer = tokio::select! {
        answer = work => answer,
        () = stopped.cancelled() => Err((Code::Unavailable, Failure::new("gateway_not_reachable", stopping))),
    };
    let outcome = answer.as_ref().map_or_else(|(_, failure)| failure.label.as_str(), |_| "ok");
    metrics.answered(what, outcome, start.elapsed());
    answer.map(Response::new).map_err(|(code, failure)| failure.into_status(code))
}

/// Finds the node of the chain that the first handle names.
pub(crate) fn node_of<'nodes, Node>(nodes: &'nodes HashMap<u64, Node>, handles: &[Handle]) -> Result<&'nodes Node, (Code, Failure)> {
    let Some(first) = handles.first() else {
        return Err(refused(&RequestError::NoHandles.into()));
    };
    nodes.get(&first.chain_id()).ok_or_else(|| {
        let issue = format!(
            "handle {first} belongs to chain {}, which this KMS does not answer for",
            first.chain_id()
        );
        (
            Code::InvalidArgument,
            Failure::new("validation_failed", &issue).with_issue("handles", &issue),
        )
    })
}

/// A message is not of the form that the interface describes.
pub(crate) fn malformed(error: &anyhow::Error) -> (Code, Failure) {
    (Code::InvalidArgument, Failure::new("request_error", &format!("{error:#}")))
}

/// Says why a request is refused, with the protocol's label.
pub(crate) fn refused(error: &KmsError) -> (Code, Failure) {
    let code = match error.label() {
        "validation_failed" | "request_error" => Code::InvalidArgument,
        "not_allowed_on_host_acl" => Code::PermissionDenied,
        "not_ready_for_decryption" => Code::FailedPrecondition,
        "protocol_overload" => Code::ResourceExhausted,
        "gateway_not_reachable" => Code::Unavailable,
        MORE_SHARES_NEEDED => Code::FailedPrecondition,
        _ => Code::Internal,
    };
    if code == Code::Internal {
        tracing::error!(%error, "a decryption failed");
    }
    let message = error.to_string();
    let failure = Failure::new(error.label(), &message);
    let failure = match error.field() {
        Some(field) => failure.with_issue(field, &message),
        None => failure,
    };
    let failure = match error.retry_after_seconds() {
        Some(seconds) => failure.retry_after(Duration::from_secs(seconds)),
        None => failure,
    };
    (code, failure)
}

#[cfg(test)]
mod tests {
    use cipherloom_gateway::Label;
    use cipherloom_primitives::{Address, FheType};

    use super::*;

    #[test]
    fn errors_keep_their_label_and_their_field_over_the_wire() {
        let handle = Handle::computed(B256::repeat_byte(1), 31337, FheType::Uint8);
        let account = Address::repeat_byte(2);
        for error in [
            KmsError::NotPublic(handle),
            KmsError::NotAllowed { handle, account },
            KmsError::NotReady(handle),
            KmsError::Overloaded,
            KmsError::Task,
            KmsError::PermitSignature { signer: account },
            KmsError::Request(RequestError::ExtraData),
            KmsError::Request(RequestError::Duration(0)),
        ] {
            let (code, failure) = refused(&error);
            let read = Failure::of(&failure.into_status(code)).unwrap();
            assert_eq!(read.label, error.label(), "{error}");
            assert_eq!(read.message, error.to_string());
            assert_eq!(read.issues.first().map(|issue| issue.field.as_str()), error.field(), "{error}");
            let label = Label::ALL.into_iter().find(|label| label.as_str() == read.label).unwrap();
            assert_eq!(label.has_details(), error.field().is_some(), "{error}");
        }
    }
}

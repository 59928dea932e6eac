//! The service `fhevm.coprocessor.FhevmCoprocessor`.

use std::sync::Arc;

use cipherloom_rpc::fhevm::coprocessor::{
    AsyncComputeRequest, GenericResponse, GetCiphertextBatch, GetCiphertextResponse, InputUploadBatch, InputUploadResponse,
    TrivialEncryptBatch, fhevm_coprocessor_server::FhevmCoprocessor,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};
use tracing::Span;

use super::{
    admission::Admitted, answers::AnswerCache, authentication::Caller, config::ServerConfig, domains::InputDomains, error::RequestError,
};
use crate::{Coprocessor, Tenancy, metrics::Method};

/// The service.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) shared: Arc<Shared>,
}

/// What all requests work with.
pub(super) struct Shared {
    pub(super) config: ServerConfig,
    pub(super) tenancy: Tenancy,
    pub(super) answers: AnswerCache,
    /// Where signatures of tenants' inputs are valid.
    pub(super) domains: InputDomains,
    /// Cancelled when requests have to end.
    pub(super) stopped: CancellationToken,
}

impl Shared {
    /// Returns the coprocessor of a caller.
    pub(super) async fn coprocessor(&self, caller: &Caller) -> Result<Coprocessor, RequestError> {
        Ok(self.tenancy.coprocessor(&caller.tenant).await?)
    }
}

/// Why a call is refused: its code for metrics, what the log says, and what the caller is told.
pub(super) struct Refused {
    pub(super) code: Code,
    pub(super) text: String,
    pub(super) status: Status,
}

impl From<RequestError> for Refused {
    fn from(error: RequestError) -> Self {
        Self {
            code: error.code(),
            text: error.to_string(),
            status: error.into(),
        }
    }
}

impl Shared {
    /// Answers a request: refuses it if it is too large, then if nobody knows who asks, and notes how it went.
    pub(super) async fn answer<T, A, E>(
        &self,
        method: Method,
        request: Request<T>,
        check: impl FnOnce(&T) -> Result<usize, E>,
        work: impl AsyncFnOnce(&Caller, T) -> Result<A, E>,
    ) -> Result<Response<A>, Status>
    where
        E: From<RequestError> + Into<Refused>,
    {
        let in_progress = self.tenancy.options().coprocessors.metrics.requests().begin(method);
        let answered = async {
            let items = check(request.get_ref())?;
            let caller = Admitted::caller(&request)?;
            // The span of the call, which was begun when it was admitted.
            Span::current().record("tenant", caller.tenant.name.as_str()).record("items", items);
            let answer = tokio::select! {
                answer = work(&caller, request.into_inner()) => answer?,
                () = self.stopped.cancelled() => return Err(E::from(RequestError::Stopping)),
            };
            Ok((answer, items))
        };
        match answered.await {
            Ok((answer, items)) => {
                in_progress.succeeded(items);
                Ok(Response::new(answer))
            }
            Err(error) => {
                let Refused { code, text, status } = error.into();
                tracing::debug!(error = text, "a request was refused");
                let code = label(code);
                Span::current().record("code", code);
                in_progress.failed(code);
                Err(status)
            }
        }
    }
}

#[tonic::async_trait]
impl FhevmCoprocessor for Service {
    async fn async_compute(&self, request: Request<AsyncComputeRequest>) -> Result<Response<GenericResponse>, Status> {
        let check = |request: &AsyncComputeRequest| self.check_scheduled(request.computations.len());
        let work = async |caller: &Caller, request: AsyncComputeRequest| self.schedule(caller, request).await;
        Box::pin(self.shared.answer(Method::AsyncCompute, request, check, work)).await
    }

    async fn upload_inputs(&self, request: Request<InputUploadBatch>) -> Result<Response<InputUploadResponse>, Status> {
        let check = |request: &InputUploadBatch| self.check_uploaded(request.input_ciphertexts.len());
        let work = async |caller: &Caller, request: InputUploadBatch| self.upload(caller, request).await;
        Box::pin(self.shared.answer(Method::UploadInputs, request, check, work)).await
    }

    async fn get_ciphertexts(&self, request: Request<GetCiphertextBatch>) -> Result<Response<GetCiphertextResponse>, Status> {
        let check = |request: &GetCiphertextBatch| self.check_asked_for(request.handles.len());
        let work = async |caller: &Caller, request: GetCiphertextBatch| self.serve(caller, request).await;
        Box::pin(self.shared.answer(Method::GetCiphertexts, request, check, work)).await
    }

    async fn trivial_encrypt_ciphertexts(&self, request: Request<TrivialEncryptBatch>) -> Result<Response<GenericResponse>, Status> {
        let check = |request: &TrivialEncryptBatch| self.check_scheduled(request.values.len());
        let work = async |caller: &Caller, request: TrivialEncryptBatch| self.encrypt(caller, request).await;
        Box::pin(self.shared.answer(Method::TrivialEncrypt, request, check, work)).await
    }
}

impl Service {
    fn check_scheduled(&self, got: usize) -> Result<usize, RequestError> {
        let maximum = self.shared.config.limits.ciphertexts_to_schedule;
        if got > maximum {
            return Err(RequestError::TooManyToSchedule { maximum, got });
        }
        Ok(got)
    }

    fn check_uploaded(&self, uploaded: usize) -> Result<usize, RequestError> {
        let maximum = self.shared.config.limits.compact_inputs;
        if uploaded > maximum {
            return Err(RequestError::TooManyInputs { maximum, uploaded });
        }
        Ok(uploaded)
    }

    fn check_asked_for(&self, requested: usize) -> Result<usize, RequestError> {
        let maximum = self.shared.config.limits.ciphertexts_to_get;
        if requested > maximum {
            return Err(RequestError::TooManyToGet { maximum, requested });
        }
        Ok(requested)
    }
}

/// Says that it worked.
pub(super) const fn done() -> GenericResponse {
    GenericResponse { response_code: 0 }
}

/// The name of a status code in metrics.
const fn label(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::InvalidArgument => "invalid_argument",
        Code::NotFound => "not_found",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::Unavailable => "unavailable",
        Code::Unauthenticated => "unauthenticated",
        _ => "internal",
    }
}

//! The two services: `fhevm.executor.FhevmExecutor` of the 0.6 generation, all or nothing, and our own, result by result.

use std::{sync::Arc, time::Instant};

use cipherloom_fhe::BackendKind;
use cipherloom_primitives::CiphertextForm;
use cipherloom_rpc::{
    cipherloom::executor::v1::{
        self as own, ComputeRequest, ComputeResult, DescribeRequest, DescribeResponse, compute_result::Outcome as Reported,
        executor_server::Executor,
    },
    fhevm::executor::{
        CompressedCiphertext, ResultCiphertexts, SyncComputeRequest, SyncComputeResponse, fhevm_executor_server::FhevmExecutor,
        sync_compute_response::Resp,
    },
};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{
    admission::Admitted,
    ending::{Until, ending},
    error::ComputeError,
    job::{Job, Outcome, Wanted, Workshop},
};

/// The header of an answer that says in words why there are no results.
pub const REASON_HEADER: &str = "cipherloom-reason";

/// The longest reason in a header, in bytes.
const MAX_REASON_BYTES: usize = 512;

/// Results as they are ready.
pub(crate) type Results = BoxStream<'static, Result<ComputeResult, Status>>;

/// Both services.
#[derive(Clone)]
pub(crate) struct Service {
    workshop: Arc<Workshop>,
    /// Cancelled when requests have to end.
    stopped: CancellationToken,
}

impl Service {
    pub(crate) const fn new(workshop: Arc<Workshop>, stopped: CancellationToken) -> Self {
        Self { workshop, stopped }
    }

    /// Computes everything, or says what the first fault is.
    async fn all_or_nothing(&self, request: SyncComputeRequest) -> Result<Result<ResultCiphertexts, Fault>, Status> {
        // As in the generation, whose ciphertexts are lists of one value, compressed.
        let wanted = Wanted {
            outputs: Vec::new(),
            form: CiphertextForm::Packed,
        };
        let job = Job::prepare(Arc::clone(&self.workshop), request, wanted).await?;
        if let Some(error) = job.input_faults().first() {
            return Ok(Err(Fault::of_input(error)));
        }
        let planned = job.results().iter();
        if let Some(fault) = first_fault(planned.filter_map(|planned| Some((planned.computation, planned.from.as_ref().err()?)))) {
            return Ok(Err(fault));
        }
        let outcomes = self.collect(job.outcomes()).await?;
        let faults = outcomes
            .iter()
            .filter_map(|outcome| Some((outcome.computation, outcome.result.as_ref().err()?)));
        if let Some(fault) = first_fault(faults) {
            return Ok(Err(fault));
        }
        let ciphertext = |outcome: Outcome| {
            let (handle, serialization) = (outcome.handle, outcome.result.ok()?);
            Some(CompressedCiphertext { handle, serialization })
        };
        Ok(Ok(ResultCiphertexts {
            ciphertexts: outcomes.into_iter().filter_map(ciphertext).collect(),
        }))
    }

    /// Begins to compute a block piece by piece, till the deadline at most.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` above the limits, `INVALID_ARGUMENT` for a form that there is not.
    pub(crate) async fn begin(&self, request: ComputeRequest, deadline: tokio::time::Instant) -> Result<Results, Status> {
        let ComputeRequest { block, outputs, form } = request;
        let block = block.unwrap_or_default();
        let wanted = Wanted {
            outputs,
            form: form_of_number(form)?,
        };
        let computations = block.computations.len();
        let job = tokio::select! {
            job = Box::pin(Job::prepare(Arc::clone(&self.workshop), block, wanted)) => job?,
            status = ending(deadline, self.stopped.clone()) => return Err(status),
        };
        tracing::info!(
            computations,
            parts = job.parts(),
            results = job.results().len(),
            "computing a block piece by piece"
        );
        let faults: Vec<_> = job
            .input_faults()
            .iter()
            .map(|error| Ok(reported(Default::default(), Err(error.clone()))))
            .collect();
        let results = job.outcomes().map_ok(|outcomes| {
            let results = outcomes.into_iter().map(|outcome| Ok(reported(outcome.handle, outcome.result)));
            stream::iter(results)
        });
        let results = stream::iter(faults).chain(results.try_flatten());
        let ending = Box::pin(ending(deadline, self.stopped.clone()));
        Ok(Until::new(results, ending).boxed())
    }

    /// Gathers the outcomes in the order of the computations.
    async fn collect(&self, outcomes: impl Stream<Item = Result<Vec<Outcome>, Status>>) -> Result<Vec<Outcome>, Status> {
        let limit = self.workshop.config.limits.response_bytes;
        let gathered = outcomes.try_fold((Vec::new(), 0usize), |(mut all, mut size), some| async move {
            let sizes = some.iter().filter_map(|outcome| Some(outcome.result.as_ref().ok()?.len()));
            size = size.saturating_add(sizes.sum());
            if size > limit {
                return Err(Status::resource_exhausted(format!(
                    "the results are larger than {limit} bytes; the streaming service has no such limit"
                )));
            }
            all.extend(some);
            Ok((all, size))
        });
        let (mut outcomes, _) = gathered.await?;
        outcomes.sort_unstable_by_key(|outcome| outcome.position);
        Ok(outcomes)
    }
}

#[tonic::async_trait]
impl FhevmExecutor for Service {
    async fn sync_compute(&self, request: Request<SyncComputeRequest>) -> Result<Response<SyncComputeResponse>, Status> {
        let admitted = Admitted::of(&request)?;
        let request = request.into_inner();
        let (start, computations) = (Instant::now(), request.computations.len());
        let answer = tokio::select! {
            answer = Box::pin(self.all_or_nothing(request)) => answer,
            status = ending(admitted.deadline, self.stopped.clone()) => Err(status),
        };
        let seconds = start.elapsed().as_secs_f64();
        match answer {
            Ok(Ok(results)) => {
                tracing::info!(computations, results = results.ciphertexts.len(), seconds, "computed a block");
                Ok(answered(Resp::ResultCiphertexts(results)))
            }
            Ok(Err(fault)) => {
                tracing::warn!(computations, seconds, reason = %fault.reason, "a block cannot be computed");
                let mut response = answered(Resp::Error(fault.code));
                if let Ok(reason) = header_text(&fault.reason).parse() {
                    response.metadata_mut().insert(REASON_HEADER, reason);
                }
                Ok(response)
            }
            Err(status) => {
                tracing::warn!(computations, seconds, code = ?status.code(), reason = status.message(), "a request ended without an answer");
                Err(status)
            }
        }
    }
}

#[tonic::async_trait]
impl Executor for Service {
    type ComputeStream = Results;

    async fn compute(&self, request: Request<ComputeRequest>) -> Result<Response<Self::ComputeStream>, Status> {
        let admitted = Admitted::of(&request)?;
        Ok(Response::new(self.begin(request.into_inner(), admitted.deadline).await?))
    }

    async fn describe(&self, _request: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        let config = &self.workshop.config;
        let limit = |limit: usize| u32::try_from(limit).unwrap_or(u32::MAX);
        Ok(Response::new(DescribeResponse {
            key_set_id: config.key_set_id.to_vec().into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            policy: self.workshop.pool.engine().policy.name().to_owned(),
            max_request_bytes: config.limits.request_bytes as u64,
            max_computations: limit(config.limits.computations),
            max_ciphertexts: limit(config.limits.ciphertexts),
            insecure_clear: self.workshop.backend.kind() == BackendKind::Clear,
        }))
    }
}

fn form_of_number(number: i32) -> Result<CiphertextForm, Status> {
    match own::CiphertextForm::try_from(number) {
        Ok(own::CiphertextForm::Packed) => Ok(CiphertextForm::Packed),
        Ok(own::CiphertextForm::Raw) => Ok(CiphertextForm::Raw),
        Err(_) => Err(Status::invalid_argument(format!("there is no form {number} of ciphertexts"))),
    }
}

/// Why a block has no results.
struct Fault {
    code: i32,
    reason: String,
}

impl Fault {
    fn of_input(error: &ComputeError) -> Self {
        Self {
            code: error.code() as i32,
            reason: error.to_string(),
        }
    }
}

/// Picks the fault to report: the first that is the cause of others, in the order of the computations.
fn first_fault<'a>(faults: impl Iterator<Item = (Option<usize>, &'a ComputeError)>) -> Option<Fault> {
    let (computation, error) = faults.min_by_key(|(computation, error)| (!error.is_cause(), *computation))?;
    let place = computation.map_or_else(String::new, |number| format!("computation {number}: "));
    Some(Fault {
        code: error.code() as i32,
        reason: format!("{place}{error}"),
    })
}

fn answered(resp: Resp) -> Response<SyncComputeResponse> {
    Response::new(SyncComputeResponse { resp: Some(resp) })
}

fn reported(handle: bytes::Bytes, result: Result<bytes::Bytes, ComputeError>) -> ComputeResult {
    let outcome = match result {
        Ok(serialization) => Reported::Serialization(serialization),
        Err(error) => Reported::Failure(own::Failure {
            error: error.code() as i32,
            reason: error.to_string(),
        }),
    };
    ComputeResult {
        handle,
        outcome: Some(outcome),
    }
}

/// Makes a text fit for a header: printable ASCII of limited length.
fn header_text(text: &str) -> String {
    let printable = |letter: char| if letter.is_ascii_graphic() || letter == ' ' { letter } else { '?' };
    text.chars().take(MAX_REASON_BYTES).map(printable).collect()
}

//! One request under way: from messages to ciphertexts, part by part.
//!
//! Nothing is left behind when a job is dropped: evaluations are cancelled between two batches, and what reads or writes ciphertexts looks at the
//! token first.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use alloy_primitives::Keccak256;
use bytes::Bytes;
use cipherloom_engine::{EngineError, EnginePool, Graph, NodeError, Program};
use cipherloom_fhe::{Ciphertext, FheBackend};
use cipherloom_primitives::{B256, CiphertextForm, Computation, Handle, RandomiserContext};
use cipherloom_rpc::fhevm::executor::SyncComputeRequest;
use futures_util::{Stream, StreamExt as _, stream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

use crate::{
    config::ExecutorConfig,
    error::ComputeError,
    outside::{Outside, Reader},
    plan::{Part, Plan, Planned, Source},
};

/// How many parts are read, evaluated or written at a time. It bounds the memory for ciphertexts of a request, not how many threads compute.
const PARTS_AT_A_TIME: usize = 256;

/// Separates the digests of parts from others.
const PART_DOMAIN: &[u8] = b"cipherloom executor part 1";

/// What computes.
pub(crate) struct Workshop {
    pub(crate) backend: Arc<dyn FheBackend>,
    pub(crate) pool: EnginePool,
    pub(crate) config: ExecutorConfig,
}

/// What is wanted of a request.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The handles whose ciphertexts are wanted; without any, all results.
    pub(crate) outputs: Vec<Bytes>,
    /// The form of the ciphertexts.
    pub(crate) form: CiphertextForm,
}

/// What became of one result.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Its place in the order of results.
    pub(crate) position: usize,
    /// The number of its computation in the request.
    pub(crate) computation: Option<usize>,
    /// Its handle as it was sent.
    pub(crate) handle: Bytes,
    /// The ciphertext as it goes out.
    pub(crate) result: Result<Bytes, ComputeError>,
}

/// A request whose inputs are read and whose computations are planned.
pub(crate) struct Job {
    workshop: Arc<Workshop>,
    outside: Outside,
    plan: Plan,
    /// The handles that several parts need from outside.
    shared: HashSet<Handle>,
    /// The form of the ciphertexts that go out.
    form: CiphertextForm,
    cancelled: CancellationToken,
    _cancel_on_drop: DropGuard,
}

impl Job {
    /// Reads, checks and plans a request.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` above the limits.
    pub(crate) async fn prepare(workshop: Arc<Workshop>, request: SyncComputeRequest, wanted: Wanted) -> Result<Arc<Self>, Status> {
        check_counts(&workshop.config, &request, &wanted)?;
        let form = wanted.form;
        let cancelled = CancellationToken::new();
        // Held here, so that a client that goes away ends the check of proofs.
        let guard = cancelled.clone().drop_guard();
        let token = cancelled.clone();
        let prepared = blocking(move || {
            let reader = Reader {
                backend: &workshop.backend,
                config: &workshop.config,
                cancelled: &token,
            };
            let outside = reader.read(&request)?;
            let plan = Plan::new(&request.computations, &outside.handles(), &wanted.outputs);
            Ok::<_, Status>((workshop, outside, plan))
        });
        let (workshop, outside, plan) = prepared.await??;
        Ok(Arc::new(Self {
            workshop,
            outside,
            shared: shared(&plan),
            plan,
            form,
            cancelled,
            _cancel_on_drop: guard,
        }))
    }

    /// Returns what is wrong with the inputs.
    pub(crate) fn input_faults(&self) -> &[ComputeError] {
        &self.outside.faults
    }

    /// Returns what becomes of each result.
    pub(crate) fn results(&self) -> &[Planned] {
        &self.plan.results
    }

    /// Returns how many parts are evaluated.
    pub(crate) fn parts(&self) -> usize {
        self.plan.parts.iter().filter(|part| !part.results.is_empty()).count()
    }

    /// Computes everything and gives the outcomes as they are there: first what needs no computation, then part by part.
    pub(crate) fn outcomes(self: Arc<Self>) -> impl Stream<Item = Result<Vec<Outcome>, Status>> + Send + 'static {
        let first = stream::once(Arc::clone(&self).without_computing());
        let wanted = self.plan.parts.iter().enumerate().filter(|(_, part)| !part.results.is_empty());
        let wanted: Vec<usize> = wanted.map(|(number, _)| number).collect();
        let parts = stream::iter(wanted).map(move |part| Arc::clone(&self).part(part));
        first.chain(parts.buffer_unordered(PARTS_AT_A_TIME))
    }

    async fn without_computing(self: Arc<Self>) -> Result<Vec<Outcome>, Status> {
        blocking(move || {
            let outcome = |(position, planned): (usize, &Planned)| {
                let result = match &planned.from {
                    Ok(Source::Outside(handle)) => self.given(*handle),
                    Ok(Source::Part { .. }) => return None,
                    Err(error) => Err(error.clone()),
                };
                self.outcome(position, result)
            };
            self.plan.results.iter().enumerate().filter_map(outcome).collect()
        })
        .await
    }

    /// Computes one part.
    async fn part(self: Arc<Self>, number: usize) -> Result<Vec<Outcome>, Status> {
        let job = Arc::clone(&self);
        let (program, inputs, faults) = blocking(move || job.read_part(number)).await??;
        let evaluated = self.workshop.pool.submit(program, inputs).await.map_err(stopped)?;
        blocking(move || {
            let written = |(handle, value): (Handle, Result<Ciphertext, NodeError>)| {
                let value = value.map_err(|error| compute_error(error, &faults));
                (handle, value.and_then(|value| self.write(&value)))
            };
            let results: HashMap<Handle, Result<Bytes, ComputeError>> = evaluated.outputs.into_iter().map(written).collect();
            let part = self.plan.parts.get(number).map(|part| part.results.as_slice()).unwrap_or_default();
            let outcome = |(position, handle): &(usize, Handle)| {
                let missing = || Err(ComputeError::ComputationFailed(format!("{handle} was not computed")));
                self.outcome(*position, results.get(handle).cloned().unwrap_or_else(missing))
            };
            part.iter().filter_map(outcome).collect()
        })
        .await
    }

    fn outcome(&self, position: usize, result: Result<Bytes, ComputeError>) -> Option<Outcome> {
        let planned = self.plan.results.get(position)?;
        Some(Outcome {
            position,
            computation: planned.computation,
            handle: planned.handle.clone(),
            result,
        })
    }

    /// Compiles a part and reads the ciphertexts it needs.
    fn read_part(&self, number: usize) -> Result<PartReady, Status> {
        if self.cancelled.is_cancelled() {
            return Err(Status::cancelled("nobody waits for the results any more"));
        }
        let Part {
            computations,
            boundary,
            results,
        } = self.plan.parts.get(number).ok_or_else(|| Status::internal("a part is missing"))?;
        let graph = Graph::record(computations, results.iter().map(|(_, handle)| *handle), boundary.iter().copied());
        let graph = graph.map_err(|error| Status::resource_exhausted(error.to_string()))?;
        let program = self.workshop.pool.engine().compile(&graph).program;
        let (mut inputs, mut faults) = (HashMap::new(), HashMap::new());
        let context = self.randomiser(computations);
        for handle in boundary {
            match self.read(*handle, &context) {
                Ok(value) => {
                    inputs.insert(*handle, value);
                }
                Err(error) => {
                    faults.insert(*handle, error);
                }
            }
        }
        Ok((Arc::new(program), inputs, faults))
    }

    /// Returns what the seeds of a part's inputs are derived from. A part stands where elsewhere a transaction does.
    fn randomiser(&self, computations: &[Computation]) -> RandomiserContext {
        let mut hasher = Keccak256::new();
        hasher.update(PART_DOMAIN);
        for computation in computations {
            hasher.update(computation.result.as_slice());
            computation.inputs.iter().for_each(|input| hasher.update(input.as_slice()));
        }
        RandomiserContext {
            key_set_id: B256::from(self.workshop.config.key_set_id),
            // An executor is not told which chain it works for; handles and results name it.
            chain_id: 0,
            transaction: hasher.finalize(),
        }
    }

    /// Reads a value from outside to compute with it.
    fn read(&self, handle: Handle, context: &RandomiserContext) -> Result<Ciphertext, ComputeError> {
        let mut value = self.outside.value(handle, self.shared.contains(&handle))?;
        let digest = self.outside.digest(handle).ok_or(ComputeError::UnknownHandle(handle))?;
        let seed = context.seed(handle, digest);
        let randomised = self.workshop.backend.rerandomise(&mut value, &seed);
        randomised.map_err(|error| ComputeError::ComputationFailed(error.to_string()))?;
        Ok(value)
    }

    /// Gives a value from outside as it goes out.
    fn given(&self, handle: Handle) -> Result<Bytes, ComputeError> {
        match self.outside.bytes(handle, self.form) {
            Some(bytes) => Ok(bytes),
            None => self.write(&self.outside.value(handle, false)?),
        }
    }

    fn write(&self, value: &Ciphertext) -> Result<Bytes, ComputeError> {
        let bytes = match self.form {
            CiphertextForm::Raw => self.workshop.backend.serialize(value),
            CiphertextForm::Packed => self.workshop.backend.pack(value),
        };
        bytes
            .map(Bytes::from)
            .map_err(|error| ComputeError::ComputationFailed(error.to_string()))
    }
}

/// A compiled part, its inputs, and why some are missing.
type PartReady = (Arc<Program>, HashMap<Handle, Ciphertext>, HashMap<Handle, ComputeError>);

/// Lists the handles that several parts need.
fn shared(plan: &Plan) -> HashSet<Handle> {
    let mut uses: BTreeMap<Handle, usize> = BTreeMap::new();
    for handle in plan
        .parts
        .iter()
        .filter(|part| !part.results.is_empty())
        .flat_map(|part| &part.boundary)
    {
        *uses.entry(*handle).or_default() += 1;
    }
    uses.into_iter().filter(|(_, count)| *count > 1).map(|(handle, _)| handle).collect()
}

fn check_counts(config: &ExecutorConfig, request: &SyncComputeRequest, wanted: &Wanted) -> Result<(), Status> {
    let limits = &config.limits;
    for (what, count, limit) in [
        ("computations", request.computations.len(), limits.computations),
        ("wanted outputs", wanted.outputs.len(), limits.computations),
        ("ciphertexts", request.compressed_ciphertexts.len(), limits.ciphertexts),
        ("input lists", request.compact_ciphertext_lists.len(), limits.input_lists),
        ("input contexts", request.input_contexts.len(), limits.input_lists),
    ] {
        if count > limit {
            return Err(Status::resource_exhausted(format!("{count} {what}; a request has at most {limit}")));
        }
    }
    Ok(())
}

/// Runs what takes its time on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Status::internal("a thread of the executor was lost"))
}

fn stopped(error: EngineError) -> Status {
    match error {
        EngineError::Stopped => Status::unavailable("the executor is stopping"),
        other => Status::internal(other.to_string()),
    }
}

fn compute_error(error: NodeError, faults: &HashMap<Handle, ComputeError>) -> ComputeError {
    let reason = error.to_string();
    match error {
        NodeError::MissingInput(handle) | NodeError::UnknownOperand(handle) => {
            let fault = faults.get(&handle).map(|fault| fault.through(handle));
            fault.unwrap_or(ComputeError::MissingProducer(handle))
        }
        NodeError::UsedBeforeComputed(_) => ComputeError::UnsatisfiedDependence,
        NodeError::InvalidOperation { .. } => ComputeError::UnsupportedOperation(reason),
        NodeError::OperandType { .. } | NodeError::InputType { .. } => ComputeError::BadInputs(reason),
        _ => ComputeError::ComputationFailed(reason),
    }
}

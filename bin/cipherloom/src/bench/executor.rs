//! `cipherloom bench executor`: a block of transactions through the executor's gRPC service, from request to answer.
//!
//! All transactions of a round are one request of `fhevm.executor.FhevmExecutor/SyncCompute`, over a connection to this machine. The answer has the
//! result of every computation, not only of those that a contract stores, in packed form: that is what the interface promises. Reading what was sent,
//! packing what is answered and the transport count.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use cipherloom_engine::{Engine, PoolOptions, PoolStatistics};
use cipherloom_executor::{Executor, ExecutorConfig, ExecutorHandle};
use cipherloom_primitives::{Computation, FheType, Handle, Operand, TypedOperation, U256};
use cipherloom_rpc::fhevm::executor::{
    CompressedCiphertext, SyncComputation, SyncComputeError, SyncComputeRequest, SyncInput, fhevm_executor_client::FhevmExecutorClient,
    sync_compute_response::Resp, sync_input::Input,
};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

use super::{
    ground::{Ground, Samples},
    measurement::{self, Subject},
    options::{ExecutorOptions, Form},
    report,
    scenario::Scenario,
    workload::Workload,
};

/// The largest answer that is taken.
const MAX_ANSWER_BYTES: usize = 1 << 30;

/// Measures and prints.
///
/// # Errors
/// If anything fails or a result is wrong.
pub(crate) fn run(options: &ExecutorOptions) -> Result<()> {
    let ground = Ground::prepare(&options.workload.common)?;
    let samples = ground.sample_ciphertexts(&Workload::TYPES)?;
    let mut client = Client::start(&ground, &samples, options)?;
    let measurement = measurement::run(&ground, &samples, &options.workload, &mut client)?;
    client.stop()?;
    let form = ("form", options.form.name());
    report::print("executor", &ground, &options.workload, Some(form), &measurement)
}

/// An executor in this process and a client of it.
struct Client<'a> {
    ground: &'a Ground,
    samples: &'a Samples,
    form: Form,
    runtime: Runtime,
    executor: ExecutorHandle,
    client: FhevmExecutorClient<Channel>,
    given: Vec<CompressedCiphertext>,
    answer: Vec<CompressedCiphertext>,
}

impl<'a> Client<'a> {
    fn start(ground: &'a Ground, samples: &'a Samples, options: &ExecutorOptions) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = ExecutorConfig::new(listen, *ground.keys.manifest().id.as_bytes());
        config.engine = PoolOptions {
            engine: Engine {
                policy: options.workload.schedule,
                ..Engine::default()
            },
            threads: Some(ground.threads),
            ..PoolOptions::default()
        };
        let (executor, channel) = runtime.block_on(async {
            let executor = Executor::start(config, Arc::clone(&ground.backend)).await?;
            let channel = Endpoint::from_shared(format!("http://{}", executor.address()))?.connect().await?;
            anyhow::Ok((executor, channel))
        })?;
        Ok(Self {
            ground,
            samples,
            form: options.form,
            runtime,
            executor,
            client: FhevmExecutorClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES),
            given: Vec::new(),
            answer: Vec::new(),
        })
    }

    fn stop(self) -> Result<()> {
        let Self {
            runtime, executor, client, ..
        } = self;
        drop(client);
        Ok(runtime.block_on(executor.shutdown())?)
    }
}

impl Subject for Client<'_> {
    fn prepare(&mut self, scenario: &Scenario) -> Result<()> {
        let backend = &self.ground.backend;
        let mut written: HashMap<(FheType, usize), Bytes> = HashMap::new();
        self.given.clear();
        for given in &scenario.given {
            let serialization = match written.entry((given.handle.fhe_type(), given.sample)) {
                Entry::Occupied(bytes) => bytes.get().clone(),
                Entry::Vacant(place) => {
                    let ciphertext = self.samples.of(given)?;
                    let bytes = match self.form {
                        Form::Packed => backend.pack(ciphertext)?,
                        Form::Raw => backend.serialize(ciphertext)?,
                    };
                    place.insert(bytes.into()).clone()
                }
            };
            self.given.push(CompressedCiphertext {
                handle: wire(given.handle),
                serialization,
            });
        }
        Ok(())
    }

    fn compute(&mut self, scenario: &Scenario) -> Result<()> {
        let computations = scenario.transactions.iter().flat_map(|transaction| &transaction.computations);
        let request = SyncComputeRequest {
            computations: computations.map(computation).collect::<Result<_>>()?,
            compressed_ciphertexts: std::mem::take(&mut self.given),
            ..SyncComputeRequest::default()
        };
        let response = self.runtime.block_on(self.client.sync_compute(request))?;
        match response.into_inner().resp {
            Some(Resp::ResultCiphertexts(results)) => self.answer = results.ciphertexts,
            Some(Resp::Error(error)) => bail!("the executor refused: {:?}", SyncComputeError::try_from(error)),
            None => bail!("the executor's answer is empty"),
        }
        Ok(())
    }

    fn results(&mut self, scenario: &Scenario) -> Result<HashMap<Handle, Vec<u8>>> {
        let outputs = scenario.transactions.iter().flat_map(|transaction| &transaction.outputs);
        let wanted: HashSet<Handle> = outputs.copied().collect();
        let mut results = HashMap::new();
        for result in self.answer.drain(..) {
            let handle = Handle::try_from(result.handle.as_ref()).context("the executor answered with something that is no handle")?;
            if wanted.contains(&handle) {
                results.insert(handle, result.serialization.to_vec());
            }
        }
        Ok(results)
    }

    fn statistics(&self) -> PoolStatistics {
        self.executor.statistics()
    }
}

fn wire(handle: Handle) -> Bytes {
    Bytes::copy_from_slice(handle.as_slice())
}

/// Writes a computation as nodes send it.
fn computation(computation: &Computation) -> Result<SyncComputation> {
    let number = |value: U256| SyncInput {
        input: Some(Input::Scalar(value.to_be_bytes::<32>().to_vec().into())),
    };
    let mut inputs: Vec<SyncInput> = computation
        .inputs
        .iter()
        .map(|handle| SyncInput {
            input: Some(Input::Handle(wire(*handle))),
        })
        .collect();
    match &computation.operation {
        TypedOperation::Binary {
            rhs: Operand::Scalar(value),
            ..
        } => inputs.push(number(*value)),
        TypedOperation::TrivialEncrypt { value, ty } => inputs.extend([number(*value), number(U256::from(ty.id()))]),
        TypedOperation::Binary { .. } | TypedOperation::IfThenElse { .. } => {}
        other => bail!("no workload asks for {}", other.operation()),
    }
    Ok(SyncComputation {
        operation: i32::from(computation.operation.operation().id()),
        inputs,
        result_handles: vec![wire(computation.result)],
    })
}

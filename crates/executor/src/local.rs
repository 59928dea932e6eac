//! An executor in the process of its only client: a node that computes by itself.

use std::sync::Arc;

use cipherloom_engine::{EnginePool, PoolStatistics};
use cipherloom_fhe::FheBackend;
use cipherloom_rpc::cipherloom::executor::v1::{ComputeRequest, ComputeResult};
use futures_util::stream::BoxStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

use crate::{config::ExecutorConfig, error::ExecutorError, job::Workshop, service::Service};

/// What an [`Executor`](crate::Executor) computes, without its server: nobody else can ask, and nothing is written and read on the way.
///
/// Requests have the limits of the configuration, and as its address none. How many are computed at a time is up to the caller.
pub struct LocalExecutor {
    workshop: Arc<Workshop>,
    service: Service,
    _stop: DropGuard,
}

impl LocalExecutor {
    /// Starts the threads that compute.
    ///
    /// # Errors
    /// [`ExecutorError::Engine`] if the backend or the machine does not allow it.
    pub fn start(config: ExecutorConfig, backend: Arc<dyn FheBackend>) -> Result<Self, ExecutorError> {
        let config = ExecutorConfig {
            limits: config.limits.within_engine(),
            ..config
        };
        let pool = EnginePool::start(Arc::clone(&backend), config.engine.clone())?;
        let workshop = Arc::new(Workshop { backend, pool, config });
        let stopped = CancellationToken::new();
        Ok(Self {
            service: Service::new(Arc::clone(&workshop), stopped.clone()),
            workshop,
            _stop: stopped.drop_guard(),
        })
    }

    /// Computes a block piece by piece, as `cipherloom.executor.v1.Executor/Compute` does. Dropping the results ends computing.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` above the limits, `INVALID_ARGUMENT` for a form that there is not.
    pub async fn compute(&self, request: ComputeRequest) -> Result<BoxStream<'static, Result<ComputeResult, Status>>, Status> {
        let deadline = tokio::time::Instant::now() + self.workshop.config.request_timeout;
        self.service.begin(request, deadline).await
    }

    /// Returns the id of the key set that it computes with.
    #[must_use]
    pub fn key_set_id(&self) -> [u8; 32] {
        self.workshop.config.key_set_id
    }

    /// Returns what the engine did and has to do.
    #[must_use]
    pub fn statistics(&self) -> PoolStatistics {
        self.workshop.pool.statistics()
    }
}

impl std::fmt::Debug for LocalExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalExecutor").finish_non_exhaustive()
    }
}

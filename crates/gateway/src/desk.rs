//! Runs jobs: starts the services' futures under the limits, ends them at their deadline and at shutdown.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::FutureExt;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    body::Grant,
    clock::Clock,
    config::JobLimits,
    error::Label,
    jobs::{Answer, Job, JobCounts, JobTable, Submission},
    metrics::Metrics,
    requests::{GatewayRequest, OperationKind},
    services::{Admission, ServiceError, Services},
};

/// Takes requests and looks after their jobs.
pub(crate) struct Desk {
    services: Services,
    limits: JobLimits,
    table: Mutex<JobTable>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// Two limits, so that decryptions waiting for a computation never hold up the inputs of the next one.
    running_inputs: Arc<Semaphore>,
    running_decryptions: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Desk {
    /// Opens the desk; `stop` ends all jobs.
    pub(crate) fn new(
        services: Services,
        limits: JobLimits,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            services,
            limits,
            table: Mutex::new(JobTable::new(limits)),
            clock,
            metrics,
            running_inputs: Arc::new(Semaphore::new(limits.max_running_inputs)),
            running_decryptions: Arc::new(Semaphore::new(limits.max_running_decryptions)),
            tasks: TaskTracker::new(),
            stop,
        })
    }

    /// Returns the job of a request, starting one if no equal request has one.
    ///
    /// `memory` is what the request was granted of the memory for bodies; it is held until the job ends.
    ///
    /// # Errors
    /// `protocol_overload` if there are too many jobs, `gateway_not_reachable` during shutdown.
    pub(crate) fn submit(self: &Arc<Self>, kind: OperationKind, request: GatewayRequest, memory: Grant) -> Result<Job, ServiceError> {
        if self.stop.is_cancelled() {
            return Err(shutting_down());
        }
        let digest = request.content_digest();
        let submission = self.table().submit(kind, digest, self.clock.now());
        match submission {
            Submission::Known(job) => {
                self.metrics.job_shared();
                Ok(job)
            }
            Submission::Full => Err(ServiceError::new(
                Label::ProtocolOverload,
                "too many requests are waiting; try again in a moment",
            )),
            Submission::New(job) => {
                self.metrics.job_started();
                let desk = Arc::clone(self);
                let started = job.clone();
                self.tasks.spawn(async move {
                    let result = desk.run(request).await;
                    drop(memory);
                    desk.metrics.job_finished(result.is_ok());
                    match &result {
                        Err(error) => tracing::info!(job = %started.id, operation = kind.as_str(), %error, "job failed"),
                        Ok(_) => tracing::debug!(job = %started.id, operation = kind.as_str(), "job succeeded"),
                    }
                    let now = desk.clock.now();
                    desk.table().finish(&started, result, now);
                });
                Ok(job)
            }
        }
    }

    /// Returns a job that was submitted as this kind.
    pub(crate) fn find(&self, kind: OperationKind, id: Uuid) -> Option<Job> {
        self.table().find(kind, id, self.clock.now())
    }

    /// Counts the jobs.
    pub(crate) fn counts(&self) -> JobCounts {
        self.table().counts()
    }

    /// Waits until all jobs have ended; without the stop signal that can take as long as the deadline.
    pub(crate) async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn run(&self, request: GatewayRequest) -> Result<Answer, ServiceError> {
        let work = AssertUnwindSafe(self.work(request)).catch_unwind();
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(shutting_down()),
            result = tokio::time::timeout(self.limits.deadline, work) => match result {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => {
                    self.metrics.panicked();
                    Err(ServiceError::new(Label::InternalServerError, "the service failed unexpectedly; its logs say more"))
                }
                Err(_) => Err(ServiceError::new(
                    Label::ResponseTimedOut,
                    format!("no answer within {} s; the same request can be made again", self.limits.deadline.as_secs()),
                )),
            },
        }
    }

    async fn work(&self, request: GatewayRequest) -> Result<Answer, ServiceError> {
        let slots = match &request {
            GatewayRequest::Input(_) => &self.running_inputs,
            GatewayRequest::Public(_) | GatewayRequest::User(_) => &self.running_decryptions,
        };
        let _slot = slots.acquire().await.map_err(|_| shutting_down())?;
        match request {
            GatewayRequest::Input(request) => {
                let extra_data = request.extra_data.clone();
                match self.services.inputs.admit(request).await? {
                    Admission::Admitted(input) => Ok(Answer::Input(input)),
                    Admission::Rejected { reason } => {
                        tracing::info!(reason, "input rejected");
                        Ok(Answer::RejectedInput { extra_data })
                    }
                }
            }
            GatewayRequest::Public(request) => self.services.decryption.public_decrypt(request).await.map(Answer::Public),
            GatewayRequest::User(request) => self.services.decryption.user_decrypt(request).await.map(Answer::User),
        }
    }

    fn table(&self) -> MutexGuard<'_, JobTable> {
        // A panic inside the table would leave it consistent: every method changes it in steps that each keep the limits.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shutting_down() -> ServiceError {
    ServiceError::new(Label::GatewayNotReachable, "the gateway is shutting down; make the request again")
}

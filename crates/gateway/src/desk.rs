//! Runs jobs: starts the services' futures under the limits, ends them at their deadline and at shutdown.
//!
//! With a database ([`Ledger`]) jobs outlive the process: what one gateway does not end, another one takes up, and what another one
//! answered is answered here. Without one they live in this process alone.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cipherloom_store::{ClaimedJob, GatewayJobs, SubmittedJob};
use futures_util::FutureExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    body::{BodyMemory, Grant},
    clock::Clock,
    config::JobLimits,
    error::Label,
    jobs::{Answer, Job, JobCounts, JobKey, JobTable, Outcome},
    ledger::{self, Entry, Ledger},
    metrics::Metrics,
    requests::{GatewayRequest, OperationKind},
    services::{Admission, Progress, ServiceError, Services},
};

/// How many jobs are taken up with one look.
const CLAIMED_AT_ONCE: usize = 8;

/// The pauses between looks at a job that another gateway runs, for somebody who waits on a connection.
const ELSEWHERE_PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The pauses between attempts to reach a service that cannot be reached.
const UNREACHABLE_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// How long those who wait for an error wait until it is recorded.
const ERROR_RECORDING: Duration = Duration::from_secs(1);

/// How long a poll waits for somebody to say how far a computation is.
const PROGRESS_TIMEOUT: Duration = Duration::from_millis(100);

/// Takes requests and looks after their jobs.
pub(crate) struct Desk {
    services: Services,
    limits: JobLimits,
    table: Mutex<JobTable>,
    ledger: Option<Ledger>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    memory: BodyMemory,
    /// How many jobs may be waiting or running.
    places: Arc<Semaphore>,
    /// Two limits, so that decryptions waiting for a computation never hold up the inputs of the next one.
    running_inputs: Arc<Semaphore>,
    running_decryptions: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A request that was accepted: its job, or the number of one that this process does not know more about.
#[derive(Clone, Debug)]
pub(crate) enum Accepted {
    Here(Job),
    Elsewhere(Uuid),
}

impl Accepted {
    /// Returns the job's number.
    pub(crate) const fn id(&self) -> Uuid {
        match self {
            Self::Here(job) => job.id(),
            Self::Elsewhere(id) => *id,
        }
    }
}

/// Where a job stands.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    Unfinished(Waiting),
    Ended(Outcome),
}

/// What a client that waits is told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waiting {
    /// Whether a service has the job.
    pub(crate) running: bool,
    /// Since when it has been there, if that is known.
    pub(crate) elapsed: Option<Duration>,
    /// How far the computation of what it needs is.
    pub(crate) progress: Option<Progress>,
}

/// What a job holds until it ends.
struct Held {
    _place: OwnedSemaphorePermit,
    _memory: Grant,
}

impl Desk {
    /// Opens the desk; `stop` ends all jobs. With a database it takes up what was left there.
    pub(crate) fn open(
        services: Services,
        limits: JobLimits,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        memory: BodyMemory,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let with_ledger = |jobs: Arc<dyn GatewayJobs>| Ledger::new(jobs, limits, Arc::clone(&clock), Arc::clone(&metrics));
        let desk = Arc::new(Self {
            limits,
            table: Mutex::new(JobTable::new(limits)),
            ledger: services.jobs.clone().map(with_ledger),
            services,
            clock,
            metrics,
            memory,
            places: Arc::new(Semaphore::new(limits.max_unfinished)),
            running_inputs: Arc::new(Semaphore::new(limits.max_running_inputs)),
            running_decryptions: Arc::new(Semaphore::new(limits.max_running_decryptions)),
            tasks: TaskTracker::new(),
            stop,
        });
        if desk.ledger.is_some() {
            desk.tasks.spawn(Arc::clone(&desk).keep());
            desk.tasks.spawn(Arc::clone(&desk).take_up());
        }
        desk
    }

    /// Returns the job of a request, starting one if no equal request has one. When it returns, the job is recorded where there is a
    /// database.
    ///
    /// `memory` is what the request was granted of the memory for bodies; it is held until the job ends.
    ///
    /// # Errors
    /// `protocol_overload` if there are too many jobs, `gateway_not_reachable` during shutdown and if the database fails.
    pub(crate) async fn submit(
        self: &Arc<Self>,
        kind: OperationKind,
        request: GatewayRequest,
        memory: Grant,
    ) -> Result<Accepted, ServiceError> {
        if self.stop.is_cancelled() {
            return Err(shutting_down());
        }
        let key = JobKey {
            id: Uuid::new_v4(),
            kind,
            digest: request.content_digest(),
            handles: request.handles().into(),
            submitted_at_ms: self.clock.unix_ms(),
        };
        let held = {
            let mut table = self.table();
            if let Some(job) = table.known(kind, key.digest, self.clock.now()) {
                self.metrics.job_shared();
                return Ok(Accepted::Here(job));
            }
            let place = Arc::clone(&self.places)
                .try_acquire_owned()
                .map_err(|_| ServiceError::new(Label::ProtocolOverload, "too many requests are waiting; try again in a moment"))?;
            let held = Held {
                _place: place,
                _memory: memory,
            };
            if self.ledger.is_none() {
                let job = table.add(key, self.clock.now());
                drop(table);
                return Ok(self.start(job, request, held));
            }
            held
        };
        // A client that goes away must not leave a job behind that is recorded and that nobody runs.
        let desk = Arc::clone(self);
        let recorded = self.tasks.spawn(async move { desk.record(key, request, held).await });
        recorded.await.unwrap_or_else(|_| {
            self.metrics.panicked();
            Err(ServiceError::new(Label::InternalServerError, "the request could not be recorded"))
        })
    }

    /// Records a job and starts it, or finds the one of an equal request that came to another gateway, or a moment earlier to this one.
    async fn record(self: Arc<Self>, key: JobKey, request: GatewayRequest, held: Held) -> Result<Accepted, ServiceError> {
        let Some(ledger) = &self.ledger else {
            return Err(shutting_down());
        };
        match ledger.record(&key, &request).await? {
            SubmittedJob::New => {
                let job = self.table().add(key, self.clock.now());
                Ok(self.start(job, request, held))
            }
            SubmittedJob::Known(id) => {
                self.metrics.job_shared();
                let id = Uuid::from_bytes(id.0);
                let here = self.table().find(key.kind, id, self.clock.now());
                Ok(here.map_or(Accepted::Elsewhere(id), Accepted::Here))
            }
        }
    }

    fn start(self: &Arc<Self>, job: Job, request: GatewayRequest, held: Held) -> Accepted {
        self.metrics.job_started();
        self.tasks.spawn(Arc::clone(self).carry(job.clone(), request, held));
        Accepted::Here(job)
    }

    /// Runs a job to its end.
    async fn carry(self: Arc<Self>, job: Job, request: GatewayRequest, held: Held) {
        let result = self.run(&job, request).await;
        drop(held);
        let result = match (result, &self.ledger) {
            (Some(result), _) => result,
            // Somebody takes it up; who polls it meanwhile is told to wait.
            (None, Some(_)) => return,
            (None, None) => Err(shutting_down()),
        };
        self.end(&job, result).await;
    }

    /// Tells those who wait how a job ended, and then the database. An error is recorded first, if that does not take long: whoever reads
    /// it and asks again is to get a new job.
    async fn end(&self, job: &Job, result: Result<Answer, ServiceError>) {
        self.metrics.job_finished(result.is_ok());
        let (id, operation) = (job.id(), job.key.kind.as_str());
        match &result {
            Err(error) => tracing::info!(job = %id, operation, %error, "job failed"),
            Ok(_) => tracing::debug!(job = %id, operation, "job succeeded"),
        }
        let is_recorded = match &self.ledger {
            Some(ledger) if result.is_err() => {
                let recorded = tokio::time::timeout(ERROR_RECORDING, ledger.finish(id, &result, &self.stop));
                recorded.await.is_ok()
            }
            _ => false,
        };
        let outcome = self.table().finish(job, result, self.clock.now());
        if let (Some(ledger), false) = (&self.ledger, is_recorded) {
            ledger.finish(id, &outcome, &self.stop).await;
        }
    }

    /// Says where a job stands that was submitted as this kind.
    pub(crate) async fn standing(&self, kind: OperationKind, id: Uuid) -> Option<Standing> {
        let here = self.table().find(kind, id, self.clock.now());
        if let Some(job) = here {
            return Some(match job.outcome() {
                Some(outcome) => Standing::Ended(outcome),
                None => Standing::Unfinished(self.waiting(&job).await),
            });
        }
        let record = match self.ledger.as_ref()?.find(id).await {
            Ok(record) => record?,
            // The job may be there, and one that was accepted must not be denied.
            Err(_) => return Some(Standing::Unfinished(Waiting::default())),
        };
        if record.operation != kind.as_str() {
            return None;
        }
        Some(match ledger::entry(record) {
            Entry::Ended(outcome) => Standing::Ended(Arc::new(outcome)),
            Entry::Unfinished { running, submitted_at_ms } => Standing::Unfinished(Waiting {
                running,
                elapsed: Some(self.since(submitted_at_ms)),
                progress: None,
            }),
        })
    }

    /// Waits until an accepted job ends.
    ///
    /// # Errors
    /// `gateway_not_reachable` at shutdown, `response_timed_out` if it takes too long elsewhere.
    pub(crate) async fn outcome(&self, kind: OperationKind, accepted: Accepted) -> Result<Outcome, ServiceError> {
        let ended = async {
            let id = match accepted {
                Accepted::Here(job) => match job.wait().await {
                    Some(outcome) => return Ok(outcome),
                    // The sender lives in the job, so this cannot be.
                    None => return Err(ServiceError::new(Label::InternalServerError, "the job was lost")),
                },
                Accepted::Elsewhere(id) => id,
            };
            let mut pause = ELSEWHERE_PAUSES.0;
            loop {
                match self.standing(kind, id).await {
                    Some(Standing::Ended(outcome)) => return Ok(outcome),
                    Some(Standing::Unfinished(_)) => tokio::time::sleep(pause).await,
                    None => return Err(ServiceError::new(Label::NotFound, "the job was forgotten; make the request again")),
                }
                pause = (pause * 2).min(ELSEWHERE_PAUSES.1);
            }
        };
        // A job here has its own deadline, which ends earlier.
        let patience = self.limits.deadline.saturating_add(self.limits.lease);
        tokio::select! {
            biased;
            ended = tokio::time::timeout(patience, ended) => ended.unwrap_or_else(|_| Err(self.timed_out())),
            () = self.stop.cancelled() => Err(shutting_down()),
        }
    }

    /// Counts the jobs: those that have not ended in this process, and those that have wherever they are kept.
    pub(crate) fn counts(&self) -> JobCounts {
        let here = self.table().counts();
        match &self.ledger {
            None => here,
            Some(ledger) => JobCounts {
                finished: usize::try_from(ledger.totals().finished).unwrap_or(usize::MAX),
                ..here
            },
        }
    }

    /// Waits until all jobs have ended; without the stop signal that can take as long as the deadline.
    pub(crate) async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        if let Some(ledger) = &self.ledger {
            ledger.release().await;
        }
    }

    /// Keeps leases and forgets old answers.
    async fn keep(self: Arc<Self>) {
        if let Some(ledger) = &self.ledger {
            ledger.keep(&self.stop).await;
        }
    }

    /// Takes up jobs that nobody runs: at the start those that were left, and later those of gateways that are gone.
    async fn take_up(self: Arc<Self>) {
        let Some(ledger) = &self.ledger else { return };
        let pause = (self.limits.lease / 5).clamp(Duration::from_millis(20), Duration::from_secs(2));
        while !self.stop.is_cancelled() {
            let room = self.places.available_permits().min(CLAIMED_AT_ONCE);
            let claimed = if room == 0 {
                Vec::new()
            } else {
                ledger.claim(u32::try_from(room).unwrap_or(1)).await
            };
            let more = claimed.len() == room && room > 0;
            for job in claimed {
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = self.resume(job) => {}
                }
            }
            if !more {
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }

    /// Runs a job that was taken up.
    async fn resume(self: &Arc<Self>, claimed: ClaimedJob) {
        let id = Uuid::from_bytes(claimed.id.0);
        let request = ledger::request(&claimed);
        let kind = OperationKind::named(&claimed.operation);
        let known = kind.and_then(|kind| self.table().find(kind, id, self.clock.now()));
        match known.as_ref().map(Job::outcome) {
            // It is running here: only its lease had ended.
            Some(None) => return,
            Some(Some(outcome)) => {
                if let Some(ledger) = &self.ledger {
                    ledger.finish(id, &outcome, &self.stop).await;
                }
                return;
            }
            None => {}
        }
        self.metrics.job_taken_up();
        tracing::info!(job = %id, operation = claimed.operation, attempts = claimed.attempts, "job taken up");
        let held = Held {
            // Nobody closes the semaphore; a job that was accepted is run whatever else waits.
            _place: match Arc::clone(&self.places).acquire_owned().await {
                Ok(place) => place,
                Err(_) => return,
            },
            _memory: self.memory.reserve(claimed.request.len()).await,
        };
        let handles = request.as_ref().map(GatewayRequest::handles).unwrap_or_default();
        let (key, request) = match (kind, request) {
            (Some(kind), request) => (
                JobKey {
                    id,
                    kind,
                    digest: claimed.digest,
                    handles: handles.into(),
                    submitted_at_ms: claimed.submitted_at_ms,
                },
                request,
            ),
            (None, _) => {
                tracing::error!(job = %id, operation = claimed.operation, "a job of other software is left to it");
                return;
            }
        };
        let job = self.table().add(key, self.clock.now());
        match request {
            Ok(_) if claimed.attempts > self.limits.max_attempts => {
                let message = format!("the gateway ended {} times while it ran this request", claimed.attempts - 1);
                self.end(&job, Err(ServiceError::new(Label::InternalServerError, message))).await;
            }
            Ok(request) => drop(self.start(job, request, held)),
            Err(error) => self.end(&job, Err(error)).await,
        }
    }

    /// Returns how a job ended, or nothing if it was interrupted.
    async fn run(&self, job: &Job, request: GatewayRequest) -> Option<Result<Answer, ServiceError>> {
        let work = AssertUnwindSafe(self.insist(job, request)).catch_unwind();
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            result = tokio::time::timeout(self.limits.deadline, work) => Some(match result {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => {
                    self.metrics.panicked();
                    Err(ServiceError::new(Label::InternalServerError, "the service failed unexpectedly; its logs say more"))
                }
                Err(_) => Err(self.timed_out()),
            }),
        }
    }

    /// Asks a service again while it cannot be reached: a part that is restarted is not the end of the jobs that need it.
    async fn insist(&self, job: &Job, request: GatewayRequest) -> Result<Answer, ServiceError> {
        let until = Instant::now() + self.limits.retry_unreachable;
        let mut pause = UNREACHABLE_PAUSES.0;
        loop {
            let result = self.work(job, request.clone()).await;
            job.set_running(false);
            match result {
                Err(error) if error.label == Label::GatewayNotReachable && Instant::now() + pause < until => {
                    tracing::warn!(job = %job.id(), %error, "a service cannot be reached; the job asks again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(UNREACHABLE_PAUSES.1);
                }
                result => return result,
            }
        }
    }

    async fn work(&self, job: &Job, request: GatewayRequest) -> Result<Answer, ServiceError> {
        let slots = match &request {
            GatewayRequest::Input(_) => &self.running_inputs,
            GatewayRequest::Public(_) | GatewayRequest::User(_) => &self.running_decryptions,
        };
        let _slot = slots.acquire().await.map_err(|_| shutting_down())?;
        job.set_running(true);
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

    /// Says what a client is told that waits for a job of this process.
    async fn waiting(&self, job: &Job) -> Waiting {
        let (mut progress, is_old) = job.progress(self.clock.now());
        if is_old
            && !job.key.handles.is_empty()
            && let Some(source) = &self.services.progress
        {
            let asked = AssertUnwindSafe(source.progress(Arc::clone(&job.key.handles))).catch_unwind();
            if let Ok(Ok(known)) = tokio::time::timeout(PROGRESS_TIMEOUT, asked).await {
                job.set_progress(known, self.clock.now());
                progress = known;
            }
        }
        Waiting {
            running: job.is_running(),
            elapsed: Some(self.since(job.key.submitted_at_ms)),
            progress,
        }
    }

    fn since(&self, submitted_at_ms: u64) -> Duration {
        Duration::from_millis(self.clock.unix_ms().saturating_sub(submitted_at_ms))
    }

    fn timed_out(&self) -> ServiceError {
        ServiceError::new(
            Label::ResponseTimedOut,
            format!(
                "no answer within {} s; the same request can be made again",
                self.limits.deadline.as_secs()
            ),
        )
    }

    fn table(&self) -> MutexGuard<'_, JobTable> {
        // A panic inside the table would leave it consistent: every method changes it in steps that each keep the limits.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shutting_down() -> ServiceError {
    ServiceError::new(Label::GatewayNotReachable, "the gateway is shutting down; make the request again")
}

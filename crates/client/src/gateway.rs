//! Talking to a gateway: submitting requests, polling jobs, reading answers within limits.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use alloy::transports::http::reqwest::Url;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    config::{ClientConfig, ClientLimits, Routes},
    error::ClientError,
    exchange::{Answer, Http, late},
    patience::Patience,
    wire::{Envelope, FromVersion1, Response1, Submitted},
};

/// What SDKs assume if the server does not say when to ask again.
const DEFAULT_POLL_PAUSE: Duration = Duration::from_secs(1);

/// A kind of request that becomes a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    /// What it is called in errors.
    pub(crate) what: &'static str,
    /// Where jobs are submitted.
    pub(crate) jobs: &'static str,
    /// Where the same is answered at once, if anywhere.
    pub(crate) synchronous: Option<&'static str>,
}

pub(crate) struct Gateway {
    http: Http,
    limits: ClientLimits,
    /// Whether the synchronous routes are worth a try: wanted, and not found to be missing.
    synchronous: AtomicBool,
}

/// What came of one exchange about a job.
enum Step<T> {
    Submitted(Url),
    Again(Duration),
    Done(T),
}

/// What came of a synchronous route.
enum Prompt<T> {
    Done(T),
    /// There is no answer that way; a job has to be asked.
    Ask,
}

impl Gateway {
    pub(crate) fn new(url: &str, config: &ClientConfig) -> Result<Self, ClientError> {
        Ok(Self {
            http: Http::new(url, config)?,
            limits: config.limits,
            synchronous: AtomicBool::new(config.routes == Routes::Fastest && !config.limits.synchronous.is_zero()),
        })
    }

    /// Returns the HTTP underneath.
    pub(crate) const fn http(&self) -> &Http {
        &self.http
    }

    /// Runs a job: submits it, polls until it ends, and submits it again while that can help, which is safe for every operation.
    ///
    /// A value that is not computed yet is waited for until the time is up; other failures are repeated the configured number of times.
    pub(crate) async fn job<T: FromVersion1>(&self, operation: Operation, body: &Value) -> Result<T, ClientError> {
        tokio::time::timeout(self.limits.operation, self.run_job(operation, body))
            .await
            .unwrap_or(Err(ClientError::Timeout {
                what: operation.what,
                limit: self.limits.operation,
            }))
    }

    async fn run_job<T: FromVersion1>(&self, operation: Operation, body: &Value) -> Result<T, ClientError> {
        let what = operation.what;
        let mut patience = Patience::new(&self.limits);
        let body = Bytes::from(body.to_string());
        if let Some(route) = operation.synchronous
            && self.synchronous.load(Ordering::Relaxed)
        {
            match self.prompt(what, route, &body).await {
                Ok(Prompt::Done(result)) => return Ok(result),
                Ok(Prompt::Ask) => {}
                Err(error) => patience.spend(error).await?,
            }
        }
        let mut job: Option<Url> = None;
        loop {
            let step = match &job {
                None => self.submit(what, operation.jobs, &body).await.map(Step::Submitted),
                Some(url) => self.poll(what, url).await,
            };
            match step {
                Ok(Step::Submitted(url)) => job = Some(url),
                Ok(Step::Again(pause)) => tokio::time::sleep(pause).await,
                Ok(Step::Done(result)) => return Ok(result),
                Err(error) => {
                    // A submission that is not found is a route that is not there.
                    if job.is_none() && error.label() == Some("not_found") {
                        return Err(error);
                    }
                    if ended(&error) {
                        job = None;
                    }
                    patience.spend(error).await?;
                }
            }
        }
    }

    /// Asks a synchronous route. Where it does not answer in time, its request goes on at the gateway, and an equal job shares the answer.
    async fn prompt<T: FromVersion1>(&self, what: &'static str, route: &str, body: &Bytes) -> Result<Prompt<T>, ClientError> {
        let url = self.http.url(route)?;
        let limit = self.limits.synchronous.min(self.limits.request);
        let asked = tokio::time::timeout(limit, async {
            let mut answer = self.post(what, &url, body.clone(), &[StatusCode::OK]).await?;
            self.read(&mut answer).await
        });
        let answered = match asked.await {
            Ok(answered) => answered,
            Err(_) => return Ok(Prompt::Ask),
        };
        match answered {
            Ok(body) => {
                let malformed = |reason| ClientError::Malformed { what, reason };
                let response = parse::<Response1>(what, &body)?.response;
                T::from_version_1(response).map(Prompt::Done).map_err(malformed)
            }
            Err(error) if is_missing(&error) => {
                self.synchronous.store(false, Ordering::Relaxed);
                Ok(Prompt::Ask)
            }
            // Version 1 has no shape for some refusals: the job says more.
            Err(ClientError::Server { label, .. }) if label == "request_error" => Ok(Prompt::Ask),
            Err(error) => Err(error),
        }
    }

    /// Gets a small JSON document.
    pub(crate) async fn json<T: DeserializeOwned>(&self, what: &'static str, path: &str) -> Result<T, ClientError> {
        let url = self.http.url(path)?;
        let mut patience = Patience::new(&self.limits);
        loop {
            let attempt = async {
                let mut answer = self.get(what, &url, HeaderMap::new(), &[StatusCode::OK]).await?;
                let body = self.read(&mut answer).await?;
                parse(what, &body)
            };
            match attempt.await {
                Ok(document) => return Ok(document),
                Err(error) => patience.spend(error).await?,
            }
        }
    }

    /// Submits a job and returns where to ask for it.
    async fn submit(&self, what: &'static str, route: &str, body: &Bytes) -> Result<Url, ClientError> {
        let url = self.http.url(route)?;
        let mut answer = self.post(what, &url, body.clone(), &[StatusCode::ACCEPTED, StatusCode::OK]).await?;
        let body = self.read(&mut answer).await?;
        let malformed = |reason: &str| ClientError::Malformed {
            what,
            reason: reason.to_owned(),
        };
        let Some(Submitted { job_id }) = parse::<Envelope<Submitted>>(what, &body)?.result else {
            return Err(malformed("the accepted job has no id"));
        };
        // The id is put into a path; the protocol's ids are UUIDs.
        if job_id.is_empty() || job_id.len() > 64 || !job_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(malformed("the job's id is not a UUID"));
        }
        self.http.url(&format!("{route}/{job_id}"))
    }

    async fn poll<T: DeserializeOwned>(&self, what: &'static str, url: &Url) -> Result<Step<T>, ClientError> {
        let accepted = [StatusCode::OK, StatusCode::ACCEPTED];
        let mut answer = self.get(what, url, HeaderMap::new(), &accepted).await?;
        if answer.status == StatusCode::ACCEPTED {
            let pause = self.pause(&answer);
            // Read to its end, so that the connection can be used again.
            self.read(&mut answer).await?;
            return Ok(Step::Again(pause));
        }
        let body = self.read(&mut answer).await?;
        let result = parse::<Envelope<T>>(what, &body)?.result.ok_or(ClientError::Malformed {
            what,
            reason: "the finished job has no result".into(),
        })?;
        Ok(Step::Done(result))
    }

    async fn post(&self, what: &'static str, url: &Url, body: Bytes, accepted: &[StatusCode]) -> Result<Answer, ClientError> {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let request = self.http.request(Method::POST, url, headers, body)?;
        self.exchange(what, self.http.send(what, request, accepted, self.limits.request))
            .await
    }

    /// Sends a GET request and reads the beginning of the answer.
    pub(crate) async fn get(
        &self,
        what: &'static str,
        url: &Url,
        headers: HeaderMap,
        accepted: &[StatusCode],
    ) -> Result<Answer, ClientError> {
        let request = self.http.request(Method::GET, url, headers, Bytes::new())?;
        self.exchange(what, self.http.send(what, request, accepted, self.limits.request))
            .await
    }

    async fn exchange<T>(&self, what: &'static str, exchange: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        match tokio::time::timeout(self.limits.request, exchange).await {
            Ok(answered) => answered,
            Err(_) => Err(late(what, self.limits.request)),
        }
    }

    /// Reads the rest of a JSON answer.
    async fn read(&self, answer: &mut Answer) -> Result<Vec<u8>, ClientError> {
        let (what, mut body) = (answer.what, Vec::new());
        self.exchange(what, answer.read_into(&mut body, self.limits.answer_bytes)).await?;
        Ok(body)
    }

    /// Returns when to ask again: what the server says, within our limits.
    fn pause(&self, answer: &Answer) -> Duration {
        answer
            .retry_after()
            .unwrap_or(DEFAULT_POLL_PAUSE)
            .clamp(self.limits.first_pause.min(self.limits.longest_pause), self.limits.longest_pause)
    }
}

/// Says whether an error is how a job ended, rather than a poll that was turned away: asking for the same job again is useless then.
fn ended(error: &ClientError) -> bool {
    matches!(error, ClientError::Server { status, .. } if *status != StatusCode::TOO_MANY_REQUESTS.as_u16())
}

/// Says whether a gateway has no such route, whether it says so in the protocol's form or not.
fn is_missing(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::MissingRoute { .. }
            | ClientError::Server {
                status: 404 | 405 | 501,
                ..
            }
    )
}

fn parse<T: DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|error| ClientError::Malformed {
        what,
        reason: error.to_string(),
    })
}

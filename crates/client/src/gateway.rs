//! HTTP: sending requests, polling jobs, reading answers within limits.

use std::time::{Duration, Instant};

use reqwest::{Response, StatusCode, Url, header::RETRY_AFTER, redirect::Policy};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    config::ClientLimits,
    error::ClientError,
    wire::{Envelope, Failure, Submitted},
};

/// What SDKs assume if the server does not say when to ask again.
const DEFAULT_POLL_PAUSE: Duration = Duration::from_secs(1);

pub(crate) struct Gateway {
    http: reqwest::Client,
    base: Url,
    limits: ClientLimits,
}

/// How a poll went.
enum Poll<T> {
    Done(T),
    Again(Duration),
}

impl Gateway {
    pub(crate) fn new(url: &str, limits: ClientLimits) -> Result<Self, ClientError> {
        let invalid = || ClientError::Url(url.to_owned());
        let base: Url = format!("{}/", url.trim_end_matches('/')).parse().map_err(|_| invalid())?;
        if !matches!(base.scheme(), "http" | "https") || base.query().is_some() || base.fragment().is_some() {
            return Err(invalid());
        }
        let builder = reqwest::Client::builder()
            .connect_timeout(limits.request)
            .redirect(Policy::none())
            .user_agent(concat!("cipherloom-client/", env!("CARGO_PKG_VERSION")));
        // A proxy for the outside world cannot reach a gateway on this machine.
        let local = matches!(base.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let builder = if local { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|_| invalid())?;
        Ok(Self { http, base, limits })
    }

    /// Runs a job: submits it, polls until it ends, and starts over while that can help.
    pub(crate) async fn job<T: DeserializeOwned>(&self, what: &'static str, body: &Value) -> Result<T, ClientError> {
        let deadline = Instant::now() + self.limits.operation;
        let work = self.repeat(deadline, || async move {
            let submitted: Submitted = self.submit(what, body).await?;
            self.poll(what, &submitted.job_id).await
        });
        tokio::time::timeout(self.limits.operation, work)
            .await
            .map_err(|_| ClientError::Timeout {
                what,
                limit: self.limits.operation,
            })?
    }

    /// Gets a small JSON document.
    pub(crate) async fn json<T: DeserializeOwned>(&self, what: &'static str, path: &str) -> Result<T, ClientError> {
        let url = self.url(path)?;
        let deadline = Instant::now() + self.limits.operation;
        self.repeat(deadline, || async {
            let response = self.send(what, self.http.get(url.clone()), self.limits.request).await?;
            let body = self.read(what, response, self.limits.answer_bytes).await?;
            parse(what, &body)
        })
        .await
    }

    /// Downloads a file from an absolute URL the gateway gave.
    pub(crate) async fn download(&self, what: &'static str, url: &str) -> Result<Vec<u8>, ClientError> {
        let malformed = || ClientError::Malformed {
            what,
            reason: format!("{url:?} is no URL"),
        };
        let url: Url = self.base.join(url).map_err(|_| malformed())?;
        let deadline = Instant::now() + self.limits.download;
        self.repeat(deadline, || async {
            let response = self.send(what, self.http.get(url.clone()), self.limits.download).await?;
            self.read(what, response, self.limits.key_bytes).await
        })
        .await
    }

    async fn submit(&self, what: &'static str, body: &Value) -> Result<Submitted, ClientError> {
        let request = self.http.post(self.url(&format!("v2/{what}"))?).json(body);
        let response = self.send(what, request, self.limits.request).await?;
        let body = self.read(what, response, self.limits.answer_bytes).await?;
        parse::<Envelope<Submitted>>(what, &body)?.result.ok_or(ClientError::Malformed {
            what,
            reason: "the accepted job has no id".into(),
        })
    }

    async fn poll<T: DeserializeOwned>(&self, what: &'static str, job: &str) -> Result<T, ClientError> {
        // The id is put into a path; the protocol's ids are UUIDs.
        if job.is_empty() || job.len() > 64 || !job.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(ClientError::Malformed {
                what,
                reason: "the job's id is not a UUID".into(),
            });
        }
        let url = self.url(&format!("v2/{what}/{job}"))?;
        let deadline = Instant::now() + self.limits.operation;
        loop {
            match self.repeat(deadline, || self.poll_once(what, &url)).await? {
                Poll::Done(result) => return Ok(result),
                Poll::Again(pause) => tokio::time::sleep(pause).await,
            }
        }
    }

    async fn poll_once<T: DeserializeOwned>(&self, what: &'static str, url: &Url) -> Result<Poll<T>, ClientError> {
        let response = self.send(what, self.http.get(url.clone()), self.limits.request).await?;
        if response.status() == StatusCode::ACCEPTED {
            return Ok(Poll::Again(self.pause(&response)));
        }
        let body = self.read(what, response, self.limits.answer_bytes).await?;
        let result = parse::<Envelope<T>>(what, &body)?.result.ok_or(ClientError::Malformed {
            what,
            reason: "the finished job has no result".into(),
        })?;
        Ok(Poll::Done(result))
    }

    /// Sends a request; an answer that is an error becomes one.
    async fn send(&self, what: &'static str, request: reqwest::RequestBuilder, limit: Duration) -> Result<Response, ClientError> {
        let response = request
            .timeout(limit)
            .send()
            .await
            .map_err(|source| ClientError::Transport { what, source })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.read(what, response, self.limits.answer_bytes).await?;
        let Ok(failure) = serde_json::from_slice::<Failure>(&body) else {
            return Err(ClientError::Malformed {
                what,
                reason: format!("HTTP status {status} without the protocol's error"),
            });
        };
        Err(ClientError::Server {
            what,
            status: status.as_u16(),
            label: failure.error.label,
            message: failure.error.message,
            details: failure.error.details,
        })
    }

    async fn read(&self, what: &'static str, mut response: Response, limit: usize) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|source| ClientError::Transport { what, source })? {
            if body.len() + chunk.len() > limit {
                return Err(ClientError::TooLarge { what, limit });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Repeats what failed for a reason that may pass. A value that is not computed yet is waited for until the deadline, anything
    /// else only the configured number of times.
    async fn repeat<T, F>(&self, deadline: Instant, attempt: impl Fn() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let mut pause = self.limits.first_pause;
        let mut failures = 0;
        loop {
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let waiting = error.label() == Some("not_ready_for_decryption");
            failures += u32::from(!waiting);
            let spent = failures > self.limits.retries || Instant::now() + pause >= deadline;
            if spent || !(error.is_retryable() || lost_job(&error)) {
                return Err(error);
            }
            tracing::debug!(%error, ?pause, "trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.limits.longest_pause);
        }
    }

    /// Returns when to ask again: what the server says, within our limits.
    fn pause(&self, response: &Response) -> Duration {
        let asked = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        asked
            .map_or(DEFAULT_POLL_PAUSE, Duration::from_secs)
            .clamp(self.limits.first_pause.min(self.limits.longest_pause), self.limits.longest_pause)
    }

    fn url(&self, path: &str) -> Result<Url, ClientError> {
        self.base.join(path).map_err(|_| ClientError::Url(self.base.to_string()))
    }
}

/// A gateway that restarted has forgotten its jobs; submitting again is safe.
fn lost_job(error: &ClientError) -> bool {
    error.label() == Some("not_found")
}

fn parse<T: DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|error| ClientError::Malformed {
        what,
        reason: error.to_string(),
    })
}

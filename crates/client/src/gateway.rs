//! HTTP: sending requests, polling jobs, reading answers within limits.

use std::time::Duration;

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

/// What came of one exchange about a job.
enum Step<T> {
    Submitted(Url),
    Again(Duration),
    Done(T),
}

/// How often failures are still repeated, and after which pause.
struct Patience {
    retries: u32,
    pause: Duration,
    longest_pause: Duration,
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

    /// Runs a job: submits it, polls until it ends, and submits it again while that can help, which is safe for every operation.
    ///
    /// A value that is not computed yet is waited for until the time is up; other failures are repeated the configured number of times.
    pub(crate) async fn job<T: DeserializeOwned>(&self, what: &'static str, body: &Value) -> Result<T, ClientError> {
        tokio::time::timeout(self.limits.operation, self.run_job(what, body))
            .await
            .unwrap_or(Err(ClientError::Timeout {
                what,
                limit: self.limits.operation,
            }))
    }

    async fn run_job<T: DeserializeOwned>(&self, what: &'static str, body: &Value) -> Result<T, ClientError> {
        let mut patience = Patience::new(&self.limits);
        let mut job: Option<Url> = None;
        loop {
            let step = match &job {
                None => self.submit(what, body).await.map(Step::Submitted),
                Some(url) => self.poll(what, url).await,
            };
            match step {
                Ok(Step::Submitted(url)) => job = Some(url),
                Ok(Step::Again(pause)) => tokio::time::sleep(pause).await,
                Ok(Step::Done(result)) => return Ok(result),
                Err(error) => {
                    if ended(&error) {
                        job = None;
                    }
                    patience.spend(error).await?;
                }
            }
        }
    }

    /// Gets a small JSON document.
    pub(crate) async fn json<T: DeserializeOwned>(&self, what: &'static str, path: &str) -> Result<T, ClientError> {
        let url = self.url(path)?;
        self.repeat(|| async {
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
        self.repeat(|| async {
            let response = self.send(what, self.http.get(url.clone()), self.limits.download).await?;
            self.read(what, response, self.limits.key_bytes).await
        })
        .await
    }

    /// Submits a job and returns where to ask for it.
    async fn submit(&self, what: &'static str, body: &Value) -> Result<Url, ClientError> {
        let request = self.http.post(self.url(&format!("v2/{what}"))?).json(body);
        let response = self.send(what, request, self.limits.request).await?;
        let body = self.read(what, response, self.limits.answer_bytes).await?;
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
        self.url(&format!("v2/{what}/{job_id}"))
    }

    async fn poll<T: DeserializeOwned>(&self, what: &'static str, url: &Url) -> Result<Step<T>, ClientError> {
        let response = self.send(what, self.http.get(url.clone()), self.limits.request).await?;
        if response.status() == StatusCode::ACCEPTED {
            return Ok(Step::Again(self.pause(&response)));
        }
        let body = self.read(what, response, self.limits.answer_bytes).await?;
        let result = parse::<Envelope<T>>(what, &body)?.result.ok_or(ClientError::Malformed {
            what,
            reason: "the finished job has no result".into(),
        })?;
        Ok(Step::Done(result))
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

    /// Repeats what failed for a reason that may pass.
    async fn repeat<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let mut patience = Patience::new(&self.limits);
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => patience.spend(error).await?,
            }
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

impl Patience {
    const fn new(limits: &ClientLimits) -> Self {
        Self {
            retries: limits.retries,
            pause: limits.first_pause,
            longest_pause: limits.longest_pause,
        }
    }

    /// Waits before the next attempt, or gives the error back if there should be none.
    async fn spend(&mut self, error: ClientError) -> Result<(), ClientError> {
        if !error.is_retryable() && !is_lost_job(&error) {
            return Err(error);
        }
        // A ciphertext takes the time it takes to be computed; only the whole operation's limit ends that.
        if error.label() != Some("not_ready_for_decryption") {
            self.retries = match self.retries.checked_sub(1) {
                Some(left) => left,
                None => return Err(error),
            };
        }
        tracing::debug!(%error, pause = ?self.pause, "trying again");
        tokio::time::sleep(self.pause).await;
        self.pause = self.pause.saturating_mul(2).min(self.longest_pause);
        Ok(())
    }
}

/// A gateway that restarted has forgotten its jobs.
fn is_lost_job(error: &ClientError) -> bool {
    error.label() == Some("not_found")
}

/// Says whether an error is how a job ended, rather than a poll that was turned away: asking for the same job again is useless then.
fn ended(error: &ClientError) -> bool {
    matches!(error, ClientError::Server { status, .. } if *status != StatusCode::TOO_MANY_REQUESTS.as_u16())
}

fn parse<T: DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|error| ClientError::Malformed {
        what,
        reason: error.to_string(),
    })
}

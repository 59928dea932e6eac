//! The endpoints of a part, and calls to one of them that answers.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use cipherloom_rpc::failure::Failure;
use tokio::time::timeout;
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use zeroize::Zeroizing;

/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a connection may say nothing before it is asked whether it is there, and how long it has for its answer.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// The largest PEM file and the largest file with a key, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where a part is, and how it is called.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// What people call the part.
    pub part: &'static str,
    /// The URLs of its endpoints, the preferred one first.
    pub urls: &'a [String],
    /// The certificate of whoever issued theirs, for `https` URLs.
    pub ca: Option<&'a Path>,
    /// What names the caller to them.
    pub key: Option<&'a PathBuf>,
}

/// The endpoints of a part.
pub struct Endpoints {
    part: &'static str,
    all: Vec<One>,
    /// The one that answered last.
    preferred: AtomicUsize,
    authorization: Option<MetadataValue<Ascii>>,
}

struct One {
    label: String,
    channel: Channel,
}

impl Endpoints {
    /// Sets up calls; nothing is sent yet, and connections are made when they are needed.
    ///
    /// # Errors
    /// If a URL is none, or a file cannot be read.
    pub fn new(place: &Place<'_>) -> Result<Self> {
        let part = place.part;
        ensure!(!place.urls.is_empty(), "there is no URL of the {part}");
        let authorization = place.key.map(|path| read_key(path)).transpose()?;
        let all = place.urls.iter().map(|url| One::new(place, url)).collect::<Result<_>>()?;
        Ok(Self {
            part,
            all,
            preferred: AtomicUsize::new(0),
            authorization,
        })
    }

    /// Says what people call the part.
    pub const fn part(&self) -> &'static str {
        self.part
    }

    /// Makes the first endpoint the preferred one again, whichever answered last.
    pub fn return_to_first(&self) {
        self.preferred.store(0, Ordering::Relaxed);
    }

    /// Calls the endpoint that answered last, and the others in turn while one does not answer. What one answers, a refusal included, is the answer.
    ///
    /// # Errors
    /// The status of the call; the last endpoint's if none answered.
    pub async fn call<Message, Answer>(
        &self,
        message: Message,
        patience: Duration,
        attempt: impl AsyncFn(Channel, Request<Message>) -> Result<Response<Answer>, Status>,
    ) -> Result<Answer, Status>
    where
        Message: Clone,
    {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = Status::unavailable("there are no endpoints");
        for turn in 0..self.all.len() {
            let index = (first + turn) % self.all.len();
            let Some(one) = self.all.get(index) else { continue };
            let mut request = Request::new(message.clone());
            // The endpoint gives up when we do.
            request.set_timeout(patience);
            if let Some(authorization) = &self.authorization {
                request.metadata_mut().insert("authorization", authorization.clone());
            }
            let answer = timeout(patience, attempt(one.channel.clone(), request)).await;
            match answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))) {
                Ok(answer) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(answer.into_inner());
                }
                Err(status) if is_unanswered(&status) => {
                    tracing::debug!(
                        part = self.part,
                        endpoint = one.label,
                        reason = status.message(),
                        "an endpoint does not answer"
                    );
                    last = status;
                }
                Err(status) => return Err(status),
            }
        }
        Err(last)
    }
}

/// Says whether a call was lost, or met an endpoint that is stopping or has lost what it needs: another one may answer.
pub fn is_unanswered(status: &Status) -> bool {
    match Failure::of(status) {
        Some(_) => status.code() == Code::Unavailable,
        // What the connection says has a cause on this side; what a server says by itself has none.
        None => {
            std::error::Error::source(status).is_some()
                || matches!(
                    status.code(),
                    Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown
                )
        }
    }
}

/// Tells a status with what it came from.
pub fn with_causes(status: &Status) -> String {
    let causes = std::iter::successors(std::error::Error::source(status), |cause| cause.source());
    causes.fold(status.message().to_owned(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

impl One {
    fn new(place: &Place<'_>, url: &str) -> Result<Self> {
        let part = place.part;
        let endpoint = Endpoint::from_shared(url.to_owned()).with_context(|| format!("{url:?} is no URL of a {part}"))?;
        let scheme = endpoint.uri().scheme_str().unwrap_or_default().to_owned();
        ensure!(
            matches!(scheme.as_str(), "http" | "https"),
            "{url:?} is no URL of a {part}: it begins with http:// or https://"
        );
        let mut endpoint = endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        if scheme == "https" {
            let file = place
                .ca
                .with_context(|| format!("{url} is encrypted: name the PEM file of whoever issued the {part}'s certificate"))?;
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(file)?));
            endpoint = endpoint.tls_config(tls).with_context(|| format!("cannot use {}", file.display()))?;
        }
        Ok(Self {
            label: endpoint.uri().authority().map(ToString::to_string).unwrap_or_default(),
            channel: endpoint.connect_lazy(),
        })
    }
}

/// Reads a key from a file, as the header that carries it.
fn read_key(path: &Path) -> Result<MetadataValue<Ascii>> {
    let text = Zeroizing::new(read(path)?);
    let text = std::str::from_utf8(&text).ok().map(str::trim).filter(|text| !text.is_empty());
    let text = text.with_context(|| format!("{} holds no key: one line of text", path.display()))?;
    let header = Zeroizing::new(format!("Bearer {text}"));
    let mut value = MetadataValue::try_from(header.as_str())
        .ok()
        .with_context(|| format!("{} holds no key: one line of plain characters", path.display()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads a small file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let cannot = || format!("cannot read {}", path.display());
    let size = std::fs::metadata(path).with_context(cannot)?.len();
    ensure!(size <= MAX_FILE_BYTES, "{} is too large for what it should hold", path.display());
    std::fs::read(path).with_context(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_part_answers_is_an_answer_and_what_the_network_says_is_none() {
        let refused = |code| Failure::new("validation_failed", "no").into_status(code);
        assert!(!is_unanswered(&refused(Code::InvalidArgument)));
        assert!(is_unanswered(&refused(Code::Unavailable)));
        assert!(is_unanswered(&Status::unavailable("connection refused")));
        assert!(is_unanswered(&Status::deadline_exceeded("late")));
        assert!(!is_unanswered(&Status::unauthenticated("who are you")));
        let broken = std::io::Error::other("connection reset");
        assert!(is_unanswered(&Status::from_error(Box::new(broken))));
    }

    #[test]
    fn an_encrypted_endpoint_needs_somebody_to_trust() {
        let place = |urls: &'static [String]| Place {
            part: "coprocessor",
            urls,
            ca: None,
            key: None,
        };
        for (url, why) in [("https://there:1", "issued"), ("ftp://there", "http://"), ("not a url", "no URL")] {
            let urls: &'static [String] = Box::leak(Box::new([url.to_owned()]));
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _inside = runtime.enter();
            let error = format!("{:#}", Endpoints::new(&place(urls)).map(|_| ()).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
    }
}

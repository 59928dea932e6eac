//! Fetching the public key and the reference string: once per client, and once per machine where they are kept on disk.

use std::sync::Arc;

use alloy::transports::http::reqwest::Url;
use cipherloom_fhe::{EncryptInputs, encryptor_for_key_set, encryptor_from_bytes, parameters_of_public_key};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::{
    Client, Encryptor,
    config::KeyTrust,
    error::ClientError,
    gateway::Gateway,
    key_cache::{KeptFile, KeyCache},
    patience::Patience,
    wire::{KeyUrl, Located},
};

/// The reference string's entry: for lists of up to this many bits.
const CRS_BITS: &str = "2048";
const WHAT: &str = "keyurl";

/// The longest entity tag that is kept and sent back.
const MAX_TAG_BYTES: usize = 256;

impl Client {
    /// Returns what inputs are encrypted with, fetched once per client.
    pub(crate) async fn encryptor(&self) -> Result<&Encryptor, ClientError> {
        self.shared.encryptor.get_or_try_init(|| self.fetch_encryptor()).await
    }

    async fn fetch_encryptor(&self) -> Result<Encryptor, ClientError> {
        let KeyUrl { response } = self.shared.gateway.json(WHAT, "v2/keyurl").await?;
        let [info] = response.fhe_key_info.as_slice() else {
            return Err(malformed("it does not name exactly one public key"));
        };
        let crs = response
            .crs
            .get(CRS_BITS)
            .ok_or_else(|| malformed("it names no reference string for 2048 bits"))?;
        let id = &info.fhe_public_key.data_id;
        if let Some(expected) = &self.config().public_key_id
            && expected != id
        {
            return Err(ClientError::OtherKey {
                expected: expected.clone(),
                found: id.clone(),
            });
        }
        let trust = self.config().key_trust;
        let mut may_be_kept = self.config().key_cache.is_some();
        let encrypt = loop {
            let public_key = self.file("public key", &info.fhe_public_key, may_be_kept).await?;
            let crs = self.file("reference string", crs, may_be_kept).await?;
            // Reading and checking megabytes of group elements takes a while.
            let read = tokio::task::spawn_blocking(move || trusted_encryptor(trust, &public_key, &crs));
            match read.await.map_err(|_| ClientError::Task)? {
                Ok(encrypt) => break encrypt,
                // Whatever the kept files are, the gateway may have better ones.
                Err(error) if may_be_kept => tracing::debug!(%error, "keys are downloaded instead of taken from the disk"),
                Err(error) => return Err(error),
            }
            may_be_kept = false;
        };
        Ok(Encryptor {
            public_key_id: id.clone(),
            encrypt: Arc::from(encrypt),
        })
    }

    /// Returns a file: the kept one while the gateway says that it is current, and else a new one, which is kept then.
    async fn file(&self, what: &'static str, located: &Located, may_be_kept: bool) -> Result<Vec<u8>, ClientError> {
        let gateway = &self.shared.gateway;
        let limits = &self.config().limits;
        let url = located.urls.first().ok_or_else(|| malformed("a file has no URL"))?;
        let malformed_url = || ClientError::Malformed {
            what,
            reason: format!("{url:?} is no HTTP URL"),
        };
        let url = gateway.http().base().join(url).map_err(|_| malformed_url())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(malformed_url());
        }
        let cache = self.config().key_cache.as_ref();
        let cache = cache.map(|directory| KeyCache::new(directory, gateway.http().base().as_str(), what));
        let kept = match &cache {
            Some(cache) if may_be_kept => cache.read(limits.key_bytes).await.filter(|kept| kept.id == located.data_id),
            _ => None,
        };
        let download = Download {
            gateway,
            what,
            url: &url,
            limit: limits.key_bytes,
            patience: Patience::new(limits),
        };
        let fetched = tokio::time::timeout(limits.download, download.run(kept.as_ref()));
        let fetched = fetched.await.unwrap_or(Err(ClientError::Timeout {
            what,
            limit: limits.download,
        }))?;
        match (fetched, kept) {
            (Fetched::Unchanged, Some(kept)) => Ok(kept.bytes),
            (Fetched::Unchanged, None) => Err(ClientError::Malformed {
                what,
                reason: "it is said to be unchanged since never".into(),
            }),
            (Fetched::File { bytes, tag }, _) => match &cache {
                Some(cache) => Ok(cache
                    .write(KeptFile {
                        id: located.data_id.clone(),
                        tag,
                        bytes,
                    })
                    .await),
                None => Ok(bytes),
            },
        }
    }
}

/// What a download has found.
enum Fetched {
    /// The kept file is current.
    Unchanged,
    /// A file, with the tag that stands for its bytes.
    File { bytes: Vec<u8>, tag: Option<String> },
}

/// A file being downloaded. Where the connection breaks, the rest is asked for, if the server has said what stands for the bytes.
struct Download<'a> {
    gateway: &'a Gateway,
    what: &'static str,
    url: &'a Url,
    limit: usize,
    patience: Patience,
}

impl Download<'_> {
    async fn run(mut self, kept: Option<&KeptFile>) -> Result<Fetched, ClientError> {
        let known = kept.and_then(|kept| header_value(kept.tag.as_deref()?));
        let (mut bytes, mut tag) = (Vec::new(), None);
        loop {
            match self.attempt(&mut bytes, &mut tag, known.as_ref()).await {
                Ok(true) => return Ok(Fetched::Unchanged),
                Ok(false) => {
                    let tag = tag.and_then(|tag| tag.to_str().ok().map(str::to_owned));
                    return Ok(Fetched::File { bytes, tag });
                }
                Err(error) => self.patience.spend(error).await?,
            }
        }
    }

    /// Reads what is missing; says whether nothing has to be read at all.
    async fn attempt(&self, bytes: &mut Vec<u8>, tag: &mut Option<HeaderValue>, known: Option<&HeaderValue>) -> Result<bool, ClientError> {
        let mut headers = HeaderMap::new();
        let resumes = match tag.as_ref() {
            Some(tag) if !bytes.is_empty() => {
                let range = HeaderValue::from_str(&format!("bytes={}-", bytes.len())).map_err(|_| ClientError::Task)?;
                headers.extend([(header::RANGE, range), (header::IF_RANGE, tag.clone())]);
                true
            }
            _ => {
                bytes.clear();
                headers.extend(known.map(|known| (header::IF_NONE_MATCH, known.clone())));
                false
            }
        };
        let accepted = if resumes {
            [StatusCode::OK, StatusCode::PARTIAL_CONTENT]
        } else {
            [StatusCode::OK, StatusCode::NOT_MODIFIED]
        };
        let mut answer = self.gateway.get(self.what, self.url, headers, &accepted).await?;
        match answer.status {
            StatusCode::NOT_MODIFIED => return Ok(true),
            StatusCode::PARTIAL_CONTENT if !continues(&answer.headers, bytes.len()) => {
                *tag = None;
                return Err(ClientError::Malformed {
                    what: self.what,
                    reason: "the rest of the file is not the part that was asked for".into(),
                });
            }
            StatusCode::PARTIAL_CONTENT => {}
            // The whole file, because it has changed or the server knows no ranges.
            _ => {
                bytes.clear();
                *tag = strong_tag(&answer.headers);
            }
        }
        answer.read_into(bytes, self.limit).await?;
        Ok(false)
    }
}

/// Returns the tag that stands for exactly these bytes; weak ones do not.
fn strong_tag(headers: &HeaderMap) -> Option<HeaderValue> {
    let tag = headers.get(header::ETAG)?;
    let is_strong = tag.as_bytes().starts_with(b"\"") && tag.len() <= MAX_TAG_BYTES;
    is_strong.then(|| tag.clone())
}

fn header_value(tag: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(tag).ok().filter(|tag| tag.len() <= MAX_TAG_BYTES)
}

/// Says whether a part of a file begins at this byte.
fn continues(headers: &HeaderMap, first: usize) -> bool {
    let range = headers.get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {first}-")))
}

fn trusted_encryptor(trust: KeyTrust, public_key: &[u8], crs: &[u8]) -> Result<Box<dyn EncryptInputs>, ClientError> {
    match trust {
        KeyTrust::KeySet(id) => Ok(encryptor_for_key_set(id, public_key, crs)?),
        KeyTrust::InsecureAny => Ok(encryptor_from_bytes(public_key, crs)?),
        KeyTrust::AnySecure => {
            let parameters = parameters_of_public_key(public_key)?;
            if parameters.is_secure() {
                Ok(encryptor_from_bytes(public_key, crs)?)
            } else {
                Err(ClientError::InsecureKey(parameters.name()))
            }
        }
    }
}

fn malformed(reason: &str) -> ClientError {
    ClientError::Malformed {
        what: WHAT,
        reason: reason.to_owned(),
    }
}

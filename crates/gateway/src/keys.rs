//! Key material: where to find it (`keyurl`) and the files themselves.
//!
//! A file's id stands for its bytes forever, so browsers and proxies may keep it; `keyurl` itself is never kept.

use std::sync::{Arc, Mutex, PoisonError};

use alloy_primitives::{hex, keccak256};
use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, uri::Authority},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{
    error::GatewayError,
    services::{KeyFile, KeyMaterial},
};

/// The largest lists the CRS is for, in bits: the key under which SDKs look for it.
const CRS_BITS: &str = "2048";

/// Which file of the key material.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    PublicKey,
    Crs,
}

impl KeyKind {
    const fn path(self) -> &'static str {
        match self {
            Self::PublicKey => "/v2/keys/public-key/",
            Self::Crs => "/v2/keys/crs/",
        }
    }
}

/// Serves the current key material.
pub(crate) struct KeyFiles {
    material: Arc<dyn KeyMaterial>,
    public_url: Option<String>,
    /// `http` or `https`, where no public URL is configured.
    scheme: &'static str,
    /// The last file of each kind with its entity tag: hashing megabytes per request would be waste.
    tags: [Mutex<Option<(KeyFile, HeaderValue)>>; 2],
}

impl KeyFiles {
    /// Checks that the files can be served, and under which URL.
    pub(crate) fn new(material: Arc<dyn KeyMaterial>, public_url: Option<&str>, scheme: &'static str) -> Result<Self, GatewayError> {
        for file in [material.public_key(), material.crs()] {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            if file.id.is_empty() || file.id.len() > 128 || !file.id.bytes().all(fits) {
                return Err(GatewayError::KeyId(file.id));
            }
        }
        let public_url = public_url.map(checked_public_url).transpose()?;
        Ok(Self {
            material,
            public_url,
            scheme,
            tags: [const { Mutex::new(None) }; 2],
        })
    }

    /// Writes `keyurl` as SDKs of version 2 read it.
    pub(crate) fn version_2(&self, headers: &HeaderMap, local: &str) -> Value {
        let [key, crs] = self.located(headers, local).map(|(id, url)| json!({ "dataId": id, "urls": [url] }));
        json!({ "status": "succeeded", "response": { "fheKeyInfo": [{ "fhePublicKey": key }], "crs": { CRS_BITS: crs } } })
    }

    /// Writes `keyurl` as SDKs of version 1 read it.
    pub(crate) fn version_1(&self, headers: &HeaderMap, local: &str) -> Value {
        let entry = |(id, url)| json!({ "data_id": id, "param_choice": 0, "urls": [url], "signatures": [] });
        let [key, crs] = self.located(headers, local).map(entry);
        json!({ "status": "success", "response": { "fhe_key_info": [{ "fhe_public_key": key }], "crs": { CRS_BITS: crs } } })
    }

    fn located(&self, headers: &HeaderMap, local: &str) -> [(String, String); 2] {
        let base = self.base_url(headers, local);
        [KeyKind::PublicKey, KeyKind::Crs].map(|kind| {
            let id = self.file(kind).id;
            let url = format!("{base}{}{id}", kind.path());
            (id, url)
        })
    }

    /// Returns the base URL under which this client reaches us: as configured, or as its `Host` header says.
    pub(crate) fn base_url(&self, headers: &HeaderMap, local: &str) -> String {
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .filter(|host| is_plain_host(host));
        match &self.public_url {
            Some(url) => url.clone(),
            None => format!("{}://{}", self.scheme, host.unwrap_or(local)),
        }
    }

    fn file(&self, kind: KeyKind) -> KeyFile {
        match kind {
            KeyKind::PublicKey => self.material.public_key(),
            KeyKind::Crs => self.material.crs(),
        }
    }

    fn tag(&self, kind: KeyKind, file: &KeyFile) -> HeaderValue {
        let [key, crs] = &self.tags;
        let slot = if kind == KeyKind::PublicKey { key } else { crs };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.as_ref() {
            Some((known, tag)) if known.id == file.id && Arc::ptr_eq(&known.bytes, &file.bytes) => tag.clone(),
            _ => {
                let digest = keccak256(&file.bytes);
                let tag = format!("\"{}\"", hex::encode(digest));
                let tag = HeaderValue::try_from(tag).expect("quotes and hexadecimal digits are a valid header value");
                *slot = Some((file.clone(), tag.clone()));
                tag
            }
        }
    }

    /// Answers a download; `None` if the id is not that of the current file.
    pub(crate) fn download(&self, kind: KeyKind, id: &str, headers: &HeaderMap) -> Option<Response> {
        let file = self.file(kind);
        if file.id != id {
            return None;
        }
        let tag = self.tag(kind, &file);
        let bytes = Bytes::from_owner(file.bytes);
        let mut response = if matches(headers, header::IF_NONE_MATCH, &tag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            content(bytes, headers, &tag)
        };
        let answer = response.headers_mut();
        answer.insert(header::ETAG, tag);
        answer.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=31536000, immutable"),
        );
        answer.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        // Pages isolated with COEP may load only resources that say so.
        answer.insert(
            HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("cross-origin"),
        );
        answer.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Some(response)
    }
}

/// Answers with the whole file or the one range asked for.
fn content(bytes: Bytes, headers: &HeaderMap, tag: &HeaderValue) -> Response {
    let total = bytes.len();
    let same_file = !headers.contains_key(header::IF_RANGE) || matches(headers, header::IF_RANGE, tag);
    let range = headers
        .get(header::RANGE)
        .filter(|_| same_file)
        .and_then(|range| parse_range(range.to_str().ok()?, total));
    let mut response = match range {
        None => Body::from(bytes).into_response(),
        Some(Some((first, last))) => {
            let mut response = (StatusCode::PARTIAL_CONTENT, Body::from(bytes.slice(first..=last))).into_response();
            response
                .headers_mut()
                .insert(header::CONTENT_RANGE, content_range(&format!("bytes {first}-{last}/{total}")));
            response
        }
        Some(None) => {
            let mut response = StatusCode::RANGE_NOT_SATISFIABLE.into_response();
            response
                .headers_mut()
                .insert(header::CONTENT_RANGE, content_range(&format!("bytes */{total}")));
            response
        }
    };
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

fn content_range(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("digits and ASCII punctuation are a valid header value")
}

/// Returns whether a condition header names this tag, or any.
fn matches(headers: &HeaderMap, name: HeaderName, tag: &HeaderValue) -> bool {
    let candidates = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    candidates
        .map(|it| it.trim().trim_start_matches("W/"))
        .any(|it| it == "*" || tag == it)
}

/// Reads a `Range` header: nothing if it is to be ignored, else the first and last byte, or nothing if it lies outside the file.
fn parse_range(text: &str, total: usize) -> Option<Option<(usize, usize)>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let end = total.checked_sub(1)?;
    let number =
        |text: &str| (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().unwrap_or(usize::MAX));
    match (number(first), number(last)) {
        // The last bytes of the file.
        (None, Some(count)) if first.is_empty() => Some((count > 0).then(|| (total.saturating_sub(count), end))),
        (Some(first), None) if last.is_empty() => Some((first <= end).then_some((first, end))),
        (Some(first), Some(last)) if first <= last => Some((first <= end).then_some((first, last.min(end)))),
        _ => None,
    }
}

/// Returns whether a `Host` header is a host with an optional port and nothing else.
fn is_plain_host(host: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    !host.is_empty() && host.len() <= 255 && host.bytes().all(plain) && host.parse::<Authority>().is_ok_and(|it| !it.host().is_empty())
}

fn checked_public_url(url: &str) -> Result<String, GatewayError> {
    let invalid = || GatewayError::PublicUrl(url.to_owned());
    let parsed = url.parse::<axum::http::Uri>().map_err(|_| invalid())?;
    let authority = parsed.authority().filter(|authority| is_plain_host(authority.as_str()));
    if !matches!(parsed.scheme_str(), Some("http" | "https")) || authority.is_none() || url.contains(['?', '#']) {
        return Err(invalid());
    }
    Ok(url.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_the_standard() {
        assert_eq!(parse_range("bytes=0-0", 10), Some(Some((0, 0))));
        assert_eq!(parse_range("bytes=2-", 10), Some(Some((2, 9))));
        assert_eq!(parse_range("bytes=-3", 10), Some(Some((7, 9))));
        assert_eq!(parse_range("bytes=-30", 10), Some(Some((0, 9))));
        assert_eq!(parse_range("bytes=5-99999999999999999999999", 10), Some(Some((5, 9))));
        assert_eq!(parse_range("bytes=10-", 10), Some(None));
        assert_eq!(parse_range("bytes=-0", 10), Some(None));
        for ignored in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-4",
            "bytes=0-1,3-4",
            "items=0-1",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=--1",
        ] {
            assert_eq!(parse_range(ignored, 10), None, "{ignored}");
        }
        assert_eq!(parse_range("bytes=0-", 0), None);
    }

    #[test]
    fn hosts_with_anything_but_name_and_port_are_ignored() {
        for good in ["127.0.0.1:8080", "localhost", "[::1]:80", "gateway.example"] {
            assert!(is_plain_host(good), "{good}");
        }
        for bad in ["", "a b", "user@host", "host/path", "host\"", "host?x", &"a".repeat(256), ":80"] {
            assert!(!is_plain_host(bad), "{bad}");
        }
    }

    #[test]
    fn public_urls_are_prefixes() {
        assert_eq!(checked_public_url("https://fhe.example/base/").unwrap(), "https://fhe.example/base");
        for bad in [
            "",
            "fhe.example",
            "ftp://fhe.example",
            "https://fhe.example/?a",
            "https://user@fhe.example",
            "https://fhe.example/#a",
        ] {
            assert!(checked_public_url(bad).is_err(), "{bad}");
        }
    }
}

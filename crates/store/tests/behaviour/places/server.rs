//! A small object server: the requests of S3, Google Cloud Storage and Azure Blob Storage that the software sends, over real HTTP.
//!
//! It checks S3 signatures with the secret key, keeps objects with their conditions, and fails on demand: with a status, slowly, with answers
//! that break off or have other bytes, or because it is full.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, Response, StatusCode},
};
use futures_util::stream;

use super::signature;

/// The key that requests are signed with.
pub(super) const SECRET_KEY: &str = "a secret that stays here";

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// It is answered with this status.
    Status(u16),
    /// It is answered after this time.
    Slow(Duration),
    /// The body of the answer breaks off.
    BreaksOff,
    /// The connection ends after the request was carried out, without an answer.
    NoAnswer,
    /// It is answered as it should be.
    None,
}

#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) bytes: Bytes,
    pub(super) put_at: SystemTime,
    tag: u64,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, Object>,
    faults: VecDeque<Fault>,
    /// Method and path of all requests, with what of their headers matters.
    requests: Vec<String>,
    space: Option<usize>,
    next_tag: u64,
    replaced_before_removal: bool,
    signed: bool,
}

/// A running server; it ends with the test's runtime.
#[derive(Clone)]
pub(super) struct Server {
    inner: Arc<Mutex<Inner>>,
    pub(super) url: String,
}

impl Server {
    pub(super) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            inner: Arc::default(),
            url: format!("http://{}", listener.local_addr().unwrap()),
        };
        let router = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        server
    }

    /// Refuses what is not signed as S3 wants it.
    pub(super) fn checking_signatures(self) -> Self {
        self.inner.lock().unwrap().signed = true;
        self
    }

    /// Lets the next requests go wrong.
    pub(super) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.inner.lock().unwrap().faults.extend(faults);
    }

    /// Limits the bytes of all objects together.
    pub(super) fn set_space(&self, space: Option<usize>) {
        self.inner.lock().unwrap().space = space;
    }

    /// Puts an object again, as another process would, right before the next one is removed.
    pub(super) fn replace_before_removal(&self) {
        self.inner.lock().unwrap().replaced_before_removal = true;
    }

    pub(super) fn object(&self, key: &str) -> Option<Object> {
        self.inner.lock().unwrap().objects.get(key).cloned()
    }

    pub(super) fn keys(&self) -> Vec<String> {
        self.inner.lock().unwrap().objects.keys().cloned().collect()
    }

    /// Changes an object behind everybody's back.
    pub(super) fn change(&self, key: &str, change: impl FnOnce(&mut Object)) {
        change(self.inner.lock().unwrap().objects.get_mut(key).unwrap());
    }

    /// Returns the requests so far, and forgets them.
    pub(super) fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.inner.lock().unwrap().requests)
    }
}

/// Reads the name of an object from a path; Google's client writes the slashes in it as `%2F`.
fn key(path: &str) -> String {
    path.replace("%2F", "/").replace("%2E", ".")
}

async fn answer(State(server): State<Server>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 64 << 20).await.unwrap();
    let fault = {
        let mut inner = server.inner.lock().unwrap();
        let condition = ["if-none-match", "if-match", "x-goog-if-generation-match"]
            .iter()
            .find_map(|name| Some(format!(" {name}: {}", head.headers.get(*name)?.to_str().unwrap())));
        let request = format!("{} {}{}", head.method, key(head.uri.path()), condition.unwrap_or_default());
        inner.requests.push(request);
        inner.faults.pop_front().unwrap_or(Fault::None)
    };
    match fault {
        Fault::Status(status) => return plain(status),
        Fault::Slow(time) => tokio::time::sleep(time).await,
        _ => {}
    }
    let signed = server.inner.lock().unwrap().signed;
    if signed && let Err(reason) = signature::check(&head.method, &head.uri, &head.headers, &body, SECRET_KEY) {
        return Response::builder()
            .status(403)
            .body(Body::from(format!("<Error>{reason}</Error>")))
            .unwrap();
    }
    let query = head.uri.query().unwrap_or_default();
    let answered = if head.method == Method::POST && query.contains("comp=batch") {
        server.batch(&head.headers, &body)
    } else {
        server.object_request(&head.method, &key(head.uri.path()), &head.headers, body)
    };
    match fault {
        Fault::BreaksOff => break_off(answered).await,
        Fault::NoAnswer => {
            let broken = stream::iter([Err::<Bytes, _>(std::io::Error::other("the connection ends"))]);
            Response::builder()
                .header("content-length", 10)
                .body(Body::from_stream(broken))
                .unwrap()
        }
        _ => answered,
    }
}

impl Server {
    fn object_request(&self, method: &Method, key: &str, headers: &HeaderMap, body: Bytes) -> Response<Body> {
        let inner = &mut *self.inner.lock().unwrap();
        let found = inner.objects.get(key).cloned();
        match (method.as_str(), found) {
            ("PUT", found) => {
                let only_new = headers.get("if-none-match").is_some_and(|value| value == "*")
                    || headers.get("x-goog-if-generation-match").is_some_and(|value| value == "0");
                if only_new && found.is_some() {
                    return plain(412);
                }
                let used: usize = inner.objects.values().map(|object| object.bytes.len()).sum();
                if inner.space.is_some_and(|space| used + body.len() > space) {
                    return plain(507);
                }
                inner.next_tag += 1;
                let object = Object {
                    bytes: body,
                    put_at: SystemTime::now(),
                    tag: inner.next_tag,
                };
                let answered = object.answer(201, Body::empty());
                inner.objects.insert(key.to_owned(), object);
                answered
            }
            ("GET" | "HEAD", None) => plain(404),
            ("GET", Some(object)) => object.answer(200, Body::from(object.bytes.clone())),
            ("HEAD", Some(object)) => {
                let mut answered = object.answer(200, Body::empty());
                let length = object.bytes.len().into();
                answered.headers_mut().insert("content-length", length);
                answered
            }
            ("DELETE", None) => plain(404),
            ("DELETE", Some(mut object)) => {
                if std::mem::take(&mut inner.replaced_before_removal) {
                    inner.next_tag += 1;
                    object.tag = inner.next_tag;
                    inner.objects.insert(key.to_owned(), object.clone());
                }
                if headers.get("if-match").is_some_and(|tag| *tag != object.e_tag()) {
                    return plain(412);
                }
                inner.objects.remove(key);
                plain(204)
            }
            _ => plain(405),
        }
    }

    /// Azure's way of removing: requests inside of one.
    fn batch(&self, headers: &HeaderMap, body: &[u8]) -> Response<Body> {
        let text = String::from_utf8_lossy(body).into_owned();
        let names = text.lines().filter_map(|line| line.strip_prefix("DELETE ")?.split_once(' '));
        let mut answers = String::new();
        for (index, (name, _)) in names.enumerate() {
            let removed = self.object_request(&Method::DELETE, &key(name), headers, Bytes::new());
            let status = if removed.status() == StatusCode::NO_CONTENT {
                "202 Accepted"
            } else {
                "404 The specified blob does not exist."
            };
            answers += &format!(
                "--batch\r\nContent-Type: application/http\r\nContent-ID: {index}\r\n\r\nHTTP/1.1 {status}\r\nx-ms-request-id: 1\r\n\r\n"
            );
        }
        Response::builder()
            .status(202)
            .header("content-type", "multipart/mixed; boundary=batch")
            .body(Body::from(answers + "--batch--"))
            .unwrap()
    }
}

impl Object {
    fn e_tag(&self) -> String {
        format!("\"{}\"", self.tag)
    }

    fn answer(&self, status: u16, body: Body) -> Response<Body> {
        Response::builder()
            .status(status)
            .header("etag", self.e_tag())
            .header("x-goog-generation", self.tag)
            .header("last-modified", date(self.put_at))
            .body(body)
            .unwrap()
    }
}

fn plain(status: u16) -> Response<Body> {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

async fn break_off(answered: Response<Body>) -> Response<Body> {
    let (mut head, body) = answered.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    head.headers.insert("content-length", bytes.len().into());
    let half = bytes.slice(..bytes.len() / 2);
    let parts = [Ok(half), Err(std::io::Error::other("the connection ends"))];
    Response::from_parts(head, Body::from_stream(stream::iter(parts)))
}

/// Writes a time as HTTP does.
fn date(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][usize::try_from(days % 7).unwrap()];
    // Days since 0000-03-01, so that leap days end a year.
    let (era_day, era) = ((days + 719_468) % 146_097, (days + 719_468) / 146_097);
    let year_of_era = (era_day - era_day / 1_460 + era_day / 36_524 - era_day / 146_096) / 365;
    let day_of_year = era_day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = year_of_era + era * 400 + u64::from(month < 2);
    let name = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][usize::try_from(month).unwrap()];
    format!(
        "{weekday}, {day:02} {name} {year} {:02}:{:02}:{:02} GMT",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[test]
fn dates_are_written_as_http_does() {
    let at = |seconds| date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    assert_eq!(at(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(at(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
    assert_eq!(at(1_767_225_599), "Wed, 31 Dec 2025 23:59:59 GMT");
}

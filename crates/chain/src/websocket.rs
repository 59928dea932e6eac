//! JSON-RPC over WebSocket, with a subscription to new heads.
//!
//! One connection carries the calls of all clones. It is opened by the first call, which also asks for `newHeads`, and opened again by the first call after
//! it was lost. A call whose connection is lost fails; whoever called decides whether to repeat it. Heads are hints: they say that it is time to look, and
//! nothing that they contain is believed, so that doubled, missing or wrong ones do no harm.
//!
//! **Limits.** Messages have at most [`MAX_MESSAGE_BYTES`], at most [`MAX_WAITING`] calls wait for answers, and a connection on which nothing arrives for
//! [`SILENCE_LIMIT`], answers to pings included, is given up.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use alloy::{
    rpc::json_rpc::{RequestPacket, Response, ResponsePacket, SerializedRequest},
    transports::{Authorization, TransportError, TransportErrorKind, http::reqwest::Url},
};
use futures_util::{SinkExt, StreamExt, future::try_join_all};
use http::{HeaderValue, header};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{Mutex, mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, client::IntoClientRequest, protocol::WebSocketConfig},
};

use crate::https;

/// The longest message that is read.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// The most calls that wait for answers on one connection.
const MAX_WAITING: usize = 1024;

/// How often a connection is asked whether it is alive.
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// How long a connection may be silent.
const SILENCE_LIMIT: Duration = Duration::from_secs(40);

/// Why a call got no answer.
#[derive(Debug, thiserror::Error)]
#[error("WebSocket: {0}")]
struct Lost(String);

fn lost(reason: impl ToString) -> TransportError {
    TransportErrorKind::custom(Lost(reason.to_string()))
}

/// Calls a node over WebSocket. Clones share the connection.
#[derive(Clone)]
pub(crate) struct WebSocketClient {
    inner: Arc<Inner>,
}

struct Inner {
    url: Url,
    /// How long making a connection may take.
    limit: Duration,
    connection: Mutex<Option<Connection>>,
    /// Counts the heads that were announced.
    heads: watch::Sender<u64>,
    /// Whether the node announces heads now.
    subscribed: Arc<AtomicBool>,
}

/// The caller's side of a connection. Its task ends with it.
struct Connection {
    calls: mpsc::Sender<Call>,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A call and who waits for its answer.
struct Call {
    method: String,
    parameters: Option<Box<RawValue>>,
    answer: oneshot::Sender<Response>,
}

impl std::fmt::Debug for WebSocketClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a key.
        f.debug_struct("WebSocketClient").finish_non_exhaustive()
    }
}

impl WebSocketClient {
    /// Sets up calls to a node; nothing is sent yet. Announced heads are counted in `heads`.
    pub(crate) fn new(url: Url, limit: Duration, heads: watch::Sender<u64>) -> Self {
        Self {
            inner: Arc::new(Inner {
                url,
                limit,
                connection: Mutex::default(),
                heads,
                subscribed: Arc::default(),
            }),
        }
    }

    /// Says whether the node announces new heads now.
    pub(crate) fn is_subscribed(&self) -> bool {
        self.inner.subscribed.load(Ordering::Relaxed)
    }

    /// Makes calls and waits for all answers.
    pub(crate) async fn exchange(&self, packet: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let calls = self.calls().await?;
        match packet {
            RequestPacket::Single(request) => Ok(ResponsePacket::Single(call(&calls, &request).await?)),
            RequestPacket::Batch(requests) => {
                let answers = try_join_all(requests.iter().map(|request| call(&calls, request))).await?;
                Ok(ResponsePacket::Batch(answers))
            }
        }
    }

    /// Returns the way to the connection, which is made if there is none.
    async fn calls(&self) -> Result<mpsc::Sender<Call>, TransportError> {
        let mut connection = self.inner.connection.lock().await;
        if let Some(open) = connection.as_ref()
            && !open.calls.is_closed()
        {
            return Ok(open.calls.clone());
        }
        *connection = None;
        let socket = tokio::time::timeout(self.inner.limit, connect(&self.inner.url))
            .await
            .map_err(|_| lost(format!("no connection within {} s", self.inner.limit.as_secs())))??;
        let (calls, incoming) = mpsc::channel(MAX_WAITING);
        let session = Session {
            socket,
            waiting: HashMap::new(),
            next_id: 1,
            announcements: Announcements {
                heads: self.inner.heads.clone(),
                subscribed: Arc::clone(&self.inner.subscribed),
            },
        };
        let task = tokio::spawn(session.run(incoming));
        *connection = Some(Connection {
            calls: calls.clone(),
            task,
        });
        Ok(calls)
    }
}

/// Makes one call. Numbers of calls are the connection's own, since those of different callers may be the same.
async fn call(calls: &mpsc::Sender<Call>, request: &SerializedRequest) -> Result<Response, TransportError> {
    let (answer, answered) = oneshot::channel();
    let sent = calls.send(Call {
        method: request.method().to_owned(),
        parameters: request.params().map(ToOwned::to_owned),
        answer,
    });
    sent.await.map_err(|_| lost("the connection was lost"))?;
    let mut response = answered.await.map_err(|_| lost("the connection was lost before the answer came"))?;
    response.id = request.id().clone();
    Ok(response)
}

/// What a WebSocket can run over.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

type Socket = WebSocketStream<Box<dyn Stream>>;

async fn connect(url: &Url) -> Result<Socket, TransportError> {
    let stream: Box<dyn Stream> = if url.scheme() == "wss" {
        Box::new(https::connect(url).await.map_err(TransportErrorKind::custom)?)
    } else {
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, url.port_or_known_default().unwrap_or(80)))
            .await
            .map_err(lost)?;
        stream.set_nodelay(true).map_err(lost)?;
        Box::new(stream)
    };
    let mut request = https::without_credentials(url).into_client_request().map_err(lost)?;
    if let Some(credentials) = Authorization::extract_from_url(url) {
        let mut value = HeaderValue::from_str(&credentials.to_string()).map_err(lost)?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let (socket, _) = client_async_with_config(request, stream, Some(config)).await.map_err(lost)?;
    Ok(socket)
}

/// Counts heads and says that they are announced, for as long as the connection that announces them is there.
struct Announcements {
    heads: watch::Sender<u64>,
    subscribed: Arc<AtomicBool>,
}

impl Announcements {
    fn count(&self) {
        self.heads.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Drop for Announcements {
    fn drop(&mut self) {
        self.subscribed.store(false, Ordering::Relaxed);
        // Whoever waits for a head looks again, and so makes another connection.
        self.count();
    }
}

/// The node's side of a connection.
struct Session {
    socket: Socket,
    waiting: HashMap<u64, oneshot::Sender<Response>>,
    next_id: u64,
    announcements: Announcements,
}

/// The number of the call that asks for heads.
const SUBSCRIPTION: u64 = 0;

impl Session {
    /// Carries calls until the connection is lost or nobody wants it any more. Whoever waits then learns it from the dropped channel.
    async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        let subscribe = json!({"jsonrpc": "2.0", "id": SUBSCRIPTION, "method": "eth_subscribe", "params": ["newHeads"]});
        if self.socket.send(Message::text(subscribe.to_string())).await.is_err() {
            return;
        }
        let mut pings = tokio::time::interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                message = self.socket.next() => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => self.receive(&text),
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                        Some(Ok(_)) => {}
                    }
                }
                call = calls.recv() => {
                    let Some(call) = call else { return };
                    if self.send(call).await.is_err() {
                        return;
                    }
                }
                _ = pings.tick() => {
                    if heard.elapsed() > SILENCE_LIMIT || self.socket.send(Message::Ping(Vec::new().into())).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn send(&mut self, call: Call) -> Result<(), tokio_tungstenite::tungstenite::Error> {
        // Callers that gave up leave their place.
        self.waiting.retain(|_, answer| !answer.is_closed());
        if self.waiting.len() >= MAX_WAITING {
            // The caller learns it from its dropped channel.
            return Ok(());
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1).max(SUBSCRIPTION + 1);
        self.waiting.insert(id, call.answer);
        let parameters = call.parameters.as_deref().map_or("[]", RawValue::get);
        let method = serde_json::Value::from(call.method);
        let request = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method},"params":{parameters}}}"#);
        self.socket.send(Message::text(request)).await
    }

    fn receive(&mut self, text: &str) {
        /// What tells answers from announcements.
        #[derive(Deserialize)]
        struct Kind {
            id: Option<u64>,
            method: Option<String>,
            result: Option<serde::de::IgnoredAny>,
        }
        let Ok(kind) = serde_json::from_str::<Kind>(text) else {
            tracing::debug!("left out a message over WebSocket that is not one of JSON-RPC");
            return;
        };
        match (kind.id, kind.method) {
            (None, Some(method)) if method == "eth_subscription" => self.announcements.count(),
            (Some(SUBSCRIPTION), None) => {
                let accepted = kind.result.is_some();
                if !accepted {
                    tracing::debug!("the chain's node announces no heads; it is asked for them instead");
                }
                self.announcements.subscribed.store(accepted, Ordering::Relaxed);
            }
            (Some(id), None) => {
                if let Some(answer) = self.waiting.remove(&id)
                    && let Ok(response) = serde_json::from_str(text)
                {
                    // The caller may have given up.
                    let _ = answer.send(response);
                }
            }
            _ => {}
        }
    }
}

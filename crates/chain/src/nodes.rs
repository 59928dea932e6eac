//! Several nodes of one chain, of which the first that works is used.
//!
//! The order of the URLs is the order of preference. A node that fails rests for a while, longer each time, and the next one that does not rest is asked;
//! when the rest is over the node is preferred again. If all rest, the one whose rest ends first is asked all the same, so that an outage of everything is
//! noticed to be over at once. A node is asked for its chain's id before it is used, if that is known: a wrong URL in the list must not add another chain's
//! blocks.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use alloy::{
    rpc::json_rpc::{Id, Request, RequestPacket, ResponsePacket},
    transports::{
        RpcError, TransportError, TransportErrorKind, TransportFut,
        http::{Http, reqwest},
    },
};
use tokio::{sync::watch, time::Instant};
use tower_service::Service;

use crate::{
    error::ChainError,
    host_chain::CallLimits,
    https::{HttpsClient, HttpsTransport},
    websocket::WebSocketClient,
};

/// The shortest and the longest rest of a node that failed.
const REST: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// The most nodes of a chain.
const MAX_NODES: usize = 16;

/// How many nodes are asked in turn where nobody asks again.
const ATTEMPTS: u32 = 4;

/// The code by which most providers say that they were asked too often (EIP-1474).
const LIMIT_EXCEEDED: i64 = -32005;

/// Returns a URL without what may be secret in it: credentials, path and query, where providers put keys.
#[must_use]
pub fn redacted_url(url: &str) -> String {
    match url.parse::<reqwest::Url>() {
        Ok(parsed) => {
            let port = parsed.port().map(|port| format!(":{port}")).unwrap_or_default();
            let hidden = if parsed.path().len() > 1 || parsed.query().is_some() {
                "/…"
            } else {
                ""
            };
            format!("{}://{}{port}{hidden}", parsed.scheme(), parsed.host_str().unwrap_or_default())
        }
        Err(_) => "a URL that cannot be read".to_owned(),
    }
}

/// A node serves another chain than the one expected.
#[derive(Debug, thiserror::Error)]
#[error("{node} serves chain {found}, not {expected}")]
struct OtherChain {
    node: String,
    found: String,
    expected: u64,
}

/// The nodes of a chain.
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    chain_id: Option<u64>,
    heads: watch::Sender<u64>,
}

/// One node.
struct Node {
    /// Its URL as it may be logged.
    label: String,
    client: NodeClient,
    /// Whether it was found to serve the expected chain.
    checked: AtomicBool,
    rest: Mutex<Rest>,
}

/// How a node is reached.
enum NodeClient {
    Http(Http<reqwest::Client>),
    Https(Box<HttpsTransport>),
    WebSocket(WebSocketClient),
}

/// Until when a node is left alone.
#[derive(Default)]
struct Rest {
    until: Option<Instant>,
    length: Duration,
}

impl Nodes {
    /// Sets up calls to nodes; nothing is sent yet.
    ///
    /// # Errors
    /// [`ChainError::Url`] if one cannot be used, [`ChainError::NoNodes`] if there are none or too many, [`ChainError::Tls`].
    pub(crate) fn new(urls: &[impl AsRef<str>], limits: CallLimits, chain_id: Option<u64>) -> Result<Arc<Self>, ChainError> {
        if urls.is_empty() || urls.len() > MAX_NODES {
            return Err(ChainError::NoNodes {
                found: urls.len(),
                most: MAX_NODES,
            });
        }
        let heads = watch::Sender::new(0);
        let nodes = urls
            .iter()
            .map(|url| Node::new(url.as_ref(), limits, &heads))
            .collect::<Result<_, _>>()?;
        Ok(Arc::new(Self { nodes, chain_id, heads }))
    }

    /// Returns the number of the node to ask next.
    pub(crate) fn preferred(&self) -> usize {
        self.preferred_at(Instant::now())
    }

    fn preferred_at(&self, now: Instant) -> usize {
        let rests: Vec<Option<Instant>> = self.nodes.iter().map(|node| node.rests_until(now)).collect();
        let awake = rests.iter().position(Option::is_none);
        awake.unwrap_or_else(|| {
            rests
                .iter()
                .enumerate()
                .min_by_key(|(_, until)| **until)
                .map_or(0, |(index, _)| index)
        })
    }

    /// Lets a node rest although it answered, if there is another one: what it says cannot be used now.
    pub(crate) fn distrust(&self, index: usize) {
        if self.nodes.len() > 1
            && let Some(node) = self.nodes.get(index)
        {
            node.failed(Instant::now());
        }
    }

    /// Returns how a node may be named in logs.
    pub(crate) fn label(&self, index: usize) -> &str {
        self.nodes.get(index).map_or("", |node| &node.label)
    }

    /// Says whether a node that is in use announces new heads.
    pub(crate) fn announces_heads(&self) -> bool {
        self.nodes
            .iter()
            .any(|node| matches!(&node.client, NodeClient::WebSocket(client) if client.is_subscribed()))
    }

    /// Counts announced heads.
    pub(crate) fn heads(&self) -> watch::Receiver<u64> {
        self.heads.subscribe()
    }

    async fn exchange(&self, index: usize, packet: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let Some(node) = self.nodes.get(index) else {
            return Err(TransportErrorKind::backend_gone());
        };
        // Whoever stops waiting for the answer drops this.
        let watch = Unanswered(node);
        let answered = match self.check(node).await {
            Ok(()) => node.exchange(packet).await,
            Err(error) => Err(error),
        };
        std::mem::forget(watch);
        match &answered {
            Err(_) => node.failed(Instant::now()),
            Ok(answer) if answer.first_error_code() == Some(LIMIT_EXCEEDED) && self.nodes.len() > 1 => node.failed(Instant::now()),
            Ok(_) => node.worked(Instant::now()),
        }
        answered
    }

    /// Asks a node once for its chain's id.
    async fn check(&self, node: &Node) -> Result<(), TransportError> {
        let Some(expected) = self.chain_id else { return Ok(()) };
        if node.checked.load(Ordering::Relaxed) {
            return Ok(());
        }
        let request = Request::new("eth_chainId", Id::Number(0), [(); 0]);
        let request = request.serialize().map_err(TransportError::ser_err)?;
        let answer = node.exchange(RequestPacket::Single(request)).await?;
        if let Some(error) = answer.as_error() {
            return Err(RpcError::ErrorResp(error.clone()));
        }
        let text = answer.first_payload().and_then(|payload| payload.as_success()).map(|raw| raw.get());
        let found = text.and_then(|raw| raw.trim_matches('"').strip_prefix("0x"));
        let found = found.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        if found == Some(expected) {
            node.checked.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let other = OtherChain {
            node: node.label.clone(),
            found: found.map_or_else(|| "of an unreadable id".to_owned(), |id| id.to_string()),
            expected,
        };
        tracing::error!(error = %other, "a configured node is not used");
        Err(TransportErrorKind::custom(other))
    }
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.nodes.iter().map(|node| &node.label)).finish()
    }
}

/// Notes a failure of a node when it is dropped: its answer was waited for in vain.
struct Unanswered<'a>(&'a Node);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.0.failed(Instant::now());
    }
}

impl Node {
    fn new(url: &str, limits: CallLimits, heads: &watch::Sender<u64>) -> Result<Self, ChainError> {
        let invalid = || ChainError::Url(redacted_url(url));
        let parsed: reqwest::Url = url.parse().map_err(|_| invalid())?;
        if parsed.host_str().is_none() {
            return Err(invalid());
        }
        let client = match parsed.scheme() {
            "ws" | "wss" => NodeClient::WebSocket(WebSocketClient::new(parsed, limits.timeout, heads.clone())),
            "https" => {
                let client = HttpsClient::new(limits.timeout).map_err(ChainError::Tls)?;
                NodeClient::Https(Box::new(HttpsTransport::new(client, parsed)))
            }
            "http" => {
                let client = reqwest::Client::builder().timeout(limits.timeout);
                // A proxy for the outside world cannot reach a node on this machine.
                let client = if is_local(&parsed) { client.no_proxy() } else { client };
                let client = client.build().map_err(|_| invalid())?;
                NodeClient::Http(Http::with_client(client, parsed))
            }
            _ => return Err(invalid()),
        };
        Ok(Self {
            label: redacted_url(url),
            client,
            checked: AtomicBool::new(false),
            rest: Mutex::default(),
        })
    }

    async fn exchange(&self, packet: RequestPacket) -> Result<ResponsePacket, TransportError> {
        match &self.client {
            NodeClient::Http(client) => client.clone().call(packet).await.map_err(without_url),
            NodeClient::Https(client) => HttpsTransport::clone(client).call(packet).await,
            NodeClient::WebSocket(client) => client.exchange(packet).await,
        }
    }

    fn rest(&self) -> std::sync::MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.rest().until.filter(|until| *until > now)
    }

    fn failed(&self, now: Instant) {
        let mut rest = self.rest();
        // Calls that fail together count once.
        if rest.until.is_none_or(|until| until <= now) {
            rest.length = rest.length.saturating_mul(2).clamp(REST.0, REST.1);
            rest.until = Some(now + rest.length);
        }
    }

    fn worked(&self, now: Instant) {
        let mut rest = self.rest();
        if rest.until.is_none_or(|until| until <= now) {
            *rest = Rest::default();
        }
    }
}

/// Takes the URL out of an error: it may hold a key, and the node is named without it elsewhere.
fn without_url(error: TransportError) -> TransportError {
    let RpcError::Transport(TransportErrorKind::Custom(error)) = error else {
        return error;
    };
    match error.downcast::<reqwest::Error>() {
        Ok(error) => TransportErrorKind::custom(error.without_url()),
        Err(error) => RpcError::Transport(TransportErrorKind::Custom(error)),
    }
}

fn is_local(url: &reqwest::Url) -> bool {
    matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

/// Calls to the nodes of a chain, as alloy's providers want them: to the preferred one each time, or all to the same.
#[derive(Clone, Debug)]
pub(crate) struct NodesTransport {
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) only: Option<usize>,
}

impl Service<RequestPacket> for NodesTransport {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let nodes = Arc::clone(&self.nodes);
        let index = self.only.unwrap_or_else(|| nodes.preferred());
        Box::pin(async move { nodes.exchange(index, packet).await })
    }
}

/// The same for calls that nobody repeats: when a node fails, the next one is asked at once.
#[derive(Clone, Debug)]
pub(crate) struct PatientTransport(pub(crate) NodesTransport);

impl Service<RequestPacket> for PatientTransport {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let mut transport = self.0.clone();
        Box::pin(async move {
            for _ in 1..ATTEMPTS {
                match transport.call(packet.clone()).await {
                    // The node that failed rests now, so that the next attempt is another's.
                    Err(error) if error.is_transport_error() => tracing::debug!(%error, "asking another node"),
                    answer => return answer,
                }
            }
            transport.call(packet).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_urls_are_not_shown() {
        for (url, shown) in [
            ("https://user:secret@node.example/v2/secret?key=secret", "https://node.example/…"),
            ("ws://127.0.0.1:8545", "ws://127.0.0.1:8545"),
            ("no url", "a URL that cannot be read"),
        ] {
            assert_eq!(redacted_url(url), shown);
        }
    }

    #[test]
    fn a_node_that_fails_rests_and_is_preferred_again() {
        let nodes = Nodes::new(&["http://one.example", "ws://two.example"], CallLimits::default(), None).unwrap();
        let (start, step) = (Instant::now(), Duration::from_millis(1));
        let fail = |index: usize, now| nodes.nodes[index].failed(now);
        assert_eq!(nodes.preferred_at(start), 0);
        fail(0, start);
        assert_eq!(nodes.preferred_at(start), 1);
        fail(1, start + step);
        // Both rest; the rest of the first one ends earlier.
        assert_eq!(nodes.preferred_at(start + step), 0);
        let later = start + REST.0;
        assert_eq!(nodes.preferred_at(later), 0);
        // The second failure in a row takes longer, and one that works begins anew.
        fail(0, later);
        assert_eq!(nodes.preferred_at(later + REST.0), 1);
        let rested = later + REST.0 * 2;
        assert_eq!(nodes.preferred_at(rested), 0);
        nodes.nodes[0].worked(rested);
        fail(0, rested);
        assert_eq!(nodes.preferred_at(rested + REST.0), 0);
    }

    #[test]
    fn what_cannot_be_reached_is_refused() {
        for url in ["", "localhost:8545", "ftp://example.org", "file:///etc"] {
            assert!(
                matches!(Nodes::new(&[url], CallLimits::default(), None), Err(ChainError::Url(_))),
                "{url}"
            );
        }
        let none: [&str; 0] = [];
        assert!(matches!(
            Nodes::new(&none, CallLimits::default(), None),
            Err(ChainError::NoNodes { .. })
        ));
    }
}

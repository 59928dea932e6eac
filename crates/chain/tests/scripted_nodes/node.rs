//! A node that misbehaves.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use alloy::{
    primitives::B256,
    rpc::types::{Block, Header, Log},
};
use axum::{
    Json, Router,
    body::Body,
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::chain::{CHAIN_ID, MadeUpChain, Random};

/// How a node misbehaves. Numbers are how often in a hundred requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// The connection ends instead of an answer.
    pub(crate) drops: u64,
    /// Logs are left out of an answer.
    pub(crate) omits: u64,
    /// A log of a removed block is in an answer.
    pub(crate) removed: u64,
    /// Logs are there twice.
    pub(crate) doubles: u64,
    /// A range is answered with a block beside it.
    pub(crate) strays: u64,
    /// The answer is of another kind than asked for.
    pub(crate) nonsense: u64,
    /// It says that it was asked too often.
    pub(crate) limits: u64,
    /// The longest range it answers, with its words beyond.
    pub(crate) longest_range: Option<(u64, &'static str)>,
    /// How many blocks it is behind the chain.
    pub(crate) lag: u64,
    /// It says that it serves another chain.
    pub(crate) other_chain: bool,
    /// It refuses subscriptions.
    pub(crate) no_subscriptions: bool,
    /// How many times each head is announced.
    pub(crate) announcements: usize,
    /// It has no receipts of blocks.
    pub(crate) no_receipts: bool,
}

/// A running node.
pub(crate) struct Node {
    state: Arc<NodeState>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

struct NodeState {
    chain: MadeUpChain,
    faults: Mutex<Faults>,
    random: Mutex<Random>,
    requests: AtomicUsize,
    heads: watch::Sender<u64>,
    connections: watch::Sender<u64>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What comes back.
enum Answer {
    Result(Value),
    Error(i64, String),
    Gone,
}

impl Node {
    pub(crate) async fn start(chain: &MadeUpChain, faults: Faults, seed: u64) -> Self {
        let state = Arc::new(NodeState {
            chain: chain.clone(),
            faults: Mutex::new(faults),
            random: Mutex::new(Random::new(seed)),
            requests: AtomicUsize::new(0),
            heads: watch::Sender::new(0),
            connections: watch::Sender::new(0),
        });
        let app = Router::new()
            .route("/", get(upgrade).post(over_http))
            .with_state(Arc::clone(&state));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { state, address, task }
    }

    pub(crate) fn http(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn ws(&self) -> String {
        format!("ws://{}", self.address)
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, faults: Faults) {
        *self.state.faults.lock().unwrap() = faults;
    }

    /// Announces a new head.
    pub(crate) fn announce(&self) {
        self.state.heads.send_modify(|count| *count += 1);
    }

    /// Ends all WebSocket connections.
    pub(crate) fn cut(&self) {
        self.state.connections.send_modify(|count| *count += 1);
    }
}

async fn over_http(State(state): State<Arc<NodeState>>, Json(request): Json<Value>) -> Response {
    match state.answer(&request) {
        Answer::Result(result) => Json(reply(&request, "result", result)).into_response(),
        Answer::Error(code, message) => Json(reply(&request, "error", json!({"code": code, "message": message}))).into_response(),
        // The body breaks off after it was begun.
        Answer::Gone => (
            StatusCode::OK,
            Body::from_stream(futures_util::stream::iter([
                Ok("{\"jsonrpc\":\"2.0\","),
                Err(std::io::Error::other("gone")),
            ])),
        )
            .into_response(),
    }
}

fn reply(request: &Value, field: &str, value: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": request["id"], field: value})
}

async fn upgrade(State(state): State<Arc<NodeState>>, socket: WebSocketUpgrade) -> Response {
    socket.on_upgrade(move |socket| over_socket(state, socket))
}

async fn over_socket(state: Arc<NodeState>, mut socket: WebSocket) {
    let mut heads = state.heads.subscribe();
    let mut cuts = state.connections.subscribe();
    let mut subscribed = false;
    loop {
        tokio::select! {
            _ = cuts.changed() => return,
            changed = heads.changed(), if subscribed => {
                changed.unwrap();
                let head = json!({"jsonrpc": "2.0", "method": "eth_subscription", "params": {"subscription": "0x1", "result": {"number": "0xdeadbeef"}}});
                let times = state.faults.lock().unwrap().announcements;
                for _ in 0..times {
                    if socket.send(Message::text(head.to_string())).await.is_err() {
                        return;
                    }
                }
            }
            message = socket.recv() => {
                let text = match message {
                    Some(Ok(Message::Text(text))) => text,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    _ => return,
                };
                let request: Value = serde_json::from_str(&text).unwrap();
                let answer = if request["method"] == "eth_subscribe" {
                    subscribed = !state.faults.lock().unwrap().no_subscriptions;
                    match subscribed {
                        true => reply(&request, "result", json!("0x1")),
                        false => reply(&request, "error", json!({"code": -32601, "message": "no subscriptions"})),
                    }
                } else {
                    match state.answer(&request) {
                        Answer::Result(result) => reply(&request, "result", result),
                        Answer::Error(code, message) => reply(&request, "error", json!({"code": code, "message": message})),
                        Answer::Gone => return,
                    }
                };
                if socket.send(Message::text(answer.to_string())).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn number(value: &Value) -> Option<u64> {
    u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()
}

impl NodeState {
    fn answer(&self, request: &Value) -> Answer {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let faults = self.faults.lock().unwrap().clone();
        let mut random = self.random.lock().unwrap();
        if random.percent(faults.drops) {
            return Answer::Gone;
        }
        if random.percent(faults.limits) {
            return Answer::Error(-32005, "daily request count exceeded, request rate limited".to_owned());
        }
        if random.percent(faults.nonsense) {
            return Answer::Result(json!({"number": []}));
        }
        let parameters = &request["params"];
        match request["method"].as_str().unwrap() {
            "eth_chainId" if faults.other_chain => Answer::Result(json!("0x1")),
            "eth_chainId" => Answer::Result(json!(format!("{CHAIN_ID:#x}"))),
            "eth_getBlockByNumber" => {
                let head = self.head(&faults);
                let number = number(&parameters[0]).unwrap_or(head);
                let block = (number <= head).then(|| self.chain.block(number)).flatten();
                Answer::Result(block.map_or(Value::Null, |block| {
                    let header = Header::from_consensus(block.header.seal(block.hash), None, None);
                    serde_json::to_value(Block::<B256>::empty(header)).unwrap()
                }))
            }
            "eth_getBlockReceipts" if faults.no_receipts => Answer::Error(-32601, "the method does not exist".to_owned()),
            "eth_getBlockReceipts" => {
                let hash: B256 = serde_json::from_value(parameters[0]["blockHash"].clone())
                    .or_else(|_| serde_json::from_value(parameters[0].clone()))
                    .unwrap();
                let block = self.chain.block_with(hash);
                Answer::Result(block.map_or(Value::Null, |block| serde_json::to_value(block.receipts).unwrap()))
            }
            "eth_getLogs" => self.logs(&faults, &mut random, &parameters[0]),
            other => panic!("unexpected {other}"),
        }
    }

    fn head(&self, faults: &Faults) -> u64 {
        u64::try_from(self.chain.height()).unwrap().saturating_sub(faults.lag)
    }

    fn logs(&self, faults: &Faults, random: &mut Random, filter: &Value) -> Answer {
        let mut logs: Vec<Log> = if let Ok(hash) = serde_json::from_value::<B256>(filter["blockHash"].clone()) {
            match self.chain.block_with(hash) {
                Some(block) => block.logs(),
                None => return Answer::Error(-32000, "unknown block".to_owned()),
            }
        } else {
            let (first, last) = (number(&filter["fromBlock"]).unwrap(), number(&filter["toBlock"]).unwrap());
            if let Some((longest, words)) = faults.longest_range
                && last - first >= longest
            {
                return Answer::Error(-32602, words.to_owned());
            }
            let beside = u64::from(random.percent(faults.strays));
            (first..=last + beside)
                .filter_map(|number| self.chain.block(number))
                .flat_map(|block| block.logs())
                .collect()
        };
        if filter["blockHash"].is_string() && random.percent(faults.omits) {
            logs.clear();
        }
        if random.percent(faults.doubles) {
            logs = logs.iter().flat_map(|log| [log.clone(), log.clone()]).collect();
        }
        if random.percent(faults.removed)
            && let Some(log) = logs.last_mut()
        {
            log.removed = true;
        }
        Answer::Result(serde_json::to_value(logs).unwrap())
    }
}

/// Long enough for anything that is expected to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

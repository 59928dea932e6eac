//! A node of the made-up chain, which lies as it is told to.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use alloy::primitives::{Address, B256, U64, U256};
use axum::{Json, Router, extract::State, routing::post};
use cipherloom_primitives::quorum::{CertifiedHeader, ValidatorChange};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::chain::{CHAIN_ID, Chain};

/// How a node lies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lies {
    /// It shows this instead of its newest block.
    pub(crate) newest: Option<CertifiedHeader>,
    /// It shows these instead of the changes of the set.
    pub(crate) changes: Option<Vec<ValidatorChange>>,
    /// It says that this slot has another value.
    pub(crate) word: Option<(B256, U256)>,
    /// It proves storage of the state before.
    pub(crate) old_state: bool,
    /// It answers nothing.
    pub(crate) is_gone: bool,
}

/// A running node.
pub(crate) struct Node {
    inside: Arc<Inside>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

struct Inside {
    chain: Mutex<Chain>,
    lies: Mutex<Lies>,
    proofs: AtomicUsize,
    change_pages: AtomicUsize,
}

/// How many changes a node tells at once.
const PAGE: usize = 2;

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Node {
    pub(crate) async fn start(chain: &Chain) -> Self {
        let inside = Arc::new(Inside {
            chain: Mutex::new(chain.clone()),
            lies: Mutex::default(),
            proofs: AtomicUsize::new(0),
            change_pages: AtomicUsize::new(0),
        });
        let app = Router::new().route("/", post(over_http)).with_state(Arc::clone(&inside));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { inside, address, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn show(&self, chain: &Chain) {
        *self.inside.chain.lock().unwrap() = chain.clone();
    }

    pub(crate) fn lie(&self, lies: Lies) {
        *self.inside.lies.lock().unwrap() = lies;
    }

    /// How often storage was asked for.
    pub(crate) fn proofs(&self) -> usize {
        self.inside.proofs.load(Ordering::SeqCst)
    }

    /// How often changes of the set were asked for.
    pub(crate) fn change_pages(&self) -> usize {
        self.inside.change_pages.load(Ordering::SeqCst)
    }
}

async fn over_http(State(inside): State<Arc<Inside>>, Json(request): Json<Value>) -> Json<Value> {
    let answer = inside.answer(request["method"].as_str().unwrap(), &request["params"]);
    Json(match answer {
        Some(result) => json!({"jsonrpc": "2.0", "id": request["id"], "result": result}),
        None => json!({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32603, "message": "no"}}),
    })
}

impl Inside {
    fn answer(&self, method: &str, params: &Value) -> Option<Value> {
        let (chain, lies) = (self.chain.lock().unwrap(), self.lies.lock().unwrap());
        if lies.is_gone {
            return None;
        }
        match method {
            "eth_chainId" => Some(json!(U64::from(CHAIN_ID))),
            "cipherloom_getCertificate" => {
                assert_eq!(params[0], "latest");
                Some(json!(lies.newest.clone().unwrap_or_else(|| chain.head().certified())))
            }
            "cipherloom_validatorChanges" => {
                self.change_pages.fetch_add(1, Ordering::SeqCst);
                let from: u64 = serde_json::from_value::<U64>(params[0].clone()).unwrap().to();
                let all: Vec<ValidatorChange> = lies.changes.clone().unwrap_or_else(|| {
                    let changed = chain.blocks.windows(2).filter(|pair| pair[0].next != pair[1].next);
                    changed.map(|pair| pair[1].change()).collect()
                });
                let page: Vec<_> = all
                    .into_iter()
                    .filter(|change| change.certificate.height >= from)
                    .take(PAGE)
                    .collect();
                Some(json!(page))
            }
            "eth_getProof" => {
                self.proofs.fetch_add(1, Ordering::SeqCst);
                let account: Address = serde_json::from_value(params[0].clone()).unwrap();
                let slots: Vec<B256> = serde_json::from_value(params[1].clone()).unwrap();
                let text = params[2].to_string();
                let place = chain.blocks.iter().position(|block| text.contains(&block.hash.to_string()))?;
                let state = &chain.blocks[place - usize::from(lies.old_state)].state;
                let mut proof = state.proof(account, &slots);
                for storage in proof["storageProof"].as_array_mut().unwrap() {
                    if let Some((slot, value)) = lies.word
                        && storage["key"] == json!(slot)
                    {
                        storage["value"] = json!(value);
                    }
                }
                Some(proof)
            }
            _ => None,
        }
    }
}

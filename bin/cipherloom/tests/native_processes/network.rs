//! The nodes of a chain: founded with the command for that, each a process, with links between them that can be cut.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::process::{Running, cipherloom};

/// The chain's id.
pub(crate) const CHAIN_ID: u64 = 31_440;

/// How long something may take that happens by itself: on production parameters, validators that share two processors are slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// A founded chain and those of its nodes that run.
pub(crate) struct Network {
    place: TempDir,
    nodes: Vec<Node>,
    pub(crate) kms_port: u16,
    pub(crate) gateway_port: u16,
}

struct Node {
    directory: PathBuf,
    address: String,
    votes: bool,
    peer_port: u16,
    rpc_port: u16,
    /// Ways to the nodes before it.
    links: Vec<Link>,
    running: Option<Running>,
}

/// Whether real parameters are asked for.
pub(crate) fn is_full() -> bool {
    std::env::var_os("CIPHERLOOM_E2E").is_some_and(|scale| scale == "full")
}

/// A port that nobody listens on.
///
/// Outgoing connections take their ports from above these, so that it stays free while a process is down.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        // Other processes of tests begin elsewhere.
        let number = (std::process::id().wrapping_mul(101) % COUNT) + TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + number % COUNT).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Network {
    /// Makes keys, genesis and directories, and starts nothing.
    pub(crate) async fn found(validators: u8, full_nodes: u8) -> Self {
        Self::found_as(CHAIN_ID, validators, full_nodes).await
    }

    /// The same for a chain with this id.
    pub(crate) async fn found_as(chain_id: u64, validators: u8, full_nodes: u8) -> Self {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
        let keys = path("keys");
        match is_full() {
            true => run(&["keys", "generate", &keys]),
            false => run(&["keys", "generate", &keys, "--parameters", "insecure-toy"]),
        };
        let kms = json(&["keys", "signing-key", &path("kms.key"), "--json"]);
        let signer = kms["address"].as_str().unwrap().to_owned();
        Self::found_in(place, chain_id, (validators, full_nodes), &[signer]).await
    }

    /// The same in a place that has the key set already, with any number of nodes of a KMS.
    pub(crate) async fn found_in(place: TempDir, chain_id: u64, (validators, full_nodes): (u8, u8), kms_signers: &[String]) -> Self {
        let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
        let mut genesis = vec![
            "node".to_owned(),
            "genesis".to_owned(),
            path("chain"),
            format!("--chain-id={chain_id}"),
            format!("--keys={}", path("keys")),
            format!("--validators={validators}"),
            format!("--full-nodes={full_nodes}"),
            "--insecure-development".to_owned(),
            "--json".to_owned(),
        ];
        genesis.extend(kms_signers.iter().map(|signer| format!("--kms-signer={signer}")));
        let made = json(&genesis.iter().map(String::as_str).collect::<Vec<_>>());
        let mut nodes: Vec<Node> = Vec::new();
        for described in made["nodes"].as_array().unwrap() {
            let directory = PathBuf::from(described["directory"].as_str().unwrap());
            // What the tests say on the command line is not what the file says.
            std::fs::remove_file(directory.join("validator.toml")).unwrap();
            let mut links = Vec::new();
            for earlier in &nodes {
                links.push(Link::to(earlier.peer_port).await);
            }
            nodes.push(Node {
                address: described["address"].as_str().unwrap().to_owned(),
                votes: described["validator"].as_bool().unwrap(),
                peer_port: free_port(),
                rpc_port: free_port(),
                running: None,
                directory,
                links,
            });
        }
        Self {
            place,
            nodes,
            kms_port: free_port(),
            gateway_port: free_port(),
        }
    }

    /// A file of the deployment.
    pub(crate) fn path(&self, name: &str) -> String {
        self.place.path().join(name).to_str().unwrap().to_owned()
    }

    /// Starts all nodes, which compute in their own processes.
    pub(crate) fn start_all(&mut self) {
        for number in 0..self.nodes.len() {
            self.spawn(number, &["--embedded-executor"]);
        }
        for number in 0..self.nodes.len() {
            self.wait_for(number);
        }
    }

    /// Starts a node, and does not wait until it serves.
    pub(crate) fn spawn(&mut self, number: usize, computing: &[&str]) {
        let keys = self.path("keys");
        let known: Vec<String> = self.nodes[number]
            .links
            .iter()
            .zip(&self.nodes)
            .map(|(link, peer)| format!("--peer={}@{}", peer.address, link.address))
            .collect();
        let node = &mut self.nodes[number];
        let mut arguments = vec![
            "node".to_owned(),
            "run".to_owned(),
            format!("--dir={}", node.directory.display()),
            format!("--keys={keys}"),
            format!("--p2p-addr=127.0.0.1:{}", node.peer_port),
            format!("--rpc-addr=127.0.0.1:{}", node.rpc_port),
            "--metrics-addr=127.0.0.1:0".to_owned(),
            "--block-interval-ms=300".to_owned(),
            "--silence-ms=5000".to_owned(),
            "--propose-timeout-ms=120000".to_owned(),
            "--insecure-keys".to_owned(),
            "--json".to_owned(),
        ];
        match node.votes {
            true => arguments.extend(computing.iter().map(|option| (*option).to_owned())),
            false => arguments.push("--full-node".to_owned()),
        }
        arguments.extend(known);
        node.running = Some(Running::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>()));
    }

    /// Waits until a node says that it serves, and returns what it says.
    pub(crate) fn wait_for(&mut self, number: usize) -> Value {
        let running = self.nodes[number].running.as_mut().unwrap();
        serde_json::from_str(&running.wait_for("rpcUrl")).unwrap()
    }

    /// Ends a node at once, as a power failure would.
    pub(crate) fn kill(&mut self, number: usize) {
        self.nodes[number].running.take().unwrap().kill();
    }

    /// Asks a node to stop, and says whether it stopped well.
    pub(crate) fn stop(&mut self, number: usize) -> bool {
        self.nodes[number].running.take().unwrap().signal("-TERM")
    }

    /// Cuts all links between the nodes below this number and the others, or restores them.
    pub(crate) fn set_partition(&self, below: usize, cut: bool) {
        for node in &self.nodes[below..] {
            node.links.iter().take(below).for_each(|link| link.set_cut(cut));
        }
    }

    pub(crate) fn rpc_url(&self, number: usize) -> String {
        format!("http://127.0.0.1:{}", self.nodes[number].rpc_port)
    }

    /// How many nodes there are.
    pub(crate) const fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Asks a node.
    pub(crate) async fn ask(&self, number: usize, method: &str, params: Value) -> Option<Value> {
        let request = serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let answer = reqwest::Client::new().post(self.rpc_url(number)).json(&request).send().await.ok()?;
        answer.json::<Value>().await.ok()?.get("result").cloned()
    }

    pub(crate) async fn height(&self, number: usize) -> u64 {
        let answer = self.ask(number, "eth_blockNumber", serde_json::json!([])).await;
        answer.map_or(0, |height| quantity(&height))
    }

    /// Waits until all these nodes have a block, and makes sure that they have the same one.
    pub(crate) async fn all_reach(&self, numbers: &[usize], height: u64) {
        for number in numbers {
            eventually(&format!("node {number} has block {height}"), async || {
                self.height(*number).await >= height
            })
            .await;
        }
        let mut roots = Vec::new();
        for number in numbers {
            let tag = format!("{height:#x}");
            let block = self
                .ask(*number, "eth_getBlockByNumber", serde_json::json!([tag, false]))
                .await
                .unwrap();
            roots.push((block["stateRoot"].clone(), block["hash"].clone()));
        }
        assert!(roots.iter().all(|root| *root == roots[0] && root.0.is_string()), "{roots:?}");
    }
}

/// Reads a number as JSON-RPC has it.
pub(crate) fn quantity(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "{what} did not come true within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Runs a command that must succeed, and returns what it printed.
pub(crate) fn run(arguments: &[&str]) -> Vec<u8> {
    let output = cipherloom(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    output.stdout
}

/// Runs a command that must succeed, and reads the JSON that it printed.
pub(crate) fn json(arguments: &[&str]) -> Value {
    serde_json::from_slice(&run(arguments)).unwrap()
}

/// Says whether a path is there.
pub(crate) fn exists(path: &str) -> bool {
    Path::new(path).exists()
}

/// A way to a node that can be cut.
struct Link {
    address: SocketAddr,
    /// Cancelled while the link is cut.
    cut: Arc<Mutex<CancellationToken>>,
    server: JoinHandle<()>,
}

impl Link {
    async fn to(port: u16) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let cut = Arc::new(Mutex::new(CancellationToken::new()));
        let current = Arc::clone(&cut);
        let server = tokio::spawn(async move {
            loop {
                let Ok((mut inbound, _)) = listener.accept().await else { continue };
                let cut = current.lock().unwrap().clone();
                tokio::spawn(async move {
                    let carry = async {
                        let mut outbound = TcpStream::connect(("127.0.0.1", port)).await?;
                        tokio::io::copy_bidirectional(&mut inbound, &mut outbound).await
                    };
                    tokio::select! {
                        // How a connection ended, both ends see for themselves.
                        _ = carry => {}
                        () = cut.cancelled() => {}
                    }
                });
            }
        });
        Self { address, cut, server }
    }

    fn set_cut(&self, is_cut: bool) {
        let mut cut = self.cut.lock().unwrap();
        match (is_cut, cut.is_cancelled()) {
            (true, _) => cut.cancel(),
            (false, true) => *cut = CancellationToken::new(),
            (false, false) => {}
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.server.abort();
    }
}

//! A committee of four nodes, each a process of its own: set up as the operators' guide says, and then with nodes that are killed, stopped and back.
//!
//! The ciphertexts are real ones, since plaintext cannot be shared: on toy parameters, or with `CIPHERLOOM_E2E=full` on those of production.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use cipherloom_chain::profile::DEVELOPMENT;
use cipherloom_fhe::ParameterSet;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    deployment::{Chain, free_port, is_full, report, start_chain, text},
    killed::{poll, submit},
    liar::{Liar, Seat},
    process::{Running, cipherloom},
    token::Bank,
};

/// How many nodes there are; one of them may be corrupt or away.
const NODES: usize = 4;
/// How long something may take that should take seconds.
const PATIENCE: Duration = Duration::from_secs(900);

/// A deployment whose KMS is a committee.
struct Committee {
    directory: TempDir,
    chain: Chain,
    nodes: Vec<Node>,
    coprocessor_port: u16,
    gateway_port: u16,
    /// Ended when the deployment is dropped.
    parts: Vec<Running>,
}

/// One node, as its operator has it.
struct Node {
    port: u16,
    public_port: u16,
    running: Option<Running>,
    signer: String,
}

impl Committee {
    /// Goes through all steps until the gateway serves.
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = |file: &str| {
            let path = directory.path().join(file);
            let made = run_json(&["keys", "signing-key", path.to_str().unwrap(), "--json"]);
            made["address"].as_str().unwrap().to_owned()
        };
        let (coprocessor, nobody) = (address("coprocessor.key"), address("nobody.key"));
        // Nobody knows the nodes yet.
        let chain = start_chain(DEVELOPMENT, coprocessor.parse().unwrap(), nobody.parse().unwrap()).await;
        let mut committee = Self {
            directory,
            chain,
            nodes: Vec::new(),
            coprocessor_port: free_port(),
            gateway_port: free_port(),
            parts: Vec::new(),
        };
        committee.add_tenant();
        for number in 0..NODES {
            committee.nodes.push(Node {
                port: free_port(),
                public_port: free_port(),
                running: None,
                signer: String::new(),
            });
            committee.write_config(number);
            let said = committee.run_node(number);
            assert_eq!(said["centralised"], false, "{said}");
            committee.nodes[number].signer = said["signerAddress"].as_str().unwrap().to_owned();
        }
        for number in 0..NODES {
            committee.wait_for_state(number, "awaiting-registration").await;
        }
        committee.register(&nobody);
        for number in 0..NODES {
            committee.wait_for_state(number, "awaiting-ceremony").await;
        }
        committee.deal();
        for number in 0..NODES {
            committee.wait_for_state(number, "serving").await;
        }
        committee.start_coprocessor();
        committee.start_gateway();
        committee
    }

    fn add_tenant(&self) {
        let (addresses, database) = (self.chain.profile.addresses(), self.database());
        let made = run_json(&[
            "tenant",
            "add",
            "chain",
            "--chain-id=31337",
            &format!("--acl-contract-address={}", addresses.acl),
            &format!("--verifying-contract-address={}", addresses.input_verifier),
            &format!("--database-url={database}"),
            "--json",
        ]);
        fs::write(self.path("api.key"), made["apiKey"].as_str().unwrap()).unwrap();
        let rpc = self.chain.anvil.http_url();
        let database = format!("--database-url={database}");
        run(&["tenant", "follow", "chain", "--rpc", &rpc, "--finality", "4", &database]);
    }

    fn write_config(&self, number: usize) {
        let node = &self.nodes[number];
        let config = format!(
            "party-dir = \"{}\"\nserver-addr = \"127.0.0.1:{}\"\npublic-addr = \"127.0.0.1:{}\"\nmetrics-addr = \"127.0.0.1:0\"\n\
             insecure-simulated-attestation = true\n{}{}",
            self.path(&format!("party-{number}")),
            node.port,
            node.public_port,
            insecure_keys(),
            self.chain_table()
        );
        fs::write(self.config(number), config).unwrap();
    }

    fn chain_table(&self) -> String {
        format!(
            "[[chain]]\nrpc-url = [\"{}\"]\ncoprocessor-url = [\"http://127.0.0.1:{}\"]\ncoprocessor-api-key-file = \"{}\"\n",
            self.chain.anvil.http_url(),
            self.coprocessor_port,
            self.path("api.key")
        )
    }

    /// Starts a node and returns what it says.
    fn run_node(&mut self, number: usize) -> Value {
        let config = format!("--config={}", self.config(number));
        let mut running = Running::start(&["kms", "node", &config, "--json"]);
        let said = serde_json::from_str(&running.wait_for("signerAddress")).unwrap();
        self.nodes[number].running = Some(running);
        said
    }

    /// Registers the nodes in their order, and takes out who was registered before.
    fn register(&self, nobody: &str) {
        let how = [format!("--rpc={}", self.chain.anvil.http_url()), "--json".to_owned()];
        let mut add = vec!["contracts", "signers", "add", "kms"];
        add.extend(self.nodes.iter().map(|node| node.signer.as_str()));
        add.extend(how.iter().map(String::as_str));
        run(&add);
        let mut remove = vec![
            "contracts",
            "signers",
            "remove",
            "kms",
            nobody,
            "--threshold=2",
            "--user-decryption-threshold=3",
            "--mpc-threshold=1",
        ];
        remove.extend(how.iter().map(String::as_str));
        run(&remove);
    }

    /// Has a dealer make a key set and give each node its share.
    fn deal(&self) {
        let keys = format!("--output={}", self.path("keys"));
        let rpc = format!("--rpc-url={}", self.chain.anvil.http_url());
        let nodes: Vec<String> = self.nodes.iter().map(|node| format!("--node=127.0.0.1:{}", node.port)).collect();
        let mut ceremony = vec!["kms", "ceremony", &keys, &rpc, "--insecure-simulated-attestation", "--json"];
        if !is_full() {
            ceremony.push("--insecure-keys");
        }
        ceremony.extend(nodes.iter().map(String::as_str));
        let start = Instant::now();
        run(&ceremony);
        report(
            &format!("ceremony of four nodes, {} parameters", parameters().name()),
            &format!("{:.1} s", start.elapsed().as_secs_f64()),
        );
    }

    fn start_coprocessor(&mut self) {
        let database = format!("--database-url={}", self.database());
        run(&["tenant", "set-keys", "chain", "--keys", &self.path("keys"), &database]);
        let mut running = Running::start(&[
            "coprocessor",
            "--run-server",
            "--run-bg-worker",
            "--run-follower",
            &format!("--server-addr=127.0.0.1:{}", self.coprocessor_port),
            "--metrics-addr=127.0.0.1:0",
            &database,
            &format!("--coprocessor-private-key={}", self.path("coprocessor.key")),
            "--follower-polling-interval-ms=50",
            "--insecure-keys",
            "--json",
        ]);
        running.wait_for("ddress");
        self.parts.push(running);
    }

    fn start_gateway(&mut self) {
        let nodes: Vec<String> = (1..)
            .zip(&self.nodes)
            .map(|(number, node)| format!("\"{number}=127.0.0.1:{}\"", node.port))
            .collect();
        let config = format!(
            "listen = \"127.0.0.1:{}\"\nkms-node = [{}]\ninsecure-simulated-attestation = true\njobs-database-url = \"sqlite:{}\"\nkey-cache = \"{}\"\n\
             metrics-addr = \"127.0.0.1:0\"\n{}retry-unreachable-seconds = 1\n\n{}",
            self.gateway_port,
            nodes.join(", "),
            self.path("gateway.sqlite"),
            self.path("key-cache"),
            insecure_keys(),
            self.chain_table()
        );
        fs::write(self.path("gateway.toml"), config).unwrap();
        let mut running = Running::start(&["gateway", &format!("--config={}", self.path("gateway.toml")), "--json"]);
        running.wait_for("ddress");
        self.parts.push(running);
    }

    /// Waits until a node says of itself that it is in a state; returns all that it says.
    async fn wait_for_state(&self, number: usize, state: &str) -> Value {
        let url = format!("http://127.0.0.1:{}/status", self.nodes[number].public_port);
        let (start, mut last) = (Instant::now(), Value::Null);
        while start.elapsed() < PATIENCE {
            if let Ok(response) = reqwest::get(&url).await
                && let Ok(status) = response.json::<Value>().await
            {
                if status["state"] == state {
                    return status;
                }
                last = status;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("node {number} is not {state}: {last}");
    }

    fn gateway_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.gateway_port)
    }

    fn kill(&mut self, number: usize) {
        self.nodes[number].running.take().unwrap().kill();
    }

    /// Has somebody who lies take the place of a node that was killed.
    async fn lie(&self, number: usize) -> Liar {
        let seat = Seat {
            party_dir: &self.file(&format!("party-{number}")),
            port: self.nodes[number].port,
            host: self.chain.host(),
            coprocessor_url: format!("http://127.0.0.1:{}", self.coprocessor_port),
            api_key: self.file("api.key"),
            parameters: parameters(),
        };
        Liar::start(seat).await
    }

    /// Sends a signal to a node that does not end it.
    fn tell(&self, number: usize, signal: &str) {
        self.nodes[number].running.as_ref().unwrap().tell(signal);
    }

    fn config(&self, number: usize) -> String {
        self.path(&format!("node-{number}.toml"))
    }

    fn database(&self) -> String {
        format!("sqlite:{}", self.path("coprocessor.sqlite"))
    }

    fn path(&self, name: &str) -> String {
        self.file(name).to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new(self.directory.path()).join(name)
    }
}

/// Mints, and has the new supply decrypted in public and the new balance by its owner.
async fn decrypt_anew(bank: &Bank, supply: &mut u64) {
    bank.mint(0, 1).await;
    *supply += 1;
    assert_eq!(bank.publish_supply().await, *supply);
    assert_eq!(bank.balance(0, 0).await.unwrap(), *supply - 250);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_processes_decrypt_with_one_of_them_away_and_refuse_with_two() {
    let mut committee = Committee::start().await;
    let bank = Bank::open(&committee.chain, &committee.gateway_url()).await;
    bank.mint(0, 1000).await;
    bank.transfer(0, 1, 250).await;
    assert_eq!(bank.balance(1, 1).await.unwrap(), 250);
    let mut supply = 1000;
    let start = Instant::now();
    decrypt_anew(&bank, &mut supply).await;
    report(
        &format!("decryptions by four nodes, {} parameters", parameters().name()),
        &format!("{:.1} s", start.elapsed().as_secs_f64()),
    );

    // Who may not read is told so, in the words of the nodes.
    let refusal = bank.balance(0, 1).await.unwrap_err();
    assert_eq!(refusal.label(), Some("not_allowed_on_host_acl"), "{refusal}");

    // Killed.
    let before = committee.wait_for_state(1, "serving").await;
    committee.kill(1);
    decrypt_anew(&bank, &mut supply).await;

    // Back with its share, and needed: another one is stopped in the middle of whatever it does.
    committee.run_node(1);
    let after = committee.wait_for_state(1, "serving").await;
    assert_eq!(after["share"], before["share"]);
    assert!(!after["share"].is_null(), "{after}");
    committee.tell(2, "-STOP");
    decrypt_anew(&bank, &mut supply).await;

    committee.tell(2, "-CONT");

    // One lies: what it says is of the right form, rightly signed, and wrong.
    committee.kill(1);
    let liar = committee.lie(1).await;
    // The gateway may take a moment to find its way to the liar, and needs none of its shares until then.
    let start = Instant::now();
    while liar.lies() < 2 {
        assert!(start.elapsed() < PATIENCE, "it is asked for shares of both");
        decrypt_anew(&bank, &mut supply).await;
    }
    drop(liar);
    committee.run_node(1);
    committee.wait_for_state(1, "serving").await;

    // Two away: a clear error that names them.
    committee.kill(2);
    committee.kill(3);
    bank.mint(0, 1).await;
    supply += 1;
    let handle = bank.make_supply_public().await;
    let body = json!({ "ciphertextHandles": [handle.to_string()], "extraData": "0x00" });
    let job = submit(&committee.gateway_url(), &body).await.unwrap();
    let answer = poll(&committee.gateway_url(), &job).await;
    assert_eq!(answer["error"]["label"], "gateway_not_reachable", "{answer}");
    let told = answer["error"]["message"].as_str().unwrap();
    assert!(
        told.contains("node 3") && told.contains("node 4"),
        "it says which nodes are away: {told}"
    );

    // One of them back is enough.
    committee.run_node(2);
    committee.wait_for_state(2, "serving").await;
    let job = submit(&committee.gateway_url(), &body).await.unwrap();
    let answer = poll(&committee.gateway_url(), &job).await;
    assert_eq!(answer["status"], "succeeded", "{answer}");
    decrypt_anew(&bank, &mut supply).await;

    for node in &mut committee.nodes {
        if let Some(running) = node.running.take() {
            assert!(running.signal("-TERM"), "a node stops in order");
        }
    }
    // What was decrypted is in every node's own log, those that were away miss some.
    let log = fs::read_to_string(committee.file("party-0/audit/audit-31337.jsonl")).unwrap();
    assert!(log.lines().count() >= 8, "{log}");
}

/// The line of a config file that keys may hide nothing, where they do not.
fn insecure_keys() -> &'static str {
    if is_full() { "" } else { "insecure-keys = true\n" }
}

fn parameters() -> ParameterSet {
    if is_full() {
        ParameterSet::Production
    } else {
        ParameterSet::InsecureToy
    }
}

fn run(arguments: &[&str]) {
    let output = cipherloom(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
}

fn run_json(arguments: &[&str]) -> Value {
    let output = cipherloom(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

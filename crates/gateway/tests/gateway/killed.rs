//! Processes that are killed at any moment: what was accepted is answered.
//!
//! The process under test is this test executable itself, told by its environment to be a gateway.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use cipherloom_gateway::{Config, Gateway};
use cipherloom_primitives::Handle;
use cipherloom_private_postgres::shared;
use cipherloom_store::{Database, PostgresConfig, PostgresDatabase, SqliteStore};

use crate::{
    client::Client,
    services::{CHAIN, public_body},
    steady::{self, decrypted_value, numbered},
};

/// The database of a process that is a gateway.
const DATABASE: &str = "CIPHERLOOM_TEST_GATEWAY_DATABASE";
const LATENCY: Duration = Duration::from_millis(30);
const LEASE: Duration = Duration::from_millis(500);
const ROUNDS: u64 = 12;

/// Is a gateway if the environment says so, until its standard input ends; as a test it does nothing.
#[test]
fn gateway_process() {
    let Ok(database) = env::var(DATABASE) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let gateway = runtime.block_on(async {
        let database: Arc<dyn Database> = if database.starts_with("postgres") {
            Arc::new(PostgresDatabase::open(PostgresConfig::new(&database).unwrap()).await.unwrap())
        } else {
            Arc::new(SqliteStore::open(Path::new(&database)).await.unwrap())
        };
        let mut config = Config::new(CHAIN);
        config.jobs.lease = LEASE;
        // It is the processes' fault here that jobs begin again and again.
        config.jobs.max_attempts = 1_000;
        let services = steady::services(LATENCY, Some(database.gateway_jobs("killed")));
        Gateway::start(config, services).await.unwrap()
    });
    eprintln!("LISTENING {}", gateway.address());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    runtime.block_on(gateway.shutdown());
}

struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(database: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "killed::gateway_process", "--nocapture"])
            .env(DATABASE, database)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("LISTENING ").map(|address| address.parse().unwrap()))
            .expect("the gateway started");
        // Whatever else it says must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// Kills it with SIGKILL.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Small random numbers from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn seed() -> u64 {
    let seed = env::var("CIPHERLOOM_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) | 1);
    eprintln!("CIPHERLOOM_TEST_SEED={seed}");
    seed
}

/// Submits requests one after another until the gateway is gone, and returns those it accepted.
async fn submit_until_gone(address: SocketAddr, first: u64) -> Vec<(String, Handle)> {
    let mut accepted = Vec::new();
    let Ok(stream) = tokio::net::TcpStream::connect(address).await else {
        return accepted;
    };
    let mut client = Client::over(stream, address.to_string());
    for number in first.. {
        let body = public_body(&[numbered(number)]).to_string();
        if client.write("POST", "/v2/public-decrypt", &[], body.as_bytes()).await.is_err() {
            break;
        }
        let Ok(response) = client.read("POST").await else { break };
        assert_eq!(response.status, 202, "{}", response.json());
        let job = response.json()["result"]["jobId"].as_str().unwrap().to_owned();
        accepted.push((format!("/v2/public-decrypt/{job}"), numbered(number)));
    }
    accepted
}

async fn check_all_answered(address: SocketAddr, accepted: &[(String, Handle)]) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut client = Client::connect(address).await;
    for (path, handle) in accepted {
        loop {
            let response = client.get(path).await;
            match response.status {
                200 => {
                    let value = response.json()["result"]["decryptedValue"].clone();
                    assert_eq!(value.as_str(), Some(decrypted_value(*handle).as_str()));
                    break;
                }
                202 => assert!(Instant::now() < deadline, "{path} has no answer"),
                other => panic!("{path}: {other} {}", response.json()),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Four clients submit until the gateway is killed, at a random moment.
async fn submit_and_kill(random: &mut Random, process: Process, round: u64) -> Vec<(String, Handle)> {
    let address = process.address;
    let clients: Vec<_> = (0..4)
        .map(|client| tokio::spawn(submit_until_gone(address, (round * 10 + client) * 1_000_000)))
        .collect();
    tokio::time::sleep(Duration::from_micros(random.below(150_000))).await;
    process.kill();
    let mut accepted = Vec::new();
    for client in clients {
        accepted.extend(client.await.unwrap());
    }
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_gateway_answers_everything_it_accepted_when_it_is_back() {
    let mut random = Random(seed());
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("jobs.sqlite").to_str().unwrap().to_owned();
    let mut accepted = Vec::new();
    for round in 0..ROUNDS {
        let process = Process::start(&database);
        accepted.extend(submit_and_kill(&mut random, process, round).await);
    }
    assert!(accepted.len() > 20, "only {} were accepted before the kills", accepted.len());
    let last = Process::start(&database);
    check_all_answered(last.address, &accepted).await;
    // Killed once more, now with everything answered.
    last.kill();
    let after = Process::start(&database);
    check_all_answered(after.address, &accepted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_gateway_accepted_is_answered_by_another_one() {
    let mut random = Random(seed());
    let database = shared().create_database().unwrap();
    let survivor = Process::start(&database);
    let mut accepted = Vec::new();
    for round in 0..ROUNDS / 2 {
        let process = Process::start(&database);
        accepted.extend(submit_and_kill(&mut random, process, round).await);
    }
    assert!(accepted.len() > 10, "only {} were accepted before the kills", accepted.len());
    check_all_answered(survivor.address, &accepted).await;
}

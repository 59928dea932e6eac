//! A committee of four processes serves a native chain: set up as docs/native-kms.md says, and then with one that is killed. Each squashes what it decrypts itself.

use std::{fs, path::Path, time::Instant};

use cipherloom_chain::LocalProfile;
use cipherloom_client::{Client, ClientConfig, ClientError, KeyTrust};
use cipherloom_contracts::development;
use serde_json::Value;

use crate::{
    bank::Bank,
    network::{Network, PATIENCE, free_port, is_full, json, run},
    process::{self, Running, cipherloom},
};

/// A chain on which evidence may be simulated.
const CHAIN_ID: u64 = 31_338;
/// How many nodes there are; one of them may be corrupt or away.
const NODES: usize = 4;

/// A native chain and the committee that decrypts for it.
struct Deployment {
    network: Network,
    parties: Vec<Party>,
    gateway_port: u16,
    gateway: Option<Running>,
}

/// One node of the committee, as its operator has it.
struct Party {
    port: u16,
    public_port: u16,
    metrics_port: u16,
    running: Option<Running>,
}

impl Deployment {
    /// Goes through all steps until the gateway serves.
    async fn start() -> Self {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
        let keys = path("keys");
        generate(&keys);
        let public_keys = path("public-keys");
        run(&["keys", "export", &keys, "--to", &public_keys]);
        let signers: Vec<String> = (0..NODES).map(|number| address_of_party(place.path(), number)).collect();
        refuses_the_whole_key(place.path());

        let mut network = Network::found_in(place, CHAIN_ID, (1, 0), &signers).await;
        refuses_keys_of_another_chain(&network);
        network.start_all();
        let mut deployment = Self {
            network,
            parties: Vec::new(),
            gateway_port: free_port(),
            gateway: None,
        };
        for (number, signer) in signers.iter().enumerate() {
            deployment.parties.push(Party {
                port: free_port(),
                public_port: free_port(),
                metrics_port: free_port(),
                running: None,
            });
            deployment.write_config(number);
            let said = deployment.run_party(number);
            assert_eq!(said["signerAddress"].as_str(), Some(signer.as_str()), "{said}");
        }
        for number in 0..NODES {
            deployment.wait_for_state(number, "awaiting-ceremony").await;
        }
        deployment.deal();
        for number in 0..NODES {
            deployment.wait_for_state(number, "serving").await;
        }
        deployment.start_gateway();
        deployment
    }

    fn write_config(&self, number: usize) {
        let party = &self.parties[number];
        let config = format!(
            "party-dir = \"{}\"\nserver-addr = \"127.0.0.1:{}\"\npublic-addr = \"127.0.0.1:{}\"\nmetrics-addr = \"127.0.0.1:{}\"\nkeys = \"{}\"\n\
             insecure-simulated-attestation = true\n{}{}",
            self.network.path(&format!("party-{number}")),
            party.port,
            party.public_port,
            party.metrics_port,
            self.network.path("public-keys"),
            insecure_keys(),
            self.chain_table()
        );
        fs::write(self.network.path(&format!("party-{number}.toml")), config).unwrap();
    }

    fn chain_table(&self) -> String {
        format!(
            "[[chain]]\nrpc-url = [\"{}\"]\nnative-genesis = \"{}\"\n",
            self.network.rpc_url(0),
            self.network.path("chain/genesis.json")
        )
    }

    /// Starts a party and returns what it says.
    fn run_party(&mut self, number: usize) -> Value {
        let config = format!("--config={}", self.network.path(&format!("party-{number}.toml")));
        let mut running = Running::start(&["kms", "node", &config, "--json"]);
        let said = serde_json::from_str(&running.wait_for("signerAddress")).unwrap();
        self.parties[number].running = Some(running);
        said
    }

    /// Deals the secrets of the key set that the chain began with.
    fn deal(&self) {
        let keys = self.network.path("keys");
        let (rpc, genesis) = (self.network.rpc_url(0), self.network.path("chain/genesis.json"));
        let nodes: Vec<String> = self
            .parties
            .iter()
            .map(|party| format!("--node=127.0.0.1:{}", party.port))
            .collect();
        let mut ceremony = vec![
            "kms",
            "ceremony",
            "--existing-keys",
            &keys,
            "--rpc-url",
            &rpc,
            "--native-genesis",
            &genesis,
        ];
        ceremony.extend(["--insecure-simulated-attestation", "--json"]);
        ceremony.extend(nodes.iter().map(String::as_str));
        let dealt = json(&ceremony);
        assert_eq!(dealt["members"].as_array().unwrap().len(), NODES, "{dealt}");
    }

    fn start_gateway(&mut self) {
        let nodes: Vec<String> = (1..)
            .zip(&self.parties)
            .map(|(number, party)| format!("\"{number}=127.0.0.1:{}\"", party.port))
            .collect();
        let config = format!(
            "listen = \"127.0.0.1:{}\"\nkms-node = [{}]\ninsecure-simulated-attestation = true\njobs-in-memory = true\nkeys = \"{}\"\n\
             metrics-addr = \"127.0.0.1:0\"\nretry-unreachable-seconds = 1\n{}{}",
            self.gateway_port,
            nodes.join(", "),
            self.network.path("public-keys"),
            insecure_keys(),
            self.chain_table()
        );
        let file = self.network.path("gateway.toml");
        fs::write(&file, config).unwrap();
        let mut running = Running::start(&["gateway", &format!("--config={file}"), "--json"]);
        running.wait_for("ddress");
        self.gateway = Some(running);
    }

    /// Waits until a party says of itself that it is in a state.
    async fn wait_for_state(&self, number: usize, state: &str) {
        let url = format!("http://127.0.0.1:{}/status", self.parties[number].public_port);
        let (start, mut last) = (Instant::now(), Value::Null);
        while start.elapsed() < PATIENCE {
            if let Ok(response) = reqwest::get(&url).await
                && let Ok(status) = response.json::<Value>().await
            {
                if status["state"] == state {
                    return;
                }
                last = status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("party {number} is not {state}: {last}");
    }

    async fn client(&self) -> Client {
        let trust = if is_full() { KeyTrust::AnySecure } else { KeyTrust::InsecureAny };
        let config = ClientConfig::new(development::addresses(), LocalProfile::of_new_chain(CHAIN_ID)).trusting(trust);
        let gateway = format!("http://127.0.0.1:{}", self.gateway_port);
        Client::connect(&gateway, &self.network.rpc_url(0), config).await.unwrap()
    }

    fn kill(&mut self, number: usize) {
        self.parties[number].running.take().unwrap().kill();
    }

    /// Reads a number of a party's metrics.
    async fn metric(&self, number: usize, series: &str) -> u64 {
        let url = format!("http://127.0.0.1:{}/metrics", self.parties[number].metrics_port);
        let page = reqwest::get(url).await.unwrap().text().await.unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(series));
        line.unwrap_or_else(|| panic!("{series} is not in {page}")).trim().parse().unwrap()
    }

    /// How many values a party has squashed.
    async fn squashed(&self, number: usize) -> u64 {
        self.metric(number, "kms_squashings_total{outcome=\"made\"}").await
    }

    /// Anybody finds the committee that the native chain names, and its records.
    fn check_from_outside(&self) {
        let urls: Vec<String> = self
            .parties
            .iter()
            .map(|party| format!("http://127.0.0.1:{}", party.public_port))
            .collect();
        let policy = self.network.path("policy.json");
        let nodes: Vec<String> = urls.iter().map(|url| format!("--node={url}")).collect();
        let mut make = vec!["kms", "policy", "make", "--name=test", "--allow-simulated", "--output", &policy];
        make.extend(nodes.iter().map(String::as_str));
        run(&make);
        let (rpc, genesis) = (self.network.rpc_url(0), self.network.path("chain/genesis.json"));
        let mut verify = vec![
            "kms",
            "verify",
            "--policy",
            &policy,
            "--rpc-url",
            &rpc,
            "--native-genesis",
            &genesis,
        ];
        verify.extend(["--allow-insecure", "--json"]);
        verify.extend(urls.iter().map(String::as_str));
        let output = cipherloom(&verify).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        // What is simulated is weak, and nothing is wrong.
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("chain {CHAIN_ID}")) && said.contains("4 signers"), "{said}");
    }
}

/// What a party needs on the command line before there is a chain.
fn party_options(place: &Path, number: usize, keys: &str) -> Vec<String> {
    let path = |name: &str| place.join(name).to_str().unwrap().to_owned();
    let mut options = vec![
        "kms".to_owned(),
        "node".to_owned(),
        format!("--party-dir={}", path(&format!("party-{number}"))),
        format!("--keys={}", path(keys)),
        "--rpc-url=http://127.0.0.1:1".to_owned(),
        format!("--native-genesis={}", path("chain/genesis.json")),
        "--insecure-simulated-attestation".to_owned(),
        "--check".to_owned(),
        "--json".to_owned(),
    ];
    if !is_full() {
        options.push("--insecure-keys".to_owned());
    }
    options
}

fn check(options: &[String]) -> String {
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let output = cipherloom(&options).output().unwrap();
    assert!(!output.status.success(), "there is no chain yet");
    String::from_utf8(output.stdout).unwrap()
}

/// Has a party make its signing key, before the chain begins that has its address in its genesis.
fn address_of_party(place: &Path, number: usize) -> String {
    let said = check(&party_options(place, number, "public-keys"));
    let (_, after) = said.split_once("signs as ").unwrap_or_else(|| panic!("{said}"));
    after.chars().take(42).collect()
}

/// A party does not take a directory with secrets.
fn refuses_the_whole_key(place: &Path) {
    let said = check(&party_options(place, 0, "keys"));
    assert!(said.contains("a party must not have the whole key"), "{said}");
    assert!(said.contains("secret_key.bin") && said.contains("squashing_secret.bin"), "{said}");
}

/// Makes a key set that can be dealt to a committee.
fn generate(directory: &str) {
    let mut generate = vec!["keys", "generate", directory, "--noise-squashing"];
    if !is_full() {
        generate.extend(["--parameters", "insecure-toy"]);
    }
    run(&generate);
}

/// Nor keys that are not those of its chain's genesis.
fn refuses_keys_of_another_chain(network: &Network) {
    if is_full() {
        // Another key set takes minutes, and is refused for the same reason.
        return;
    }
    let (keys, public_keys) = (network.path("other-keys"), network.path("other-public-keys"));
    generate(&keys);
    run(&["keys", "export", &keys, "--to", &public_keys]);
    let said = check(&party_options(Path::new(&network.path("")), 0, "other-public-keys"));
    assert!(said.contains(&format!("native chain {CHAIN_ID} is under key set")), "{said}");
}

/// The line of a config file that keys may hide nothing, where they do not.
fn insecure_keys() -> &'static str {
    if is_full() { "" } else { "insecure-keys = true\n" }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_processes_decrypt_for_a_native_chain_and_with_one_of_them_killed() {
    let mut deployment = Deployment::start().await;
    let bank = Bank::open(&deployment.network.rpc_url(0)).await;
    let client = deployment.client().await;
    bank.mint(1, 1000).await;
    bank.transfer(&client, 1, 2, 250).await;

    // Who may not read is told so, and nothing was squashed for it.
    let refused = bank.balance(&client, 2, 1).await;
    assert!(
        matches!(&refused, Err(ClientError::Server { label, .. }) if label == "not_allowed_on_host_acl"),
        "{refused:?}"
    );
    for number in 0..NODES {
        assert_eq!(deployment.squashed(number).await, 0, "party {number}");
    }

    let start = Instant::now();
    assert_eq!(bank.balance(&client, 2, 2).await.unwrap(), 250);
    println!(
        "E2E native committee: the first decryption, with reading the keys in four processes: {:.1} s",
        start.elapsed().as_secs_f64()
    );
    // The chain's own contract verifies the signatures.
    assert_eq!(bank.publish_supply(&client).await, 1000);
    deployment.check_from_outside();

    // Killed; three are enough.
    deployment.kill(3);
    assert_eq!(bank.balance(&client, 1, 1).await.unwrap(), 750);
    bank.mint(1, 5).await;
    assert_eq!(bank.publish_supply(&client).await, 1005);

    // Back with its share, and needed: another one is gone.
    deployment.run_party(3);
    deployment.wait_for_state(3, "serving").await;
    deployment.kill(0);
    bank.mint(2, 1).await;
    assert_eq!(bank.publish_supply(&client).await, 1006);
    assert_eq!(bank.balance(&client, 2, 2).await.unwrap(), 251);
    assert!(deployment.squashed(3).await >= 2, "it squashed what it decrypted itself");
    assert_eq!(deployment.metric(3, "kms_alarms_total{kind=\"squashing_keys\"}").await, 0);
}

#[test]
fn the_demo_runs_with_a_committee_and_goes_on_without_one_of_its_nodes() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = vec!["--native", "--validators", "1", "--kms-nodes", "4"];
    if !is_full() {
        options.push("--insecure-toy");
    }
    // Twice in one directory: chain, shares and signers are taken up where they were left.
    for _ in 0..2 {
        let summary = process::demo(directory.path(), &options);
        assert_eq!(summary["ok"], true, "{summary}");
        assert_eq!(summary["balances"]["alice"], 750, "{summary}");
        assert_eq!(summary["balances"]["bob"], 250, "{summary}");
        let mut steps = summary["steps"].as_array().unwrap().iter();
        let stopped = "stop KMS node 4, and let Bob decrypt without";
        assert!(steps.any(|step| step["name"] == stopped), "{summary}");
    }
}

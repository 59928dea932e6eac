//! A deployment of processes: made as the operators' guide says, with a command for each step.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Output,
};

use alloy::primitives::{Address, U256};
use cipherloom_chain::{CallLimits, HostChain, LocalProfile, deploy};
use cipherloom_contracts::{SignerSet, deployment_steps};
use cipherloom_private_anvil::{AnvilOptions, PrivateAnvil};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Running, cipherloom};

/// Which part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Coprocessor,
    Kms,
    Gateway,
}

impl Part {
    pub(crate) const ALL: [Self; 3] = [Self::Coprocessor, Self::Kms, Self::Gateway];
}

/// A chain with host contracts that know the deployment.
pub(crate) struct Chain {
    pub(crate) anvil: PrivateAnvil,
    pub(crate) profile: LocalProfile,
}

/// Everything that a deployment has on disk, and its chains.
pub(crate) struct Deployment {
    directory: TempDir,
    pub(crate) chains: Vec<Chain>,
    coprocessor_port: u16,
    kms_port: u16,
    gateway_port: u16,
    coprocessor: Option<Running>,
    kms: Option<Running>,
    gateway: Option<Running>,
}

impl Deployment {
    /// Makes everything for these of the chains that everybody knows, and starts nothing but the chains.
    pub(crate) async fn prepare(profiles: &[LocalProfile]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut deployment = Self {
            directory,
            chains: Vec::new(),
            coprocessor_port: free_port(),
            kms_port: free_port(),
            gateway_port: free_port(),
            coprocessor: None,
            kms: None,
            gateway: None,
        };
        let keys = deployment.path("keys");
        if is_full() {
            deployment.run(&["keys", "generate", &keys]);
        } else {
            deployment.run(&["keys", "generate", &keys, "--parameters", "insecure-clear"]);
        }
        let signer = |file: &str| -> Address {
            let made = deployment.json(&["keys", "signing-key", &deployment.path(file), "--json"]);
            made["address"].as_str().unwrap().parse().unwrap()
        };
        let (coprocessor, kms) = (signer("coprocessor.key"), signer("kms.key"));
        let mut chains = Vec::new();
        for profile in profiles {
            chains.push(start_chain(*profile, coprocessor, kms).await);
        }
        for chain in &chains {
            deployment.add_tenant(chain);
        }
        deployment.chains = chains;
        deployment.write_configs();
        deployment
    }

    /// Makes everything and starts all parts.
    pub(crate) async fn start(profiles: &[LocalProfile]) -> Self {
        let mut deployment = Self::prepare(profiles).await;
        // The order does not matter: each waits for those it needs.
        for part in [Part::Gateway, Part::Kms, Part::Coprocessor] {
            deployment.spawn(part);
        }
        for part in Part::ALL {
            deployment.wait_for(part);
        }
        deployment
    }

    fn add_tenant(&self, chain: &Chain) {
        let (id, addresses) = (chain.profile.chain_id(), chain.profile.addresses());
        let (name, database) = (format!("chain-{id}"), self.database());
        let made = self.json(&[
            "tenant",
            "add",
            &name,
            "--chain-id",
            &id.to_string(),
            "--acl-contract-address",
            &addresses.acl.to_string(),
            "--verifying-contract-address",
            &addresses.input_verifier.to_string(),
            "--keys",
            &self.path("keys"),
            "--database-url",
            &database,
            "--json",
        ]);
        let key = self.path(&format!("{name}.api-key"));
        fs::write(key, made["apiKey"].as_str().unwrap()).unwrap();
        self.run(&[
            "tenant",
            "follow",
            &name,
            "--rpc",
            &chain.anvil.http_url(),
            "--finality",
            "4",
            "--database-url",
            &database,
        ]);
    }

    /// Writes the config files as an operator does.
    fn write_configs(&self) {
        let chains: String = self.chains.iter().map(|chain| self.chain_table(chain)).collect();
        let insecure = if is_full() { "" } else { "insecure-keys = true\n" };
        let kms = format!(
            "keys = \"{}\"\nsigning-key-file = \"{}\"\naudit-dir = \"{}\"\nserver-addr = \"127.0.0.1:{}\"\nmetrics-addr = \"127.0.0.1:0\"\n{insecure}\n{chains}",
            self.path("keys"),
            self.path("kms.key"),
            self.path("audit"),
            self.kms_port
        );
        fs::write(self.path("kms.toml"), kms).unwrap();
        let gateway = format!(
            "listen = \"127.0.0.1:{}\"\nkms-url = \"http://127.0.0.1:{}\"\njobs-database-url = \"sqlite:{}\"\njob-lease-seconds = 2\nkey-cache = \"{}\"\n\
             metrics-addr = \"127.0.0.1:0\"\n{insecure}\n{chains}",
            self.gateway_port,
            self.kms_port,
            self.path("gateway.sqlite"),
            self.path("key-cache")
        );
        fs::write(self.path("gateway.toml"), gateway).unwrap();
    }

    fn chain_table(&self, chain: &Chain) -> String {
        format!(
            "[[chain]]\nrpc-url = [\"{}\"]\ncoprocessor-url = [\"http://127.0.0.1:{}\"]\ncoprocessor-api-key-file = \"{}\"\n",
            chain.anvil.http_url(),
            self.coprocessor_port,
            self.path(&format!("chain-{}.api-key", chain.profile.chain_id()))
        )
    }

    /// Starts a part, and does not wait until it serves.
    pub(crate) fn spawn(&mut self, part: Part) {
        let arguments = self.arguments(part);
        let running = Running::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        *self.slot(part) = Some(running);
    }

    /// The command line of a part.
    pub(crate) fn arguments(&self, part: Part) -> Vec<String> {
        let arguments: Vec<String> = match part {
            Part::Coprocessor => vec![
                "coprocessor".to_owned(),
                "--run-server".to_owned(),
                "--run-bg-worker".to_owned(),
                "--run-follower".to_owned(),
                format!("--server-addr=127.0.0.1:{}", self.coprocessor_port),
                "--metrics-addr=127.0.0.1:0".to_owned(),
                format!("--database-url={}", self.database()),
                format!("--coprocessor-private-key={}", self.path("coprocessor.key")),
                "--follower-polling-interval-ms=50".to_owned(),
                "--follower-lease-seconds=1".to_owned(),
                "--lease-seconds=2".to_owned(),
                "--insecure-keys".to_owned(),
                "--json".to_owned(),
            ],
            Part::Kms => vec![
                "kms".to_owned(),
                "node".to_owned(),
                format!("--config={}", self.path("kms.toml")),
                "--json".to_owned(),
            ],
            Part::Gateway => vec![
                "gateway".to_owned(),
                format!("--config={}", self.path("gateway.toml")),
                "--json".to_owned(),
            ],
        };
        arguments
    }

    /// Waits until a part says that it serves, and returns what it says.
    pub(crate) fn wait_for(&mut self, part: Part) -> Value {
        let running = self.slot(part).as_mut().unwrap();
        serde_json::from_str(&running.wait_for("ddress")).unwrap()
    }

    /// Ends a part at once, as a power failure would.
    pub(crate) fn kill(&mut self, part: Part) {
        if let Some(running) = self.slot(part).take() {
            running.kill();
        }
    }

    /// Asks a part to stop, and says whether it stopped well.
    pub(crate) fn stop(&mut self, part: Part) -> bool {
        self.slot(part).take().unwrap().signal("-TERM")
    }

    fn slot(&mut self, part: Part) -> &mut Option<Running> {
        match part {
            Part::Coprocessor => &mut self.coprocessor,
            Part::Kms => &mut self.kms,
            Part::Gateway => &mut self.gateway,
        }
    }

    pub(crate) fn gateway_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.gateway_port)
    }

    fn database(&self) -> String {
        format!("sqlite:{}", self.path("coprocessor.sqlite"))
    }

    /// A file or folder of the deployment.
    pub(crate) fn path(&self, name: &str) -> String {
        self.file(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        Path::new(self.directory.path()).join(name)
    }

    /// Runs a command that must succeed.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let output = cipherloom(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        output
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_slice(&self.run(arguments).stdout).unwrap()
    }
}

impl Chain {
    pub(crate) fn host(&self) -> HostChain {
        HostChain::with_limits(&self.anvil.http_url(), self.profile.addresses(), CallLimits::default()).unwrap()
    }
}

pub(crate) async fn start_chain(profile: LocalProfile, coprocessor: Address, kms: Address) -> Chain {
    let anvil = PrivateAnvil::start(&AnvilOptions {
        chain_id: profile.chain_id(),
        ..AnvilOptions::default()
    });
    let chain = Chain {
        anvil: anvil.unwrap(),
        profile,
    };
    let deployer = profile.insecure_deployer().unwrap();
    let ether = U256::from(1000) * U256::from(10u64).pow(U256::from(18));
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "anvil_setBalance", "params": [deployer.address(), ether]});
    let answer = reqwest::Client::new().post(chain.anvil.http_url()).json(&request).send().await;
    assert!(answer.unwrap().status().is_success());
    let steps = deployment_steps(&profile.deployment(SignerSet::single(coprocessor), SignerSet::single(kms)));
    deploy(&chain.host(), &steps, &deployer).await.unwrap();
    chain
}

/// Everything a command printed, for messages.
pub(crate) fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes))
        .join("\n")
}

/// Whether real ciphertexts are asked for.
pub(crate) fn is_full() -> bool {
    std::env::var_os("CIPHERLOOM_E2E").is_some_and(|scale| scale == "full")
}

/// Prints a figure for the table of bars.
pub(crate) fn report(what: &str, figure: &str) {
    println!("E2E {what}: {figure}");
}

/// A port that nobody listens on, for a part that comes back where it was.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listener.local_addr().unwrap().port()
}

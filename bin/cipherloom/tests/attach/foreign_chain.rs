//! What tests of attached stacks share: an anvil, a stack's directory, and looks at the chain that go past the stack.

use std::{path::PathBuf, process::Output, time::Instant};

use alloy::{
    primitives::{Address, U256},
    providers::{DynProvider, Provider, ProviderBuilder},
};
use cipherloom_private_anvil::{AnvilOptions, PrivateAnvil};
use serde_json::Value;
use tempfile::TempDir;

use crate::process;

/// An anvil of a test's own, and a directory for a stack on it.
pub(crate) struct ForeignChain {
    pub(crate) anvil: PrivateAnvil,
    directory: TempDir,
}

impl ForeignChain {
    /// Starts a chain that makes a block per transaction.
    pub(crate) fn start(chain_id: u64) -> Self {
        Self::with(AnvilOptions {
            chain_id,
            ..AnvilOptions::default()
        })
    }

    pub(crate) fn with(options: AnvilOptions) -> Self {
        Self {
            anvil: PrivateAnvil::start(&options).unwrap(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// Ends the chain, and starts another one in its place.
    pub(crate) fn begin_anew(&mut self, options: AnvilOptions) {
        self.anvil.stop();
        self.anvil = PrivateAnvil::start(&options).unwrap();
    }

    pub(crate) fn url(&self) -> String {
        self.anvil.http_url()
    }

    pub(crate) fn data_dir(&self) -> &str {
        self.directory.path().to_str().unwrap()
    }

    /// Where a stack on this chain keeps what it has deployed.
    pub(crate) fn manifest(&self) -> PathBuf {
        let chain_id = self.anvil.chain_id();
        self.directory
            .path()
            .join(if is_full() { "cpu" } else { "clear" })
            .join(format!("chain-{chain_id}/deployment-{chain_id}.json"))
    }

    /// A file in the stack's directory.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// The arguments that attach a stack to this chain.
    pub(crate) fn arguments(&self, command: &str, more: &[&str]) -> Vec<String> {
        let url = self.url();
        let mut arguments = vec![command, "--json", "--rpc", url.as_str(), "--data-dir", self.data_dir()];
        if !is_full() {
            arguments.push("--insecure-clear");
        }
        arguments.extend(more);
        arguments.into_iter().map(str::to_owned).collect()
    }

    /// Runs a demo on this chain.
    pub(crate) fn demo(&self, more: &[&str]) -> Output {
        run(&self.arguments("demo", more))
    }

    /// Runs a demo that must succeed, and reports how long it took.
    pub(crate) fn successful_demo(&self, occasion: &str, more: &[&str]) -> Value {
        let start = Instant::now();
        let output = self.demo(more);
        let summary = json(&output);
        assert_eq!(summary["ok"], true, "{}", errors(&output));
        assert_eq!(
            (&summary["balances"]["alice"], &summary["balances"]["bob"]),
            (&750.into(), &250.into())
        );
        report(
            &format!("chain {}: demo {occasion}", self.anvil.chain_id()),
            &format!("{:.1} s, backend {}", start.elapsed().as_secs_f64(), summary["backend"]),
        );
        summary
    }

    /// Starts `dev` on this chain and returns what it says about itself.
    pub(crate) fn dev(&self, more: &[&str]) -> (process::Running, Value) {
        let arguments = self.arguments("dev", &[&["--gateway-port", "0"], more].concat());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut running = process::Running::start(&arguments);
        let summary = serde_json::from_str(&running.wait_for("rpcUrl")).unwrap();
        (running, summary)
    }

    /// The chain itself, without a stack in between.
    pub(crate) fn provider(&self) -> DynProvider {
        ProviderBuilder::new().connect_http(self.url().parse().unwrap()).erased()
    }

    /// Asks the chain for something.
    pub(crate) fn ask<T>(&self, question: impl AsyncFnOnce(DynProvider) -> T) -> T {
        tokio::runtime::Runtime::new().unwrap().block_on(question(self.provider()))
    }

    pub(crate) fn has_code(&self, address: &Value) -> bool {
        let address: Address = address.as_str().unwrap().parse().unwrap();
        self.ask(async |chain| !chain.get_code_at(address).await.unwrap().is_empty())
    }

    pub(crate) fn nonce(&self, account: Address) -> u64 {
        self.ask(async |chain| chain.get_transaction_count(account).await.unwrap())
    }

    /// Gives an account ether out of nothing.
    pub(crate) fn endow(&self, account: Address, ether: u64) {
        let wei = U256::from(ether) * U256::from(10u64).pow(U256::from(18));
        self.ask(async |chain| {
            let _: Value = chain.raw_request("anvil_setBalance".into(), (account, wei)).await.unwrap();
        });
    }
}

/// Whether real ciphertexts are asked for.
pub(crate) fn is_full() -> bool {
    std::env::var_os("CIPHERLOOM_E2E").is_some_and(|scale| scale == "full")
}

/// Prints a figure for the table of bars.
pub(crate) fn report(what: &str, figure: &str) {
    println!("E2E {what}: {figure}");
}

/// Runs the binary.
pub(crate) fn run(arguments: &[String]) -> Output {
    process::run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What a successful command printed.
pub(crate) fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", errors(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Everything a command printed, for messages.
pub(crate) fn errors(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes))
        .join("\n")
}

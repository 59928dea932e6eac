//! Parts beside the nodes, each started with a config file of its own.

use serde_json::Value;

use crate::{network::Network, process::Running};

/// Writes the config file of a part: these lines, and what all parts have. Returns where it is.
pub(crate) fn write_config(network: &Network, name: &str, own: &str) -> String {
    let config = format!(
        "{own}keys = \"{}\"\ninsecure-keys = true\nmetrics-addr = \"127.0.0.1:0\"\n[[chain]]\nrpc-url = [\"{}\"]\nnative-genesis = \"{}\"\n",
        network.path("keys"),
        network.rpc_url(0),
        network.path("chain/genesis.json")
    );
    let file = network.path(&format!("{name}.toml"));
    std::fs::write(&file, config).unwrap();
    file
}

/// Starts the KMS, and waits until it serves.
pub(crate) fn start_kms(network: &Network) -> Running {
    let own = format!(
        "signing-key-file = \"{}\"\naudit-dir = \"{}\"\nserver-addr = \"127.0.0.1:{}\"\n",
        network.path("kms.key"),
        network.path("audit"),
        network.kms_port
    );
    let file = write_config(network, "kms", &own);
    let mut kms = Running::start(&["kms", "node", &format!("--config={file}"), "--json"]);
    kms.wait_for("ddress");
    kms
}

/// Writes the config file of a gateway whose jobs are kept. Returns where it is.
pub(crate) fn gateway_config(network: &Network, more: &str) -> String {
    let own = format!(
        "listen = \"127.0.0.1:{}\"\nkms-url = [\"http://127.0.0.1:{}\"]\njobs-database-url = \"{}\"\n{more}",
        network.gateway_port,
        network.kms_port,
        jobs_database(network)
    );
    write_config(network, "gateway", &own)
}

/// A gateway that runs.
pub(crate) struct Gateway {
    running: Running,
    metrics_url: String,
}

impl Gateway {
    /// Starts a gateway whose jobs are kept, and waits until it serves.
    pub(crate) fn start(network: &Network, more: &str) -> Self {
        let file = gateway_config(network, more);
        let mut running = Running::start(&["gateway", &format!("--config={file}"), "--json"]);
        let said: Value = serde_json::from_str(&running.wait_for("ddress")).unwrap();
        let metrics_url = format!("http://{}/metrics", said["metricsAddress"].as_str().unwrap());
        Self { running, metrics_url }
    }

    /// Ends it at once.
    pub(crate) fn kill(self) {
        self.running.kill();
    }

    /// Asks it to stop, and says whether it stopped well.
    pub(crate) fn stop(self) -> bool {
        self.running.signal("-TERM")
    }

    /// Says whether its metrics have this line.
    pub(crate) async fn counts(&self, line: &str) -> bool {
        let page = reqwest::get(&self.metrics_url).await.unwrap().text().await.unwrap();
        page.lines().any(|found| found == line)
    }
}

/// Where the gateway keeps them.
pub(crate) fn jobs_database(network: &Network) -> String {
    format!("sqlite:{}", network.path("gateway.sqlite"))
}

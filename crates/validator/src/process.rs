//! A node as a process: started when all it needs is there, announced, and ended when it is told to.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use alloy::primitives::Address;
use anyhow::{Context, Result};
use cipherloom_service::{examination, signals::Signals};
use cipherloom_telemetry::{Check, Checks, Health, MonitoringServer};
use futures_util::future::BoxFuture;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    inputs::ProofChecks,
    look::{self, Computing, Found},
    metrics::{self, CONTENT_TYPE},
    options::RunOptions,
    running::{NodeParts, Peers, RunningNode},
};

/// How long the end of a node may take before it is not waited for.
const GOODBYE: Duration = Duration::from_secs(15);

/// Runs the node until it is told to stop.
///
/// # Errors
/// If something that the options name cannot be used, an address is taken, or the node cannot go on.
pub(crate) async fn run(options: &RunOptions) -> Result<()> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let patience = Duration::from_secs(options.process.startup_patience_seconds.into());
    let mut read = look::Read::default();
    let found = tokio::select! {
        found = examination::until_well(patience, async || Box::pin(look::look(options, &mut read)).await) => found?,
        () = signals.next() => return Ok(()),
    };
    let (parts, computing) = parts(options, found)?;
    if options.insecure_keys {
        tracing::warn!("INSECURE: key sets that hide nothing are accepted");
    }
    let (chain_id, genesis_hash) = (parts.genesis.chain_id, parts.genesis.hash.unwrap_or_default());
    let node = Arc::new(Box::pin(RunningNode::start(parts)).await?);
    let stop = CancellationToken::new();
    let served = cipherloom_telemetry::Metrics {
        content_type: CONTENT_TYPE,
        read: {
            let (node, counts) = (Arc::downgrade(&node), computing.counts());
            Arc::new(move || {
                node.upgrade()
                    .map_or_else(Vec::new, |node| metrics::write(&node, &counts.figures()))
            })
        },
    };
    let health = Arc::new(NodeHealth {
        node: Arc::downgrade(&node),
        computing,
        stop: stop.clone(),
    });
    let monitoring = MonitoringServer::start(options.metrics_addr, served, health).await?;
    announce(options, &node, chain_id, &genesis_hash.to_string(), &monitoring);

    tokio::select! {
        () = signals.next() => tracing::info!("told to stop; a second signal ends the process at once"),
        () = node.stopped() => {}
    }
    stop.cancel();
    // Metrics and health look at the node for moments, so that they end first.
    monitoring.shutdown().await;
    let node = Arc::into_inner(node).context("metrics of a node that ends are still read")?;
    let ended = tokio::select! {
        ended = tokio::time::timeout(GOODBYE, Box::pin(node.shutdown())) => ended.unwrap_or_else(|_| {
            tracing::warn!(seconds = GOODBYE.as_secs(), "the node did not end in time; what was decided is kept nevertheless");
            Ok(())
        }),
        () = signals.next() => {
            tracing::warn!("told to stop at once");
            Ok(())
        }
    };
    tracing::info!("stopped");
    ended
}

fn parts(options: &RunOptions, found: Found) -> Result<(NodeParts, Computing)> {
    let Found {
        genesis,
        key,
        backend,
        compute,
    } = found;
    let parts = NodeParts {
        genesis,
        data_dir: options.files()?.data,
        state_interval: options.state_interval.into(),
        key,
        votes: !options.full_node,
        compute: compute.as_compute(),
        checks: Arc::new(ProofChecks::new(backend)),
        peers: Peers {
            listen: options.p2p_addr,
            known: options.peers()?,
            closed: options.closed,
            discovery: options.discovery,
            advertise: options.advertise,
            inbound: options.maximum_inbound.into(),
        },
        rpc: Some(options.rpc_addr),
        timeouts: options.timeouts(),
    };
    Ok((parts, compute))
}

fn announce(options: &RunOptions, node: &RunningNode, chain_id: u64, genesis_hash: &str, monitoring: &MonitoringServer) {
    let address: Address = node.address();
    let rpc = node.rpc_url().unwrap_or_default();
    let peer = node.peer_address().map(|peer| peer.to_string());
    let validates = node.status().is_validator;
    let metrics = monitoring.address();
    if options.process.json {
        println!(
            "{}",
            json!({
                "address": address.to_checksum(None),
                "validator": validates,
                "chainId": chain_id,
                "genesisHash": genesis_hash,
                "rpcUrl": rpc,
                "wsUrl": node.ws_url(),
                "peerAddress": peer,
                "metricsAddress": metrics.to_string(),
            })
        );
        return;
    }
    let role = if validates { "validator" } else { "full node" };
    println!("{role} {} of chain {chain_id}, JSON-RPC on {rpc}", address.to_checksum(None));
    if let Some(peer) = peer {
        println!("peers connect to {peer}");
    }
    println!("metrics on http://{metrics}/metrics, health on http://{metrics}/health");
}

/// Whether the node should get work: while it is where its peers are, and can compute.
struct NodeHealth {
    node: Weak<RunningNode>,
    computing: Computing,
    stop: CancellationToken,
}

impl NodeHealth {
    /// Looks at the chain and at who is connected.
    fn look(&self) -> Checks {
        let Some(node) = self.node.upgrade() else {
            return vec![Check::failed("accepting", "the node has ended")];
        };
        let status = node.status();
        let accepting = match self.stop.is_cancelled() {
            false => Check::passed("accepting", "yes"),
            true => Check::failed("accepting", "the process was told to stop"),
        };
        let synchronised = match status.behind() {
            // One block is on its way all the time.
            0 | 1 => Check::passed("chain", format!("block {}", status.height)),
            blocks => Check::failed("chain", format!("{blocks} blocks behind its peers")),
        };
        let connected = match (status.peers, status.is_alone()) {
            (0, false) => Check::failed("peers", "none is connected"),
            (peers, _) => Check::passed("peers", format!("{peers} are connected")),
        };
        vec![accepting, synchronised, connected]
    }
}

impl Health for NodeHealth {
    fn live(&self) -> Checks {
        vec![Check::passed("process", "it answers")]
    }

    fn ready(&self) -> BoxFuture<'_, Checks> {
        Box::pin(async move {
            let mut checks = self.look();
            if let Computing::Remote(executors) = &self.computing {
                checks.push(match executors.describe().await {
                    Ok(_) => Check::passed("executor", "one answers"),
                    Err(status) => {
                        tracing::warn!(reason = status.message(), "not ready");
                        Check::failed("executor", "none answers; see the log")
                    }
                });
            }
            checks
        })
    }
}

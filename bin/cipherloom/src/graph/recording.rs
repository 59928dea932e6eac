//! What a transaction asks for: read from a chain, written to a file, read back.

use std::path::Path;

use alloy::{
    primitives::{B256, Log},
    providers::{Provider, ProviderBuilder},
};
use anyhow::{Context, Result};
use cipherloom_contracts::{HostAddresses, HostEvent, decode_log};
use cipherloom_engine::Graph;
use cipherloom_primitives::{Computation, Handle};
use serde::{Deserialize, Serialize};

/// The computations of a transaction, and what leaves it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Recording {
    /// The transaction's hash, if it is on a chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) transaction: Option<B256>,
    /// What is computed, in order.
    pub(super) computations: Vec<Computation>,
    /// The values with a lasting grant.
    pub(super) outputs: Vec<Handle>,
}

impl Recording {
    /// Reads the events of a transaction from a node of its chain.
    ///
    /// # Errors
    /// If the node cannot be reached, or does not have the transaction.
    pub(super) async fn from_chain(rpc_url: &str, hash: &str, addresses: &HostAddresses) -> Result<Self> {
        let url = rpc_url.parse().with_context(|| format!("{rpc_url} is not a URL"))?;
        let provider = ProviderBuilder::new().connect_http(url);
        let hash: B256 = hash.parse().with_context(|| format!("{hash} is not a transaction hash"))?;
        let receipt = provider
            .get_transaction_receipt(hash)
            .await
            .with_context(|| format!("cannot read the chain at {rpc_url}; is `cipherloom dev` running?"))?
            .with_context(|| format!("the chain at {rpc_url} has no transaction {hash}"))?;
        let logs = receipt.logs().iter().map(|log| &log.inner);
        Ok(Self {
            transaction: Some(hash),
            ..Self::from_logs(logs, addresses)?
        })
    }

    /// Reads the events in the logs of one transaction.
    ///
    /// # Errors
    /// If a log of the host contracts cannot be understood.
    pub(super) fn from_logs<'a>(logs: impl IntoIterator<Item = &'a Log>, addresses: &HostAddresses) -> Result<Self> {
        let mut recording = Self::default();
        for log in logs {
            match decode_log(log.address, log.topics(), &log.data.data, addresses)? {
                Some(HostEvent::Computation(computation)) => recording.computations.push(computation),
                Some(HostEvent::Allowed { handle, .. }) => recording.outputs.push(handle),
                Some(HostEvent::AllowedForDecryption { handles, .. }) => recording.outputs.extend(handles),
                _ => {}
            }
        }
        Ok(recording)
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// If the file cannot be read, or is none.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| {
            format!(
                "{} is not a recorded transaction: a JSON object with `computations` and `outputs`",
                path.display()
            )
        })
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("writing JSON")?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }

    /// Records the graph. As in the coprocessor, what leaves it are the results with a lasting grant.
    ///
    /// # Errors
    /// If there are too many computations.
    pub(super) fn graph(&self) -> Result<Graph> {
        let made: std::collections::HashSet<Handle> = self.computations.iter().map(|computation| computation.result).collect();
        let outputs = self.outputs.iter().copied().filter(|handle| made.contains(handle));
        let inputs = self.computations.iter().flat_map(|computation| computation.inputs.iter().copied());
        let boundary = inputs.filter(|handle| !made.contains(handle));
        Ok(Graph::record(&self.computations, outputs, boundary)?)
    }
}

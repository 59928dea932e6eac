//! `cipherloom graph explain`: what a transaction on the chain asks for, and what the engine makes of it.

use std::path::Path;

use alloy::{
    primitives::B256,
    providers::{Provider, ProviderBuilder},
};
use anyhow::{Context, Result, ensure};
use cipherloom_contracts::{HostAddresses, HostEvent, decode_log, development};
use cipherloom_engine::{Engine, Graph, explain};
use cipherloom_primitives::{Computation, Handle};

use crate::cli::{ExplainOptions, GraphCommand};

/// Runs one of the commands.
///
/// # Errors
/// If the chain cannot be read, or the transaction is not there or asks for nothing.
pub(crate) async fn run(command: GraphCommand) -> Result<()> {
    let GraphCommand::Explain(options) = command;
    let transaction = Asked::read(&options, &development::addresses()).await?;
    ensure!(
        !transaction.computations.is_empty(),
        "transaction {} asks for no encrypted computation",
        options.transaction
    );
    let recorded = transaction.graph()?;
    let compiled = Engine::default().compile(&recorded);
    println!("{}", explain::explain(&recorded, &compiled));
    if let Some(path) = &options.dot {
        draw(path, &compiled.graph)?;
    }
    Ok(())
}

/// What a transaction asks for.
#[derive(Default)]
struct Asked {
    computations: Vec<Computation>,
    outputs: Vec<Handle>,
}

impl Asked {
    /// Reads the events of a transaction from a node of its chain.
    async fn read(options: &ExplainOptions, addresses: &HostAddresses) -> Result<Self> {
        let url = options
            .rpc_url
            .parse()
            .with_context(|| format!("{} is not a URL", options.rpc_url))?;
        let provider = ProviderBuilder::new().connect_http(url);
        let hash: B256 = options
            .transaction
            .parse()
            .with_context(|| format!("{} is not a transaction hash", options.transaction))?;
        let receipt = provider
            .get_transaction_receipt(hash)
            .await
            .with_context(|| format!("cannot read the chain at {}; is `cipherloom dev` running?", options.rpc_url))?
            .with_context(|| format!("the chain at {} has no transaction {hash}", options.rpc_url))?;
        let mut asked = Self::default();
        for log in receipt.logs() {
            match decode_log(log.address(), log.topics(), &log.data().data, addresses)? {
                Some(HostEvent::Computation(computation)) => asked.computations.push(computation),
                Some(HostEvent::Allowed { handle, .. }) => asked.outputs.push(handle),
                Some(HostEvent::AllowedForDecryption { handles, .. }) => asked.outputs.extend(handles),
                _ => {}
            }
        }
        Ok(asked)
    }

    /// Records the graph. As in the coprocessor, what leaves it are the results with a lasting grant.
    fn graph(&self) -> Result<Graph> {
        let made: Vec<Handle> = self.computations.iter().map(|computation| computation.result).collect();
        let outputs: Vec<Handle> = self.outputs.iter().copied().filter(|handle| made.contains(handle)).collect();
        let boundary: Vec<Handle> = self
            .computations
            .iter()
            .flat_map(|computation| computation.inputs.iter().copied())
            .filter(|handle| !made.contains(handle))
            .collect();
        Ok(Graph::record(&self.computations, outputs, boundary)?)
    }
}

fn draw(path: &Path, graph: &Graph) -> Result<()> {
    std::fs::write(path, explain::dot(graph)).with_context(|| format!("cannot write {}", path.display()))?;
    println!(
        "the graph is in {}; `dot -Tsvg {} -o graph.svg` draws it",
        path.display(),
        path.display()
    );
    Ok(())
}

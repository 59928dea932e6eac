//! What waits for what, as a tree.

use std::collections::HashSet;

use alloy::primitives::B256;
use anyhow::Result;
use cipherloom_store::{Inspection, TransactionDetail, TransactionKey, TransactionSummary};
use serde_json::{Value, json};

use super::describe;

/// The most transactions that are looked at; a backlog can have a million behind each other.
const MAX_NODES: usize = 500;

/// A transaction and what it waits for.
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// Whether there is more than was followed.
    cut: bool,
}

/// A transaction of the tree, in the order in which it is printed.
struct Node {
    depth: u8,
    hash: B256,
    /// Nothing if it was finished meanwhile.
    summary: Option<TransactionSummary>,
    /// Whether it stands further up with what it waits for.
    repeated: bool,
}

/// Follows what a transaction waits for, up to this depth.
///
/// # Errors
/// If the database fails.
pub(super) async fn follow(inspection: &dyn Inspection, root: &TransactionDetail, depth: u8) -> Result<Tree> {
    let mut tree = Tree {
        nodes: Vec::new(),
        cut: false,
    };
    let mut visited = HashSet::from([root.summary.hash]);
    let mut stack: Vec<(u8, B256)> = awaited(root).into_iter().rev().map(|hash| (0, hash)).collect();
    while let Some((level, hash)) = stack.pop() {
        if tree.nodes.len() >= MAX_NODES || level >= depth {
            tree.cut = true;
            continue;
        }
        if !visited.insert(hash) {
            tree.nodes.push(Node {
                depth: level,
                hash,
                summary: None,
                repeated: true,
            });
            continue;
        }
        let detail = inspection.transaction(&TransactionKey::Hash(hash)).await?;
        if let Some(detail) = &detail {
            stack.extend(awaited(detail).into_iter().rev().map(|hash| (level.saturating_add(1), hash)));
        }
        tree.nodes.push(Node {
            depth: level,
            hash,
            summary: detail.map(|detail| detail.summary),
            repeated: false,
        });
    }
    Ok(tree)
}

/// The transactions that one waits for, each once.
fn awaited(detail: &TransactionDetail) -> Vec<B256> {
    let mut hashes: Vec<B256> = detail.waits_for.iter().map(|wait| wait.transaction).collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

impl Tree {
    /// Writes a line for each transaction.
    pub(super) fn lines(&self, now_ms: u64) -> Vec<String> {
        let mut lines: Vec<String> = self.nodes.iter().map(|node| node.line(now_ms)).collect();
        if self.cut {
            lines.push("… and more; --depth follows further".to_owned());
        }
        lines
    }

    /// Describes the tree as a list with depths.
    pub(super) fn to_json(&self, now_ms: u64) -> Value {
        let nodes: Vec<Value> = self
            .nodes
            .iter()
            .map(|node| {
                json!({
                    "depth": node.depth,
                    "transaction": node.hash,
                    "state": node.summary.as_ref().map(|summary| describe::state(summary, now_ms)),
                    "repeated": node.repeated,
                })
            })
            .collect();
        json!({ "nodes": nodes, "cut": self.cut })
    }
}

impl Node {
    fn line(&self, now_ms: u64) -> String {
        let indent = "  ".repeat(usize::from(self.depth));
        let what = match (&self.summary, self.repeated) {
            (_, true) => "see above".to_owned(),
            (None, false) => "finished meanwhile".to_owned(),
            (Some(summary), false) => {
                let lease = summary
                    .lease
                    .as_ref()
                    .map_or_else(String::new, |lease| format!(", {}", describe::lease(lease, now_ms)));
                format!(
                    "{}, {} old{lease}",
                    describe::state(summary, now_ms),
                    describe::age(summary, now_ms)
                )
            }
        };
        format!("{indent}{}  {what}", self.hash)
    }
}

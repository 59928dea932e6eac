//! Explanations for programs.

use cipherloom_engine::{
    Graph, Node,
    explain::{Estimate, Load, Reference, Report, TimeSource},
    graph::label,
};
use serde_json::{Map, Value, json};

use super::recording::Recording;

/// Writes everything about a transaction as one object. Program and schedule are texts, and only there if they are asked for.
pub(super) fn describe(recording: &Recording, report: &Report, estimate: &Estimate, texts: &[(&str, String)]) -> Value {
    let rules: Vec<Value> = report
        .rules
        .iter()
        .map(|effect| {
            json!({
                "rule": effect.rule,
                "meaning": effect.doc,
                "times": effect.times,
                "bootstrapsSaved": effect.bootstraps_saved,
                "wholeOperationsSaved": effect.whole_saved,
            })
        })
        .collect();
    let texts: Map<String, Value> = texts.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
    json!({
        "transaction": recording.transaction,
        "operations": {
            "recorded": report.recorded.operation_count(),
            "needed": report.needed.operation_count(),
            "rewritten": report.compiled.graph.operation_count(),
        },
        "tfheRs": reference(report.tfhe_rs()),
        "eachOperationAlone": load(report.alone_load()),
        "withoutRewriting": load(report.plain_load()),
        "withRewriting": load(report.load()),
        "rules": rules,
        "estimate": {
            "cores": estimate.cores,
            "bootstrapSecondsAlone": estimate.time.alone_s,
            "bootstrapSecondsBatched": estimate.time.batched_s,
            "source": match estimate.time.source {
                TimeSource::Documented => "documented",
                TimeSource::Measured => "measured",
            },
            "cpuSeconds": estimate.cpu_s,
            "wallSeconds": estimate.wall_s,
        },
        "graph": {
            "recorded": nodes(&report.recorded, None),
            "rewritten": nodes(&report.compiled.graph, Some(report)),
        },
        "outputs": report.compiled.graph.outputs().map(|(handle, id)| json!({ "handle": handle.to_string(), "node": id.to_string() })).collect::<Vec<_>>(),
        "stages": texts,
    })
}

/// tfhe-rs's bootstraps, one operation after the other. Where some operations were not counted, it takes more.
pub(super) fn reference(reference: Reference) -> Value {
    json!({ "bootstraps": reference.bootstraps, "operationsNotCounted": reference.uncounted })
}

pub(super) fn load(load: Load) -> Value {
    json!({ "bootstraps": load.bootstraps, "wholeOperations": load.whole, "depth": load.depth })
}

fn nodes(graph: &Graph, report: Option<&Report>) -> Vec<Value> {
    graph
        .nodes()
        .map(|(id, node)| {
            let mut value = match node {
                Node::Boundary { handle, ty } => json!({ "kind": "boundary", "handle": handle.to_string(), "type": ty.to_string() }),
                Node::Operation { operation, inputs } => json!({
                    "kind": "operation",
                    "operation": label(operation),
                    "type": operation.result_type().to_string(),
                    "inputs": inputs.iter().map(ToString::to_string).collect::<Vec<_>>(),
                }),
                Node::Failed(error) => json!({ "kind": "failed", "reason": error.to_string() }),
            };
            if let Some(fields) = value.as_object_mut() {
                fields.insert("id".to_owned(), json!(id.to_string()));
                if let Some(report) = report {
                    let cost = report.cost(id);
                    fields.insert("bootstraps".to_owned(), json!(cost.bootstraps));
                    fields.insert("whole".to_owned(), json!(cost.whole));
                    fields.insert("critical".to_owned(), json!(report.critical.contains(id)));
                }
            }
            value
        })
        .collect()
}

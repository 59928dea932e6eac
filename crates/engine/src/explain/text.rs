//! Reports as text: a summary that fits a screen, and every stage in full.

use std::fmt::Write as _;

use super::{
    estimate::{Estimate, TimeSource, rounds},
    picture::{formula, short},
    report::{Load, Report},
};
use crate::{
    graph::{Graph, Node, NodeId},
    program::{Program, Task},
    rewrite::Firing,
};

/// How many operations a summary lists.
const LISTED: usize = 40;

/// A stage that can be written out in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The operations as they were recorded.
    Recorded,
    /// Those that the outputs need.
    Pruned,
    /// After rewriting, with what was done.
    Rewritten,
    /// Bootstraps on blocks.
    Program,
    /// Which bootstraps are done at one time.
    Schedule,
}

impl Stage {
    /// All stages, in their order.
    pub const ALL: [Self; 5] = [Self::Recorded, Self::Pruned, Self::Rewritten, Self::Program, Self::Schedule];

    /// Returns its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Pruned => "pruned",
            Self::Rewritten => "rewritten",
            Self::Program => "program",
            Self::Schedule => "schedule",
        }
    }
}

impl Report {
    /// Says in one line what there is to do.
    pub(super) fn totals(&self) -> String {
        let load = self.load();
        let whole = match load.whole {
            0 => String::new(),
            whole => format!(" and {whole} by the backend as a whole"),
        };
        format!(
            "{} · {}{whole} (tfhe-rs, one by one: {}) · depth {}",
            counted(self.compiled.graph.operation_count(), "operation"),
            counted(load.bootstraps, "bootstrap"),
            self.tfhe_rs(),
            load.depth
        )
    }

    /// Describes the transaction for people.
    #[must_use]
    pub fn summary(&self, estimate: &Estimate) -> String {
        let mut text = String::new();
        let (plain, load) = (self.plain_load(), self.load());
        let graphs = [&self.recorded, &self.needed, &self.compiled.graph].map(Graph::operation_count);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "operations   {} recorded, {} needed, {} after rewriting",
            graphs[0], graphs[1], graphs[2]
        );
        let _ = writeln!(
            text,
            "bootstraps   {} by tfhe-rs one by one; here {} one by one, {} together without rewriting, {} with{}",
            self.tfhe_rs(),
            self.alone_load().bootstraps,
            plain.bootstraps,
            load.bootstraps,
            whole_of(load)
        );
        let _ = writeln!(text, "depth        {} without rewriting, {} with", plain.depth, load.depth);
        text.push_str(&estimated(estimate));
        text.push('\n');
        text.push_str(&self.one_by_one(LISTED));
        text.push('\n');
        text.push_str(&self.rules_applied());
        text.push('\n');
        text.push_str(&self.operations(LISTED));
        text
    }

    /// Lists the needed operations with what each takes by itself.
    fn one_by_one(&self, limit: usize) -> String {
        let graph = &self.needed;
        let mut text = format!(
            "{:<52} {:<9} {:>10} {:>10}\n",
            "operations needed, one by one", "type", "tfhe-rs", "here"
        );
        for alone in self.alone.iter().take(limit) {
            let Node::Operation { operation, inputs } = graph.node(alone.node) else {
                continue;
            };
            let what = format!("{} = {}", alone.node, formula(graph, operation, inputs));
            let of_tfhe_rs = alone.tfhe_rs.map_or_else(|| "?".to_owned(), |count| count.to_string());
            let here = if alone.load.whole > 0 {
                "whole".to_owned()
            } else {
                alone.load.bootstraps.to_string()
            };
            let _ = writeln!(
                text,
                "  {what:<50} {:<9} {of_tfhe_rs:>10} {here:>10}",
                operation.result_type().to_string()
            );
        }
        if self.alone.len() > limit {
            let _ = writeln!(text, "  … and {} more", self.alone.len() - limit);
        }
        text
    }

    fn rules_applied(&self) -> String {
        if self.rules.is_empty() {
            return "rules applied: none\n".to_owned();
        }
        let mut text = format!("{:<24} {:>5} {:>17}   what it says\n", "rules applied", "times", "bootstraps saved");
        for effect in &self.rules {
            let saved = match effect.whole_saved {
                0 => effect.bootstraps_saved.to_string(),
                whole => format!("{} (whole: {whole})", effect.bootstraps_saved),
            };
            let _ = writeln!(text, "  {:<22} {:>5} {saved:>17}   {}", effect.rule, effect.times, effect.doc);
        }
        text.push_str(
            "  Saved is what switching the rule off, and no other, would cost. Rules can depend on each other, so this need not add up.\n",
        );
        text
    }

    /// Lists the operations after rewriting with their costs.
    fn operations(&self, limit: usize) -> String {
        let graph = &self.compiled.graph;
        let steps = Self::steps(graph);
        let mut text = format!(
            "{:<52} {:<9} {:>10}  critical path\n",
            "operations after rewriting", "type", "bootstraps"
        );
        for (id, node) in steps.iter().take(limit) {
            let (what, cost) = match node {
                Node::Boundary { handle, .. } => (format!("from outside {}", short(*handle)), String::new()),
                Node::Operation { operation, inputs } => {
                    let cost = self.cost(*id);
                    let cost = if cost.whole {
                        "whole".to_owned()
                    } else {
                        cost.bootstraps.to_string()
                    };
                    (formula(graph, operation, inputs), cost)
                }
                Node::Failed(error) => (format!("cannot be computed: {error}"), String::new()),
            };
            let ty = graph.fhe_type(*id).map(|ty| ty.to_string()).unwrap_or_default();
            let mark = if self.critical.contains(*id) { "  *" } else { "" };
            let line = format!("  {:<50} {ty:<9} {cost:>10}{mark}", format!("{id} = {what}"));
            let _ = writeln!(text, "{}", line.trim_end());
        }
        if steps.len() > limit {
            let _ = writeln!(text, "  … and {} more", steps.len() - limit);
        }
        for (handle, id) in graph.outputs() {
            let _ = writeln!(text, "  {} leaves as {}", value_of(graph, id), short(handle));
        }
        text
    }

    /// Writes one stage in full. The schedule is that of a machine with this many cores.
    #[must_use]
    pub fn stage(&self, stage: Stage, cores: usize) -> String {
        match stage {
            Stage::Recorded => self.recorded.to_string(),
            Stage::Pruned => self.needed.to_string(),
            Stage::Rewritten => {
                let applied = |Firing { rule, count }: &Firing| format!("rule {rule}: {count} times\n");
                let rules: String = self.compiled.firings.iter().map(applied).collect();
                format!("{rules}{}", self.compiled.graph)
            }
            Stage::Program => self.compiled.program.to_string(),
            Stage::Schedule => schedule(&self.compiled.program, cores),
        }
    }
}

/// A value, or a public one's number.
fn value_of(graph: &Graph, id: NodeId) -> String {
    graph.constant(id).map_or_else(|| id.to_string(), |value| format!("public {value}"))
}

fn whole_of(load: Load) -> String {
    match load.whole {
        0 => String::new(),
        1 => "; 1 operation has no kernel and is left to the backend".to_owned(),
        count => format!("; {count} operations have no kernel and are left to the backend"),
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn estimated(estimate: &Estimate) -> String {
    let source = match estimate.time.source {
        TimeSource::Documented => "documented figures of one machine, not yours",
        TimeSource::Measured => "measured here, with these keys",
    };
    format!(
        "CPU time     {:.2} s on a busy machine, at {:.1} ms per bootstrap in batches\n\
         wall time    {:.2} s alone on {}, at {:.1} ms per bootstrap ({source})\n",
        estimate.cpu_s,
        estimate.time.batched_s * 1000.0,
        estimate.wall_s,
        counted(estimate.cores, "core"),
        estimate.time.alone_s * 1000.0,
    )
}

fn schedule(program: &Program, cores: usize) -> String {
    let mut text = String::new();
    let origins = program.origins();
    for (number, round) in rounds(program, cores).iter().enumerate() {
        let _ = write!(text, "round {}:", number + 1);
        for task in round {
            let kind = match program.tasks().get(*task) {
                Some(Task::Opaque { .. }) => " whole",
                _ => "",
            };
            let origin = origins.get(*task).copied().unwrap_or_default();
            let _ = write!(text, " t{task} ({origin}{kind})");
        }
        text.push('\n');
    }
    text
}

//! Rewriting a graph by named rules, each exact on plaintexts.
//!
//! The rules, their order and the order in which nodes are visited are fixed: two coprocessors that run the same version
//! get the same graph, and so the same bytes. A pass visits nodes in their order and offers each to the rules in their order; passes follow each
//! other until one changes nothing. Every rule makes the graph smaller or simpler; should one not, [`MAX_PASSES`] ends it.

mod algebra;
mod chains;
mod choices;
mod compare;
mod rewriter;
mod shape;

use std::collections::BTreeSet;

pub use self::rewriter::Rewriter;
use crate::graph::{Graph, NodeId};

/// After so many passes a graph is taken as it is. Chains shrink by at least one node per pass.
pub const MAX_PASSES: usize = 64;

/// A rule: what it says, and how it is applied to one node.
#[derive(Clone, Copy)]
pub struct Rule {
    /// Its name, by which it can be switched off.
    pub name: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// Gives the node that replaces an operation on these operands, if the rule applies.
    pub(crate) apply: rewriter::Apply,
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The name of the rule that no operation is done twice. It is not among [`rules`] because it applies to every new node.
pub const COMMON_SUBEXPRESSIONS: &str = "common-subexpressions";

/// Lists the rules in the order in which they are tried.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    algebra::RULES
        .iter()
        .chain(chains::RULES)
        .chain(compare::RULES)
        .chain(choices::RULES)
        .chain(shape::RULES)
}

/// Which rules are used: all but some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    off: BTreeSet<&'static str>,
}

impl RuleSet {
    /// No rule at all: the graph stays as it was recorded.
    #[must_use]
    pub fn none() -> Self {
        Self {
            off: rules().map(|rule| rule.name).chain([COMMON_SUBEXPRESSIONS]).collect(),
        }
    }

    /// Only this rule.
    #[must_use]
    pub fn only(name: &str) -> Self {
        let mut set = Self::none();
        set.off.retain(|off| *off != name);
        set
    }

    /// Switches a rule off.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        let known = rules()
            .map(|rule| rule.name)
            .chain([COMMON_SUBEXPRESSIONS])
            .find(|known| *known == name);
        self.off.extend(known);
        self
    }

    /// Says whether a rule is used.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        !self.off.contains(name)
    }
}

/// How often a rule was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firing {
    /// The rule's name.
    pub rule: &'static str,
    /// How often.
    pub count: usize,
}

/// Applies rules until none applies, and drops what is no longer needed.
#[must_use]
pub fn rewrite(graph: &Graph, set: &RuleSet) -> (Graph, Vec<Firing>) {
    let mut graph = graph.clone();
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..MAX_PASSES {
        let pass = Rewriter::pass(&graph, set);
        let fired = pass.firings.values().sum::<usize>();
        for (rule, count) in pass.firings {
            *counts.entry(rule).or_insert(0) += count;
        }
        graph = pass.graph.prune();
        if fired == 0 {
            break;
        }
    }
    let order = rules().map(|rule| rule.name).chain([COMMON_SUBEXPRESSIONS]);
    let firing = |rule| counts.get(rule).map(|count| Firing { rule, count: *count });
    (graph, order.filter_map(firing).collect())
}

/// A node's operands, with fewer words.
pub(crate) fn first_two(inputs: &[NodeId]) -> Option<(NodeId, NodeId)> {
    match inputs {
        [left, right] => Some((*left, *right)),
        _ => None,
    }
}

//! What is known of each node: what became of calls to it, whether it answers, and whether others found it lying.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use cipherloom_primitives::Address;

use super::client::Outcome;

/// What a node is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    /// For sealed shares of values.
    UserShare,
    /// For shares of public values.
    PublicShares,
    /// To sign public values.
    PublicSign,
}

impl Call {
    const fn as_str(self) -> &'static str {
        match self {
            Self::UserShare => "user_share",
            Self::PublicShares => "public_shares",
            Self::PublicSign => "public_sign",
        }
    }
}

/// How long a node stays a suspect after it was last found to be wrong.
const SUSPICION: Duration = Duration::from_secs(600);

/// The standing of all nodes.
pub(crate) struct Standing {
    nodes: Mutex<BTreeMap<u32, Node>>,
}

/// What is known of one.
struct Node {
    signer: Address,
    /// How many calls had which outcome, and how long they took together.
    calls: BTreeMap<(Call, Outcome), (u64, Duration)>,
    /// Whether its last answer could be used; `None` before the first.
    answers: Option<bool>,
    /// How often others found its shares wrong.
    faults: u64,
    last_fault: Option<Instant>,
}

impl Standing {
    /// Begins with nothing known about these nodes: number and address.
    pub(crate) fn of(members: impl IntoIterator<Item = (u32, Address)>) -> Self {
        let node = |signer| Node {
            signer,
            calls: BTreeMap::new(),
            answers: None,
            faults: 0,
            last_fault: None,
        };
        Self {
            nodes: Mutex::new(members.into_iter().map(|(party, signer)| (party, node(signer))).collect()),
        }
    }

    /// Notes what became of a call. A node that stops to answer, and one that does again, is told of in the log once.
    pub(super) fn called(&self, party: u32, call: Call, outcome: Outcome, took: Duration, reason: Option<&str>) {
        let mut nodes = self.nodes();
        let Some(node) = nodes.get_mut(&party) else { return };
        let (count, total) = node.calls.entry((call, outcome)).or_default();
        *count += 1;
        *total += took;
        let answers = match outcome {
            Outcome::Answered | Outcome::Refused | Outcome::MoreShares => true,
            Outcome::Unreachable | Outcome::Late | Outcome::Invalid => false,
            // Slower than the others is not away.
            Outcome::Left => return,
        };
        let before = node.answers.replace(answers);
        let (signer, call) = (node.signer, call.as_str());
        match (before, answers) {
            (None | Some(true), false) => {
                tracing::warn!(party, %signer, call, reason = reason.unwrap_or_default(), "a KMS node gives no answer that can be used");
            }
            (Some(false), true) => tracing::info!(party, %signer, call, "a KMS node answers again"),
            _ if outcome == Outcome::Invalid => {
                tracing::warn!(party, %signer, call, reason = reason.unwrap_or_default(), "a KMS node answers wrongly");
            }
            _ => {}
        }
    }

    /// Notes that so many others found a node's shares wrong that one of them is honest.
    pub(super) fn found_wrong(&self, parties: &BTreeSet<u32>, now: Instant) {
        let mut nodes = self.nodes();
        for party in parties {
            let Some(node) = nodes.get_mut(party) else { continue };
            node.faults += 1;
            if node.last_fault.replace(now).is_none_or(|last| now.duration_since(last) > SUSPICION) {
                tracing::error!(party, signer = %node.signer, "the shares of a KMS node are wrong; the others decrypt without it");
            }
        }
    }

    /// Lists the nodes that were found to be wrong not long ago.
    pub(crate) fn suspects(&self, now: Instant) -> BTreeSet<u32> {
        let suspected = |node: &Node| node.last_fault.is_some_and(|last| now.duration_since(last) <= SUSPICION);
        self.nodes()
            .iter()
            .filter(|(_, node)| suspected(node))
            .map(|(party, _)| *party)
            .collect()
    }

    /// Writes everything in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        let now = Instant::now();
        let suspects = self.suspects(now);
        let nodes = self.nodes();
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, lines: &mut dyn FnMut(&mut String, &str)| {
            let name = format!("cipherloom_gateway_kms_node_{name}");
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            lines(&mut text, &name);
        };
        let calls = |text: &mut String, name: &str, value: &dyn Fn(&(u64, Duration)) -> String| {
            for (party, node) in nodes.iter() {
                for ((call, outcome), counted) in &node.calls {
                    let (call, outcome) = (call.as_str(), outcome.as_str());
                    let _ = writeln!(
                        text,
                        "{name}{{party=\"{party}\",call=\"{call}\",outcome=\"{outcome}\"}} {}",
                        value(counted)
                    );
                }
            }
        };
        family(
            "calls_total",
            "counter",
            "Calls to each node of the committee, by what was asked and what became of it.",
            &mut |text, name| calls(text, name, &|(count, _)| count.to_string()),
        );
        family(
            "seconds_total",
            "counter",
            "How long those calls took together.",
            &mut |text, name| calls(text, name, &|(_, total)| format!("{:.6}", total.as_secs_f64())),
        );
        let each = |text: &mut String, name: &str, value: &dyn Fn(u32, &Node) -> u64| {
            for (party, node) in nodes.iter() {
                let _ = writeln!(
                    text,
                    "{name}{{party=\"{party}\",signer=\"{}\"}} {}",
                    node.signer,
                    value(*party, node)
                );
            }
        };
        family(
            "up",
            "gauge",
            "Whether the node's last answer could be used; 1 before the first.",
            &mut |text, name| each(text, name, &|_, node| u64::from(node.answers.unwrap_or(true))),
        );
        family(
            "faults_total",
            "counter",
            "Public decryptions in which enough other nodes found the node's shares wrong that one of them is honest.",
            &mut |text, name| each(text, name, &|_, node| node.faults),
        );
        family(
            "suspect",
            "gauge",
            "Whether that happened within the last ten minutes.",
            &mut |text, name| each(text, name, &|party, _| u64::from(suspects.contains(&party))),
        );
        text
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<u32, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "../../../../crates/coprocessor/tests/prometheus/expressions.rs"]
mod expressions;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{expressions::TARGET_LABELS, *};

    #[test]
    fn suspicion_ends_and_counts_stay() {
        let standing = Standing::of([(1, Address::repeat_byte(1)), (2, Address::repeat_byte(2))]);
        let then = Instant::now();
        standing.found_wrong(&BTreeSet::from([2, 9]), then);
        assert_eq!(standing.suspects(then), BTreeSet::from([2]));
        assert!(standing.suspects(then + SUSPICION + Duration::from_secs(1)).is_empty());
        standing.called(1, Call::UserShare, Outcome::Late, Duration::from_millis(1500), Some("slow"));
        standing.called(1, Call::UserShare, Outcome::Late, Duration::from_millis(500), Some("slow"));
        let text = standing.render();
        let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
        let late = "{party=\"1\",call=\"user_share\",outcome=\"late\"}";
        assert_eq!(
            line("cipherloom_gateway_kms_node_calls_total"),
            format!("cipherloom_gateway_kms_node_calls_total{late} 2")
        );
        assert_eq!(
            line("cipherloom_gateway_kms_node_seconds_total"),
            format!("cipherloom_gateway_kms_node_seconds_total{late} 2.000000")
        );
        assert!(line("cipherloom_gateway_kms_node_up{party=\"1\"").ends_with(" 0"));
        assert!(line("cipherloom_gateway_kms_node_up{party=\"2\"").ends_with(" 1"));
        assert!(line("cipherloom_gateway_kms_node_faults_total{party=\"2\"").ends_with(" 1"));
    }

    fn read(path: &str) -> String {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap()
    }

    #[test]
    fn dashboard_alerts_and_documents_name_what_is_told_about_nodes() {
        const OURS: &str = "cipherloom_gateway_kms_node_";
        let standing = Standing::of([(1, Address::repeat_byte(1))]);
        standing.called(1, Call::UserShare, Outcome::Answered, Duration::from_millis(5), None);
        let mut series = expressions::Series::new();
        for line in standing.render().lines().filter(|line| !line.starts_with('#')) {
            for (name, labels) in expressions::named(line.rsplit_once(' ').unwrap().0).series {
                let labels = labels.into_iter().chain(TARGET_LABELS.map(str::to_owned));
                series.insert(name, labels.collect());
            }
        }
        let (panels, others) = expressions::dashboard(&read("deploy/grafana/cipherloom-kms.json"));
        let document = read("docs/kms-observability.md");
        let alerts = expressions::alerts(&read("deploy/prometheus/alerts-kms.yml"), "docs/kms-observability.md", &document);
        let alerts = alerts.iter().map(|alert| &alert.expression);
        let ours = panels
            .iter()
            .chain(&others)
            .chain(alerts)
            .filter(|expression| expression.contains(OURS));
        ours.for_each(|expression| expressions::check(expression, &series));
        assert_eq!(series.len(), 5);
        for name in series.keys() {
            assert!(panels.iter().any(|expression| expression.contains(name)), "{name} is on no panel");
            assert!(
                document.contains(&format!("`{name}`")),
                "{name} is not in docs/kms-observability.md"
            );
        }
    }
}

//! What a node counts, in Prometheus' text format: computing and the chain here, consensus and the network by themselves.

use std::fmt::{Display, Write as _};

use crate::{compute::ComputeFigures, running::RunningNode};

/// The format of what is written.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes everything about a node.
pub(crate) fn write(node: &RunningNode, computed: &ComputeFigures) -> Vec<u8> {
    let mut page = Page::default();
    if let Ok(head) = node.chain().head() {
        page.add("cipherloom_node_head", "gauge", "The number of the newest block.", head.number);
    }
    let (kept, help) = (
        node.chain().last_state_kept().unwrap_or_default(),
        "The newest block whose state is on the disk: a start executes the blocks after it.",
    );
    page.add("cipherloom_node_state_kept", "gauge", help, kept);
    page.computed(computed);
    (page.0 + &node.metrics()).into_bytes()
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn add(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        let written = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        debug_assert!(written.is_ok(), "writing to a string does not fail");
    }

    fn computed(&mut self, figures: &ComputeFigures) {
        let ComputeFigures {
            blocks,
            computations,
            outputs,
            failed_outputs,
            unavailable,
            seconds,
        } = *figures;
        for (name, help, value) in [
            (
                "blocks",
                "Blocks whose ciphertexts this node computed, its own and others'.",
                blocks,
            ),
            (
                "operations",
                "Operations of these blocks, before what nothing needs is left out.",
                computations,
            ),
            ("ciphertexts", "Ciphertexts that came out.", outputs),
            ("failed_ciphertexts", "Ciphertexts that nobody can compute.", failed_outputs),
            ("unavailable", "Times that no executor computed a block.", unavailable),
        ] {
            self.add(&format!("cipherloom_node_computed_{name}_total"), "counter", help, value);
        }
        let help = "Time from asking an executor to its answer.";
        self.add("cipherloom_node_computed_seconds_total", "counter", help, seconds);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

    #[test]
    fn every_figure_has_help_a_type_and_a_value() {
        let mut page = Page::default();
        page.computed(&ComputeFigures {
            blocks: 1,
            computations: 2,
            outputs: 3,
            failed_outputs: 4,
            unavailable: 5,
            seconds: 0.5,
        });
        let lines: Vec<&str> = page.0.lines().collect();
        assert_eq!(lines.len(), 3 * 6);
        for (name, value) in [
            ("blocks", "1"),
            ("operations", "2"),
            ("failed_ciphertexts", "4"),
            ("unavailable", "5"),
        ] {
            let line = format!("cipherloom_node_computed_{name}_total {value}");
            assert!(lines.contains(&line.as_str()), "{line}: {lines:?}");
        }
        assert!(lines.contains(&"# TYPE cipherloom_node_computed_seconds_total counter"));
        assert!(lines.contains(&"cipherloom_node_computed_seconds_total 0.5"));
    }

    #[test]
    fn dashboard_alerts_and_document_name_all_figures_and_no_others() {
        let mut page = Page::default();
        page.computed(&ComputeFigures::default());
        let types = page.0.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let mut exist: BTreeSet<&str> = types.filter_map(|line| line.split(' ').next()).collect();
        exist.extend(["cipherloom_node_head", "cipherloom_node_state_kept"]);
        let read = |path: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap();
        let (dashboard, document) = (read("deploy/grafana/cipherloom-native.json"), read("docs/native-observability.md"));
        for text in [&dashboard, &document, &read("deploy/prometheus/alerts-native.yml")] {
            for (place, _) in text.match_indices("cipherloom_node_") {
                let name = text[place..]
                    .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
                    .next();
                assert!(exist.contains(name.unwrap()), "there is no {name:?}");
            }
        }
        for name in exist {
            assert!(dashboard.contains(name), "{name} is on no panel");
            assert!(document.contains(&format!("`{name}`")), "{name} is in no document");
        }
    }
}

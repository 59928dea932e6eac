//! What is deployed to watch nodes of native chains, and what documents say, agree with the metrics of consensus and network.

use std::collections::BTreeSet;

use crate::{
    expressions,
    pages::{read, series},
};

/// What the rest of the process tells, which its own tests look at.
const OF_THE_PROCESS: &str = "cipherloom_node_";

/// Checks dashboard, alerts and documents against the page of a node.
pub(crate) fn check(page: &str) {
    let series = series(page);
    let known = |expression: &&String| !expression.contains(OF_THE_PROCESS);
    let (panels, others) = expressions::dashboard(&read("deploy/grafana/cipherloom-native.json"));
    for expression in panels.iter().chain(&others).filter(known) {
        expressions::check(expression, &series);
    }
    let (rules, document) = (read("deploy/prometheus/alerts-native.yml"), read("docs/native-observability.md"));
    for alert in &expressions::alerts(&rules, "docs/native-observability.md", &document) {
        if known(&&alert.expression) {
            expressions::check(&alert.expression, &series);
        }
    }
    let shown: BTreeSet<String> = panels
        .iter()
        .flat_map(|expression| expressions::named(expression).series)
        .map(|(name, _)| name)
        .collect();
    let listed = document + &read("docs/peers.md");
    for name in series.keys().filter(|name| *name != "up") {
        assert!(shown.contains(name), "{name} is on no panel");
        let short = name.strip_prefix("cipherloom_network_").unwrap_or(name);
        assert!(listed.contains(&format!("`{short}`")), "{name} is in no document");
    }
    let example = expressions::yaml(&read("deploy/prometheus/prometheus.yml"));
    let names = |list: &str, name: &str| -> Vec<String> {
        let items = example[list].as_vec().unwrap().iter();
        items
            .filter_map(|item| item.as_str().or_else(|| item[name].as_str()))
            .map(str::to_owned)
            .collect()
    };
    assert!(names("scrape_configs", "job_name").contains(&"native".to_owned()));
    assert!(names("rule_files", "").contains(&"alerts-native.yml".to_owned()));
}

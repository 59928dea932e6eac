//! What is deployed to watch parties, and what documents say, agree with the metrics that a party has.

use std::collections::BTreeSet;

use crate::{
    expressions,
    pages::{read, series},
};

/// What gateways tell about nodes, which their own tests look at.
const OF_GATEWAYS: &str = "cipherloom_gateway_";

/// Checks dashboard, alerts and documents against the page of a party that has answered requests.
pub(crate) fn check(page: &str) {
    let series = series(page);
    let of_nodes = |expression: &&String| !expression.contains(OF_GATEWAYS);
    let (panels, others) = expressions::dashboard(&read("deploy/grafana/cipherloom-kms.json"));
    for expression in panels.iter().chain(&others).filter(of_nodes) {
        expressions::check(expression, &series);
    }
    let (rules, document) = (read("deploy/prometheus/alerts-kms.yml"), read("docs/kms-observability.md"));
    let alerts = expressions::alerts(&rules, "docs/kms-observability.md", &document);
    for alert in alerts.iter().filter(|alert| of_nodes(&&alert.expression)) {
        expressions::check(&alert.expression, &series);
    }
    let shown: BTreeSet<String> = panels
        .iter()
        .flat_map(|expression| expressions::named(expression).series)
        .map(|(name, _)| name)
        .collect();
    let listed = read("docs/kms-party.md");
    for name in series.keys().filter(|name| *name != "up") {
        assert!(shown.contains(name), "{name} is on no panel");
        assert!(listed.contains(&format!("`{name}`")), "{name} is not in docs/kms-party.md");
    }
    let example = expressions::yaml(&read("deploy/prometheus/prometheus.yml"));
    let jobs: Vec<&str> = example["scrape_configs"]
        .as_vec()
        .unwrap()
        .iter()
        .map(|job| job["job_name"].as_str().unwrap())
        .collect();
    assert!(jobs.contains(&"kms") && jobs.contains(&"gateway"), "{jobs:?}");
    assert!(
        example["rule_files"]
            .as_vec()
            .unwrap()
            .iter()
            .any(|file| file.as_str() == Some("alerts-kms.yml"))
    );
}

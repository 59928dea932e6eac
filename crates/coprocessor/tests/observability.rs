//! What is deployed to watch a coprocessor, and what documents say, agree with the metrics that exist.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "prometheus/expressions.rs"]
mod expressions;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use self::expressions::{Series, TARGET_LABELS, named, yaml};
use cipherloom_coprocessor::metrics::{MetricDescription, MetricKind, Metrics};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap()
}

/// Every series that exists, with its labels: a histogram has three.
fn series() -> Series {
    let mut series = BTreeMap::from([("up".to_owned(), BTreeSet::new())]);
    for MetricDescription { name, kind, labels, .. } in Metrics::new().descriptions() {
        let labels: BTreeSet<String> = labels.iter().cloned().collect();
        if *kind == MetricKind::Histogram {
            let with_bound = labels.iter().cloned().chain(["le".to_owned()]).collect();
            series.insert(format!("{name}_bucket"), with_bound);
            series.insert(format!("{name}_sum"), labels.clone());
            series.insert(format!("{name}_count"), labels);
        } else {
            series.insert(name.clone(), labels);
        }
    }
    for labels in series.values_mut() {
        labels.extend(TARGET_LABELS.map(str::to_owned));
    }
    series
}

/// Checks that what an expression names exists.
fn check(expression: &str) {
    expressions::check(expression, &series());
}

#[test]
fn expressions_are_read_as_they_are_meant() {
    let found = named(
        r#"histogram_quantile(0.99, sum by (method, le) (rate(calls_bucket{job=~"$job",code!="a}b"}[$__rate_interval]))) > 2 unless on (tenant) idle == 1e3 offset 5m"#,
    );
    let series = vec![
        ("calls_bucket".to_owned(), vec!["job".to_owned(), "code".to_owned()]),
        ("idle".to_owned(), Vec::new()),
    ];
    assert_eq!(found.series, series);
    assert_eq!(found.grouped, ["method", "le", "tenant"]);
}

#[test]
#[should_panic(expected = "there is no coprocessor_nothing_total")]
fn a_metric_that_does_not_exist_is_noticed() {
    check("rate(coprocessor_nothing_total[5m])");
}

#[test]
#[should_panic(expected = "has no label tenant")]
fn a_label_that_does_not_exist_is_noticed() {
    check(r#"rate(coprocessor_stage_seconds_sum{tenant="a"}[5m])"#);
}

#[test]
fn the_dashboard_names_metrics_and_labels_that_exist() {
    let (expressions, others) = expressions::dashboard(&read("deploy/grafana/cipherloom-coprocessor.json"));
    expressions.iter().chain(&others).for_each(|expression| check(expression));
    let shown: BTreeSet<String> = expressions
        .iter()
        .flat_map(|expression| named(expression).series)
        .map(|(name, _)| name)
        .collect();
    // Every metric is shown somewhere. The generation's counters are, under our names with labels.
    for MetricDescription { name, kind, .. } in Metrics::new().descriptions() {
        let is_shown = match kind {
            MetricKind::Histogram => shown.contains(&format!("{name}_bucket")),
            MetricKind::Counter if !name.ends_with("_total") => true,
            _ => shown.contains(name),
        };
        assert!(is_shown, "{name} is on no panel");
    }
}

#[test]
fn alerts_name_metrics_that_exist_and_have_a_section_that_says_what_to_do() {
    let (rules, document) = (read("deploy/prometheus/alerts.yml"), read("docs/observability.md"));
    for alert in expressions::alerts(&rules, "docs/observability.md", &document) {
        check(&alert.expression);
    }
}

#[test]
fn the_example_for_prometheus_scrapes_the_job_that_alerts_look_at() {
    let example = yaml(&read("deploy/prometheus/prometheus.yml"));
    assert_eq!(example["scrape_configs"][0]["job_name"].as_str(), Some("coprocessor"));
    assert_eq!(example["scrape_configs"][0]["metrics_path"].as_str(), Some("/metrics"));
    assert_eq!(example["rule_files"][0].as_str(), Some("alerts.yml"));
}

#[test]
fn the_document_lists_every_metric_as_it_is() {
    let mut table = String::from("| metric | kind | labels | meaning |\n|---|---|---|---|\n");
    for MetricDescription { name, kind, labels, help } in Metrics::new().descriptions() {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(table, "| `{name}` | {kind} | {} | {help} |", labels.join(", ")).unwrap();
    }
    let document = read("docs/observability.md");
    let (_, after) = document.split_once("<!-- metrics begin -->\n").unwrap();
    let (listed, _) = after.split_once("<!-- metrics end -->").unwrap();
    assert!(listed == table, "the table in docs/observability.md should be:\n{table}");
}

//! What is deployed to watch a coprocessor, and what documents say, agree with the metrics that exist.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use cipherloom_coprocessor::metrics::{MetricDescription, MetricKind, Metrics};
use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

/// Labels that Prometheus adds to everything.
const TARGET_LABELS: [&str; 2] = ["instance", "job"];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap()
}

/// Every series that exists, with its labels: a histogram has three.
fn series() -> BTreeMap<String, BTreeSet<String>> {
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

/// What a PromQL expression names: each series with the labels that it is selected by, and the labels that results are grouped by.
#[derive(Debug, Default, PartialEq)]
struct Named {
    series: Vec<(String, Vec<String>)>,
    grouped: Vec<String>,
}

/// Finds what an expression names. It knows strings, durations, selectors, functions and groupings, and checks that brackets match.
fn named(expression: &str) -> Named {
    const WORDS: [&str; 6] = ["and", "or", "unless", "bool", "offset", "inf"];
    const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
    let mut named = Named::default();
    let mut rest = expression;
    let mut open = Vec::new();
    while let Some(first) = rest.chars().next() {
        match first {
            '(' | '[' => open.push(first),
            ')' => assert_eq!(open.pop(), Some('('), "{expression}"),
            ']' => assert_eq!(open.pop(), Some('['), "{expression}"),
            _ => {}
        }
        if !(first.is_ascii_alphabetic() || first == '_' || first == ':') {
            // A number or a duration, whose letters are no name.
            let end = if first.is_ascii_digit() || first == '$' {
                rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.' && letter != '_' && letter != '$')
                    .unwrap_or(rest.len())
            } else {
                first.len_utf8()
            };
            rest = &rest[end..];
            continue;
        }
        let end = rest
            .find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_' && letter != ':')
            .unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after.trim_start();
        if GROUPINGS.contains(&word) {
            let (list, after) = rest.strip_prefix('(').unwrap().split_once(')').unwrap();
            named.grouped.extend(list.split(',').map(|label| label.trim().to_owned()));
            rest = after;
        } else if let Some(selector) = rest.strip_prefix('{') {
            let (labels, after) = selected(selector);
            named.series.push((word.to_owned(), labels));
            rest = after;
        } else if !rest.starts_with('(') && !WORDS.contains(&word) && !rest.starts_with("by") && !rest.starts_with("without") {
            named.series.push((word.to_owned(), Vec::new()));
        }
    }
    assert!(open.is_empty(), "{expression}");
    named
}

/// Reads the labels of a selector, whose values may hold anything in quotes, and returns what follows it.
fn selected(mut rest: &str) -> (Vec<String>, &str) {
    let mut labels = Vec::new();
    while let Some((label, after)) = rest.split_once(['=', '!']) {
        if rest.find('}').is_some_and(|end| end < label.len()) {
            break;
        }
        labels.push(label.trim_matches([',', ' ']).to_owned());
        let (_, after) = after.split_once('"').unwrap();
        rest = after.split_once('"').unwrap().1;
    }
    (labels, rest.split_once('}').unwrap().1)
}

/// Checks that what an expression names exists.
fn check(expression: &str) {
    let series = series();
    let named = named(expression);
    assert!(!named.series.is_empty(), "{expression} names no metric");
    let mut all = BTreeSet::new();
    for (name, labels) in &named.series {
        let exist = series
            .get(name)
            .unwrap_or_else(|| panic!("there is no {name}, which {expression} names"));
        for label in labels {
            assert!(exist.contains(label), "{name} has no label {label}, which {expression} names");
        }
        all.extend(exist);
    }
    for label in &named.grouped {
        assert!(all.contains(label), "nothing in {expression} has the label {label}");
    }
}

fn yaml(path: &str) -> Yaml {
    let documents = YamlLoader::load_from_str(&read(path)).unwrap();
    assert_eq!(documents.len(), 1, "{path}");
    documents.into_iter().next().unwrap()
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
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/cipherloom-coprocessor.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut shown = BTreeSet::new();
    for panel in panels {
        assert!(
            ids.insert(panel["id"].as_u64().unwrap()),
            "{} has the id of another",
            panel["title"]
        );
        if panel["type"] == "row" {
            continue;
        }
        assert!(
            panel["description"].as_str().is_some_and(|text| !text.is_empty()),
            "{}",
            panel["title"]
        );
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            check(expression);
            shown.extend(named(expression).series.into_iter().map(|(name, _)| name));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(query) = variable["definition"].as_str() {
            let (metric, label) = query
                .strip_prefix("label_values(")
                .unwrap()
                .trim_end_matches(')')
                .split_once(", ")
                .unwrap();
            check(&format!("sum by ({label}) ({metric})"));
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        check(annotation["expr"].as_str().unwrap());
    }
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
    let rules = yaml("deploy/prometheus/alerts.yml");
    let document = read("docs/observability.md");
    let sections: Vec<&str> = document.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let mut alerts = Vec::new();
    for group in rules["groups"].as_vec().unwrap() {
        for rule in group["rules"].as_vec().unwrap() {
            let name = rule["alert"].as_str().unwrap();
            check(rule["expr"].as_str().unwrap());
            assert!(rule["for"].as_str().is_some(), "{name}");
            assert!(
                ["critical", "warning", "info"].contains(&rule["labels"]["severity"].as_str().unwrap()),
                "{name}"
            );
            assert!(
                rule["annotations"]["summary"].as_str().is_some_and(|text| text.len() > 10),
                "{name}"
            );
            let runbook = format!("docs/observability.md#{}", name.to_lowercase());
            assert_eq!(rule["annotations"]["runbook_url"].as_str(), Some(runbook.as_str()), "{name}");
            alerts.push(name);
        }
    }
    assert_eq!(alerts, sections, "the alerts, and the sections about alerts");
}

#[test]
fn the_example_for_prometheus_scrapes_the_job_that_alerts_look_at() {
    let example = yaml("deploy/prometheus/prometheus.yml");
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

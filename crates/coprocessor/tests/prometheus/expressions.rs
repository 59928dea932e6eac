//! Reading what is deployed to watch processes: expressions of dashboards and alerts, and the metrics that they name.
//!
//! Tests of every crate that has metrics include this file, so that there is one reader.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

/// Labels that Prometheus adds to everything.
pub(crate) const TARGET_LABELS: [&str; 2] = ["instance", "job"];

/// Series that exist, with their labels.
pub(crate) type Series = BTreeMap<String, BTreeSet<String>>;

/// What a PromQL expression names: each series with the labels that it is selected by, and the labels that results are grouped by.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Named {
    pub(crate) series: Vec<(String, Vec<String>)>,
    pub(crate) grouped: Vec<String>,
}

/// Finds what an expression names. It knows strings, durations, selectors, functions and groupings, and checks that brackets match.
pub(crate) fn named(expression: &str) -> Named {
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
pub(crate) fn check(expression: &str, series: &Series) {
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

/// An alert: what it is called, and when it fires.
pub(crate) struct Alert {
    pub(crate) name: String,
    pub(crate) expression: String,
}

/// Reads a file of alerts and checks that each says how bad it is, what it means, and where a document tells what to do: in a section of its own, in the same order.
pub(crate) fn alerts(rules: &str, document_path: &str, document: &str) -> Vec<Alert> {
    let rules = yaml(rules);
    let sections: Vec<&str> = document.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let mut alerts = Vec::new();
    for rule in rules["groups"]
        .as_vec()
        .unwrap()
        .iter()
        .flat_map(|group| group["rules"].as_vec().unwrap())
    {
        let name = rule["alert"].as_str().unwrap();
        assert!(rule["for"].as_str().is_some(), "{name}");
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity), "{name}");
        let summary = rule["annotations"]["summary"].as_str();
        assert!(summary.is_some_and(|text| text.len() > 10), "{name}");
        let runbook = format!("{document_path}#{}", name.to_lowercase());
        assert_eq!(rule["annotations"]["runbook_url"].as_str(), Some(runbook.as_str()), "{name}");
        alerts.push(Alert {
            name: name.to_owned(),
            expression: rule["expr"].as_str().unwrap().to_owned(),
        });
    }
    let names: Vec<&str> = alerts.iter().map(|alert| alert.name.as_str()).collect();
    assert_eq!(names, sections, "the alerts, and the sections about alerts");
    alerts
}

/// Reads a file that holds one document.
pub(crate) fn yaml(text: &str) -> Yaml {
    let documents = YamlLoader::load_from_str(text).unwrap();
    assert_eq!(documents.len(), 1);
    documents.into_iter().next().unwrap()
}

/// Reads a dashboard, and checks that its panels can be told apart and say what they show. Returns the expressions of panels, and those of variables and annotations.
pub(crate) fn dashboard(text: &str) -> (Vec<String>, Vec<String>) {
    let dashboard: Value = serde_json::from_str(text).unwrap();
    let (mut ids, mut shown, mut others) = (BTreeSet::new(), Vec::new(), Vec::new());
    for panel in list(&dashboard, "/panels") {
        let title = &panel["title"];
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title} has the id of another");
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{title}");
        let targets = panel["targets"].as_array().unwrap();
        shown.extend(targets.iter().map(|target| target["expr"].as_str().unwrap().to_owned()));
    }
    for variable in list(&dashboard, "/templating/list") {
        let Some(query) = variable["definition"].as_str() else { continue };
        let inner = query.strip_prefix("label_values(").unwrap().trim_end_matches(')');
        let (metric, label) = inner.split_once(", ").unwrap();
        others.push(format!("sum by ({label}) ({metric})"));
    }
    let annotations = list(&dashboard, "/annotations/list").iter();
    others.extend(annotations.map(|annotation| annotation["expr"].as_str().unwrap().to_owned()));
    (shown, others)
}

fn list<'a>(document: &'a Value, place: &str) -> &'a [Value] {
    document.pointer(place).and_then(Value::as_array).unwrap()
}

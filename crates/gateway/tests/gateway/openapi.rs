//! The OpenAPI document and the routes say the same.

use std::collections::BTreeSet;

use cipherloom_gateway::{
    Label,
    routes::{OPENAPI, ROUTES},
};
use serde_json::Value;

use crate::services::Stack;

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

#[test]
fn every_route_is_described_and_every_description_is_a_route() {
    let routes = ROUTES
        .iter()
        .map(|route| (route.method.to_lowercase(), route.path.to_owned()))
        .collect::<BTreeSet<_>>();
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let described = paths
        .iter()
        .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(|method| (method.clone(), path.clone())));
    assert_eq!(routes, described.collect::<BTreeSet<_>>());
}

#[tokio::test]
async fn every_described_route_exists_and_answers_a_described_status() {
    let stack = Stack::start().await;
    let mut client = stack.client().await;
    for (path, methods) in document()["paths"].as_object().unwrap() {
        let concrete = path
            .replace("{jobId}", "00000000-0000-4000-8000-000000000000")
            .replace("{keyId}", "key-1");
        for (method, description) in methods.as_object().unwrap() {
            let response = client.send(&method.to_uppercase(), &concrete, &[], b"").await;
            let described = description["responses"].as_object().unwrap();
            assert!(
                described.contains_key(&response.status.to_string()),
                "{method} {concrete}: {}",
                response.status
            );
            let wrong = client.send("DELETE", &concrete, &[], b"").await;
            assert_eq!(wrong.status, 405, "DELETE {concrete}");
        }
    }
    assert_eq!(client.get("/openapi.json").await.json(), document());
}

#[test]
fn every_reference_resolves_and_the_labels_are_complete() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mut references = BTreeSet::new();
    collect_references(&document, &mut references);
    let known = schemas
        .keys()
        .map(|name| format!("#/components/schemas/{name}"))
        .collect::<BTreeSet<_>>();
    assert_eq!(references, known);
    let labels = document
        .pointer("/components/schemas/Error/properties/error/properties/label/enum")
        .unwrap();
    assert_eq!(
        labels
            .as_array()
            .unwrap()
            .iter()
            .map(|label| label.as_str().unwrap())
            .collect::<Vec<_>>(),
        Label::ALL.map(Label::as_str)
    );
}

fn collect_references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| collect_references(value, found));
        }
        Value::Array(entries) => entries.iter().for_each(|value| collect_references(value, found)),
        _ => (),
    }
}

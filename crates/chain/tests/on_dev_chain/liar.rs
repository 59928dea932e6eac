//! A node that answers as another one does, except where it lies.

use std::sync::Arc;

use alloy::{
    providers::{Provider, RootProvider},
    transports::RpcError,
};
use axum::{Json, Router, extract::State, routing::post};
use serde_json::{Value, json};

/// Changes the answer to a method with parameters; errors are made by setting `null`.
pub(crate) type Lie = Arc<dyn Fn(&str, &Value, &mut Value) + Send + Sync>;

/// Starts one and returns its URL; it ends with the test's runtime.
pub(crate) async fn liar(url: &str, lie: impl Fn(&str, &Value, &mut Value) + Send + Sync + 'static) -> String {
    let honest: RootProvider = RootProvider::new_http(url.parse().unwrap());
    let lie: Lie = Arc::new(lie);
    let app = Router::new().route("/", post(answer)).with_state((honest, lie));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    url
}

async fn answer(State((honest, lie)): State<(RootProvider, Lie)>, Json(request): Json<Value>) -> Json<Value> {
    let method = request["method"].as_str().unwrap().to_owned();
    let params = request["params"].clone();
    let reply = |field: &str, value: Value| Json(json!({ "jsonrpc": "2.0", "id": request["id"], field: value }));
    match honest.raw_request::<Value, Value>(method.clone().into(), params.clone()).await {
        Ok(mut value) => {
            let asked_for_nothing = value.is_null();
            lie(&method, &params, &mut value);
            if value.is_null() && !asked_for_nothing {
                return reply("error", json!({ "code": -32601, "message": "method not found" }));
            }
            reply("result", value)
        }
        Err(RpcError::ErrorResp(error)) => reply("error", serde_json::to_value(error).unwrap()),
        Err(error) => reply("error", json!({ "code": -32000, "message": error.to_string() })),
    }
}

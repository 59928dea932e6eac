//! One WebSocket connection: requests in order, and notifications of its subscriptions between them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy::rpc::types::Filter;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::Shared;
use crate::chain::block::Block;
use crate::chain::logs::{block_logs, check_filter};
use crate::chain::{Chain, ChainEvent, ChainEventKind};
use crate::error::{NodeError, Result};
use crate::rpc::convert::{self, json};
use crate::rpc::{self, Call, anonymous_error};

/// The subscriptions of a connection.
#[derive(Default)]
struct Subscriptions {
    active: BTreeMap<u64, Subscription>,
    created: u64,
    /// Opened with the first subscription, so that idle connections receive nothing.
    events: Option<broadcast::Receiver<ChainEvent>>,
}

struct Subscription {
    topic: Topic,
    /// Events up to this one happened before the subscription.
    after: u64,
}

enum Topic {
    NewHeads,
    Logs(Box<Filter>),
    PendingHashes,
    PendingTransactions,
    /// This chain is never syncing, so nothing is ever sent.
    Syncing,
}

/// Serves a connection until either side ends it.
pub(super) async fn serve(mut socket: WebSocket, shared: &Shared) {
    let mut subscriptions = Subscriptions::default();
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return close(&mut socket, close_code::AWAY, "shutting down").await,
            message = socket.recv() => {
                let request = match message {
                    Some(Ok(Message::Text(text))) => axum::body::Bytes::from(text),
                    Some(Ok(Message::Binary(bytes))) => bytes,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                };
                // The subscriptions travel to the blocking thread and come back with the answer.
                let mut travelling = std::mem::take(&mut subscriptions);
                let answered = shared.run(move |methods| {
                    let answer = rpc::answer(methods, &request, &mut |call| travelling.answer(methods.chain(), call));
                    (travelling, answer)
                });
                let answer = match answered.await {
                    Ok((returned, answer)) => {
                        subscriptions = returned;
                        answer
                    }
                    // The subscriptions are lost with the thread, so the connection must end too.
                    Err(error) => {
                        send(&mut socket, shared, anonymous_error(&error)).await;
                        return close(&mut socket, close_code::ERROR, "request failed").await;
                    }
                };
                if let Some(answer) = answer && !send(&mut socket, shared, answer).await {
                    return;
                }
            }
            event = subscriptions.next_event() => {
                let event = match event {
                    Ok(event) => event,
                    Err(RecvError::Lagged(_)) => return close(&mut socket, close_code::POLICY, "too slow to follow the chain").await,
                    Err(RecvError::Closed) => return,
                };
                for notification in subscriptions.notifications(shared.chain(), &event) {
                    if !send(&mut socket, shared, notification.to_string().into_bytes()).await {
                        return;
                    }
                }
            }
        }
    }
}

/// Sends one message; false if the connection is gone or does not take it in time.
async fn send(socket: &mut WebSocket, shared: &Shared, message: Vec<u8>) -> bool {
    let Ok(text) = String::from_utf8(message) else { return false };
    let limit = Duration::from_millis(shared.chain().limits().request_timeout_ms);
    tokio::select! {
        () = shared.stop.cancelled() => false,
        sent = tokio::time::timeout(limit, socket.send(Message::Text(text.into()))) => matches!(sent, Ok(Ok(()))),
    }
}

async fn close(socket: &mut WebSocket, code: u16, reason: &'static str) {
    let frame = CloseFrame {
        code,
        reason: reason.into(),
    };
    // The connection ends anyway; a peer that does not read must not keep it open.
    let _ = tokio::time::timeout(Duration::from_millis(200), socket.send(Message::Close(Some(frame)))).await;
}

impl Subscriptions {
    async fn next_event(&mut self) -> Result<ChainEvent, RecvError> {
        match &mut self.events {
            Some(events) => events.recv().await,
            None => std::future::pending().await,
        }
    }

    /// Answers the two methods that need a connection.
    fn answer(&mut self, chain: &Chain, call: &Call) -> Option<Result<Value>> {
        match call.method.as_str() {
            "eth_subscribe" => Some(self.subscribe(chain, &call.params)),
            "eth_unsubscribe" => Some(self.unsubscribe(&call.params)),
            _ => None,
        }
    }

    fn subscribe(&mut self, chain: &Chain, params: &Value) -> Result<Value> {
        let limit = chain.limits().subscriptions_per_connection;
        if self.active.len() >= limit {
            return Err(NodeError::LimitExceeded(format!(
                "too many subscriptions: at most {limit} per connection"
            )));
        }
        let topic = parse_topic(chain, params)?;
        let after = {
            // Under the chain's lock no event can fall between the two.
            let core = chain.core()?;
            if self.events.is_none() {
                self.events = Some(chain.subscribe());
            }
            core.events_sent
        };
        self.created = self.created.saturating_add(1);
        self.active.insert(self.created, Subscription { topic, after });
        Ok(convert::quantity(self.created))
    }

    fn unsubscribe(&mut self, params: &Value) -> Result<Value> {
        let id = params
            .get(0)
            .and_then(Value::as_str)
            .ok_or_else(|| NodeError::InvalidParams("missing value for required argument 0 (subscription id)".to_owned()))?;
        let id = id.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let removed = id.is_some_and(|id| self.active.remove(&id).is_some());
        if self.active.is_empty() {
            self.events = None;
        }
        Ok(json!(removed))
    }

    fn notifications(&self, chain: &Chain, event: &ChainEvent) -> Vec<Value> {
        let mut out = Vec::new();
        for (id, subscription) in self.active.iter().filter(|(_, subscription)| event.sequence > subscription.after) {
            for result in results(chain, &subscription.topic, &event.kind) {
                let params = json!({ "subscription": convert::quantity(*id), "result": result });
                out.push(json!({ "jsonrpc": "2.0", "method": "eth_subscription", "params": params }));
            }
        }
        out
    }
}

fn parse_topic(chain: &Chain, params: &Value) -> Result<Topic> {
    let wrong = |reason: String| NodeError::InvalidParams(format!("argument 1 (subscription options): {reason}"));
    let kind = params
        .get(0)
        .and_then(Value::as_str)
        .ok_or_else(|| NodeError::InvalidParams("missing value for required argument 0 (subscription kind)".to_owned()))?;
    let options = params.get(1).filter(|options| !options.is_null()).cloned();
    match (kind, options) {
        ("newHeads", _) => Ok(Topic::NewHeads),
        ("syncing", _) => Ok(Topic::Syncing),
        ("logs", options) => {
            let filter: Filter = match options {
                Some(options) => serde_json::from_value(options).map_err(|error| wrong(error.to_string()))?,
                None => Filter::default(),
            };
            check_filter(&filter, chain.limits())?;
            Ok(Topic::Logs(Box::new(filter)))
        }
        ("newPendingTransactions", None | Some(Value::Bool(false))) => Ok(Topic::PendingHashes),
        ("newPendingTransactions", Some(Value::Bool(true))) => Ok(Topic::PendingTransactions),
        ("newPendingTransactions", Some(_)) => Err(wrong("must be a boolean".to_owned())),
        _ => Err(NodeError::InvalidParams(format!(
            "argument 0: no \"{}\" subscription",
            kind.chars().take(100).collect::<String>()
        ))),
    }
}

/// What a subscription to `topic` sends for an event.
fn results(chain: &Chain, topic: &Topic, event: &ChainEventKind) -> Vec<Value> {
    match (topic, event) {
        (Topic::NewHeads, ChainEventKind::NewBlock(block)) => json(convert::header(block)).into_iter().collect(),
        (Topic::Logs(filter), ChainEventKind::NewBlock(block)) => matching_logs(block, filter, false),
        (Topic::Logs(filter), ChainEventKind::Reverted(blocks)) => blocks
            .iter()
            .rev()
            .flat_map(|block: &Arc<Block>| matching_logs(block, filter, true))
            .collect(),
        (Topic::PendingHashes, ChainEventKind::PendingTransaction(hash)) => json(hash).into_iter().collect(),
        (Topic::PendingTransactions, ChainEventKind::PendingTransaction(hash)) => convert::transaction_of(chain, hash)
            .ok()
            .flatten()
            .and_then(|found| json(found).ok())
            .into_iter()
            .collect(),
        _ => Vec::new(),
    }
}

fn matching_logs(block: &Block, filter: &Filter, removed: bool) -> Vec<Value> {
    if !filter.matches_bloom(block.header.logs_bloom) {
        return Vec::new();
    }
    block_logs(block, removed)
        .filter(|log| filter.matches(&log.inner))
        .filter_map(|log| json(log).ok())
        .collect()
}

//! Requests to peers and from peers.
//!
//! A request carries a number that its answer repeats. `1` before an answer's content says that there is one, `0` that the peer declines.

use std::sync::{Arc, atomic::Ordering};

use alloy::primitives::Bytes;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use super::{
    MAX_REQUEST_BYTES, PeerError,
    connection::Peer,
    delivery::Delivered,
    frame::{ANSWER_PREFIX_BYTES, Lane, REQUEST_PREFIX_BYTES},
    max_message_bytes,
    metrics::Count,
    node::{Node, lock},
    outbox::{Outgoing, Pushed},
    reader::SMALL_BYTES,
};
use crate::network::{Channel, NetworkError, PeerId, Received};

/// Takes a request off the list however its caller ends.
struct Waiting<'a> {
    peer: &'a Peer,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.peer.asked).remove(&self.number);
    }
}

/// Asks a peer and waits for the answer.
pub(super) async fn ask(node: &Node, id: PeerId, request: Bytes) -> Result<Bytes, NetworkError> {
    let result = asked(node, id, request).await;
    let label = match &result {
        Ok(_) => "answered",
        Err(NetworkError::NotConnected(_)) => "not_connected",
        Err(NetworkError::NotSent(_)) => "not_sent",
        Err(_) => "no_answer",
    };
    node.metrics.count(Count::Requests, label);
    result
}

async fn asked(node: &Node, id: PeerId, request: Bytes) -> Result<Bytes, NetworkError> {
    if request.len() > MAX_REQUEST_BYTES {
        return Err(NetworkError::NotSent(format!("a request of {} bytes is too long", request.len())));
    }
    let peer = node.peer(&id).ok_or(NetworkError::NotConnected(id))?;
    let number = node.request_number();
    let (answer, answered) = oneshot::channel();
    {
        let mut asked = lock(&peer.asked);
        if asked.len() >= node.config.limits.requests_per_peer {
            return Err(NetworkError::NotSent(format!("{id} has {} requests to answer", asked.len())));
        }
        asked.insert(number, answer);
    }
    let _waiting = Waiting { peer: &peer, number };
    let message = Outgoing {
        prefix: number.to_be_bytes().to_vec().into(),
        body: request.0,
        gossip: false,
        share: None,
    };
    if peer.outbox.push(Lane::Requests, message) != Pushed::Queued {
        return Err(NetworkError::NotSent(format!("{id} does not take requests")));
    }
    let answer = tokio::select! {
        answer = timeout(node.config.limits.request_timeout, answered) => answer,
        () = peer.stop.cancelled() => return Err(NetworkError::NotConnected(id)),
    };
    match answer {
        Ok(Ok(Some(answer))) => Ok(answer),
        Ok(Ok(None)) | Err(_) => Err(NetworkError::NoAnswer(id)),
        Ok(Err(_)) => Err(NetworkError::NotConnected(id)),
    }
}

/// Hands an answer to whoever waits for it.
pub(super) fn answered(peer: &Peer, message: &Bytes) -> Result<(), PeerError> {
    let wrong = || PeerError::Protocol("an answer that cannot be read".to_owned());
    let (number, rest) = message.split_first_chunk::<REQUEST_PREFIX_BYTES>().ok_or_else(wrong)?;
    let content = match rest.first() {
        Some(1) => Some(message.slice(ANSWER_PREFIX_BYTES..)),
        Some(0) if rest.len() == 1 => None,
        _ => return Err(wrong()),
    };
    if let Some(waiting) = lock(&peer.asked).remove(&u64::from_be_bytes(*number)) {
        // The caller may have given up this very moment.
        let _ = waiting.send(content);
    }
    Ok(())
}

/// Passes a peer's request on to whoever uses the network, and sees to the answer.
pub(super) async fn serve(node: &Arc<Node>, peer: &Arc<Peer>, message: &Bytes) -> Result<(), PeerError> {
    let number = message
        .first_chunk::<REQUEST_PREFIX_BYTES>()
        .map(|number| u64::from_be_bytes(*number))
        .ok_or_else(|| PeerError::Protocol("a request without a number".to_owned()))?;
    if peer.serving.fetch_add(1, Ordering::Relaxed) >= node.config.limits.requests_per_peer {
        peer.serving.fetch_sub(1, Ordering::Relaxed);
        return answer(node, peer, number, None);
    }
    let (reply, replied) = oneshot::channel();
    let received = Received::Request {
        peer: peer.id,
        request: message.slice(REQUEST_PREFIX_BYTES..),
        answer: reply,
    };
    if node.delivery.deliver(received, None).await == Delivered::Closed {
        return Err(PeerError::ShutDown);
    }
    let (node, peer) = (Arc::clone(node), Arc::clone(peer));
    let tasks = node.tasks.clone();
    tasks.spawn(async move {
        let content = tokio::select! {
            content = replied => content.ok(),
            () = sleep(node.config.limits.request_timeout) => None,
            () = peer.stop.cancelled() => None,
        };
        peer.serving.fetch_sub(1, Ordering::Relaxed);
        let content = content.filter(|content| {
            let fits = content.len() <= max_message_bytes(Channel::Sync);
            if !fits {
                tracing::error!(bytes = content.len(), "an answer is too long to be sent");
            }
            fits
        });
        if answer(&node, &peer, number, content).is_err() {
            peer.stop.cancel();
        }
    });
    Ok(())
}

/// Sends an answer; without content, or without room for it, that there is none.
fn answer(node: &Node, peer: &Peer, number: u64, content: Option<Bytes>) -> Result<(), PeerError> {
    // Strangers may ask much and take it slowly: what waits for all of them together has a limit.
    let counted = |content: &Bytes| content.len() > SMALL_BYTES && !node.is_favoured(&peer.id);
    let share = match content.as_ref().filter(|content| counted(content)) {
        None => Ok(None),
        Some(content) => {
            let kib = u32::try_from(content.len().div_ceil(1 << 10)).unwrap_or(u32::MAX);
            Arc::clone(&node.answers).try_acquire_many_owned(kib).map(Some)
        }
    };
    let push = |content: Option<Bytes>, share| {
        let mut prefix = number.to_be_bytes().to_vec();
        prefix.push(u8::from(content.is_some()));
        let message = Outgoing {
            prefix: prefix.into(),
            body: content.unwrap_or_default().0,
            gossip: false,
            share,
        };
        peer.outbox.push(Lane::Answers, message) == Pushed::Queued
    };
    let pushed = share.is_ok_and(|share| push(content, share));
    if pushed || push(None, None) {
        Ok(())
    } else {
        Err(PeerError::Protocol("it asks without taking answers".to_owned()))
    }
}

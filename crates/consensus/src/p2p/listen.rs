//! Connections that others make.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

use super::{
    dial::{Place, welcome},
    metrics::Count,
    node::Node,
};

/// How long to wait after the system refused to take a connection, which it does when it is out of something.
const BREATH: Duration = Duration::from_millis(100);

/// Takes connections until the network is shut down.
pub(super) async fn listen(node: Arc<Node>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            () = node.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let taker = Arc::clone(&node);
                node.tasks.spawn(async move {
                    tokio::select! {
                        () = taker.stop.cancelled() => {}
                        () = take(&taker, stream, address) => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                sleep(BREATH).await;
            }
        }
    }
}

async fn take(node: &Arc<Node>, stream: TcpStream, address: SocketAddr) {
    let taken = match Place::take(node, address.ip()) {
        Ok(place) => {
            let result = Box::pin(welcome(node, stream, address)).await;
            drop(place);
            result
        }
        Err(error) => Err(error),
    };
    if let Err(error) = taken {
        node.metrics.count(Count::Connections, "not_taken");
        tracing::debug!(%address, %error, "a connection was not taken");
    }
}

//! A line between two nodes that can be cut, or stop carrying anything.

use std::{net::SocketAddr, sync::Arc};

use cipherloom_consensus::{PeerId, p2p::PeerAddress};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Carries everything.
    Whole,
    /// Connections are closed, and new ones too.
    Cut,
    /// Connections stay, and carry nothing.
    Dead,
}

pub(crate) struct Proxy {
    address: SocketAddr,
    line: Arc<watch::Sender<Line>>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let line = Arc::new(watch::Sender::new(Line::Whole));
        let state = Arc::clone(&line);
        let task = tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                if *state.borrow() == Line::Cut {
                    continue;
                }
                let Ok(far) = TcpStream::connect(target).await else {
                    continue;
                };
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = far.into_split();
                tokio::spawn(carry(near_in, far_out, state.subscribe()));
                tokio::spawn(carry(far_in, near_out, state.subscribe()));
            }
        });
        Self { address, line, task }
    }

    pub(crate) fn address(&self, id: PeerId) -> PeerAddress {
        PeerAddress {
            id: Some(id),
            host: self.address.to_string(),
        }
    }

    pub(crate) fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut line: watch::Receiver<Line>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let state = *line.borrow_and_update();
        let read = match state {
            Line::Cut => return,
            Line::Dead => None,
            Line::Whole => tokio::select! {
                read = from.read(&mut buffer) => Some(read),
                changed = line.changed() => if changed.is_ok() { None } else { return },
            },
        };
        let went_on = match read {
            Some(Ok(0) | Err(_)) => false,
            Some(Ok(length)) => to.write_all(&buffer[..length]).await.is_ok(),
            None => state != Line::Dead || line.changed().await.is_ok(),
        };
        if !went_on {
            return;
        }
    }
}

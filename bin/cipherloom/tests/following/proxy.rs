//! A way to a node that breaks now and then.

use std::net::SocketAddr;

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// Passes connections on to a port of this machine. It ends with this.
pub(crate) struct Proxy {
    address: SocketAddr,
    cuts: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = watch::Sender::new(0);
        let accept = accept(listener, port, cuts.clone());
        Self {
            address,
            cuts,
            task: tokio::spawn(accept),
        }
    }

    /// Ends all connections there are.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|count| *count += 1);
    }

    pub(crate) fn http(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn ws(&self) -> String {
        format!("ws://{}", self.address)
    }
}

async fn accept(listener: TcpListener, port: u16, cuts: watch::Sender<u64>) {
    // Connections end with this task.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut cut = cuts.subscribe();
        connections.spawn(async move {
            let Ok(mut node) = TcpStream::connect(("127.0.0.1", port)).await else {
                return;
            };
            tokio::select! {
                _ = cut.changed() => {}
                _ = tokio::io::copy_bidirectional(&mut client, &mut node) => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

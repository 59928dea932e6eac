//! Serves a development chain until Ctrl-C: `cargo run --release -p cipherloom-node --example serve -- [ADDRESS] [DATA_DIR]`.

use std::io::{Write, stdout};

use cipherloom_node::{DevChain, DevChainConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut config = DevChainConfig::default();
    if let Some(address) = arguments.next() {
        config.listen = address.parse()?;
    }
    config.data_dir = arguments.next().map(Into::into);
    let node = DevChain::start(config).await?;
    let mut out = stdout();
    writeln!(out, "HTTP {}  WebSocket {}", node.rpc_url(), node.ws_url())?;
    for account in node.accounts() {
        writeln!(out, "{}  {}", account.address(), account.insecure_private_key_hex())?;
    }
    tokio::signal::ctrl_c().await?;
    node.shutdown().await;
    Ok(())
}

//! `cipherloom dev`: the stack until Ctrl-C, and what a dApp developer needs to use it.

use anyhow::{Result, ensure};
use cipherloom_contracts::Face;
use serde_json::{Value, json};

use crate::{
    cli::DevOptions,
    data_dir::DataDir,
    legacy::LegacyStack,
    native::NativeStack,
    stack::{self, Listen, Stack, network::Network},
};

/// Runs the stack until it is told to stop.
///
/// # Errors
/// If it cannot start.
pub(crate) async fn run(options: DevOptions) -> Result<()> {
    if options.stack.native.native {
        return Box::pin(run_native(&options)).await;
    }
    let network = Network::find(&options.stack.chain).await?;
    let attached = network.is_external();
    let data = DataDir::new(&options.stack, &network)?;
    let keys = stack::open_keys(&data, &options.stack).await?;
    let listen = Listen::local(options.rpc_port, options.gateway_port);
    let stack = Box::pin(Stack::start(keys, network, &data, &options.stack, listen)).await?;
    let legacy = if options.legacy.enabled {
        Some(Box::pin(LegacyStack::start(&stack, &data, &options.legacy)).await?)
    } else {
        None
    };
    let face = stack.face().await?;
    let mut summary = summary(&stack, &data, options.stack.backend_name(), attached, face);
    if let Some(fields) = summary.as_object_mut() {
        fields.insert("insecureKeys".to_owned(), (!options.stack.parameters().is_secure()).into());
    }
    if let (Some(legacy), Some(fields)) = (&legacy, summary.as_object_mut()) {
        fields.insert("legacy".to_owned(), legacy.summary());
    }
    if options.json {
        println!("{summary}");
    } else {
        print!("{}", describe(&summary));
    }
    shutdown_signal().await;
    if !options.json {
        println!("\nstopping; unfinished computations go on at the next start");
    }
    if let Some(legacy) = legacy {
        legacy.shutdown().await;
    }
    stack.shutdown().await;
    Ok(())
}

/// Runs a native chain with its KMS and its gateway until it is told to stop.
async fn run_native(options: &DevOptions) -> Result<()> {
    ensure!(
        !options.legacy.enabled,
        "clients of the 0.6 generation are served with a coprocessor: leave out --native or --legacy-0.6"
    );
    let data = DataDir::new(&options.stack, &Network::Embedded)?;
    let keys = stack::open_keys(&data, &options.stack).await?;
    let listen = Listen::local(options.rpc_port, options.gateway_port);
    let stack = Box::pin(NativeStack::start(keys, &data.state, &options.stack, listen)).await?;
    let insecure_keys = !options.stack.parameters().is_secure();
    let summary = stack.summary(options.stack.backend_name(), insecure_keys, &data.state);
    if options.json {
        println!("{summary}");
    } else {
        print!("{}", describe(&summary));
    }
    shutdown_signal().await;
    if !options.json {
        println!("\nstopping; the chain goes on at the next start");
    }
    Box::pin(stack.shutdown()).await;
    Ok(())
}

/// Waits for Ctrl-C, or for the signal that service managers send.
pub(crate) async fn shutdown_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    // If not even Ctrl-C can be listened to, running until killed is what is left.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Addresses are written with their checksum, since SDKs refuse them without.
fn summary(stack: &Stack, data: &DataDir, backend: &str, attached: bool, face: Option<Face>) -> Value {
    let (addresses, domains) = (stack.addresses(), stack.domains());
    let accounts: Vec<Value> = stack
        .accounts()
        .iter()
        .map(|account| json!({ "address": account.address().to_checksum(None), "privateKey": account.insecure_private_key_hex() }))
        .collect();
    let nodes: Vec<Value> = stack
        .committee()
        .iter()
        .map(|node| {
            json!({
                "party": node.party,
                "signer": node.signer.to_checksum(None),
                "attestedAddress": node.attested.to_string(),
                "publicUrl": format!("http://{}", node.public),
            })
        })
        .collect();
    json!({
        "kmsNodes": nodes,
        "backend": backend,
        "attached": attached,
        "face": face.map(Face::as_str),
        "chainId": stack.chain_id(),
        "rpcUrl": stack.rpc_url(),
        "wsUrl": stack.ws_url(),
        "gatewayUrl": stack.gateway_url(),
        "gatewayChainId": domains.gateway_chain_id,
        "contracts": {
            "ACL": addresses.acl.to_checksum(None),
            "FHEVMExecutor": addresses.executor.to_checksum(None),
            "KMSVerifier": addresses.kms_verifier.to_checksum(None),
            "InputVerifier": addresses.input_verifier.to_checksum(None),
            "HCULimit": addresses.hcu_limit.to_checksum(None),
            "ProtocolConfig": addresses.protocol_config.to_checksum(None),
            "GatewayContract": addresses.gateway_contract.to_checksum(None),
        },
        "verifyingContracts": {
            "Decryption": domains.decryption.to_checksum(None),
            "InputVerification": domains.input_verification.to_checksum(None),
        },
        "accounts": accounts,
        "dataDir": data.state,
    })
}

/// Writes the summary for people.
fn describe(summary: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let accounts = summary["accounts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut page = String::from("\nCipherloom is running");
    if summary["attached"] == true {
        page += &format!(", attached to chain {}", summary["chainId"]);
    }
    let nodes = summary["kmsNodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    page += match nodes {
        [] => ". DEVELOPMENT ONLY: one process holds the whole secret key",
        _ => ". DEVELOPMENT ONLY: one process holds all shares of the secret key, attestation is simulated",
    };
    page += if accounts.is_empty() {
        ".\n"
    } else {
        ", and the accounts below are public.\n"
    };
    if summary["backend"] == "clear" {
        page += "INSECURE: the clear backend computes on plaintext. Nothing is encrypted.\n";
    }
    if summary["backend"] != "clear" && summary["insecureKeys"] == true {
        page += "INSECURE: anyone breaks the parameters of these keys, which are for tests.\n";
    }
    let mut line = |label: &str, value: &Value| page += &format!("  {label:<28} {}\n", text(value));
    line("RPC (HTTP)", &summary["rpcUrl"]);
    if summary["wsUrl"].is_string() {
        line("RPC (WebSocket)", &summary["wsUrl"]);
    }
    line("chain id", &summary["chainId"]);
    line("protocol version", &summary["face"]);
    line("gateway (relayerUrl)", &json!(format!("{}/v2", text(&summary["gatewayUrl"]))));
    line("gateway chain id", &summary["gatewayChainId"]);
    for group in ["contracts", "verifyingContracts"] {
        for (name, address) in summary[group].as_object().into_iter().flatten() {
            line(
                &if group == "contracts" {
                    name.clone()
                } else {
                    format!("{name} (EIP-712)")
                },
                address,
            );
        }
    }
    let legacy = &summary["legacy"];
    for (name, value) in legacy.as_object().into_iter().flatten() {
        match value.as_object() {
            Some(contracts) => contracts.iter().for_each(|(name, address)| line(&format!("0.6: {name}"), address)),
            None => line(&format!("0.6: {name}"), value),
        }
    }
    for node in nodes {
        let place = format!("{}, {}", text(&node["signer"]), text(&node["publicUrl"]));
        line(&format!("KMS node {}", text(&node["party"])), &json!(place));
    }
    for node in summary["nodes"].as_array().into_iter().flatten() {
        let kind = if node["validator"] == true { "validator" } else { "full node" };
        let place = format!("{}, {}", text(&node["address"]), text(&node["rpcUrl"]));
        line(&format!("{kind} {}", text(&node["number"])), &json!(place));
    }
    line("data directory", &summary["dataDir"]);
    if !accounts.is_empty() {
        page += "\n  accounts with ether: address, private key\n";
    }
    for account in accounts {
        page += &format!("    {} {}\n", text(&account["address"]), text(&account["privateKey"]));
    }
    page += "\nCtrl-C stops it; everything is kept.\n";
    page
}

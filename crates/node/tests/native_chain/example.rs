//! The example in Python, run against a node: what it reads is what the node keeps.

use std::process::{Command, Output};

use alloy::primitives::{B256, keccak256};
use cipherloom_node::native::public_key_slots;
use cipherloom_primitives::ciphertext_state::FHELIB;
use cipherloom_primitives::{FheType, Operation};

use crate::program::{Program, byte};
use crate::world::{STORE, World};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/native-ciphertext/native_ciphertext.py");

/// Runs the example without blocking the server it asks.
async fn run(arguments: Vec<String>) -> Output {
    let mut python = Command::new("python3");
    python.arg(SCRIPT).args(arguments);
    tokio::task::spawn_blocking(move || python.output().unwrap()).await.unwrap()
}

fn arguments<const N: usize>(arguments: [&str; N]) -> Vec<String> {
    arguments.map(str::to_owned).to_vec()
}

#[tokio::test]
async fn it_reads_ciphertexts_by_handle_and_by_slot_and_the_public_key() {
    let public_key = vec![0x5a; 777];
    let mut world = World::new();
    let library = world.genesis.alloc.get_mut(&FHELIB).unwrap();
    let slots = public_key_slots(&public_key).unwrap().into_iter();
    library.storage = slots.map(|(slot, word)| (B256::from(slot), B256::from(word))).collect();
    world.genesis.public_key_digest = Some(keccak256(&public_key));
    world.genesis = world.genesis.seal().unwrap();
    let node = world.node();
    let mut program = Program::new();
    let value = program.value(9, FheType::Uint64);
    let sum = program.operation(Operation::Add, &[value, 4.into(), byte(1)]);
    program.store(7, sum);
    world.run(&node, 0, &program);
    world.decide(&[&node]).await;
    let handle = node.stored(7);
    let ciphertext = node.ciphertext(handle).unwrap();
    let server = node.chain.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = server.rpc_url();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("out");
    let out = file.to_str().unwrap();

    let (handle_text, contract) = (handle.as_b256().to_string(), STORE.to_string());
    for chosen in [vec![handle_text.clone()], arguments(["--contract", &contract, "--slot", "7"])] {
        let given = [arguments(["--rpc", &url, "--check-state", "--out", out]), chosen].concat();
        let output = run(given).await;
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(
            said.starts_with(&format!("ciphertext of {handle_text}, type 5: {} bytes", ciphertext.len())),
            "{said}"
        );
        assert_eq!(std::fs::read(&file).unwrap(), ciphertext);
        std::fs::remove_file(&file).unwrap();
    }
    let output = run(arguments(["--rpc", &url, "--public-key", "--out", out])).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read(&file).unwrap(), public_key);

    // The first operand was passed on and never stored.
    let intermediate = node.executor.asked.lock().unwrap()[0].computations[0].result;
    assert_ne!(intermediate, handle);
    for (chosen, reason) in [
        (vec![intermediate.as_b256().to_string()], "the node answers"),
        (arguments(["--contract", &contract, "--slot", "8"]), "holds nothing"),
        (arguments(["0x1234"]), "32 bytes"),
    ] {
        let output = run([arguments(["--rpc", &url]), chosen].concat()).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(reason), "{said}");
    }
    server.shutdown().await;
}

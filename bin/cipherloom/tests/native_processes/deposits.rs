//! What published SDKs send: an input whose list the gateway brings to the chain, so that the transaction needs nothing but handles.

use alloy::{
    primitives::{Bytes, hex},
    signers::local::PrivateKeySigner,
};
use cipherloom_primitives::native::NativeInputProof;
use serde_json::{Value, json};

use crate::{
    bank::Bank,
    network::{CHAIN_ID, Network, eventually, run},
    parts::{Gateway, gateway_config, start_kms},
    process,
};

/// What the gateway is told besides the usual: it brings one input to the chain within an hour.
fn lines(network: &Network) -> String {
    format!(
        "native-deposits-key-file = \"{}\"\nnative-deposits-per-hour = 1\n",
        network.path("depositor.key")
    )
}

/// A client of the gateway's routes, as SDKs use them.
struct Sdk(String);

impl Sdk {
    /// Posts an input and returns its job.
    async fn post(&self, bank: &Bank, user: u32, list: &[u8]) -> String {
        let body = json!({
            "contractAddress": bank.token().to_checksum(None),
            "userAddress": bank.address(user).to_checksum(None),
            "contractChainId": format!("{:#x}", CHAIN_ID),
            "ciphertextWithInputVerification": hex::encode(list),
            "extraData": "0x00",
        });
        let posted = reqwest::Client::new().post(format!("{}/v2/input-proof", self.0)).json(&body).send();
        let answer: Value = posted.await.unwrap().json().await.unwrap();
        answer["result"]["jobId"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// Asks for a job until it has ended.
    async fn ended(&self, job: &str) -> Value {
        let mut last = Value::Null;
        eventually("the input's job has ended", async || {
            let asked = reqwest::get(format!("{}/v2/input-proof/{job}", self.0)).await;
            let Ok(answer) = asked else { return false };
            last = answer.json().await.unwrap();
            last["status"] != "queued"
        })
        .await;
        last
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_the_gateway_brings_needs_no_list_and_is_paid_once_although_the_gateway_is_killed() {
    let mut network = Network::found(4, 0).await;
    network.start_all();
    let bank = Bank::open(&network.rpc_url(0)).await;
    bank.mint(1, 1000).await;
    let depositor = PrivateKeySigner::random();
    std::fs::write(network.path("depositor.key"), hex::encode(depositor.to_bytes())).unwrap();
    let _kms = start_kms(&network);

    // An account without ether is found out before anything is served.
    let config = gateway_config(&network, &lines(&network));
    let check = process::run(&["gateway", &format!("--config={config}"), "--check"]);
    let found = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(!check.status.success() && found.contains("no ether"), "{found}");
    bank.give_ether(depositor.address()).await;
    run(&["gateway", &format!("--config={config}"), "--check"]);

    let gateway = Gateway::start(&network, &lines(&network));
    let sdk = Sdk(format!("http://127.0.0.1:{}", network.gateway_port));
    let client = bank.client(&sdk.0).await;
    let input = client.encrypt(bank.token(), bank.address(1)).add64(250).encrypt().await.unwrap();
    let list = NativeInputProof::parse(&input.input_proof).unwrap().list.to_vec();
    let handle = input.handles[0];
    // What SDKs make of the answer: handles, no signatures, and their own extra data.
    let proof: Bytes = [&[1, 0], handle.as_slice(), &[0]].concat().into();
    assert!(
        bank.try_transfer(1, 2, handle, proof.clone()).await.is_err(),
        "nothing was deposited"
    );

    let job = sdk.post(&bank, 1, &list).await;
    // Whatever it had done by now: the job is taken up where it was.
    gateway.kill();
    let gateway = Gateway::start(&network, &lines(&network));
    let ended = sdk.ended(&job).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    assert_eq!(ended["result"]["accepted"], true, "{ended}");
    assert_eq!(ended["result"]["handles"], json!([handle.to_string()]), "{ended}");
    assert_eq!(ended["result"]["signatures"], json!([]), "{ended}");
    assert_eq!(ended["result"]["extraData"], "0x00", "{ended}");
    assert_eq!(bank.nonce(depositor.address()).await, 1);

    // It is bound to its user, whoever sends the same bytes.
    assert!(bank.try_transfer(2, 3, handle, proof.clone()).await.is_err());
    let block = bank.try_transfer(1, 2, handle, proof).await.unwrap();
    network.all_reach(&[0, 1, 2, 3], block).await;
    assert_eq!(bank.balance(&client, 2, 2).await.unwrap(), 250);
    assert_eq!(bank.balance(&client, 1, 1).await.unwrap(), 750);

    // A list that is another user's, or was changed, costs nobody anything.
    for (user, list) in [(2, list.clone()), (1, altered(&list))] {
        let ended = sdk.ended(&sdk.post(&bank, user, &list).await).await;
        assert_eq!(ended["result"]["accepted"], false, "{ended}");
    }
    assert_eq!(bank.nonce(depositor.address()).await, 1);

    // Above the limit the gateway brings nothing. It counts anew when it is started.
    assert!(gateway.stop());
    let _gateway = Gateway::start(&network, &lines(&network));
    for (amount, expected) in [(1, "succeeded"), (2, "failed")] {
        let input = client.encrypt(bank.token(), bank.address(1)).add64(amount).encrypt().await.unwrap();
        let list = NativeInputProof::parse(&input.input_proof).unwrap().list.to_vec();
        let ended = sdk.ended(&sdk.post(&bank, 1, &list).await).await;
        assert_eq!(ended["status"], expected, "{ended}");
        if expected == "failed" {
            let message = ended["error"]["message"].as_str().unwrap();
            assert!(message.contains("within an hour"), "{ended}");
        }
    }
    assert_eq!(bank.nonce(depositor.address()).await, 2);
}

/// The same list with another bit in its proof.
fn altered(list: &[u8]) -> Vec<u8> {
    let mut altered = list.to_vec();
    let at = altered.len() - 100;
    altered[at] ^= 1;
    altered
}

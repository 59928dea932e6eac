//! Noise-squashed values from processes: kept when a server is killed, and the same from the coprocessors of two operators.

use std::{fs, path::Path, sync::Arc};

use alloy::primitives::keccak256;
use cipherloom_fhe::{ParameterSet, insecure_test_keys_with_squashing};
use cipherloom_load::{Deployment, Process, Role, TenantAccess, TenantClient};
use cipherloom_primitives::{
    B256, FheType, Handle, U256,
    eip712::{recover_signer, squashed_ciphertext_attestation_digest},
};
use cipherloom_private_postgres::shared;
use cipherloom_rpc::{
    cipherloom::coprocessor::v1::{
        GetSquashedCiphertextRequest, GetSquashedCiphertextResponse, SignedSquashedCiphertext, coprocessor_client::CoprocessorClient,
        get_squashed_ciphertext_response::Outcome,
    },
    fhevm::{
        common::FheOperation,
        coprocessor::{AsyncComputation, AsyncComputationInput, AsyncComputeRequest, async_computation_input::Input},
    },
};
use tonic::{Code, Request, Status, transport::Endpoint};

use crate::{
    ground::{Rows, deployment},
    scale::PATIENCE,
};

const CHAIN: u64 = 12_345;
const MARK: &str = "SELECT encode(digest, 'hex') || ' ' || squashed_at_ms FROM squashed_ciphertexts";

/// An operator's coprocessor with a database of its own.
struct Operator {
    rows: Rows<'static>,
    deployment: Deployment,
    tenant: Arc<TenantAccess>,
    _directory: tempfile::TempDir,
}

impl Operator {
    /// Sets one up; its key set can squash if it is this one.
    fn new(keys: &Path, signing_key: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (rows, url) = Rows::new(shared());
        let deployment = deployment(&url, directory.path());
        if let Some(key) = signing_key {
            fs::write(directory.path().join("coprocessor.key"), key).unwrap();
        }
        deployment.run(&["db", "migrate"]).unwrap();
        let tenant = deployment.add_tenant("committee", CHAIN, Some(keys)).unwrap();
        Self {
            rows,
            deployment,
            tenant,
            _directory: directory,
        }
    }

    /// Computes 4700 + 11 under a handle.
    async fn compute(&self, server: &Process, result: Handle) {
        let number = |value: u64, ty: FheType| AsyncComputation {
            operation: FheOperation::FheTrivialEncrypt.into(),
            output_handle: keccak256(value.to_be_bytes()).to_vec().into(),
            inputs: vec![scalar(value.to_be_bytes().to_vec()), scalar(vec![ty.id()])],
        };
        let (left, right) = (number(4700, FheType::Uint16), number(11, FheType::Uint16));
        let operand = |computation: &AsyncComputation| AsyncComputationInput {
            input: Some(Input::InputHandle(computation.output_handle.clone())),
        };
        let sum = AsyncComputation {
            operation: FheOperation::FheAdd.into(),
            output_handle: result.as_slice().to_vec().into(),
            inputs: vec![operand(&left), operand(&right)],
        };
        let client = TenantClient::new(&server.url().unwrap(), Arc::clone(&self.tenant), PATIENCE).unwrap();
        let computations = vec![left, right, sum];
        client.compute(&AsyncComputeRequest { computations }).await.unwrap();
    }

    async fn ask(&self, server: &Process, handle: Handle) -> Result<GetSquashedCiphertextResponse, Status> {
        let channel = Endpoint::from_shared(server.url().unwrap()).unwrap().connect().await.unwrap();
        let mut request = Request::new(GetSquashedCiphertextRequest {
            handle: handle.as_slice().to_vec().into(),
            at_most_ms: 30_000,
        });
        let key = format!("Bearer {}", self.tenant.api_key).parse().unwrap();
        request.metadata_mut().insert("authorization", key);
        CoprocessorClient::new(channel)
            .get_squashed_ciphertext(request)
            .await
            .map(tonic::Response::into_inner)
    }

    async fn squashed(&self, server: &Process, handle: Handle) -> SignedSquashedCiphertext {
        match self.ask(server, handle).await.unwrap().outcome.unwrap() {
            Outcome::Signed(signed) => signed,
            Outcome::Missing(state) => panic!("{state:?}"),
        }
    }
}

fn scalar(bytes: Vec<u8>) -> AsyncComputationInput {
    AsyncComputationInput {
        input: Some(Input::Scalar(bytes.into())),
    }
}

fn signer(signed: &SignedSquashedCiphertext, handle: Handle) -> alloy::primitives::Address {
    let key_set = B256::from_slice(&signed.key_set_id);
    let attested = squashed_ciphertext_attestation_digest(handle, key_set, keccak256(&signed.content));
    recover_signer(attested, &signed.attestations[0]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_keeps_what_it_squashed_and_two_operators_sign_the_same_bytes() {
    let keys = insecure_test_keys_with_squashing().unwrap();
    let handle = Handle::computed(B256::repeat_byte(3), CHAIN, FheType::Uint16);
    let one = Operator::new(keys.directory(), None);
    let server = one.deployment.start(Role::Both, &[]).unwrap();
    one.compute(&server, handle).await;
    let squashed = one.squashed(&server, handle).await;
    let secrets = keys.squashing_secrets().unwrap();
    let value = secrets.decrypt_list(ParameterSet::InsecureToy, FheType::Uint16, &squashed.content);
    assert_eq!(value.unwrap(), U256::from(4711));
    let mark = one.rows.ask(MARK);
    server.kill().unwrap();

    let server = one.deployment.start(Role::Both, &[]).unwrap();
    assert_eq!(one.squashed(&server, handle).await, squashed);
    assert_eq!(one.rows.ask(MARK), mark, "it was not made again");
    assert!((server.metric("coprocessor_squashed_values_total").unwrap()).abs() < 0.5);
    server.terminate(PATIENCE).unwrap();

    let other = Operator::new(keys.directory(), Some(&format!("0x{}", "22".repeat(32))));
    let server = other.deployment.start(Role::Both, &[]).unwrap();
    other.compute(&server, handle).await;
    let theirs = other.squashed(&server, handle).await;
    assert_eq!(theirs.content, squashed.content);
    assert_ne!(signer(&theirs, handle), signer(&squashed, handle));
    server.terminate(PATIENCE).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_given_keys_of_squashing_later_can_squash_without_a_restart() {
    let keys = insecure_test_keys_with_squashing().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let plain = directory.path().join("plain");
    fs::create_dir(&plain).unwrap();
    // The same key set as it was before.
    let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(keys.directory().join("manifest.json")).unwrap()).unwrap();
    manifest["capabilities"]["noise_squashing"] = false.into();
    manifest["parts"].as_object_mut().unwrap().remove("squashing");
    fs::write(plain.join("manifest.json"), manifest.to_string()).unwrap();
    for file in ["public_key.bin", "crs.bin", "evaluation_key.bin"] {
        fs::copy(keys.directory().join(file), plain.join(file)).unwrap();
    }
    let operator = Operator::new(&plain, None);
    let server = operator.deployment.start(Role::Both, &[]).unwrap();
    let handle = Handle::computed(B256::repeat_byte(4), CHAIN, FheType::Uint16);
    operator.compute(&server, handle).await;
    let refused = operator.ask(&server, handle).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("add-noise-squashing"), "{refused}");
    let directory = keys.directory().to_str().unwrap();
    operator
        .deployment
        .run(&["tenant", "set-keys", "committee", "--keys", directory])
        .unwrap();
    // The server looks at a tenant's keys every ten seconds.
    let squashed = tokio::time::timeout(PATIENCE, async {
        loop {
            match operator.ask(&server, handle).await {
                Ok(answer) => break answer,
                Err(status) => assert_eq!(status.code(), Code::FailedPrecondition, "{status}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    });
    assert!(matches!(squashed.await.unwrap().outcome, Some(Outcome::Signed(_))));
    server.terminate(PATIENCE).unwrap();
}

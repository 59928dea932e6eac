//! What the server accepts: each limit is what its option says, and what is above it is refused in words clients of the generation know.

use cipherloom_load::Role;
use cipherloom_rpc::fhevm::coprocessor::{TrivialEncryptBatch, TrivialEncryptRequestSingle};
use tonic::{Code, Status};

use crate::ground::{Ground, authorized, service, upload, values};

/// Fails unless a request was refused as its sender's fault, in these words.
fn assert_refused<T: std::fmt::Debug>(answer: Result<T, Status>, words: &[&str]) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(words.iter().all(|word| status.message().contains(word)), "{status:?}");
}

#[tokio::test]
async fn more_computations_than_server_maximum_ciphertexts_to_schedule_are_refused() {
    let ground = Ground::embedded();
    let server = ground.start(Role::Both, &["--server-maximum-ciphertexts-to-schedule", "3"]);
    let client = ground.client(&server);
    client.compute_once(values(0, 3).0).await.unwrap();
    let words = ["maximum ciphertexts exceeded in batch", "maximum: 3", "got: 4"];
    assert_refused(client.compute_once(values(10, 4).0).await, &words);
    let public = |count: u32| TrivialEncryptBatch {
        values: (0..count)
            .map(|number| TrivialEncryptRequestSingle {
                handle: format!("public {number}").into_bytes().into(),
                be_value: vec![7].into(),
                output_type: 2,
            })
            .collect(),
    };
    let mut service = service(server.url().unwrap()).await;
    service
        .trivial_encrypt_ciphertexts(authorized(&ground.tenant, public(3)))
        .await
        .unwrap();
    assert_refused(
        service.trivial_encrypt_ciphertexts(authorized(&ground.tenant, public(4))).await,
        &words,
    );
}

#[tokio::test]
async fn more_handles_than_server_maximum_ciphertexts_to_get_are_refused() {
    let ground = Ground::embedded();
    let server = ground.start(Role::Both, &["--server-maximum-ciphertexts-to-get", "2"]);
    let client = ground.client(&server);
    let (_, names) = values(0, 3);
    assert_eq!(client.fetch_once(names[..2].to_vec()).await.unwrap(), [None, None]);
    assert_refused(
        client.fetch_once(names).await,
        &["more than maximum ciphertexts allowed to download", "allowed: 2", "requested: 3"],
    );
}

#[tokio::test]
async fn more_lists_than_maximum_compact_inputs_upload_are_refused_under_either_spelling() {
    let ground = Ground::embedded();
    let lists = |count: usize| (0..count).map(|_| ground.list(1)).collect::<Vec<_>>();
    for option in ["--maximimum-compact-inputs-upload", "--maximum-compact-inputs-upload"] {
        let server = ground.start(Role::Both, &[option, "2"]);
        let url = server.url().unwrap();
        let accepted = upload(url.clone(), &ground.tenant, lists(2)).await.unwrap();
        assert_eq!(accepted.upload_responses.len(), 2);
        assert_refused(
            upload(url, &ground.tenant, lists(3)).await,
            &["More than maximum input blobs uploaded", "allowed: 2", "uploaded: 3"],
        );
    }
}

#[tokio::test]
async fn more_values_than_maximum_handles_per_input_are_refused() {
    let ground = Ground::embedded();
    let server = ground.start(Role::Both, &["--maximum-handles-per-input", "2"]);
    let url = server.url().unwrap();
    let accepted = upload(url.clone(), &ground.tenant, vec![ground.list(2)]).await.unwrap();
    assert_eq!(accepted.upload_responses[0].input_handles.len(), 2);
    assert_refused(
        upload(url, &ground.tenant, vec![ground.list(3)]).await,
        &["Input blob contains too many ciphertexts"],
    );
}

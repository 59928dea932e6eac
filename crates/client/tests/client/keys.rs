//! Downloading keys, keeping them, and whom they are shown to.

use cipherloom_client::{ApiKey, Client, ClientConfig, ClientError, ErrorKind};
use cipherloom_primitives::{Address, FheType, U256};

use crate::server::Stack;

async fn with(stack: &Stack, change: impl FnOnce(&mut ClientConfig)) -> Client {
    let mut config = stack.client().await.unwrap().config().clone();
    change(&mut config);
    let url = stack.url.lock().unwrap().clone();
    Client::connect(&url, &format!("{url}/rpc"), config).await.unwrap()
}

fn downloads(stack: &Stack) -> Vec<(Option<String>, bool)> {
    std::mem::take(&mut stack.downloads.lock().unwrap())
}

#[tokio::test]
async fn a_download_that_breaks_off_is_taken_up_where_it_was_left() {
    let stack = Stack::serve().await;
    let client = with(&stack, |_| ()).await;
    *stack.break_download_after.lock().unwrap() = Some(10);
    client.encrypt(Address::ZERO, Address::ZERO).add8(1).encrypt().await.unwrap();
    // The key in two parts, then the reference string.
    let expected = [(None, true), (Some("bytes=10-".to_owned()), true), (None, true)];
    assert_eq!(downloads(&stack), expected);
}

#[tokio::test]
async fn kept_keys_are_downloaded_again_only_if_they_have_changed() {
    let stack = Stack::serve().await;
    let directory = tempfile::tempdir().unwrap();
    let keeping = |config: &mut ClientConfig| config.key_cache = Some(directory.path().to_owned());
    with(&stack, keeping).await.public_key_id().await.unwrap();
    assert_eq!(downloads(&stack), [(None, true), (None, true)]);
    with(&stack, keeping).await.public_key_id().await.unwrap();
    assert_eq!(downloads(&stack), [(None, false), (None, false)]);
    // A damaged file is like none.
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    with(&stack, keeping).await.public_key_id().await.unwrap();
    assert_eq!(downloads(&stack), [(None, true), (None, true)]);
}

#[tokio::test]
async fn kept_keys_that_cannot_be_used_do_not_stand_in_the_way() {
    let stack = Stack::serve().await;
    let directory = tempfile::tempdir().unwrap();
    let keeping = |config: &mut ClientConfig| config.key_cache = Some(directory.path().to_owned());
    with(&stack, keeping).await.public_key_id().await.unwrap();
    // The files change places with their tags: whole, current by their tags, and wrong.
    let files: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    let [one, other] = files.as_slice() else { panic!("{files:?}") };
    let heads: Vec<serde_json::Value> = files
        .iter()
        .map(|path| serde_json::from_slice(std::fs::read(path).unwrap().split(|byte| *byte == b'\n').next().unwrap()).unwrap())
        .collect();
    for (path, head, from) in [(one, &heads[0], other), (other, &heads[1], one)] {
        let content = std::fs::read(from).unwrap_or_default();
        let start = content.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let bytes = &content[start..];
        let mut head = head.clone();
        head["digest"] = serde_json::json!(alloy::primitives::keccak256(bytes));
        let wrong = [head.to_string().as_bytes(), b"\n", bytes].concat();
        std::fs::write(path.with_extension("wrong"), wrong).unwrap();
    }
    for path in [one, other] {
        std::fs::rename(path.with_extension("wrong"), path).unwrap();
    }
    downloads(&stack);
    with(&stack, keeping).await.public_key_id().await.unwrap();
    assert_eq!(downloads(&stack).iter().filter(|(_, sent)| *sent).count(), 2);
}

#[tokio::test]
async fn a_pinned_id_must_be_the_gateways() {
    let stack = Stack::serve().await;
    let pinned = with(&stack, |config| config.public_key_id = Some("public-key".into())).await;
    assert_eq!(pinned.public_key_id().await.unwrap(), "public-key");
    let other = with(&stack, |config| config.public_key_id = Some("another-key".into())).await;
    let error = other.public_key_id().await.unwrap_err();
    assert!(
        matches!(&error, ClientError::OtherKey { found, .. } if found == "public-key"),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::Untrustworthy);
}

#[tokio::test]
async fn api_keys_go_to_the_gateway_and_to_nobody_it_names() {
    let stack = Stack::serve().await;
    let elsewhere = Stack::serve().await;
    let client = with(&stack, |config| config.api_key = Some(ApiKey::new("secret"))).await;
    let handle = stack.store(1, FheType::Uint8, U256::from(1));
    client.public_decrypt(&[handle]).await.unwrap();
    let seen = std::mem::take(&mut *stack.api_keys.lock().unwrap());
    assert!(
        !seen.is_empty() && seen.iter().all(|key| key.as_deref() == Some("secret")),
        "{seen:?}"
    );
    // The keys are said to be at another place; what is there is of another key set.
    *stack.files_at.lock().unwrap() = Some(elsewhere.url.lock().unwrap().clone());
    assert_eq!(client.public_key_id().await.unwrap_err().kind(), ErrorKind::Untrustworthy);
    let seen = elsewhere.api_keys.lock().unwrap().clone();
    assert!(!seen.is_empty() && seen.iter().all(Option::is_none), "{seen:?}");
    assert!(!format!("{:?}", client.config()).contains("secret"));
    let unusable = ClientConfig {
        api_key: Some(ApiKey::new("two\nlines")),
        ..client.config().clone()
    };
    let refused = Client::connect("http://127.0.0.1:1", "http://127.0.0.1:1", unusable).await;
    assert!(matches!(refused, Err(ClientError::Configuration { what: "API key", .. })));
}

#[tokio::test]
async fn trusted_certificates_must_be_some() {
    let stack = Stack::serve().await;
    let config = stack.client().await.unwrap().config().clone();
    let url = stack.url.lock().unwrap().clone();
    for pem in ["", "-----BEGIN CERTIFICATE-----\nnot base64\n-----END CERTIFICATE-----\n"] {
        let config = ClientConfig {
            trusted_certificates: Some(pem.as_bytes().into()),
            ..config.clone()
        };
        let refused = Client::connect(&url, &format!("{url}/rpc"), config).await;
        assert!(matches!(refused, Err(ClientError::Configuration { .. })), "{pem:?}");
    }
}

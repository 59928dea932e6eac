//! Key material: where it is said to be, and that it is there.

use cipherloom_gateway::{Config, Gateway, GatewayError};
use serde_json::Value;

use crate::{
    client::ORIGIN,
    services::{Backend, CHAIN, Stack},
};

const CRS: &str = "/v2/keys/crs/crs-1";

fn urls(body: &Value) -> [String; 2] {
    ["/response/fheKeyInfo/0/fhePublicKey/urls/0", "/response/crs/2048/urls/0"]
        .map(|pointer| body.pointer(pointer).unwrap().as_str().unwrap().to_owned())
}

#[tokio::test]
async fn the_urls_of_keyurl_lead_to_the_exact_bytes() {
    let stack = Stack::start().await;
    let mut client = stack.client().await;
    let body = client.get("/v2/keyurl").await.json();
    let [key, crs] = urls(&body).map(|url| url.strip_prefix(stack.gateway.url()).unwrap().to_owned());
    for (path, size) in [(key, 33_018), (crs, 4_571_368)] {
        let response = client.get(&path).await;
        assert_eq!((response.status, response.body.len()), (200, size), "{path}");
        assert!(response.body.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at % 251));
        assert_eq!(response.header("content-type"), Some("application/octet-stream"));
        assert_eq!(response.header("cache-control"), Some("public, max-age=31536000, immutable"));
        assert_eq!(response.header("cross-origin-resource-policy"), Some("cross-origin"));
        assert_eq!(response.header("access-control-allow-origin"), Some(ORIGIN));
        assert!(response.header("access-control-expose-headers").unwrap().contains("etag"));
        let head = client.send("HEAD", &path, &[], b"").await;
        assert_eq!((head.status, head.header("content-length")), (200, Some(size.to_string().as_str())));
    }
    let old = client.get("/v1/keyurl").await.json();
    assert_eq!(old.pointer("/response/crs/2048/urls/0"), body.pointer("/response/crs/2048/urls/0"));
    assert_eq!(client.get("/v2/keys/crs/key-1").await.status, 404);
}

#[tokio::test]
async fn urls_follow_the_host_header_only_if_it_is_a_host() {
    let stack = Stack::start().await;
    let mut client = stack.client().await;
    let mut base = async |host: &str| {
        let [key, _] = urls(&client.send("GET", "/v2/keyurl", &[("host", host)], b"").await.json());
        key.strip_suffix("/v2/keys/public-key/key-1").unwrap().to_owned()
    };
    assert_eq!(base("gateway.example:8080").await, "http://gateway.example:8080");
    assert_eq!(base("[::1]:80").await, "http://[::1]:80");
    for bad in ["user@evil.example", "evil.example/path", "a b", "\"><script>", "x?y"] {
        assert_eq!(base(bad).await, stack.gateway.url(), "{bad}");
    }
}

#[tokio::test]
async fn a_configured_public_url_wins() {
    let stack = Stack::start_with(Backend::new(), |config| {
        config.public_url = Some("https://fhe.example/gate/".to_owned())
    })
    .await;
    let [key, crs] = urls(&stack.client().await.get("/v2/keyurl").await.json());
    assert_eq!(key, "https://fhe.example/gate/v2/keys/public-key/key-1");
    assert_eq!(crs, "https://fhe.example/gate/v2/keys/crs/crs-1");
}

#[tokio::test]
async fn a_known_tag_saves_the_download() {
    let stack = Stack::start().await;
    let mut client = stack.client().await;
    let tag = client.send("HEAD", CRS, &[], b"").await.header("etag").unwrap().to_owned();
    for condition in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
        let response = client.send("GET", CRS, &[("if-none-match", &condition)], b"").await;
        assert_eq!(
            (response.status, response.header("etag"), response.body.len()),
            (304, Some(tag.as_str()), 0),
            "{condition}"
        );
    }
    assert_eq!(client.send("GET", CRS, &[("if-none-match", "\"other\"")], b"").await.status, 200);
}

#[tokio::test]
async fn a_broken_off_download_can_be_continued() {
    let stack = Stack::start().await;
    let mut client = stack.client().await;
    let whole = client.get(CRS).await;
    let tag = whole.header("etag").unwrap();
    let rest = client
        .send("GET", CRS, &[("range", "bytes=4571000-"), ("if-range", tag)], b"")
        .await;
    assert_eq!(
        (rest.status, rest.header("content-range")),
        (206, Some("bytes 4571000-4571367/4571368"))
    );
    assert_eq!(rest.body, whole.body[4_571_000..]);
    let changed = client
        .send("GET", CRS, &[("range", "bytes=4571000-"), ("if-range", "\"other\"")], b"")
        .await;
    assert_eq!((changed.status, changed.body.len()), (200, 4_571_368));
    let outside = client.send("GET", CRS, &[("range", "bytes=4571368-")], b"").await;
    assert_eq!(
        (outside.status, outside.header("content-range"), outside.body.len()),
        (416, Some("bytes */4571368"), 0)
    );
    let several = client.send("GET", CRS, &[("range", "bytes=0-1,4-5")], b"").await;
    assert_eq!(several.status, 200);
}

#[tokio::test]
async fn unusable_settings_stop_the_start_with_a_reason() {
    let stack = Stack::start().await;
    let services = stack.services();
    let taken = Config {
        bind: stack.gateway.address(),
        ..Config::new(CHAIN)
    };
    let error = Gateway::start(taken, services.clone()).await.err().unwrap();
    assert!(matches!(error, GatewayError::Bind { .. }), "{error}");
    let prefix = Config {
        public_url: Some("fhe.example".to_owned()),
        ..Config::new(CHAIN)
    };
    let error = Gateway::start(prefix, services).await.err().unwrap();
    assert!(matches!(error, GatewayError::PublicUrl(_)), "{error}");
}

#[tokio::test]
async fn operators_can_ask_how_it_is() {
    let stack = Stack::start().await;
    let mut client = stack.client().await;
    assert_eq!(client.get("/liveness").await.json()["status"], "alive");
    assert_eq!(client.get("/healthz").await.json()["jobs"]["unfinished"], 0);
    let version = client.get("/version").await.json();
    assert_eq!(
        (&version["version"], &version["chainId"]),
        (&env!("CARGO_PKG_VERSION").into(), &CHAIN.into())
    );
    assert_eq!(
        stack
            .metric("cipherloom_gateway_requests_total{route=\"/liveness\",status=\"200\"}")
            .await,
        1
    );
    assert_eq!(client.get("/liveness").await.header("cache-control"), Some("no-store"));
}

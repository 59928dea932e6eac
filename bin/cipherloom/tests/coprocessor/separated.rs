//! Tenants: apart from each other, and refused when they have no right to be served.

use std::{sync::Arc, time::Duration};

use cipherloom_load::{Role, TenantAccess, TenantClient};
use tonic::Code;

use crate::{ground::Ground, scale};

/// How long a server may rely on what it knows of a key.
const KEY_CACHE: Duration = Duration::from_secs(90);

/// Asks for nothing until the server refuses, and returns its code.
async fn refused(client: &TenantClient) -> Code {
    let start = std::time::Instant::now();
    loop {
        match client.fetch_once(Vec::new()).await {
            Err(status) => return status.code(),
            Ok(_) => assert!(start.elapsed() < KEY_CACHE, "a tenant that has no right any more is still served"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_apart_and_keys_that_ended_are_refused() {
    let seed = scale::seed();
    let (ground, _rows) = Ground::on_postgres(2);
    let server = ground.deployment.start(Role::Both, &[]).unwrap();
    let url = server.url().unwrap();
    let mut first = ground.source(0, &server, seed);
    let mut second = ground.source(1, &server, seed);
    first.open(&ground.clear.keys).await.unwrap();
    second.open(&ground.clear.keys).await.unwrap();
    first.feed(20).await.unwrap();
    first.await_all().await.unwrap();

    // What one has, the other has not: neither to read nor to compute with.
    let values = first.ledger.values().to_vec();
    let seen = second.client.fetch(&values).await.unwrap();
    assert!(seen.iter().all(Option::is_none), "a tenant reads another one's ciphertexts");
    let foreign = first.traffic.batch(5).request;
    let status = second.client.compute_once(foreign.clone()).await.unwrap_err();
    assert!(status.message().contains("not found"), "{status:?}");
    first.client.compute_once(foreign).await.unwrap();
    second.await_all().await.unwrap();

    // A key that was never one, and none at all.
    let with_key = |access: &Arc<TenantAccess>, api_key: &str| {
        let access = TenantAccess {
            api_key: api_key.to_owned(),
            ..access.as_ref().clone()
        };
        TenantClient::new(&url, Arc::new(access), Duration::ZERO).unwrap()
    };
    for key in ["123e4567-e89b-42d3-a456-426614174000", "no key"] {
        let status = with_key(&ground.tenants[0], key).fetch_once(Vec::new()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        assert!(status.message().contains("API key unknown/invalid/not provided"), "{status:?}");
    }

    // A key that was replaced, and a tenant that is disabled.
    let rotated = ground.deployment.ask(&["tenant", "rotate-api-key", "tenant-0", "--json"]).unwrap();
    assert_eq!(refused(&first.client).await, Code::Unauthenticated);
    first.client = with_key(&ground.tenants[0], rotated["apiKey"].as_str().unwrap());
    first.check_again().await.unwrap();
    ground.deployment.run(&["tenant", "disable", "tenant-1", "--json"]).unwrap();
    assert!(matches!(
        refused(&second.client).await,
        Code::Unauthenticated | Code::PermissionDenied
    ));
    first.check_again().await.unwrap();
}

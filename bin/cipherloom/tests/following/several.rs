//! Several chains and several processes.

use std::time::{Duration, Instant};

use cipherloom_store::Following;
use serde_json::json;

use crate::{
    chain::Chain,
    processes::{Ground, PATIENCE},
};

async fn make_blocks(chain: &Chain, count: u64) -> (u64, alloy::primitives::B256) {
    for value in 0..count {
        chain.send(chain.encrypt(value)).await;
        chain.mine().await;
    }
    chain.head().await
}

#[tokio::test(flavor = "multi_thread")]
async fn several_chains_are_followed_and_taken_over() {
    let chains = [Chain::start().await, Chain::start().await];
    let ground = Ground::new().await;
    let mut tenants = Vec::new();
    for (name, chain) in ["one", "two"].into_iter().zip(&chains) {
        tenants.push(ground.follow(name, &[chain.anvil.ws_url()]).await);
    }
    let first = ground.start("first");
    let mut heads = Vec::new();
    for chain in &chains {
        heads.push(make_blocks(chain, 3).await);
    }
    for (tenant, head) in tenants.iter().zip(&heads) {
        assert!(ground.wait(tenant, PATIENCE, |newest| newest == *head).await);
    }
    let shown = ground.json(&["tenant", "show", "one"]);
    assert_eq!(shown["following"]["finality"], json!(64));
    assert!(shown["following"]["follower"].as_str().unwrap().starts_with("first-"));

    // A second process waits, and takes over when the first is gone.
    let second = ground.start("second");
    drop(first);
    for (tenant, chain) in tenants.iter().zip(&chains) {
        let head = make_blocks(chain, 2).await;
        assert!(ground.wait(tenant, PATIENCE, |newest| newest == head).await);
        assert_eq!(ground.recorded(tenant).await, chain.truth().await);
        let state = ground.database.follow_state(tenant.id).await.unwrap().unwrap();
        assert!(state.owner.starts_with("second-"), "{state:?}");
    }

    // What is unfollowed is left alone, and what is rewound is read again.
    ground.json(&["tenant", "unfollow", "one"]);
    assert!(!ground.run(&["tenant", "unfollow", "one"]).status.success());
    ground.json(&["tenant", "rewind", "two", "--to-block", "5"]);
    let head = make_blocks(&chains[1], 1).await;
    assert!(ground.wait(&tenants[1], PATIENCE, |newest| newest == head).await);
    assert_eq!(ground.recorded(&tenants[1]).await, chains[1].truth().await);
    let before = ground.newest(&tenants[0]).await;
    let start = Instant::now();
    while ground.json(&["tenant", "show", "one"]).get("following").is_some() {
        assert!(start.elapsed() < PATIENCE);
    }
    // The process may be about to end a step.
    tokio::time::sleep(Duration::from_secs(4)).await;
    make_blocks(&chains[0], 1).await;
    assert!(
        !ground
            .wait(&tenants[0], Duration::from_secs(1), |newest| Some(newest) != before)
            .await
    );
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_followed_is_refused_with_the_reason() {
    let chain = Chain::start().await;
    let ground = Ground::new().await;
    ground.follow("right", &[chain.anvil.http_url()]).await;
    let add = |name: &str, chain_id: &str, acl: &str| {
        ground.json(&[
            "tenant",
            "add",
            name,
            "--chain-id",
            chain_id,
            "--acl-contract-address",
            acl,
            "--verifying-contract-address",
            acl,
        ]);
    };
    let nobody = "0x00000000000000000000000000000000000000aa";
    add("elsewhere", "12345", nobody);
    add("nothing-there", "31337", nobody);
    let url = chain.anvil.http_url();
    for (name, url, why) in [
        ("elsewhere", url.as_str(), "chain"),
        ("nothing-there", &url, "is not on the chain"),
        (
            "right",
            "http://127.0.0.1:1/key-in-path",
            "cannot reach the chain at http://127.0.0.1:1/…",
        ),
        ("right", "ftp://127.0.0.1", "HTTP or WebSocket URL"),
        ("nobody", &url, "there is no tenant"),
    ] {
        let output = ground.run(&["tenant", "follow", name, "--rpc", url]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{name} {url}: {said}");
        assert!(!said.contains("key-in-path"), "{said}");
    }
}

//! What was published to a mirror, and who publishes.

use std::sync::Arc;

use cipherloom_primitives::{B256, Handle};
use cipherloom_store::{PublicationRequest, Publications, PublishedCiphertext, Store};

use crate::{
    fixture::{CHAIN, NOW_MS, ciphertext, handle, packed, publish},
    postgres,
};

fn request(after: Option<Handle>, limit: u32) -> PublicationRequest {
    PublicationRequest {
        chain_id: CHAIN,
        after,
        limit,
    }
}

async fn listed(store: &dyn Store) -> Vec<Handle> {
    store.ciphertexts_to_publish(&request(None, 100)).await.unwrap()
}

fn published(handle: Handle, content: u8) -> PublishedCiphertext {
    PublishedCiphertext {
        handle,
        digest: packed(ciphertext(handle, content)).digest,
    }
}

pub(crate) async fn packed_ciphertexts_are_listed_until_they_are_marked(store: Arc<dyn Store>) {
    let inputs: Vec<_> = (1..=4).map(|tag| packed(ciphertext(handle(tag), tag))).collect();
    store.add_ciphertexts(&inputs).await.unwrap();
    publish(store.as_ref(), 1, handle(5), 5).await;
    let packed_ones: Vec<Handle> = (1..=4).map(handle).collect();
    assert_eq!(listed(store.as_ref()).await, packed_ones, "what is stored raw is not listed");
    assert_eq!(store.ciphertexts_to_publish(&request(None, 2)).await.unwrap(), packed_ones[..2]);
    assert_eq!(
        store.ciphertexts_to_publish(&request(Some(handle(3)), 2)).await.unwrap(),
        packed_ones[3..]
    );
    let another_chain = PublicationRequest {
        chain_id: CHAIN + 1,
        ..request(None, 100)
    };
    assert!(store.ciphertexts_to_publish(&another_chain).await.unwrap().is_empty());
    store
        .mark_published(&[published(handle(2), 2), published(handle(1), 1)])
        .await
        .unwrap();
    store.mark_published(&[published(handle(2), 2)]).await.unwrap();
    store.mark_published(&[]).await.unwrap();
    assert_eq!(listed(store.as_ref()).await, packed_ones[2..]);
    store.cool_ciphertext(&packed(ciphertext(handle(5), 5))).await.unwrap();
    assert!(listed(store.as_ref()).await.contains(&handle(5)), "it has cooled");
}

pub(crate) async fn a_ciphertext_with_other_bytes_is_not_marked(store: Arc<dyn Store>) {
    store.add_ciphertexts(&[packed(ciphertext(handle(1), 1))]).await.unwrap();
    let other = PublishedCiphertext {
        handle: handle(1),
        digest: B256::repeat_byte(9),
    };
    store.mark_published(&[other, published(handle(2), 2)]).await.unwrap();
    assert_eq!(listed(store.as_ref()).await, [handle(1)]);
}

pub(crate) async fn what_was_published_is_listed_again_on_demand(store: Arc<dyn Store>) {
    store
        .add_ciphertexts(&[packed(ciphertext(handle(1), 1)), packed(ciphertext(handle(2), 2))])
        .await
        .unwrap();
    store.mark_published(&[published(handle(1), 1)]).await.unwrap();
    assert_eq!(store.publish_again(CHAIN + 1).await.unwrap(), 0);
    assert_eq!(store.publish_again(CHAIN).await.unwrap(), 1);
    assert_eq!(listed(store.as_ref()).await, [handle(1), handle(2)]);
}

pub(crate) async fn whoever_claims_publishing_has_it(store: Arc<dyn Store>) {
    assert!(store.claim_publishing(CHAIN, "first", NOW_MS, NOW_MS + 10).await.unwrap());
    assert!(
        store.claim_publishing(CHAIN, "first", NOW_MS + 5, NOW_MS + 20).await.unwrap(),
        "it renews its claim"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_publishes_for_a_tenant_at_a_time() {
    let database = postgres::open().await;
    let (first, second) = (
        postgres::store(&database, "first").await,
        postgres::store(&database, "second").await,
    );
    assert!(first.claim_publishing(CHAIN, "one", NOW_MS, NOW_MS + 10).await.unwrap());
    assert!(!first.claim_publishing(CHAIN, "other", NOW_MS, NOW_MS + 10).await.unwrap());
    assert!(
        second.claim_publishing(CHAIN, "other", NOW_MS, NOW_MS + 10).await.unwrap(),
        "another tenant"
    );
    assert!(!first.claim_publishing(CHAIN, "other", NOW_MS + 9, NOW_MS + 20).await.unwrap());
    assert!(
        first.claim_publishing(CHAIN, "other", NOW_MS + 10, NOW_MS + 20).await.unwrap(),
        "the claim has ended"
    );
    assert!(!first.claim_publishing(CHAIN, "one", NOW_MS + 11, NOW_MS + 30).await.unwrap());
    // What gives a claim back.
    assert!(first.claim_publishing(CHAIN, "other", NOW_MS + 12, NOW_MS + 12).await.unwrap());
    assert!(first.claim_publishing(CHAIN, "one", NOW_MS + 12, NOW_MS + 30).await.unwrap());
}

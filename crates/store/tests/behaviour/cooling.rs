//! Raw and packed forms, and which of them may go.

use std::sync::Arc;

use cipherloom_primitives::{Handle, HotWindow};
use cipherloom_store::{BlockRef, CoolingRequest, Finished, HandleState, Store};

use crate::fixture::{
    CHAIN, NOW_MS, block, ciphertext, empty_block, handle, keccak, lease_one, packed, publish, publish_in, published, record, transaction,
};

/// A window of 10 blocks and a margin of 5.
const REQUEST: CoolingRequest = CoolingRequest {
    chain_id: CHAIN,
    window: HotWindow(10),
    margin_blocks: 5,
    limit: 100,
};

async fn to_cool(store: &dyn Store) -> Vec<Handle> {
    store.ciphertexts_to_cool(&REQUEST).await.unwrap()
}

pub(crate) async fn what_a_removed_block_published_goes_with_it(store: Arc<dyn Store>) {
    publish(store.as_ref(), 1, handle(1), 1).await;
    publish(store.as_ref(), 2, handle(2), 2).await;
    let input = handle(3);
    store.add_ciphertexts(&[ciphertext(input, 3)]).await.unwrap();
    store.remove_blocks_from(CHAIN, 2).await.unwrap();
    assert_eq!(store.ciphertext(handle(1)).await.unwrap(), Some(published(handle(1), 1, 1)));
    assert_eq!(store.ciphertext(handle(2)).await.unwrap(), None);
    assert_eq!(store.handle_state(handle(2)).await.unwrap(), HandleState::Unknown);
    assert_eq!(store.ciphertext(input).await.unwrap(), Some(ciphertext(input, 3)));
    // On the new branch the handle gets the bytes of the transaction that computes it there.
    let other = BlockRef {
        parent_hash: block(1, 1).hash,
        ..block(2, 2)
    };
    publish_in(store.as_ref(), other, handle(2), 9).await;
    assert_eq!(store.ciphertext(handle(2)).await.unwrap(), Some(published(handle(2), 9, 2)));
}

pub(crate) async fn raw_ciphertexts_are_listed_beyond_window_and_margin(store: Arc<dyn Store>) {
    assert!(to_cool(store.as_ref()).await.is_empty());
    publish(store.as_ref(), 1, handle(2), 1).await;
    publish(store.as_ref(), 2, handle(1), 1).await;
    store.record_blocks(CHAIN, &[empty_block(16)]).await.unwrap();
    assert!(to_cool(store.as_ref()).await.is_empty(), "block 16 is 15 blocks later, not more");
    store.record_blocks(CHAIN, &[empty_block(17)]).await.unwrap();
    assert_eq!(to_cool(store.as_ref()).await, [handle(2)]);
    store.record_blocks(CHAIN, &[empty_block(18)]).await.unwrap();
    assert_eq!(to_cool(store.as_ref()).await, [handle(2), handle(1)], "the oldest comes first");
    let one = CoolingRequest { limit: 1, ..REQUEST };
    assert_eq!(store.ciphertexts_to_cool(&one).await.unwrap(), [handle(2)]);
    let elsewhere = CoolingRequest { chain_id: 1, ..REQUEST };
    assert!(store.ciphertexts_to_cool(&elsewhere).await.unwrap().is_empty());
    let never = CoolingRequest {
        window: HotWindow(u64::MAX),
        ..REQUEST
    };
    assert!(store.ciphertexts_to_cool(&never).await.unwrap().is_empty());
}

pub(crate) async fn a_pending_transaction_keeps_what_it_may_read_raw(store: Arc<dyn Store>) {
    publish(store.as_ref(), 1, handle(1), 1).await;
    record(store.as_ref(), 11, vec![transaction(0, handle(2), &[handle(1)])]).await;
    store.record_blocks(CHAIN, &[empty_block(1000)]).await.unwrap();
    // Block 11 is within the window of block 1, however far the chain has gone on.
    assert!(to_cool(store.as_ref()).await.is_empty());
    let leased = lease_one(store.as_ref(), "worker", NOW_MS).await.unwrap();
    assert!(to_cool(store.as_ref()).await.is_empty());
    store.finish_transaction(&leased.lease, &Finished::default()).await.unwrap();
    assert_eq!(to_cool(store.as_ref()).await, [handle(1)]);
    // One in a later block does not need the raw form.
    record(store.as_ref(), 1001, vec![transaction(0, handle(3), &[handle(1)])]).await;
    assert_eq!(to_cool(store.as_ref()).await, [handle(1)]);
}

pub(crate) async fn the_packed_form_replaces_the_raw_one_once(store: Arc<dyn Store>) {
    publish(store.as_ref(), 1, handle(1), 1).await;
    store.record_blocks(CHAIN, &[empty_block(100)]).await.unwrap();
    let cold = packed(published(handle(1), 1, 1));
    assert_eq!(cold.raw_digest, ciphertext(handle(1), 1).digest);
    store.cool_ciphertext(&cold).await.unwrap();
    assert_eq!(store.ciphertext(handle(1)).await.unwrap().as_ref(), Some(&cold));
    assert_eq!(store.handle_state(handle(1)).await.unwrap(), HandleState::Stored);
    assert!(to_cool(store.as_ref()).await.is_empty());
    // Neither a second packing nor a late publication changes it.
    let other = published(handle(1), 1, 1).packed(keccak(&[9]), vec![9]);
    store.cool_ciphertext(&other).await.unwrap();
    store.add_ciphertexts(&[ciphertext(handle(1), 1)]).await.unwrap();
    assert_eq!(store.ciphertext(handle(1)).await.unwrap(), Some(cold));
}

pub(crate) async fn packing_what_has_another_raw_form_changes_nothing(store: Arc<dyn Store>) {
    publish(store.as_ref(), 1, handle(1), 1).await;
    let of_another_branch = packed(published(handle(1), 2, 1));
    store.cool_ciphertext(&of_another_branch).await.unwrap();
    store.cool_ciphertext(&packed(published(handle(7), 1, 1))).await.unwrap();
    // Something raw is no packed form.
    store.cool_ciphertext(&ciphertext(handle(1), 1)).await.unwrap();
    assert_eq!(store.ciphertext(handle(1)).await.unwrap(), Some(published(handle(1), 1, 1)));
    assert_eq!(store.ciphertext(handle(7)).await.unwrap(), None);
}

pub(crate) async fn an_expanded_input_can_be_stored_packed_and_is_not_listed(store: Arc<dyn Store>) {
    let cold = packed(ciphertext(handle(1), 1));
    store.add_ciphertexts(std::slice::from_ref(&cold)).await.unwrap();
    store.add_ciphertexts(&[ciphertext(handle(2), 2)]).await.unwrap();
    store.record_blocks(CHAIN, &[empty_block(1000)]).await.unwrap();
    assert_eq!(store.ciphertext(handle(1)).await.unwrap(), Some(cold));
    assert!(to_cool(store.as_ref()).await.is_empty());
}

//! Noise-squashed lists: kept with the ciphertext that they were made of.

use std::sync::Arc;

use cipherloom_primitives::{B256, Handle};
use cipherloom_store::{ATTESTATION_BYTES, BlockRef, Grant, Grantee, SquashedList, Store, StoreError};

use crate::fixture::{CHAIN, NOW_MS, block, ciphertext, handle, keccak, packed, publish, publish_in, published, record, transaction};

/// A list of the ciphertext with this content.
fn list(handle: Handle, content: u8, tag: u8) -> SquashedList {
    let of = ciphertext(handle, content);
    let bytes = vec![tag; 300];
    SquashedList {
        handle,
        key_set_id: of.key_set_id,
        raw_digest: of.raw_digest,
        squashing_keys: B256::repeat_byte(0x88),
        digest: keccak(&bytes),
        bytes,
        attestation: [tag; ATTESTATION_BYTES],
    }
}

async fn stored(store: &dyn Store, handle: Handle) -> Option<SquashedList> {
    store.squashed(handle).await.unwrap()
}

pub(crate) async fn a_list_is_kept_with_its_ciphertext_and_replaced_by_a_later_one(store: Arc<dyn Store>) {
    publish(store.as_ref(), 1, handle(1), 1).await;
    assert_eq!(stored(store.as_ref(), handle(1)).await, None);
    let first = list(handle(1), 1, 0x10);
    assert!(store.add_squashed(&first, NOW_MS).await.unwrap());
    assert_eq!(stored(store.as_ref(), handle(1)).await, Some(first.clone()));
    // Packing the ciphertext changes nothing: it is the same value.
    store.cool_ciphertext(&packed(published(handle(1), 1, 1))).await.unwrap();
    assert_eq!(stored(store.as_ref(), handle(1)).await, Some(first));
    let second = list(handle(1), 1, 0x20);
    assert!(store.add_squashed(&second, NOW_MS).await.unwrap());
    assert_eq!(stored(store.as_ref(), handle(1)).await, Some(second));
    assert_eq!(stored(store.as_ref(), handle(2)).await, None);
}

pub(crate) async fn a_list_of_bytes_that_are_not_stored_is_not_kept(store: Arc<dyn Store>) {
    let nothing = list(handle(1), 1, 0x10);
    assert!(!store.add_squashed(&nothing, NOW_MS).await.unwrap(), "there is no ciphertext");
    publish(store.as_ref(), 1, handle(1), 1).await;
    assert!(
        !store.add_squashed(&list(handle(1), 2, 0x10), NOW_MS).await.unwrap(),
        "it has other bytes"
    );
    let other_keys = SquashedList {
        key_set_id: B256::repeat_byte(9),
        ..nothing.clone()
    };
    assert!(!store.add_squashed(&other_keys, NOW_MS).await.unwrap());
    let damaged = SquashedList {
        digest: B256::ZERO,
        ..nothing
    };
    assert!(matches!(
        store.add_squashed(&damaged, NOW_MS).await,
        Err(StoreError::Corrupt { .. })
    ));
    assert_eq!(stored(store.as_ref(), handle(1)).await, None);
}

pub(crate) async fn a_withdrawn_block_takes_its_lists_with_it(store: Arc<dyn Store>) {
    publish(store.as_ref(), 1, handle(1), 1).await;
    publish(store.as_ref(), 2, handle(2), 2).await;
    let (kept, withdrawn) = (list(handle(1), 1, 0x10), list(handle(2), 2, 0x20));
    for list in [&kept, &withdrawn] {
        assert!(store.add_squashed(list, NOW_MS).await.unwrap());
    }
    store.remove_blocks_from(CHAIN, 2).await.unwrap();
    assert_eq!(stored(store.as_ref(), handle(1)).await, Some(kept));
    assert_eq!(stored(store.as_ref(), handle(2)).await, None);
    // What was squashed before and comes late is not kept for what another branch computes.
    let other = BlockRef {
        parent_hash: block(1, 1).hash,
        ..block(2, 2)
    };
    publish_in(store.as_ref(), other, handle(2), 9).await;
    assert!(!store.add_squashed(&withdrawn, NOW_MS).await.unwrap());
    assert!(store.add_squashed(&list(handle(2), 9, 0x30), NOW_MS).await.unwrap());
}

pub(crate) async fn a_block_that_comes_back_has_its_lists_made_again(store: Arc<dyn Store>) {
    publish(store.as_ref(), 1, handle(1), 1).await;
    let list = list(handle(1), 1, 0x10);
    assert!(store.add_squashed(&list, NOW_MS).await.unwrap());
    store.remove_blocks_from(CHAIN, 1).await.unwrap();
    record(store.as_ref(), 1, vec![transaction(0, handle(1), &[])]).await;
    assert_eq!(store.ciphertext(handle(1)).await.unwrap(), Some(published(handle(1), 1, 1)));
    assert_eq!(stored(store.as_ref(), handle(1)).await, None);
    assert!(store.add_squashed(&list, NOW_MS).await.unwrap());
}

pub(crate) async fn public_values_without_a_list_are_found_among_the_newest_blocks(store: Arc<dyn Store>) {
    let found = async |blocks, limit| store.public_without_list(CHAIN, blocks, limit).await.unwrap();
    assert!(found(10, 10).await.is_empty(), "there is no block");
    for number in 1..=3u8 {
        let mut transaction = transaction(0, handle(number), &[]);
        transaction.grants.push(Grant {
            handle: handle(number),
            grantee: Grantee::PublicDecryption,
        });
        record(store.as_ref(), number.into(), vec![transaction]).await;
    }
    publish(store.as_ref(), 4, handle(9), 9).await;
    assert!(
        found(10, 10).await.is_empty(),
        "what is public is not computed, what is computed is not public"
    );
    for number in 1..=3u8 {
        store.add_ciphertexts(&[ciphertext(handle(number), number)]).await.unwrap();
    }
    assert_eq!(found(10, 10).await, [handle(1), handle(2), handle(3)]);
    assert_eq!(found(10, 2).await, [handle(1), handle(2)]);
    assert_eq!(found(2, 10).await, [handle(3)], "blocks 3 and 4");
    assert_eq!(found(u64::MAX, 10).await.len(), 3);
    assert!(store.add_squashed(&list(handle(2), 2, 0x10), NOW_MS).await.unwrap());
    assert_eq!(found(10, 10).await, [handle(1), handle(3)]);
    assert!(store.public_without_list(CHAIN + 1, 10, 10).await.unwrap().is_empty());
}

pub(crate) async fn old_lists_are_forgotten_oldest_first_and_may_be_stored_again(store: Arc<dyn Store>) {
    let handles = [handle(1), handle(2), handle(3)];
    for (at, handle) in (0u8..).zip(handles) {
        store.add_ciphertexts(&[ciphertext(handle, 1)]).await.unwrap();
        // The same bytes for all, as equal public values have them.
        assert!(store.add_squashed(&list(handle, 1, 0x10), NOW_MS + u64::from(at)).await.unwrap());
    }
    let forget = async |before, limit| store.forget_squashed(CHAIN, before, limit).await.unwrap();
    assert_eq!(forget(NOW_MS, 10).await, 0);
    assert_eq!(forget(NOW_MS + 2, 1).await, 1);
    assert_eq!(stored(store.as_ref(), handles[0]).await, None);
    assert!(stored(store.as_ref(), handles[1]).await.is_some());
    assert_eq!(forget(NOW_MS + 2, 10).await, 1);
    assert_eq!(store.forget_squashed(CHAIN + 1, u64::from(u32::MAX), 10).await.unwrap(), 0);
    assert_eq!(
        stored(store.as_ref(), handles[2]).await,
        Some(list(handles[2], 1, 0x10)),
        "others share its bytes"
    );
    assert_eq!(forget(NOW_MS + 3, 10).await, 1);
    assert!(store.add_squashed(&list(handles[2], 1, 0x10), NOW_MS).await.unwrap());
    assert_eq!(stored(store.as_ref(), handles[2]).await, Some(list(handles[2], 1, 0x10)));
}

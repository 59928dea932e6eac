//! Names of handles, and reading many ciphertexts at once.

use std::sync::Arc;

use cipherloom_store::{Store, StoreError};

use crate::{
    fixture::{CHAIN, ciphertext, handle, named, packed, publish, published, transaction},
    pushed::work,
};

pub(crate) async fn names_stand_for_one_handle_each(store: Arc<dyn Store>) {
    let longest = vec![7; 256];
    store
        .add_names(&[named(b"one", handle(1)), named(&longest, handle(2))])
        .await
        .unwrap();
    store
        .add_names(&[named(b"one", handle(1)), named(b"same", handle(1))])
        .await
        .unwrap();
    let asked = [b"same".to_vec(), b"none".to_vec(), longest, b"one".to_vec(), b"same".to_vec()];
    assert_eq!(
        store.handles_of_names(&asked).await.unwrap(),
        [Some(handle(1)), None, Some(handle(2)), Some(handle(1)), Some(handle(1))]
    );
    assert_eq!(store.handles_of_names(&[]).await.unwrap(), []);
}

pub(crate) async fn a_name_that_is_taken_is_refused_and_nothing_is_added(store: Arc<dyn Store>) {
    store.add_names(&[named(b"one", handle(1))]).await.unwrap();
    let error = store
        .add_names(&[named(b"two", handle(2)), named(b"one", handle(3))])
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::NameTaken(taken) if taken == handle(1)), "{error}");
    for refused in [Vec::new(), vec![1; 257]] {
        let error = store
            .add_names(&[named(b"two", handle(2)), named(&refused, handle(3))])
            .await
            .unwrap_err();
        assert!(
            matches!(error, StoreError::HandleName(length) if length == refused.len()),
            "{error}"
        );
    }
    let names = [b"one".to_vec(), b"two".to_vec()];
    assert_eq!(store.handles_of_names(&names).await.unwrap(), [Some(handle(1)), None]);
}

pub(crate) async fn names_come_with_the_work_or_not_at_all(store: Arc<dyn Store>) {
    let mut pushed = work(vec![transaction(0, handle(1), &[])]);
    pushed.names = vec![named(b"one", handle(1))];
    store.record_pushed(CHAIN, &pushed).await.unwrap();
    // Without transactions, the names are added.
    let mut only_names = work(Vec::new());
    only_names.names = vec![named(b"another", handle(9))];
    store.record_pushed(CHAIN, &only_names).await.unwrap();
    let mut refused = work(vec![transaction(0, handle(2), &[])]);
    refused.names = vec![named(b"two", handle(2)), named(b"one", handle(2))];
    let error = store.record_pushed(CHAIN, &refused).await.unwrap_err();
    assert!(matches!(error, StoreError::NameTaken(_)), "{error}");
    assert_eq!(store.known_handles(&[handle(1), handle(2)]).await.unwrap(), [true, false]);
    let names = [b"one".to_vec(), b"two".to_vec(), b"another".to_vec()];
    assert_eq!(
        store.handles_of_names(&names).await.unwrap(),
        [Some(handle(1)), None, Some(handle(9))]
    );
}

pub(crate) async fn ciphertexts_are_read_in_the_order_asked_for(store: Arc<dyn Store>) {
    publish(store.as_ref(), 1, handle(1), 1).await;
    let cold = packed(ciphertext(handle(3), 3));
    store.add_ciphertexts(&[ciphertext(handle(2), 2), cold.clone()]).await.unwrap();
    // A second value for a handle is ignored, also among others.
    store
        .add_ciphertexts(&[ciphertext(handle(2), 9), ciphertext(handle(4), 4)])
        .await
        .unwrap();
    let asked = [handle(4), handle(9), handle(3), handle(1), handle(2), handle(4)];
    let expected = [
        Some(ciphertext(handle(4), 4)),
        None,
        Some(cold),
        Some(published(handle(1), 1, 1)),
        Some(ciphertext(handle(2), 2)),
        Some(ciphertext(handle(4), 4)),
    ];
    assert_eq!(store.ciphertexts(&asked).await.unwrap(), expected);
    let heads = expected.map(|ciphertext| ciphertext.map(|ciphertext| ciphertext.head()));
    assert_eq!(store.ciphertext_heads(&asked).await.unwrap(), heads);
    assert_eq!(store.ciphertexts(&[]).await.unwrap(), []);
}

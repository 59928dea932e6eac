//! What crosses from one transaction to another: which form is read, what is re-randomised, and what is packed away.

use std::sync::{Arc, atomic::Ordering};

use cipherloom_coprocessor::{Coprocessor, HandleStatus};
use cipherloom_engine::PoolOptions;
use cipherloom_fhe::{FheBackend, form_of};
use cipherloom_primitives::{B256, CiphertextForm, FheType, Handle, HotWindow, U256};
use cipherloom_store::{SqliteStore, Store};

use crate::{
    backend::ObservedBackend,
    fixture::{Keys, add, block, handle, metadata, signer, start_workers, transaction, trivial, until_idle},
};

/// A coprocessor on toy encryption that reads raw values for two blocks, and keeps them for one more.
struct Setup {
    keys: Keys,
    backend: Arc<ObservedBackend>,
    store: Arc<dyn Store>,
    coprocessor: Coprocessor,
    /// An encrypted 7 and an encrypted 100 that was not used yet.
    inputs: Vec<Handle>,
}

impl Setup {
    async fn new(list: &[u8]) -> Self {
        Self::with_margin(list, 1).await
    }

    async fn with_margin(list: &[u8], margin_blocks: u64) -> Self {
        let keys = Keys::toy();
        let backend = Arc::new(ObservedBackend::new(keys.backend()));
        let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().await.unwrap());
        let mut config = keys.config();
        config.hot_window = HotWindow(2);
        config.reorganisation_margin_blocks = margin_blocks;
        // Workers cool when they start; tests do it when they want to.
        config.cooling_interval = std::time::Duration::from_secs(3600);
        let engine = keys.engine(Arc::clone(&backend) as Arc<dyn FheBackend>, PoolOptions::default());
        let coprocessor = Coprocessor::new(config, engine, Arc::clone(&store), signer());
        let inputs = coprocessor
            .admit_input(metadata(), list.to_vec(), Vec::new())
            .await
            .unwrap()
            .handles;
        Self {
            keys,
            backend,
            store,
            coprocessor,
            inputs,
        }
    }

    /// Records a block with one transaction and computes it.
    async fn compute(&self, number: u64, computations: Vec<cipherloom_primitives::Computation>, result: Handle) {
        // A hash of its own, as on a chain.
        let mut events = transaction(0, computations, &[result]);
        events.hash = B256::from(U256::from(0xfeed_0000_u64 + number));
        self.coprocessor.record_blocks(&[block(number, vec![events])]).await.unwrap();
        let (stop, workers) = start_workers(&self.coprocessor);
        until_idle(&self.coprocessor, &self.store).await;
        stop.cancel();
        workers.await.unwrap();
    }

    /// Publishes 7 + 5 for the first handle in block 1.
    async fn publish(&self) {
        self.compute(
            1,
            vec![trivial(5, handle(90)), add(self.inputs[0], handle(90), handle(1))],
            handle(1),
        )
        .await;
    }

    /// Doubles a value in a block.
    async fn double(&self, number: u64, operand: Handle, result: Handle) {
        self.compute(number, vec![add(operand, operand, result)], result).await;
    }

    async fn value(&self, handle: Handle) -> U256 {
        let signed = self.coprocessor.signed_ciphertext(handle).await.unwrap();
        let decryptor = self.keys.set.decryptor().unwrap();
        decryptor.decrypt(handle.fhe_type(), &signed.bytes).unwrap()
    }

    async fn raw_digest(&self, handle: Handle) -> B256 {
        self.store.ciphertext(handle).await.unwrap().unwrap().raw_digest
    }

    async fn form(&self, handle: Handle) -> CiphertextForm {
        let stored = self.store.ciphertext(handle).await.unwrap().unwrap();
        assert_eq!(form_of(&stored.bytes), Some(stored.form));
        stored.form
    }

    fn unpacked(&self) -> usize {
        self.backend.unpacked.load(Ordering::SeqCst)
    }
}

fn list() -> Vec<u8> {
    Keys::toy().encrypt(&[(FheType::Uint64, 7), (FheType::Uint64, 100)], &metadata())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_read_raw_within_the_window_and_packed_beyond_it() {
    let setup = Setup::new(&list()).await;
    setup.publish().await;
    setup.double(3, handle(1), handle(2)).await;
    assert_eq!(setup.unpacked(), 0);
    setup.double(4, handle(1), handle(3)).await;
    assert_eq!(setup.unpacked(), 1);
    assert_eq!(setup.form(handle(1)).await, CiphertextForm::Raw);
    for doubled in [handle(2), handle(3)] {
        assert_eq!(setup.value(doubled).await, U256::from(24));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn results_do_not_depend_on_what_was_cooled() {
    let list = list();
    let (kept, cooled) = (Setup::with_margin(&list, 1000).await, Setup::new(&list).await);
    for setup in [&kept, &cooled] {
        setup.publish().await;
        setup.coprocessor.record_blocks(&[block(5, Vec::new())]).await.unwrap();
    }
    assert_eq!(cooled.coprocessor.cool_once().await.unwrap(), 1);
    for setup in [&kept, &cooled] {
        setup.double(6, handle(1), handle(2)).await;
    }
    assert_eq!(
        (kept.form(handle(1)).await, cooled.form(handle(1)).await),
        (CiphertextForm::Raw, CiphertextForm::Packed)
    );
    assert_eq!(kept.raw_digest(handle(2)).await, cooled.raw_digest(handle(2)).await);
    assert_eq!(cooled.value(handle(2)).await, U256::from(24));
}

#[tokio::test(flavor = "multi_thread")]
async fn cooling_waits_for_window_and_margin_and_changes_neither_value_nor_attestation() {
    let setup = Setup::new(&list()).await;
    setup.publish().await;
    setup.coprocessor.record_blocks(&[block(4, Vec::new())]).await.unwrap();
    assert_eq!(setup.coprocessor.cool_once().await.unwrap(), 0);
    let before = setup.coprocessor.signed_ciphertext(handle(1)).await.unwrap();
    assert_eq!(before.form, CiphertextForm::Packed);
    assert_eq!(form_of(&before.bytes), Some(CiphertextForm::Packed));
    let raw_digest = setup.raw_digest(handle(1)).await;

    setup.coprocessor.record_blocks(&[block(5, Vec::new())]).await.unwrap();
    assert_eq!(setup.coprocessor.cool_once().await.unwrap(), 1);
    assert_eq!(setup.form(handle(1)).await, CiphertextForm::Packed);
    assert_eq!(setup.coprocessor.signed_ciphertext(handle(1)).await.unwrap(), before);
    assert_eq!(setup.raw_digest(handle(1)).await, raw_digest);
    assert_eq!(setup.value(handle(1)).await, U256::from(12));
    assert_eq!(setup.coprocessor.cool_once().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_cool_in_the_background() {
    let setup = Setup::new(&list()).await;
    setup.publish().await;
    setup.coprocessor.record_blocks(&[block(50, Vec::new())]).await.unwrap();
    let (stop, workers) = start_workers(&setup.coprocessor);
    tokio::time::timeout(crate::fixture::PATIENCE, async {
        while setup.form(handle(1)).await == CiphertextForm::Raw {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("nothing was packed");
    stop.cancel();
    workers.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_transaction_computes_on_ciphertexts_of_its_own() {
    let list = list();
    let (setup, other) = (Setup::new(&list).await, Setup::new(&list).await);
    for setup in [&setup, &other] {
        setup.publish().await;
        setup.double(2, handle(1), handle(2)).await;
        setup.double(3, handle(1), handle(3)).await;
        assert_eq!(
            (setup.value(handle(2)).await, setup.value(handle(3)).await),
            (U256::from(24), U256::from(24))
        );
    }
    // The same operation on the same operand, in two transactions: other randomness, so other bytes, and the same for everybody.
    assert_ne!(setup.raw_digest(handle(2)).await, setup.raw_digest(handle(3)).await);
    for tag in 1..=3 {
        assert_eq!(setup.raw_digest(handle(tag)).await, other.raw_digest(handle(tag)).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_values_that_are_used_are_expanded() {
    let setup = Setup::new(&list()).await;
    setup.publish().await;
    assert_eq!(setup.backend.expanded.load(Ordering::SeqCst), 1);
    // Asking for the ciphertext of an input expands it too, once, and keeps it packed.
    assert_eq!(setup.value(setup.inputs[1]).await, U256::from(100));
    assert_eq!(setup.value(setup.inputs[1]).await, U256::from(100));
    assert_eq!(setup.backend.expanded.load(Ordering::SeqCst), 2);
    assert_eq!(setup.form(setup.inputs[1]).await, CiphertextForm::Packed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reorganisation_beyond_the_margin_fails_what_needs_a_raw_form_that_is_gone() {
    let setup = Setup::new(&list()).await;
    setup.publish().await;
    setup.coprocessor.record_blocks(&[block(5, Vec::new())]).await.unwrap();
    assert_eq!(setup.coprocessor.cool_once().await.unwrap(), 1);
    setup.coprocessor.remove_blocks_from(2).await.unwrap();
    setup.double(2, handle(1), handle(2)).await;
    let status = setup.coprocessor.handle_status(handle(2)).await.unwrap();
    assert!(
        matches!(&status, HandleStatus::Failed(reason) if reason.contains("margin")),
        "{status:?}"
    );
}

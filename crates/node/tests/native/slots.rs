//! Ciphertexts and the public key as words of storage.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, Bytes, U256};
use cipherloom_node::native::{WriteError, public_key_slots, read_ciphertext, read_public_key, write_ciphertexts};
use cipherloom_primitives::ciphertext_state::{FHELIB, STORAGE_ACCOUNT};
use cipherloom_primitives::{FheType, Handle};
use revm::database::InMemoryDB;
use revm::{DatabaseCommit, DatabaseRef};

fn handle(seed: u8) -> Handle {
    Handle::computed(B256::repeat_byte(seed), 31338, FheType::Uint64)
}

fn read(database: &InMemoryDB, handle: Handle) -> Option<Bytes> {
    read_ciphertext(handle, &mut |account, slot| database.storage_ref(account, slot)).unwrap()
}

#[test]
fn what_was_written_is_read_and_never_overwritten() {
    let mut database = InMemoryDB::default();
    let first = Bytes::from(vec![1; 100]);
    let change = write_ciphertexts(&[(handle(1), first.clone())], &database).unwrap();
    database.commit(change);
    assert_eq!(read(&database, handle(1)), Some(first.clone()));
    assert_eq!(read(&database, handle(2)), None);
    assert_eq!(database.basic_ref(STORAGE_ACCOUNT).unwrap().unwrap().nonce, 1);

    let second = Bytes::from(vec![2; 65]);
    let change = write_ciphertexts(&[(handle(1), second.clone()), (handle(2), second.clone())], &database).unwrap();
    database.commit(change);
    assert_eq!(read(&database, handle(1)), Some(first));
    assert_eq!(read(&database, handle(2)), Some(second));
}

#[test]
fn nothing_to_write_changes_nothing() {
    let database = InMemoryDB::default();
    assert!(write_ciphertexts(&[], &database).unwrap().is_empty());
    assert!(matches!(
        write_ciphertexts(&[(handle(1), Bytes::new())], &database),
        Err(WriteError::Bytes { .. })
    ));
}

#[test]
fn the_public_key_is_read_as_genesis_writes_it() {
    let key = (0..1000u32).map(|index| u8::try_from(index % 251).unwrap()).collect::<Vec<_>>();
    let slots: BTreeMap<_, _> = public_key_slots(&key).unwrap().into_iter().collect();
    let mut read = |account: Address, slot: U256| {
        assert_eq!(account, FHELIB);
        Ok::<_, std::convert::Infallible>(slots.get(&slot).copied().unwrap_or_default())
    };
    assert_eq!(read_public_key(&mut read).unwrap(), Some(Bytes::from(key)));
}

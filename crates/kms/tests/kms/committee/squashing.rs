//! Squashing in a party: once for all who ask, within bounds, fairly, and with keys that come, go and fail.

use std::{
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use cipherloom_kms::{OpenedKeys, SquashError, SquashStored, Squashing, SquashingKeys, SquashingLimits, StoredCiphertext};
use futures_util::future::join_all;

use super::*;

/// How long something may take that takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// The toy keys, which count how often they are read.
#[derive(Default)]
pub(super) struct ToyKeys {
    pub(super) opened: AtomicUsize,
    /// What the next readings come to instead; the last one first.
    faults: Mutex<Vec<Fault>>,
}

enum Fault {
    Unusable(&'static str),
    Panics,
    /// Says that it has begun, and waits to be told to go on.
    Waits(mpsc::Sender<()>, mpsc::Receiver<()>),
}

impl SquashingKeys for ToyKeys {
    fn open(&self) -> Result<OpenedKeys, String> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let fault = self.faults.lock().unwrap().pop();
        match fault {
            Some(Fault::Unusable(reason)) => return Err(reason.to_owned()),
            Some(Fault::Panics) => panic!("keys that panic"),
            Some(Fault::Waits(begun, go_on)) => {
                begun.send(()).unwrap();
                // Whoever is gone does not mind.
                let _ = go_on.recv();
            }
            None => {}
        }
        Ok(OpenedKeys {
            backend: TOY.keys.evaluation().unwrap(),
            squasher: Arc::clone(&TOY.squasher),
        })
    }
}

/// Encrypts a value as a native chain has it stored. Every call is another ciphertext.
pub(super) fn packed(ty: FheType, value: U256) -> Vec<u8> {
    TOY.keys.evaluation().unwrap().pack(&encrypt(ty, value)).unwrap()
}

fn stored(tag: u8, requester: Option<u8>) -> StoredCiphertext {
    StoredCiphertext {
        handle: Handle::computed(B256::repeat_byte(tag), CHAIN_ID, FheType::Uint8),
        key_set_id: key_set_id(),
        bytes: packed(FheType::Uint8, U256::from(tag)),
        requester: requester.map(Address::repeat_byte),
    }
}

fn squashing(faults: Vec<Fault>, limits: SquashingLimits) -> (Arc<ToyKeys>, Squashing) {
    let keys = Arc::new(ToyKeys {
        opened: AtomicUsize::new(0),
        faults: Mutex::new(faults),
    });
    let squashing = Squashing::new(key_set_id(), Arc::clone(&keys) as _, limits);
    (keys, squashing)
}

fn patient() -> SquashingLimits {
    SquashingLimits {
        wait: PATIENCE,
        ..SquashingLimits::default()
    }
}

/// What everybody else makes of a ciphertext.
fn expected(stored: &StoredCiphertext) -> Vec<u8> {
    let ciphertext = TOY
        .keys
        .evaluation()
        .unwrap()
        .unpack(stored.handle.fhe_type(), &stored.bytes)
        .unwrap();
    TOY.squasher.squash_list(&[&ciphertext]).unwrap()
}

/// Closed until it is dropped: a reading of keys that tells when it has begun.
fn gate() -> (Fault, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (begun, has_begun) = mpsc::channel();
    let (go_on, waits) = mpsc::channel();
    (Fault::Waits(begun, waits), has_begun, go_on)
}

#[tokio::test]
async fn a_value_is_squashed_once_for_all_who_ask_and_kept() {
    let (keys, squashing) = squashing(Vec::new(), patient());
    let one = stored(1, None);
    let asked = (0..8).map(|requester| {
        let requester = Some(Address::repeat_byte(requester));
        squashing.squash(StoredCiphertext { requester, ..one.clone() })
    });
    let expected = expected(&one);
    for list in join_all(asked).await {
        assert_eq!(*list.unwrap(), expected);
    }
    // Another ciphertext of the same handle is another value.
    let again = stored(1, None);
    assert_ne!(again.bytes, one.bytes);
    squashing.squash(again).await.unwrap();
    squashing.squash(one).await.unwrap();
    let counts = squashing.counts();
    assert_eq!((counts.made, counts.failed, counts.refused, counts.waiting), (2, 0, 0, 0));
    assert!(counts.holds_keys && counts.busy > Duration::ZERO);
    assert_eq!(keys.opened.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn many_values_at_once_come_to_the_bytes_that_each_has_alone() {
    let limits = SquashingLimits {
        concurrent: 2,
        batch: 3,
        ..patient()
    };
    let (keys, squashing) = squashing(Vec::new(), limits);
    let values: Vec<_> = (1..=10).map(|tag| stored(tag, Some(tag % 3))).collect();
    let lists = join_all(values.iter().map(|value| squashing.squash(value.clone()))).await;
    for (value, list) in values.iter().zip(lists) {
        assert_eq!(*list.unwrap(), expected(value));
    }
    assert_eq!(squashing.counts().made, 10);
    assert_eq!(keys.opened.load(Ordering::SeqCst), 1, "several threads read the keys once");
}

#[tokio::test]
async fn who_has_waited_long_enough_is_told_so_and_the_work_goes_on() {
    let (gate, has_begun, go_on) = gate();
    let limits = SquashingLimits {
        wait: Duration::from_millis(20),
        ..SquashingLimits::default()
    };
    let (_, squashing) = squashing(vec![gate], limits);
    let value = stored(1, None);
    assert_eq!(squashing.squash(value.clone()).await, Err(SquashError::NotReady));
    has_begun.recv_timeout(PATIENCE).unwrap();
    assert_eq!(squashing.squash(value.clone()).await, Err(SquashError::NotReady), "the same flight");
    drop(go_on);
    // Nobody asks meanwhile.
    let start = Instant::now();
    while squashing.counts().made == 0 {
        assert!(start.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(*squashing.squash(value.clone()).await.unwrap(), expected(&value));
    assert_eq!(squashing.counts().made, 1);
}

#[tokio::test]
async fn places_are_bounded_and_nobody_takes_them_all() {
    let (gate, has_begun, go_on) = gate();
    let limits = SquashingLimits {
        batch: 1,
        waiting: 9,
        wait: Duration::from_millis(1),
        ..SquashingLimits::default()
    };
    let (_, squashing) = squashing(vec![gate], limits);
    let ask = async |tag, requester| squashing.squash(stored(tag, requester)).await.unwrap_err();
    assert_eq!(ask(100, Some(9)).await, SquashError::NotReady);
    // From here on everything waits.
    has_begun.recv_timeout(PATIENCE).unwrap();
    for tag in 1..=2 {
        assert_eq!(ask(tag, Some(1)).await, SquashError::NotReady);
    }
    assert_eq!(ask(3, Some(1)).await, SquashError::Busy, "an account has a quarter of the places");
    for tag in 4..=7 {
        assert_eq!(ask(tag, None).await, SquashError::NotReady);
    }
    assert_eq!(ask(8, None).await, SquashError::Busy, "public values have half of the places");
    for tag in 9..=10 {
        assert_eq!(ask(tag, Some(2)).await, SquashError::NotReady);
    }
    assert_eq!(ask(11, Some(3)).await, SquashError::Busy, "there are no more places");
    assert_eq!((squashing.counts().waiting, squashing.counts().refused), (9, 3));
    drop(go_on);
    let start = Instant::now();
    while squashing.counts().made < 9 {
        assert!(start.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(squashing.counts().waiting, 0);
}

#[tokio::test]
async fn keys_that_cannot_be_used_fail_whoever_asks_and_are_not_read_again_at_once() {
    let (keys, squashing) = squashing(vec![Fault::Unusable("exchanged")], patient());
    for tag in 1..=3 {
        let refused = squashing.squash(stored(tag, None)).await;
        assert_eq!(refused, Err(SquashError::Keys("exchanged".into())));
    }
    assert_eq!(keys.opened.load(Ordering::SeqCst), 1);
    assert_eq!((squashing.counts().failed, squashing.counts().holds_keys), (3, false));
    let foreign = StoredCiphertext {
        key_set_id: B256::repeat_byte(1),
        ..stored(1, None)
    };
    assert!(matches!(squashing.squash(foreign).await, Err(SquashError::Keys(_))));
}

#[tokio::test]
async fn what_is_no_ciphertext_of_its_type_fails_alone() {
    let (gate, has_begun, go_on) = gate();
    let (_, squashing) = squashing(vec![gate], patient());
    let plug = stored(100, None);
    let good = stored(1, None);
    let (short, foreign) = (
        StoredCiphertext {
            bytes: good.bytes[..good.bytes.len() - 1].to_vec(),
            ..good.clone()
        },
        StoredCiphertext {
            handle: Handle::computed(B256::repeat_byte(1), CHAIN_ID, FheType::Uint16),
            ..good.clone()
        },
    );
    let asked = [plug, short, good, foreign].map(|value| squashing.squash(value));
    // All but the first are of one batch then.
    let open = async {
        has_begun.recv_timeout(PATIENCE).unwrap();
        drop(go_on);
    };
    let (ended, ()) = futures_util::future::join(join_all(asked), open).await;
    assert!(ended[0].is_ok() && ended[2].is_ok(), "{ended:?}");
    assert!(matches!(ended[1], Err(SquashError::Failed(_))), "{ended:?}");
    assert!(matches!(ended[3], Err(SquashError::Failed(_))), "{ended:?}");
}

#[tokio::test]
async fn after_a_panic_others_go_on() {
    let (_, squashing) = squashing(vec![Fault::Panics], patient());
    let value = stored(1, None);
    let failed = squashing.squash(value.clone()).await;
    assert!(
        matches!(&failed, Err(SquashError::Failed(reason)) if reason.contains("panicked")),
        "{failed:?}"
    );
    assert_eq!(*squashing.squash(value.clone()).await.unwrap(), expected(&value));
    assert_eq!(squashing.counts().waiting, 0);
}

#[tokio::test]
async fn keys_are_let_go_when_nobody_has_asked_for_a_while_and_read_again_when_somebody_does() {
    let limits = SquashingLimits {
        release_keys_after: Duration::from_millis(20),
        ..patient()
    };
    let (keys, squashing) = squashing(Vec::new(), limits);
    squashing.squash(stored(1, None)).await.unwrap();
    let start = Instant::now();
    while squashing.counts().holds_keys {
        assert!(start.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    squashing.squash(stored(2, None)).await.unwrap();
    assert_eq!(keys.opened.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn lists_are_forgotten_when_there_are_too_many() {
    let value = stored(1, None);
    let limits = SquashingLimits {
        memory_bytes: expected(&value).len() + 1,
        ..patient()
    };
    let (_, squashing) = squashing(Vec::new(), limits);
    for _ in 0..2 {
        squashing.squash(value.clone()).await.unwrap();
    }
    assert_eq!(squashing.counts().made, 1);
    squashing.squash(stored(2, None)).await.unwrap();
    squashing.squash(value).await.unwrap();
    assert_eq!(squashing.counts().made, 3, "the first one had to make room");
}

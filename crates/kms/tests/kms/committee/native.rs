//! A committee for a native chain: each party takes what is proven to stand in the chain's state, squashes it itself, and nothing for those who may not read it.

use std::sync::atomic::Ordering;

use cipherloom_kms::{BudgetOf, Rate, Squashing, SquashingLimits};

use super::{
    squashing::{ToyKeys, packed},
    *,
};

/// A committee whose chain is native, with what each party squashes with.
struct NativeStage {
    stage: Stage,
    keys: Vec<Arc<ToyKeys>>,
    squashing: Vec<Arc<Squashing>>,
}

impl NativeStage {
    fn new(size: (u8, u8)) -> Self {
        Self::with_budgets(size, BudgetLimits::default())
    }

    fn with_budgets(size: (u8, u8), budgets: BudgetLimits) -> Self {
        let native = Self::without_shares(size, budgets);
        for (held, share) in native.stage.held.iter().zip(deal_shares(&native.stage.scope)) {
            held.activate(share).unwrap();
        }
        native
    }

    fn without_shares(size: (u8, u8), budgets: BudgetLimits) -> Self {
        let made = Mutex::new(Vec::new());
        let stage = Stage::getting_lists(size, budgets, |_| {
            let keys = Arc::new(ToyKeys::default());
            let limits = SquashingLimits {
                wait: std::time::Duration::from_secs(60),
                ..SquashingLimits::default()
            };
            let squashing = Arc::new(Squashing::new(key_set_id(), Arc::clone(&keys) as _, limits));
            made.lock().unwrap().push((keys, Arc::clone(&squashing)));
            SquashedLists::MadeHere(squashing)
        });
        stage.chain().native = Some(key_set_id());
        let (keys, squashing) = made.into_inner().unwrap().into_iter().unzip();
        Self { stage, keys, squashing }
    }

    /// Puts a value into the chain's state.
    fn put(&self, tag: u8, ty: FheType, value: U256) -> Handle {
        let handle = Handle::computed(B256::repeat_byte(tag), CHAIN_ID, ty);
        self.stage.chain().in_state.insert(handle, Ok(packed(ty, value)));
        handle
    }

    fn readable(&self, tag: u8, ty: FheType, value: U256) -> Handle {
        let handle = self.put(tag, ty, value);
        self.stage.world.allow(handle);
        self.stage.world.make_public(handle);
        handle
    }

    /// How many values each party has squashed.
    fn made(&self) -> Vec<u64> {
        self.squashing.iter().map(|squashing| squashing.counts().made).collect()
    }

    /// Nobody has read keys, asked for a ciphertext, or squashed one.
    fn assert_idle(&self) {
        assert!(
            self.keys.iter().all(|keys| keys.opened.load(Ordering::SeqCst) == 0),
            "keys were read"
        );
        assert_eq!(self.stage.chain().state_reads, 0, "the state was asked");
        assert!(self.made().iter().all(|made| *made == 0));
    }
}

#[tokio::test]
async fn every_party_squashes_what_the_chain_has_and_users_and_contracts_get_it() {
    let native = NativeStage::new((4, 1));
    let stage = &native.stage;
    let types = [FheType::Bool, FheType::Uint64, FheType::Address, FheType::Uint256];
    let values: Vec<U256> = types.into_iter().map(some_value).collect();
    let handles: Vec<Handle> = (1..)
        .zip(types.into_iter().zip(&values))
        .map(|(tag, (ty, value))| native.readable(tag, ty, *value))
        .collect();
    let request = stage.world.request(&handles);
    let answers = stage.user_shares(&request).await;
    assert_eq!(stage.open(&request, &answers), Ok((values.clone(), Vec::new())));
    let request = stage.public_request(&handles);
    let bundles = stage.bundles(&request).await;
    for node in 0..4 {
        let signed = stage.sign(node, &request, bundles.clone()).await.unwrap();
        stage.assert_signed(node, &request, &signed, &values);
    }
    assert_eq!(native.made(), [4; 4], "each value once, whoever asks");
    assert_eq!(stage.records(), [2; 4]);
    assert!(stage.storage.fetched.lock().unwrap().is_empty(), "no coprocessor is asked");
}

#[tokio::test]
async fn a_delegate_reads_values_of_native_chains() {
    let native = NativeStage::new((4, 1));
    let stage = &native.stage;
    let (owner, delegate) = (Address::repeat_byte(0xab), stage.world.user_address());
    let handle = native.put(1, FheType::Uint32, U256::from(7));
    {
        let mut chain = stage.chain();
        chain.allowed.extend([(handle, owner), (handle, crate::support::CONTRACT)]);
        chain
            .delegated
            .insert((owner, delegate, crate::support::CONTRACT), crate::support::NOW + 100);
    }
    let unsigned = stage.world.unsigned_with(&[handle], |permit| permit.delegator = Some(owner));
    let request = stage.world.sign(unsigned);
    let answers = stage.user_shares(&request).await;
    assert_eq!(stage.open(&request, &answers), Ok((vec![U256::from(7)], Vec::new())));
}

#[tokio::test]
async fn nothing_is_read_or_squashed_for_who_may_not_have_it() {
    let native = NativeStage::new((4, 1));
    let stage = &native.stage;
    let handle = native.put(1, FheType::Uint64, U256::from(42));
    let public = stage.public_request(&[handle]);
    for error in stage.all_refuse_public(&public, &[]).await {
        assert!(matches!(*error, KmsError::NotPublic(_)), "{error}");
    }
    for error in stage.all_refuse_user(&stage.world.request(&[handle])).await {
        assert!(matches!(*error, KmsError::NotAllowed { .. }), "{error}");
    }
    // Somebody else's signature.
    stage.world.allow(handle);
    let unsigned = stage.world.unsigned_request(&[handle]);
    let forged = stage.world.sign_with(unsigned, &key(0x77), &stage.world.domains);
    for error in stage.all_refuse_user(&forged).await {
        assert!(matches!(*error, KmsError::PermitSignature { .. }), "{error}");
    }
    native.assert_idle();
    // The right counts at the block of the request, not later.
    let request = stage.world.request(&[handle]);
    stage.user_shares(&request).await;
    stage.chain().allowed.clear();
    stage.all_refuse_user(&request).await;
    assert_eq!(native.made(), [1; 4]);
}

#[tokio::test]
async fn nothing_is_squashed_beyond_a_budget_or_without_a_share() {
    let two = Rate { values: 2, seconds: 60 };
    let budgets = BudgetLimits {
        requester: two,
        ..BudgetLimits::default()
    };
    let native = NativeStage::with_budgets((4, 1), budgets);
    let stage = &native.stage;
    let handles = [1, 2, 3].map(|tag| native.readable(tag, FheType::Uint8, U256::from(tag)));
    let user = stage.world.user_address();
    for error in stage.all_refuse_user(&stage.world.request(&handles)).await {
        assert!(
            matches!(&*error, KmsError::Budget(exhausted) if exhausted.of == BudgetOf::Requester(user)),
            "{error}"
        );
    }
    native.assert_idle();

    let native = NativeStage::without_shares((4, 1), BudgetLimits::default());
    let handle = native.readable(1, FheType::Uint8, U256::from(1));
    let request = native.stage.world.request(&[handle]);
    for error in native.stage.all_refuse_user(&request).await {
        assert!(matches!(*error, KmsError::NoShare), "{error}");
    }
    native.assert_idle();
}

#[tokio::test]
async fn what_no_node_proves_is_asked_for_again_and_what_is_proven_to_be_nothing_is_not() {
    let native = NativeStage::new((4, 1));
    let stage = &native.stage;
    let handle = native.readable(1, FheType::Uint64, U256::from(42));
    // A word that was changed, or one of another block, is in no proof that holds.
    let unproven = Err(SourceError::Unavailable("the storage proof is not valid".into()));
    stage.chain().in_state.insert(handle, unproven);
    for error in stage.all_refuse_user(&stage.world.request(&[handle])).await {
        assert!(error.is_retryable(), "{error}");
    }
    stage.chain().in_state.remove(&handle);
    for error in stage.all_refuse_public(&stage.public_request(&[handle]), &[]).await {
        assert!(matches!(*error, KmsError::Ciphertext { .. }) && !error.is_retryable(), "{error}");
    }
    assert_eq!(native.made(), [0; 4]);
}

#[tokio::test]
async fn bytes_in_the_state_that_are_no_ciphertext_of_the_handles_type_raise_an_alarm() {
    let native = NativeStage::new((4, 1));
    let stage = &native.stage;
    let handle = native.readable(1, FheType::Uint64, U256::from(42));
    let good = packed(FheType::Uint64, U256::from(42));
    let wrong = [
        Vec::new(),
        good[..100].to_vec(),
        packed(FheType::Uint8, U256::from(42)),
        vec![0x5e; good.len()],
    ];
    for bytes in wrong {
        stage.chain().in_state.insert(handle, Ok(bytes));
        for error in stage.all_refuse_user(&stage.world.request(&[handle])).await {
            assert!(matches!(*error, KmsError::Provenance { .. }) && !error.is_retryable(), "{error}");
        }
    }
    for node in 0..4 {
        assert_eq!(stage.raised(node), ["untrusted_ciphertext"; 4]);
    }
    stage.chain().in_state.insert(handle, Ok(good));
    let request = stage.world.request(&[handle]);
    let answers = stage.user_shares(&request).await;
    assert_eq!(stage.open(&request, &answers), Ok((vec![U256::from(42)], Vec::new())));
}

#[tokio::test]
async fn a_chain_under_another_key_set_is_refused() {
    let native = NativeStage::new((4, 1));
    let handle = native.readable(1, FheType::Uint64, U256::from(42));
    native.stage.chain().native = Some(B256::repeat_byte(0x77));
    for error in native.stage.all_refuse_user(&native.stage.world.request(&[handle])).await {
        assert!(matches!(*error, KmsError::Provenance { .. }), "{error}");
    }
    native.assert_idle();
    assert_eq!(native.stage.raised(0), ["untrusted_ciphertext"]);
}

#[tokio::test]
async fn lists_come_the_way_that_the_chain_says_and_no_other() {
    // A native chain, and parties that were set up to ask coprocessors, whose word is nothing there.
    let stage = Stage::new((4, 1));
    let handle = stage.readable(1, FheType::Uint64, U256::from(42));
    {
        let mut chain = stage.chain();
        chain.native = Some(key_set_id());
        chain.in_state.insert(handle, Ok(packed(FheType::Uint64, U256::from(42))));
    }
    for error in stage.all_refuse_user(&stage.world.request(&[handle])).await {
        assert!(matches!(*error, KmsError::Provenance { .. }), "{error}");
    }
    assert!(stage.storage.fetched.lock().unwrap().is_empty());
    // A chain with coprocessors, and parties that were set up to squash.
    let native = NativeStage::new((4, 1));
    let handle = native.readable(1, FheType::Uint64, U256::from(42));
    native.stage.chain().native = None;
    for error in native.stage.all_refuse_public(&native.stage.public_request(&[handle]), &[]).await {
        assert!(matches!(*error, KmsError::Provenance { .. }), "{error}");
    }
    native.assert_idle();
}

#[tokio::test]
async fn one_liar_and_one_that_is_away_keep_nobody_from_a_value_of_a_native_chain() {
    let native = NativeStage::new((7, 2));
    let stage = &native.stage;
    let value = U256::from(0xfeed_u64);
    let handle = native.readable(1, FheType::Uint64, value);
    let request = stage.world.request(&[handle]);
    let mut answers = stage.user_shares(&request).await;
    answers[1] = stage.lie_to_user(&request, &answers[1], |share| share[20] ^= 1);
    answers.remove(5);
    assert_eq!(stage.open(&request, &answers), Ok((vec![value], vec![2])));

    let request = stage.public_request(&[handle]);
    let mut bundles = stage.bundles(&request).await;
    bundles[1] = stage.lie(&bundles[1], flip);
    bundles.remove(5);
    for node in [0, 2, 3, 4, 6] {
        let signed = stage.sign(node, &request, bundles.clone()).await.unwrap();
        stage.assert_signed(node, &request, &signed, &[value]);
        let named: Vec<u32> = signed.faults.iter().map(|fault| fault.party).collect();
        assert_eq!(named, [2]);
    }
}

//! The set of validators of a native chain: who changes it, its limits, and how nodes read it from storage.

use std::collections::BTreeMap;

use alloy::primitives::{Address, U256, keccak256};
use alloy::sol_types::SolCall;
use cipherloom_contracts::{
    bindings::ValidatorSet,
    native::{VALIDATOR_SET, validator_set_creation_code},
};
use cipherloom_primitives::quorum;
use proptest::prelude::*;

use crate::stage::{LATEST, Revert, Stage, assert_reverts};

/// A chain with a set of which account 1 is the owner.
struct Set {
    stage: Stage,
    address: Address,
}

impl Set {
    fn of(validators: &[(Address, u64)]) -> Self {
        let stage = Stage::new();
        let address = stage.create(validator_set_creation_code(stage.user(1), validators));
        Self { stage, address }
    }

    fn owner(&self) -> Address {
        self.stage.user(1)
    }

    fn change(&self, call: &impl SolCall) -> Result<crate::stage::Mined, Revert> {
        self.stage.send(self.owner(), self.address, call)
    }

    fn members(&self) -> BTreeMap<Address, u64> {
        let members = self.stage.read(self.address, &ValidatorSet::validatorsCall {});
        let count = members.addresses.len();
        let map: BTreeMap<_, _> = members.addresses.into_iter().zip(members.powers).collect();
        assert_eq!(map.len(), count, "nobody is listed twice");
        map
    }

    fn slot(&self, slot: U256) -> U256 {
        self.stage.chain.storage(self.address, slot, LATEST).unwrap()
    }

    /// Reads the list as nodes do: the number in slot 0, then one slot each.
    fn members_in_storage(&self) -> BTreeMap<Address, u64> {
        let count: u64 = self.slot(U256::ZERO).to();
        let first = U256::from_be_bytes(keccak256([0; 32]).0);
        (0..count)
            .map(|index| {
                let word = self.slot(first + U256::from(index)).to_be_bytes::<32>();
                let power = u64::from_be_bytes(word[4..12].try_into().unwrap());
                assert_eq!(word[..4], [0; 4]);
                (Address::from_slice(&word[12..]), power)
            })
            .collect()
    }
}

fn account(number: u64) -> Address {
    Address::left_padding_from(&(number + 1).to_be_bytes())
}

fn add(account: Address, power: u64) -> ValidatorSet::addValidatorCall {
    ValidatorSet::addValidatorCall { account, power }
}

fn remove(account: Address) -> ValidatorSet::removeValidatorCall {
    ValidatorSet::removeValidatorCall { account }
}

fn set_power(account: Address, power: u64) -> ValidatorSet::setPowerCall {
    ValidatorSet::setPowerCall { account, power }
}

#[test]
fn the_owner_adds_removes_and_weighs_validators_and_each_change_has_its_event() {
    let set = Set::of(&[(account(0), 10)]);
    let log = |mined: crate::stage::Mined| mined.logs.into_iter().next().unwrap().data;
    let added = ValidatorSet::ValidatorAdded {
        validator: account(1),
        power: 5,
    };
    assert_eq!(
        log(set.change(&add(account(1), 5)).unwrap()),
        alloy::sol_types::SolEvent::encode_log_data(&added)
    );
    let changed = ValidatorSet::PowerChanged {
        validator: account(1),
        oldPower: 5,
        newPower: 7,
    };
    assert_eq!(
        log(set.change(&set_power(account(1), 7)).unwrap()),
        alloy::sol_types::SolEvent::encode_log_data(&changed)
    );
    assert_eq!(set.members(), [(account(0), 10), (account(1), 7)].into());
    let removed = ValidatorSet::ValidatorRemoved { validator: account(0) };
    assert_eq!(
        log(set.change(&remove(account(0))).unwrap()),
        alloy::sol_types::SolEvent::encode_log_data(&removed)
    );
    assert_eq!(set.members(), [(account(1), 7)].into());
    assert_eq!(set.stage.read(set.address, &ValidatorSet::totalPowerCall {}), 7);
    assert_eq!(set.stage.read(set.address, &ValidatorSet::powerOfCall { account: account(0) }), 0);
}

#[test]
fn nobody_else_changes_the_set_and_a_new_owner_has_to_accept() {
    let set = Set::of(&[(account(0), 10), (account(1), 10)]);
    let (stranger, heir) = (set.stage.user(2), set.stage.user(3));
    let refused = |from: Address| ValidatorSet::OwnableUnauthorizedAccount { account: from };
    let attempt = |from: Address| set.stage.send(from, set.address, &remove(account(0)));
    assert_reverts(attempt(stranger), refused(stranger));
    assert_reverts(set.stage.send(stranger, set.address, &add(stranger, 100)), refused(stranger));
    assert_reverts(set.stage.send(stranger, set.address, &set_power(account(0), 1)), refused(stranger));
    set.change(&ValidatorSet::transferOwnershipCall { newOwner: heir }).unwrap();
    assert_reverts(attempt(heir), refused(heir));
    set.stage.send(heir, set.address, &ValidatorSet::acceptOwnershipCall {}).unwrap();
    assert_reverts(attempt(set.owner()), refused(set.owner()));
    attempt(heir).unwrap();
    assert_eq!(set.members(), [(account(1), 10)].into());
}

#[test]
fn a_set_is_never_empty_and_never_beyond_its_limits() {
    const TOTAL: u64 = quorum::MAX_TOTAL_POWER;
    let set = Set::of(&[(account(0), 1)]);
    assert_reverts(set.change(&remove(account(0))), ValidatorSet::LastValidator {});
    assert_reverts(set.change(&remove(account(9))), ValidatorSet::NotValidator { account: account(9) });
    assert_reverts(
        set.change(&set_power(account(9), 1)),
        ValidatorSet::NotValidator { account: account(9) },
    );
    assert_reverts(
        set.change(&add(account(0), 1)),
        ValidatorSet::AlreadyValidator { account: account(0) },
    );
    assert_reverts(set.change(&add(Address::ZERO, 1)), ValidatorSet::NullValidator {});
    assert_reverts(set.change(&add(account(1), 0)), ValidatorSet::PowerIsNull {});
    assert_reverts(set.change(&set_power(account(0), 0)), ValidatorSet::PowerIsNull {});
    let too_large = |total: u64| ValidatorSet::TotalPowerTooLarge {
        totalPower: U256::from(total),
    };
    assert_reverts(set.change(&add(account(1), TOTAL)), too_large(TOTAL + 1));
    assert_reverts(set.change(&set_power(account(0), TOTAL + 1)), too_large(TOTAL + 1));
    set.change(&add(account(1), TOTAL - 1)).unwrap();
    assert_reverts(set.change(&set_power(account(0), 2)), too_large(TOTAL + 1));
    set.change(&set_power(account(1), 1)).unwrap();
    for number in 2..quorum::MAX_VALIDATORS as u64 {
        set.change(&add(account(number), 1)).unwrap();
    }
    assert_reverts(set.change(&add(account(500), 1)), ValidatorSet::TooManyValidators {});
    assert_eq!(set.members().len(), quorum::MAX_VALIDATORS);
    assert_eq!(set.members_in_storage(), set.members());
}

#[test]
fn a_set_cannot_begin_with_what_could_not_be_added() {
    let stage = Stage::new();
    let creation = |validators: &[(Address, u64)]| {
        let request = alloy::rpc::types::TransactionRequest {
            from: Some(stage.user(0)),
            input: validator_set_creation_code(stage.user(1), validators).into(),
            ..Default::default()
        };
        stage.chain.call(&request, LATEST).map(drop)
    };
    let full: Vec<_> = (0..=quorum::MAX_VALIDATORS as u64).map(|number| (account(number), 1)).collect();
    for refused in [
        &[][..],
        &[(account(0), 0)],
        &[(Address::ZERO, 1)],
        &[(account(0), 1), (account(0), 2)],
        &full,
    ] {
        creation(refused).unwrap_err();
    }
    creation(&full[1..]).unwrap();
}

#[test]
fn the_address_of_the_set_is_beside_those_of_the_ciphertexts() {
    let mut expected = [0; 20];
    expected[19] = 0x5f;
    assert_eq!(VALIDATOR_SET, Address::from(expected));
}

#[derive(Clone, Debug)]
enum Change {
    Add(u64, u64),
    Remove(u64),
    SetPower(u64, u64),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        (0..8u64, 0..4u64).prop_map(|(who, power)| Change::Add(who, power)),
        (0..8u64).prop_map(Change::Remove),
        (0..8u64, 0..4u64).prop_map(|(who, power)| Change::SetPower(who, power)),
    ];
    proptest::collection::vec(change, 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_changes_leave_what_a_plain_map_has_and_storage_says_the_same(changes in changes()) {
        let mut model: BTreeMap<Address, u64> = [(account(0), 1)].into();
        let set = Set::of(&[(account(0), 1)]);
        for change in changes {
            let (done, allowed) = match change {
                Change::Add(who, power) => {
                    let allowed = power > 0 && !model.contains_key(&account(who));
                    if allowed {
                        model.insert(account(who), power);
                    }
                    (set.change(&add(account(who), power)), allowed)
                }
                Change::Remove(who) => {
                    let allowed = model.len() > 1 && model.contains_key(&account(who));
                    if allowed {
                        model.remove(&account(who));
                    }
                    (set.change(&remove(account(who))), allowed)
                }
                Change::SetPower(who, power) => {
                    let allowed = power > 0 && model.contains_key(&account(who));
                    if allowed {
                        model.insert(account(who), power);
                    }
                    (set.change(&set_power(account(who), power)), allowed)
                }
            };
            prop_assert_eq!(done.is_ok(), allowed);
        }
        prop_assert_eq!(set.members(), model.clone());
        prop_assert_eq!(set.members_in_storage(), model.clone());
        prop_assert_eq!(set.stage.read(set.address, &ValidatorSet::totalPowerCall {}), model.values().sum::<u64>());
        // What the contract holds is always a set that certificates can be checked against.
        let validators = model.into_iter().map(|(address, power)| quorum::Validator { address, power }).collect();
        prop_assert!(quorum::ValidatorSet::new(validators).is_ok());
    }
}

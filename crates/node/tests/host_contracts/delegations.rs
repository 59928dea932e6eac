//! Random delegations, revocations and times against a model: who may decrypt for whom, and which changes are refused.

use std::collections::BTreeMap;

use alloy::{
    primitives::{Address, B256, U256},
    sol_types::{SolCall, SolError, SolEvent},
};
use cipherloom_contracts::{HostEvent, bindings::ACL};
use cipherloom_primitives::FheType;
use proptest::prelude::*;

use crate::stage::{Batch, LATEST, Stage};

const WILDCARD: Address = Address::repeat_byte(0xff);

/// Numbers of the parties below; the first two delegate.
const PARTIES: usize = 6;

/// When a delegation shall end.
#[derive(Clone, Copy, Debug)]
enum Expiry {
    /// So many seconds after the block, or before it.
    In(i64),
    /// When it already ends.
    Same,
    Never,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Delegate(usize, usize, Expiry),
    Revoke(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let expiry = prop_oneof![
        4 => (-2..6i64).prop_map(Expiry::In),
        1 => Just(Expiry::Same),
        1 => Just(Expiry::Never),
    ];
    // The parties that make sense, more often than the others.
    let delegate = || prop_oneof![6 => 2..4usize, 1 => 0..PARTIES];
    let contract = || prop_oneof![6 => 4..PARTIES, 1 => 0..PARTIES];
    prop_oneof![
        3 => (delegate(), contract(), expiry).prop_map(|(a, b, expiry)| Change::Delegate(a, b, expiry)),
        1 => (delegate(), contract()).prop_map(|(a, b)| Change::Revoke(a, b)),
    ]
}

/// A block: how many seconds after the last one, who changes, and what.
type Block = (u64, usize, Vec<Change>);

fn block() -> impl Strategy<Value = Block> {
    (0..4u64, 0..2usize, proptest::collection::vec(change(), 1..6))
}

#[derive(Clone, Copy, Default)]
struct Delegation {
    expiry: u64,
    counter: u64,
    last_block: u64,
}

struct World {
    stage: Stage,
    /// Two delegators, two delegates, a contract, the wildcard.
    parties: [Address; PARTIES],
    /// A value of the first delegator in the contract.
    handle: B256,
    model: BTreeMap<(usize, usize, usize), Delegation>,
    time: u64,
    refused: usize,
    changed: usize,
}

impl World {
    fn new() -> Self {
        let stage = Stage::new();
        let other = stage.create(Batch::BYTECODE.clone());
        let parties = [stage.batch, other, stage.user(5), stage.user(6), stage.user(7), WILDCARD];
        let mut script = stage.script();
        let value = script.value(1, FheType::Uint64);
        for account in [parties[0], parties[4]] {
            script.call(stage.host.acl, "allow(bytes32,address)", &[value, account.into()]);
        }
        let handle = stage.mine_handle(&script).as_b256();
        let time = stage.chain.block(LATEST).unwrap().unwrap().header.timestamp + 10;
        Self {
            stage,
            parties,
            handle,
            model: BTreeMap::new(),
            time,
            refused: 0,
            changed: 0,
        }
    }

    fn expiry(&self, key: (usize, usize, usize), expiry: Expiry) -> u64 {
        match expiry {
            Expiry::In(seconds) => self.time.saturating_add_signed(seconds),
            Expiry::Same => self.model.get(&key).map_or(0, |delegation| delegation.expiry),
            Expiry::Never => u64::MAX,
        }
    }

    fn run(&mut self, (seconds, delegator, changes): &Block) {
        self.time += seconds;
        self.stage.chain.set_next_block_timestamp(self.time).unwrap();
        let number = self.stage.chain.block_number().unwrap() + 1;
        let mut expectations = Vec::new();
        let mut calls = Vec::new();
        for change in changes {
            let (data, expected) = self.apply(*delegator, *change, number);
            expectations.push(expected);
            calls.push(Batch::Call {
                target: self.stage.host.acl,
                data: data.into(),
                patches: Vec::new(),
            });
        }
        let attempt = Batch::attemptCall { calls };
        let mined = self.stage.send(self.stage.user(0), self.parties[*delegator], &attempt).unwrap();
        assert_eq!(mined.timestamp, self.time);
        let outcome = Batch::Attempted::decode_log(mined.logs.last().unwrap()).unwrap().data;
        for (index, expected) in expectations.iter().enumerate() {
            let (success, result) = (outcome.successes[index], &outcome.results[index]);
            assert_eq!(success, expected.is_ok(), "{:?}: {result}", changes[index]);
            if let Err(error) = expected {
                assert_eq!(result.as_ref(), error, "{:?}", changes[index]);
            }
        }
        let events: Vec<HostEvent> = expectations.into_iter().filter_map(Result::ok).collect();
        assert_eq!(self.stage.events(&mined), events);
        self.compare();
    }

    /// What a change must do, and its call. The model changes with it.
    fn apply(&mut self, delegator: usize, change: Change, number: u64) -> (Vec<u8>, Result<HostEvent, Vec<u8>>) {
        let (Change::Delegate(to, within, _) | Change::Revoke(to, within)) = change;
        let [me, delegate, contract] = [delegator, to, within].map(|party| self.parties[party]);
        let key = (delegator, to, within);
        let old = self.model.get(&key).copied().unwrap_or_default();
        let (data, refusal, expiry) = match change {
            Change::Delegate(.., expiry) => {
                let expiry = self.expiry(key, expiry);
                let call = ACL::delegateForUserDecryptionCall {
                    delegate,
                    contractAddress: contract,
                    expirationDate: expiry,
                };
                (call.abi_encode(), self.refusal([me, delegate, contract], old, expiry), expiry)
            }
            Change::Revoke(..) => {
                let call = ACL::revokeDelegationForUserDecryptionCall {
                    delegate,
                    contractAddress: contract,
                };
                let missing = ACL::NotDelegatedYet {
                    delegator: me,
                    delegate,
                    contractAddress: contract,
                };
                let refusal = (old.expiry == 0).then(|| missing.abi_encode());
                (call.abi_encode(), refusal, 0)
            }
        };
        let twice = ACL::AlreadyDelegatedOrRevokedInSameBlock {
            delegator: me,
            delegate,
            contractAddress: contract,
            blockNumber: U256::from(number),
        };
        let refusal = refusal.or_else(|| (old.last_block == number).then(|| twice.abi_encode()));
        if let Some(error) = refusal {
            self.refused += 1;
            return (data, Err(error));
        }
        self.changed += 1;
        let counter = old.counter + 1;
        let new = Delegation {
            expiry,
            counter,
            last_block: number,
        };
        self.model.insert(key, new);
        let event = if expiry == 0 {
            HostEvent::RevokedDelegationForUserDecryption {
                delegator: me,
                delegate,
                contract,
                counter,
                old_expiration: old.expiry,
            }
        } else {
            HostEvent::DelegatedForUserDecryption {
                delegator: me,
                delegate,
                contract,
                counter,
                old_expiration: old.expiry,
                new_expiration: expiry,
            }
        };
        (data, Ok(event))
    }

    /// Why a delegation is refused, but for the rule of one change per block.
    fn refusal(&self, [me, delegate, contract]: [Address; 3], old: Delegation, expiry: u64) -> Option<Vec<u8>> {
        if contract == me {
            return Some(ACL::SenderCannotBeContractAddress { contractAddress: contract }.abi_encode());
        }
        if delegate == me {
            return Some(ACL::SenderCannotBeDelegate { delegate }.abi_encode());
        }
        if delegate == contract {
            return Some(ACL::DelegateCannotBeContractAddress { contractAddress: contract }.abi_encode());
        }
        if delegate == WILDCARD {
            return Some(ACL::DelegateCannotBeWildcard {}.abi_encode());
        }
        if expiry <= self.time {
            return Some(ACL::ExpirationDateInThePast {}.abi_encode());
        }
        let same = ACL::ExpirationDateAlreadySetToSameValue {
            delegator: me,
            delegate,
            contractAddress: contract,
            expirationDate: expiry,
        };
        (expiry == old.expiry).then(|| same.abi_encode())
    }

    /// Whether each delegate may decrypt for each delegator, on the chain and in the model.
    fn compare(&self) {
        let acl = self.stage.host.acl;
        for delegator in 0..2 {
            for delegate in 2..4 {
                let of = |contract: usize| self.model.get(&(delegator, delegate, contract)).map_or(0, |found| found.expiry);
                for contract in 4..PARTIES {
                    let date = ACL::getUserDecryptionDelegationExpirationDateCall {
                        delegator: self.parties[delegator],
                        delegate: self.parties[delegate],
                        contractAddress: self.parties[contract],
                    };
                    assert_eq!(self.stage.read(acl, &date), of(contract));
                }
                let call = ACL::isHandleDelegatedForUserDecryptionCall {
                    delegator: self.parties[delegator],
                    delegate: self.parties[delegate],
                    contractAddress: self.parties[4],
                    handle: self.handle,
                };
                // The value is the first delegator's alone.
                let expected = delegator == 0 && of(4).max(of(5)) > self.time;
                assert_eq!(self.stage.read(acl, &call), expected, "{delegator} to {delegate}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn delegations_hold_from_their_change_to_their_end(blocks in proptest::collection::vec(block(), 50..51)) {
        let mut world = World::new();
        for block in &blocks {
            world.run(block);
        }
        prop_assert!(world.changed > 10 && world.refused > 10, "{} changes, {} refusals", world.changed, world.refused);
    }
}

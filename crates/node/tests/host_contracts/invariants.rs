//! No handle is usable, shareable or decryptable without an allowance, whatever contracts try in whatever order.
//!
//! Random transactions of two contracts run on the chain and, step by step, against a model of the access list that is as
//! plain as the rules. Between transactions the owner denies accounts, pauses, and upgrades contracts to new
//! implementations; the model knows of no upgrade, so every one of them must keep what is stored.

use std::collections::BTreeSet;

use alloy::{
    primitives::{Address, B256},
    sol_types::{SolCall, SolEvent},
};
use cipherloom_contracts::{
    Face, HostContract, Wiring,
    bindings::{ACL, PauserSet},
    upgrade_call,
};
use cipherloom_primitives::{FheType, Handle, Operation};
use proptest::{prelude::*, sample::Index};

use crate::stage::{Arg, Batch, Script, Stage, byte, foreign_handle};

/// The contracts, and an account that never acts.
const ACCOUNTS: usize = 3;

/// One call of a contract.
#[derive(Clone, Debug)]
enum Step {
    Mint,
    Negate(Index),
    Add(Index, Index),
    Allow(Index, usize),
    AllowTransient(Index, usize),
    AllowForDecryption(Index),
    CleanTransient,
    AskAllowed(Index, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let handle = any::<Index>;
    let account = || 0..ACCOUNTS;
    prop_oneof![
        4 => Just(Step::Mint),
        3 => handle().prop_map(Step::Negate),
        3 => (handle(), handle()).prop_map(|(a, b)| Step::Add(a, b)),
        4 => (handle(), account()).prop_map(|(a, account)| Step::Allow(a, account)),
        3 => (handle(), account()).prop_map(|(a, account)| Step::AllowTransient(a, account)),
        1 => handle().prop_map(Step::AllowForDecryption),
        1 => Just(Step::CleanTransient),
        3 => (handle(), account()).prop_map(|(a, account)| Step::AskAllowed(a, account)),
    ]
}

/// What happens on the chain.
#[derive(Clone, Debug)]
enum Action {
    /// A transaction of a contract.
    Transaction(usize, Vec<Step>),
    ToggleDenied(usize),
    TogglePause,
    Upgrade(HostContract),
}

fn action() -> impl Strategy<Value = Action> {
    let upgradeable: Vec<HostContract> = HostContract::ALL.into_iter().filter(|contract| contract.is_upgradeable()).collect();
    prop_oneof![
        12 => (0..2usize, proptest::collection::vec(step(), 1..12)).prop_map(|(contract, steps)| Action::Transaction(contract, steps)),
        2 => (0..2usize).prop_map(Action::ToggleDenied),
        1 => Just(Action::TogglePause),
        2 => proptest::sample::select(upgradeable).prop_map(Action::Upgrade),
    ]
}

/// The rules, and nothing else. Accounts are given by number.
#[derive(Default)]
struct Model {
    persisted: BTreeSet<(B256, usize)>,
    transient: BTreeSet<(B256, usize)>,
    decryptable: BTreeSet<B256>,
    denied: BTreeSet<usize>,
    is_paused: bool,
    handles: Vec<B256>,
}

impl Model {
    fn is_allowed(&self, handle: B256, account: usize) -> bool {
        self.persisted.contains(&(handle, account)) || self.transient.contains(&(handle, account))
    }

    /// Whether the account may share a handle.
    fn may_share(&self, handle: B256, account: usize) -> bool {
        !self.is_paused && !self.denied.contains(&account) && self.is_allowed(handle, account)
    }

    /// Whether the account may compute with these handles.
    fn may_compute(&self, handles: &[B256], account: usize) -> bool {
        !self.is_paused && handles.iter().all(|handle| self.is_allowed(*handle, account))
    }
}

struct World {
    stage: Stage,
    accounts: [Address; ACCOUNTS],
    model: Model,
    minted: u64,
    /// How many steps were refused, and how many were not.
    refused: usize,
    passed: usize,
}

/// A step with its operands chosen: each is a word known before the transaction, or the result of an earlier step of it.
struct Chosen {
    step: Step,
    operands: Vec<Arg>,
}

impl World {
    fn new() -> Self {
        let stage = Stage::new();
        let other = stage.create(Batch::BYTECODE.clone());
        stage.administer(stage.host.pauser_set, &PauserSet::addPauserCall { account: stage.user(9) });
        Self {
            accounts: [stage.batch, other, stage.user(5)],
            stage,
            model: Model {
                // One that nobody was ever allowed.
                handles: vec![foreign_handle(FheType::Uint8.id())],
                ..Model::default()
            },
            minted: 0,
            refused: 0,
            passed: 0,
        }
    }

    fn run(&mut self, action: &Action) {
        let acl = self.stage.host.acl;
        match action {
            Action::Transaction(contract, steps) => return self.transact(*contract, steps),
            Action::ToggleDenied(number) => {
                let account = self.accounts[*number];
                if self.model.is_paused {
                    // The deny list cannot change in a pause.
                    let refused = self.stage.send(self.stage.owner(), acl, &ACL::blockAccountCall { account });
                    return refused.unwrap_err().is(ACL::EnforcedPause {});
                }
                if self.model.denied.remove(number) {
                    self.stage.administer(acl, &ACL::unblockAccountCall { account });
                } else {
                    self.model.denied.insert(*number);
                    self.stage.administer(acl, &ACL::blockAccountCall { account });
                }
            }
            Action::TogglePause => {
                if self.model.is_paused {
                    self.stage.administer(acl, &ACL::unpauseCall {});
                } else {
                    self.stage.send(self.stage.user(9), acl, &ACL::pauseCall {}).unwrap();
                }
                self.model.is_paused = !self.model.is_paused;
            }
            Action::Upgrade(contract) => {
                let code = contract.creation_code(&Wiring::new(self.stage.host, Face::default()));
                let implementation = self.stage.create(code);
                let call = ACL::upgradeToAndCallCall::abi_decode(&upgrade_call(implementation, vec![].into())).unwrap();
                self.stage.administer(contract.address(&self.stage.host), &call);
            }
        }
        self.compare();
    }

    /// Chooses the operands of each step among all handles so far, and adds the steps to a script.
    fn script(&mut self, contract: usize, steps: &[Step]) -> (Script, Vec<Chosen>) {
        let mut candidates: Vec<Arg> = self.model.handles.iter().map(|handle| Arg::Word(*handle)).collect();
        let mut script = self.stage.script();
        let acl = self.stage.host.acl;
        let mut chosen = Vec::new();
        for step in steps {
            let pick = |index: &Index| candidates[index.index(candidates.len())];
            let to = |account: &usize| Arg::from(self.accounts[*account]);
            let mut operands = Vec::new();
            let mut result = None;
            match step {
                Step::Mint => {
                    self.minted += 1;
                    result = Some(script.value(self.minted, FheType::Uint256));
                }
                Step::Negate(a) => {
                    operands = vec![pick(a)];
                    result = Some(script.operation(Operation::Not, &operands));
                }
                Step::Add(a, b) => {
                    operands = vec![pick(a), pick(b)];
                    result = Some(script.operation(Operation::BitXor, &[operands[0], operands[1], byte(0)]));
                }
                Step::Allow(a, account) => {
                    operands = vec![pick(a)];
                    script.call(acl, "allow(bytes32,address)", &[operands[0], to(account)]);
                }
                Step::AllowTransient(a, account) => {
                    operands = vec![pick(a)];
                    script.call(acl, "allowTransient(bytes32,address)", &[operands[0], to(account)]);
                }
                Step::AllowForDecryption(a) => {
                    operands = vec![pick(a)];
                    script.call(acl, "allowForDecryption(bytes32[])", &[32.into(), 1.into(), operands[0]]);
                }
                Step::CleanTransient => drop(script.call(acl, "cleanTransientStorage()", &[])),
                Step::AskAllowed(a, account) => {
                    operands = vec![pick(a)];
                    script.call(acl, "isAllowed(bytes32,address)", &[operands[0], to(account)]);
                }
            }
            candidates.extend(result);
            let step = step.clone();
            chosen.push(Chosen { step, operands });
        }
        assert!(contract < 2, "accounts beyond the contracts never act");
        (script, chosen)
    }

    fn transact(&mut self, contract: usize, steps: &[Step]) {
        let (script, chosen) = self.script(contract, steps);
        let attempt = Batch::attemptCall {
            calls: script.calls().to_vec(),
        };
        let mined = self.stage.send(self.stage.user(0), self.accounts[contract], &attempt).unwrap();
        let log = mined.logs.last().unwrap();
        let outcome = Batch::Attempted::decode_log(log).unwrap().data;

        // What each step returned, zero for a failed one: what later steps got as their operand.
        let mut words: Vec<B256> = Vec::new();
        for (index, Chosen { step, operands }) in chosen.iter().enumerate() {
            let operands: Vec<B256> = operands
                .iter()
                .map(|operand| match operand {
                    Arg::Word(word) => *word,
                    Arg::Result(source) => words[*source],
                })
                .collect();
            let (success, output) = (outcome.successes[index], &outcome.results[index]);
            let word = if success && output.len() >= 32 {
                B256::from_slice(&output[..32])
            } else {
                B256::ZERO
            };
            words.push(word);
            let should = self.should_succeed(contract, step, &operands);
            assert_eq!(success, should, "step {index}, {step:?} on {operands:?}: {output}");
            if success {
                self.passed += 1;
                self.apply(contract, step, &operands, word);
            } else {
                self.refused += 1;
            }
        }
        self.model.transient.clear();
        self.compare();
    }

    fn should_succeed(&self, contract: usize, step: &Step, operands: &[B256]) -> bool {
        let model = &self.model;
        match step {
            Step::Mint => !model.is_paused,
            Step::Negate(_) => model.may_compute(operands, contract),
            // Types must agree; the handle of a failed step has another type than all others.
            Step::Add(..) => operands[0][30] == operands[1][30] && model.may_compute(operands, contract),
            Step::Allow(..) | Step::AllowTransient(..) | Step::AllowForDecryption(_) => model.may_share(operands[0], contract),
            Step::CleanTransient | Step::AskAllowed(..) => true,
        }
    }

    fn apply(&mut self, contract: usize, step: &Step, operands: &[B256], word: B256) {
        let model = &mut self.model;
        match step {
            Step::Mint | Step::Negate(_) | Step::Add(..) => {
                Handle::try_from(word).unwrap();
                model.transient.insert((word, contract));
                if !model.handles.contains(&word) {
                    model.handles.push(word);
                }
            }
            Step::Allow(_, account) => drop(model.persisted.insert((operands[0], *account))),
            Step::AllowTransient(_, account) => drop(model.transient.insert((operands[0], *account))),
            Step::AllowForDecryption(_) => drop(model.decryptable.insert(operands[0])),
            Step::CleanTransient => model.transient.clear(),
            Step::AskAllowed(_, account) => assert_eq!(word != B256::ZERO, model.is_allowed(operands[0], *account)),
        }
    }

    /// Between transactions, the chain must agree with the model on every handle and account.
    fn compare(&self) {
        let acl = self.stage.host.acl;
        for handle in self.model.handles.iter().rev().take(12).copied() {
            for (number, account) in self.accounts.into_iter().enumerate() {
                let persisted = self.stage.read(acl, &ACL::persistAllowedCall { handle, account });
                assert_eq!(persisted, self.model.persisted.contains(&(handle, number)), "{handle} {account}");
                let allowed = self.stage.read(acl, &ACL::isAllowedCall { handle, account });
                assert_eq!(allowed, persisted, "nothing transient is left of {handle} for {account}");
            }
            let decryptable = self.stage.read(acl, &ACL::isAllowedForDecryptionCall { handle });
            assert_eq!(decryptable, self.model.decryptable.contains(&handle), "{handle}");
        }
        for (number, account) in self.accounts.into_iter().enumerate() {
            let denied = self.stage.read(acl, &ACL::isAccountDeniedCall { account });
            assert_eq!(denied, self.model.denied.contains(&number));
        }
        assert_eq!(self.stage.read(acl, &ACL::pausedCall {}), self.model.is_paused);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn handles_are_used_and_shared_by_those_alone_who_are_allowed(actions in proptest::collection::vec(action(), 60..61)) {
        let mut world = World::new();
        for action in &actions {
            world.run(action);
        }
        prop_assert!(world.passed > 20, "{} steps passed", world.passed);
        prop_assert!(world.refused > 20, "{} steps were refused", world.refused);
    }
}

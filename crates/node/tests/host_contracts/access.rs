//! The access list: allowances for a transaction and for ever, decryption, delegation, the deny list and the pause.

use alloy::{
    primitives::{Address, B256, U256},
    sol_types::SolCall,
};
use cipherloom_contracts::{
    HostEvent,
    bindings::{ACL, FHEVMExecutor, PauserSet},
};
use cipherloom_primitives::{FheType, Handle, Operation};

use crate::stage::{Arg, LATEST, Script, Stage, assert_reverts, foreign_handle};

const ALLOW: &str = "allow(bytes32,address)";
const ALLOW_TRANSIENT: &str = "allowTransient(bytes32,address)";

/// Mines a value that the batch contract may use for ever, and shares it with these accounts.
fn shared_value(stage: &Stage, accounts: &[Address]) -> Handle {
    let mut script = stage.script();
    let a = script.value(1, FheType::Uint64);
    for account in accounts.iter().chain([&stage.batch]) {
        script.call(stage.host.acl, ALLOW, &[a, (*account).into()]);
    }
    stage.mine_handle(&script)
}

fn persisted(stage: &Stage, handle: Handle, account: Address) -> bool {
    stage.read(
        stage.host.acl,
        &ACL::persistAllowedCall {
            handle: handle.as_b256(),
            account,
        },
    )
}

#[test]
fn a_transient_allowance_ends_with_the_transaction() {
    let stage = Stage::new();
    let mut script = stage.script();
    let a = script.value(1, FheType::Uint8);
    script.operation(Operation::Neg, &[a]);
    let mined = stage.mine(&script).unwrap();
    let handle = stage.computations(&mined)[0].result;

    let mut later = stage.script();
    later.operation(Operation::Neg, &[handle.into()]);
    assert_reverts(stage.run(&later), stage.not_allowed(handle));
    assert!(!persisted(&stage, handle, stage.batch));
}

#[test]
fn a_persisted_allowance_stays_and_is_announced() {
    let stage = Stage::new();
    let user = stage.user(1);
    let mut script = stage.script();
    let a = script.value(1, FheType::Uint8);
    script.call(stage.host.acl, ALLOW, &[a, stage.batch.into()]);
    script.call(stage.host.acl, ALLOW, &[a, user.into()]);
    let mined = stage.mine(&script).unwrap();
    let handle = stage.computations(&mined)[0].result;

    let allowed = |account| HostEvent::Allowed {
        caller: stage.batch,
        account,
        handle,
    };
    assert_eq!(stage.events(&mined)[1..], [allowed(stage.batch), allowed(user)]);
    assert!(persisted(&stage, handle, user));
    let mut later = stage.script();
    later.operation(Operation::Neg, &[handle.into()]);
    stage.mine(&later).unwrap();
}

#[test]
fn cleaning_forgets_the_transactions_allowances() {
    let stage = Stage::new();
    let mut script = stage.script();
    let (a, b) = (script.value(1, FheType::Uint8), script.value(2, FheType::Uint16));
    script.call(stage.host.acl, "cleanTransientStorage()", &[]);
    let allowed = |script: &mut Script, handle| script.call(stage.host.acl, "isAllowed(bytes32,address)", &[handle, stage.batch.into()]);
    allowed(&mut script, a);
    allowed(&mut script, b);
    // The list of keys works again after cleaning.
    let c = script.value(3, FheType::Uint8);
    allowed(&mut script, c);
    let results = stage.run(&script).unwrap();
    assert!(results[3].is_zero() && results[4].is_zero());
    assert!(!results[6].is_zero());

    let mut script = stage.script();
    let a = script.value(1, FheType::Uint8);
    script.call(stage.host.acl, "cleanTransientStorage()", &[]);
    script.operation(Operation::Neg, &[a]);
    stage.run(&script).unwrap_err().is_some::<FHEVMExecutor::ACLNotAllowed>();
}

#[test]
fn only_who_may_use_a_handle_may_allow_it() {
    let stage = Stage::new();
    let (handle, user) = (foreign_handle(2), stage.user(1));
    let refused = ACL::SenderNotAllowed { sender: user };
    let acl = stage.host.acl;
    assert_reverts(stage.send(user, acl, &ACL::allowCall { handle, account: user }), refused.clone());
    assert_reverts(
        stage.send(user, acl, &ACL::allowTransientCall { handle, account: user }),
        refused.clone(),
    );
    let decryption = ACL::allowForDecryptionCall { handlesList: vec![handle] };
    assert_reverts(stage.send(user, acl, &decryption), refused);
    let nothing = ACL::allowForDecryptionCall { handlesList: vec![] };
    assert_reverts(stage.send(user, acl, &nothing), ACL::HandlesListIsEmpty {});
}

#[test]
fn a_transient_allowance_can_be_passed_on() {
    let stage = Stage::new();
    let user = stage.user(1);
    let mut script = stage.script();
    let a = script.value(1, FheType::Uint8);
    script.call(stage.host.acl, ALLOW_TRANSIENT, &[a, user.into()]);
    script.call(stage.host.acl, "allowedTransient(bytes32,address)", &[a, user.into()]);
    script.call(stage.host.acl, "persistAllowed(bytes32,address)", &[a, user.into()]);
    let results = stage.run(&script).unwrap();
    assert_eq!(results[2], B256::from(U256::ONE));
    assert!(results[3].is_zero());
}

#[test]
fn public_decryption_needs_every_handle_and_is_announced() {
    let stage = Stage::new();
    let mut script = stage.script();
    let (a, b) = (script.value(1, FheType::Uint8), script.value(2, FheType::Bool));
    script.call(stage.host.acl, "allowForDecryption(bytes32[])", &[32.into(), 2.into(), a, b]);
    let mined = stage.mine(&script).unwrap();
    let handles: Vec<Handle> = stage.computations(&mined).iter().map(|computation| computation.result).collect();
    let announced = HostEvent::AllowedForDecryption {
        caller: stage.batch,
        handles: handles.clone(),
    };
    assert_eq!(stage.events(&mined).last(), Some(&announced));
    for handle in handles {
        assert!(stage.read(stage.host.acl, &ACL::isAllowedForDecryptionCall { handle: handle.as_b256() }));
    }

    let mut script = stage.script();
    let a = script.value(1, FheType::Uint8);
    let stranger = Arg::Word(foreign_handle(2));
    script.call(stage.host.acl, "allowForDecryption(bytes32[])", &[32.into(), 2.into(), a, stranger]);
    assert_reverts(stage.run(&script), ACL::SenderNotAllowed { sender: stage.batch });
}

fn now(stage: &Stage) -> u64 {
    stage.chain.block(LATEST).unwrap().unwrap().header.timestamp
}

fn delegate_call(delegate: Address, contract: Address, expiration: u64) -> ACL::delegateForUserDecryptionCall {
    ACL::delegateForUserDecryptionCall {
        delegate,
        contractAddress: contract,
        expirationDate: expiration,
    }
}

fn delegated(stage: &Stage, delegator: Address, delegate: Address, contract: Address, handle: Handle) -> bool {
    let call = ACL::isHandleDelegatedForUserDecryptionCall {
        delegator,
        delegate,
        contractAddress: contract,
        handle: handle.as_b256(),
    };
    stage.read(stage.host.acl, &call)
}

#[test]
fn a_delegation_holds_for_its_contract_until_it_expires_or_is_revoked() {
    let stage = Stage::new();
    let (delegator, delegate, acl) = (stage.user(1), stage.user(2), stage.host.acl);
    let handle = shared_value(&stage, &[delegator]);
    let contract = stage.batch;
    let expiration = now(&stage) + 1000;
    assert!(!delegated(&stage, delegator, delegate, contract, handle));

    let mined = stage.send(delegator, acl, &delegate_call(delegate, contract, expiration)).unwrap();
    assert_eq!(
        stage.events(&mined),
        [HostEvent::DelegatedForUserDecryption {
            delegator,
            delegate,
            contract,
            counter: 1,
            old_expiration: 0,
            new_expiration: expiration
        }]
    );
    assert!(delegated(&stage, delegator, delegate, contract, handle));
    assert!(!delegated(&stage, delegator, stage.user(3), contract, handle));
    assert!(!delegated(&stage, stage.user(3), delegate, contract, handle));
    assert!(!delegated(&stage, delegator, delegate, stage.user(3), handle));

    stage.chain.set_time(expiration).unwrap();
    stage.chain.mine(1).unwrap();
    assert!(!delegated(&stage, delegator, delegate, contract, handle), "it has expired");

    let renewed = now(&stage) + 1000;
    stage.send(delegator, acl, &delegate_call(delegate, contract, renewed)).unwrap();
    assert!(delegated(&stage, delegator, delegate, contract, handle));
    let revoke = ACL::revokeDelegationForUserDecryptionCall {
        delegate,
        contractAddress: contract,
    };
    let mined = stage.send(delegator, acl, &revoke).unwrap();
    assert_eq!(
        stage.events(&mined),
        [HostEvent::RevokedDelegationForUserDecryption {
            delegator,
            delegate,
            contract,
            counter: 3,
            old_expiration: renewed
        }]
    );
    assert!(!delegated(&stage, delegator, delegate, contract, handle));
    let again = stage.send(delegator, acl, &revoke);
    assert_reverts(
        again,
        ACL::NotDelegatedYet {
            delegator,
            delegate,
            contractAddress: contract,
        },
    );
}

#[test]
fn a_wildcard_delegation_covers_every_contract_that_may_use_the_handle() {
    let stage = Stage::new();
    let (delegator, delegate) = (stage.user(1), stage.user(2));
    let handle = shared_value(&stage, &[delegator]);
    let wildcard = stage.read(stage.host.acl, &ACL::WILDCARD_DELEGATION_ADDRESSCall {});
    assert_eq!(wildcard, Address::repeat_byte(0xff));
    stage
        .send(delegator, stage.host.acl, &delegate_call(delegate, wildcard, u64::MAX))
        .unwrap();
    assert!(delegated(&stage, delegator, delegate, stage.batch, handle));
    assert!(
        !delegated(&stage, delegator, delegate, stage.user(3), handle),
        "that contract may not use the handle"
    );
    let other = shared_value(&stage, &[]);
    assert!(
        !delegated(&stage, delegator, delegate, stage.batch, other),
        "the delegator may not use that handle"
    );
}

#[test]
fn delegations_that_make_no_sense_revert() {
    let stage = Stage::new();
    let (me, delegate, contract, acl) = (stage.user(1), stage.user(2), stage.batch, stage.host.acl);
    let wildcard = Address::repeat_byte(0xff);
    let later = now(&stage) + 1000;
    let send = |call: ACL::delegateForUserDecryptionCall| stage.send(me, acl, &call);

    assert_reverts(
        send(delegate_call(delegate, me, later)),
        ACL::SenderCannotBeContractAddress { contractAddress: me },
    );
    assert_reverts(
        send(delegate_call(me, contract, later)),
        ACL::SenderCannotBeDelegate { delegate: me },
    );
    let same = ACL::DelegateCannotBeContractAddress { contractAddress: contract };
    assert_reverts(send(delegate_call(contract, contract, later)), same);
    assert_reverts(send(delegate_call(wildcard, contract, later)), ACL::DelegateCannotBeWildcard {});
    assert_reverts(
        send(delegate_call(delegate, contract, now(&stage) - 1)),
        ACL::ExpirationDateInThePast {},
    );

    send(delegate_call(delegate, contract, later)).unwrap();
    let unchanged = ACL::ExpirationDateAlreadySetToSameValue {
        delegator: me,
        delegate,
        contractAddress: contract,
        expirationDate: later,
    };
    assert_reverts(send(delegate_call(delegate, contract, later)), unchanged);
}

#[test]
fn a_delegation_changes_once_per_block() {
    let stage = Stage::new();
    let (delegate, contract) = (stage.user(2), stage.user(3));
    let later = now(&stage) + 1000;
    let calls = vec![
        delegate_call(delegate, contract, later).abi_encode().into(),
        delegate_call(delegate, contract, later + 1).abi_encode().into(),
    ];
    let result = stage.send(stage.user(1), stage.host.acl, &ACL::multicallCall { data: calls });
    result.unwrap_err().is_some::<ACL::AlreadyDelegatedOrRevokedInSameBlock>();

    let two_delegates = vec![
        delegate_call(delegate, contract, later).abi_encode().into(),
        delegate_call(stage.user(4), contract, later).abi_encode().into(),
    ];
    let mined = stage
        .send(stage.user(1), stage.host.acl, &ACL::multicallCall { data: two_delegates })
        .unwrap();
    assert_eq!(stage.events(&mined).len(), 2, "the multicall acts for its sender");
}

#[test]
fn permits_are_invalidated_forward_only() {
    let stage = Stage::new();
    let (user, acl) = (stage.user(1), stage.host.acl);
    let invalidate = |timestamp: U256| stage.send(user, acl, &ACL::invalidateDecryptionSignaturesBeforeCall { timestamp });
    let before = || stage.read(acl, &ACL::decryptionSignatureInvalidatedBeforeCall { account: user });

    let mined = invalidate(U256::ZERO).unwrap();
    let time = U256::from(mined.timestamp);
    assert_eq!(
        stage.events(&mined),
        [HostEvent::DecryptionSignaturesInvalidated {
            account: user,
            before: time
        }]
    );
    assert_eq!(before(), time);
    let low = invalidate(time);
    assert_reverts(
        low,
        ACL::InvalidationTimestampTooLow {
            timestamp: time,
            current: time,
        },
    );
    let future = invalidate(time + U256::from(1_000_000));
    future.unwrap_err().is_some::<ACL::InvalidationTimestampInTheFuture>();
    assert_eq!(before(), time);
}

#[test]
fn denied_accounts_can_allow_nothing() {
    let stage = Stage::new();
    let acl = stage.host.acl;
    let handle = shared_value(&stage, &[]);
    let account = stage.batch;
    let stranger = ACL::OwnableUnauthorizedAccount { account: stage.user(1) };
    assert_reverts(stage.send(stage.user(1), acl, &ACL::blockAccountCall { account }), stranger);

    stage.administer(acl, &ACL::blockAccountCall { account });
    assert!(stage.read(acl, &ACL::isAccountDeniedCall { account }));
    assert_reverts(
        stage.send(stage.owner(), acl, &ACL::blockAccountCall { account }),
        ACL::AccountAlreadyBlocked { account },
    );
    for signature in [ALLOW, ALLOW_TRANSIENT] {
        let mut script = stage.script();
        script.call(acl, signature, &[handle.into(), stage.user(1).into()]);
        assert_reverts(stage.run(&script), ACL::SenderDenied { sender: account });
    }
    let mut script = stage.script();
    script.call(acl, "allowForDecryption(bytes32[])", &[32.into(), 1.into(), handle.into()]);
    assert_reverts(stage.run(&script), ACL::SenderDenied { sender: account });

    stage.administer(acl, &ACL::unblockAccountCall { account });
    stage.run(&script).unwrap();
    assert_reverts(
        stage.send(stage.owner(), acl, &ACL::unblockAccountCall { account }),
        ACL::AccountNotBlocked { account },
    );
}

#[test]
fn a_pause_stops_operations_and_permissions_until_the_owner_ends_it() {
    let stage = Stage::new();
    let (acl, pauser) = (stage.host.acl, stage.user(4));
    let handle = shared_value(&stage, &[]);
    assert_reverts(stage.send(pauser, acl, &ACL::pauseCall {}), ACL::NotPauser { account: pauser });
    assert_reverts(
        stage.send(pauser, stage.host.pauser_set, &PauserSet::addPauserCall { account: pauser }),
        PauserSet::NotHostOwner { sender: pauser },
    );
    stage.administer(stage.host.pauser_set, &PauserSet::addPauserCall { account: pauser });
    assert!(stage.read(acl, &ACL::isPauserCall { account: pauser }));

    stage.send(pauser, acl, &ACL::pauseCall {}).unwrap();
    let mut script = stage.script();
    script.value(1, FheType::Uint8);
    assert_reverts(stage.run(&script), ACL::EnforcedPause {});
    let mut script = stage.script();
    script.call(acl, ALLOW, &[handle.into(), pauser.into()]);
    assert_reverts(stage.run(&script), ACL::EnforcedPause {});
    let delegation = delegate_call(stage.user(2), stage.batch, u64::MAX);
    assert_reverts(stage.send(stage.user(1), acl, &delegation), ACL::EnforcedPause {});
    assert!(persisted(&stage, handle, stage.batch), "reads go on");

    let not_owner = ACL::OwnableUnauthorizedAccount { account: pauser };
    assert_reverts(stage.send(pauser, acl, &ACL::unpauseCall {}), not_owner);
    stage.administer(acl, &ACL::unpauseCall {});
    stage.run(&script).unwrap();

    let replacement = PauserSet::swapPauserCall {
        oldAccount: pauser,
        newAccount: stage.user(5),
    };
    stage.administer(stage.host.pauser_set, &replacement);
    assert_reverts(stage.send(pauser, acl, &ACL::pauseCall {}), ACL::NotPauser { account: pauser });
}

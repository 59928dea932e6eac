//! Encrypted inputs on native chains: what a transaction's list must be for a contract to use a value of it.

use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::sol_types::SolEvent;
use cipherloom_contracts::{
    HostContract,
    bindings::{ACL, FHEVMExecutor as Executor, IInputVerifier, InputVerifier, NativeInputContext, NativeInputVerifier},
    development,
};
use cipherloom_primitives::{
    FheType, Handle, Operation,
    ciphertext_state::FHELIB,
    input::input_handles,
    native::{NativeInputProof, NativeProofError, native_input_handles, native_input_proof},
};

use crate::stage::{Arg, FheLibDouble, Revert, Script, Stage, assert_reverts};

const TYPES: [FheType; 3] = [FheType::Uint64, FheType::Bool, FheType::Address];
const LIST: &[u8] = b"an encrypted list with its proof";
const CHAIN: u64 = development::HOST_CHAIN_ID;

/// Has the node's library accept a list of these types from user 1 for the batch contract.
fn accept(stage: &Stage, list: &'static [u8], types: &[FheType]) {
    let call = FheLibDouble::acceptCall {
        acl: stage.host.acl,
        user: stage.user(1),
        contractAddress: stage.batch,
        list: list.into(),
        types: types.iter().map(|ty| ty.id()).collect::<Vec<_>>().into(),
    };
    stage.send(stage.user(0), FHELIB, &call).unwrap();
}

fn stage() -> Stage {
    let stage = Stage::native();
    accept(&stage, LIST, &TYPES);
    stage
}

fn add_verification(stage: &Stage, script: &mut Script, handle: B256, user: Address, proof: &[u8]) -> Arg {
    let call = Executor::verifyInputCall {
        inputHandle: handle,
        userAddress: user,
        inputProof: proof.to_vec().into(),
        inputType: handle.0[30],
    };
    script.typed(stage.host.executor, &call)
}

fn verify(stage: &Stage, handle: Handle, user: Address, proof: &[u8]) -> Result<Vec<B256>, Revert> {
    let mut script = stage.script();
    add_verification(stage, &mut script, handle.as_b256(), user, proof);
    stage.run(&script)
}

/// A proof that names these handles.
fn naming(handles: &[Handle]) -> Vec<u8> {
    NativeInputProof {
        handles: handles.to_vec(),
        list: LIST,
    }
    .encode()
    .unwrap()
}

fn current(stage: &Stage) -> Vec<Handle> {
    input_handles(LIST, &TYPES, stage.host.acl, CHAIN).unwrap()
}

#[test]
fn a_list_that_nodes_accept_can_be_used_at_once_under_either_form_of_handles() {
    let stage = stage();
    let (handles, proof) = native_input_proof(LIST, &TYPES, stage.host.acl, CHAIN).unwrap();
    let older = native_input_handles(LIST, &TYPES).unwrap();
    for (handles, proof) in [(&handles, proof), (&older, naming(&older))] {
        let mut script = stage.script();
        for handle in handles {
            add_verification(&stage, &mut script, handle.as_b256(), stage.user(1), &proof);
        }
        script.operation(Operation::Neg, &[Arg::Result(0)]);
        let mined = stage.mine(&script).unwrap();
        let negation = stage.computations(&mined).pop().unwrap();
        assert_eq!(negation.inputs, [handles[0]]);
        let call = ACL::isAllowedCall {
            handle: handles[0].as_b256(),
            account: stage.batch,
        };
        assert!(!stage.read(stage.host.acl, &call), "allowed for the transaction alone");
    }
}

#[test]
fn the_contract_derives_the_same_handles_as_clients_for_every_type_and_index() {
    let stage = Stage::native();
    let types: Vec<FheType> = FheType::ALL.into_iter().cycle().take(255).collect();
    let list = b"255 values";
    accept(&stage, list, &types);
    let (handles, proof) = native_input_proof(list, &types, stage.host.acl, CHAIN).unwrap();
    let older = native_input_handles(list, &types).unwrap();
    let older_proof = NativeInputProof {
        handles: older.clone(),
        list,
    }
    .encode()
    .unwrap();
    for (handle, proof) in [
        (&handles[254], &proof),
        (&handles[0], &proof),
        (&older[254], &older_proof),
        (&older[7], &older_proof),
    ] {
        let call = InputVerifier::verifyInputCall {
            context: IInputVerifier::ContextUserInputs {
                userAddress: stage.user(1),
                contractAddress: stage.batch,
            },
            inputHandle: handle.as_b256(),
            inputProof: proof.clone().into(),
        };
        assert_eq!(stage.read(stage.host.input_verifier, &call), handle.as_b256());
    }
}

#[test]
fn the_type_is_what_the_list_holds_and_nothing_else() {
    let stage = stage();
    let retyped = |handles: &[Handle]| -> Vec<Handle> {
        let mut word = handles[0].as_b256();
        word.0[30] = FheType::Uint128.id();
        let mut handles = handles.to_vec();
        handles[0] = Handle::try_from(word).unwrap();
        handles
    };
    for handles in [current(&stage), native_input_handles(LIST, &TYPES).unwrap()] {
        let forged = retyped(&handles);
        // Consistently changed in the argument and in the proof.
        let attempt = verify(&stage, forged[0], stage.user(1), &naming(&forged));
        assert_reverts(attempt, NativeInputVerifier::InvalidInputHandle {});
        // Only in the argument, or only in the proof, or in a handle that is not used.
        let attempt = verify(&stage, forged[0], stage.user(1), &naming(&handles));
        assert_reverts(attempt, NativeInputVerifier::InvalidInputHandle {});
        let attempt = verify(&stage, handles[0], stage.user(1), &naming(&forged));
        assert_reverts(attempt, NativeInputVerifier::InvalidInputHandle {});
        let attempt = verify(&stage, handles[1], stage.user(1), &naming(&forged));
        assert_reverts(attempt, NativeInputVerifier::InvalidInputHandle {});
        verify(&stage, handles[0], stage.user(1), &naming(&handles)).unwrap();
        let proof = naming(&forged);
        let refused = NativeInputProof::parse(&proof)
            .unwrap()
            .check_handles(&TYPES, stage.host.acl, CHAIN);
        assert_eq!(
            refused,
            Err(NativeProofError::WrongHandle(forged[0])),
            "clients can tell beforehand"
        );
    }
}

#[test]
fn an_input_is_bound_to_its_user_contract_acl_and_chain() {
    let stage = stage();
    let (handles, proof) = native_input_proof(LIST, &TYPES, stage.host.acl, CHAIN).unwrap();
    let refused = || NativeInputVerifier::InputProofRefused {};
    assert_reverts(verify(&stage, handles[0], stage.user(2), &proof), refused());
    // Another contract calls the executor.
    let call = Executor::verifyInputCall {
        inputHandle: handles[0].as_b256(),
        userAddress: stage.user(1),
        inputProof: proof.clone().into(),
        inputType: handles[0].fhe_type().id(),
    };
    assert_reverts(stage.call(stage.user(3), stage.host.executor, &call), refused());
    for (acl, chain) in [(Address::ZERO, CHAIN), (stage.host.acl, 1)] {
        let (handles, proof) = native_input_proof(LIST, &TYPES, acl, chain).unwrap();
        let revert = verify(&stage, handles[0], stage.user(1), &proof).unwrap_err();
        let known = [
            Revert(encode(&NativeInputVerifier::InvalidInputHandle {})),
            Revert(encode(&NativeInputVerifier::InvalidIndex {})),
        ];
        assert!(known.contains(&revert), "{revert:?}");
    }
    verify(&stage, handles[0], stage.user(1), &proof).unwrap();
}

fn encode(error: &impl alloy::sol_types::SolError) -> Bytes {
    error.abi_encode().into()
}

#[test]
fn lists_that_nodes_refuse_and_changed_ones_revert() {
    let stage = stage();
    let (handles, proof) = native_input_proof(LIST, &TYPES, stage.host.acl, CHAIN).unwrap();
    let attempt = |proof: &[u8]| verify(&stage, handles[0], stage.user(1), proof);
    let mut longer = proof.clone();
    longer.push(0);
    assert_reverts(attempt(&longer), NativeInputVerifier::InputProofRefused {});
    assert_reverts(attempt(&proof[..proof.len() - 1]), NativeInputVerifier::InputProofRefused {});
    let mut damaged = proof.clone();
    damaged[2 + 96] ^= 1;
    assert_reverts(attempt(&damaged), NativeInputVerifier::InputProofRefused {});
    attempt(&proof).unwrap();
    // A chain whose nodes have no such library answers nothing.
    stage.set_code(FHELIB, &Bytes::new());
    assert_reverts(attempt(&proof), NativeInputVerifier::InputProofRefused {});
}

#[test]
fn malformed_proofs_revert() {
    let stage = stage();
    let (handles, proof) = native_input_proof(LIST, &TYPES, stage.host.acl, CHAIN).unwrap();
    let attempt = |handle: Handle, proof: &[u8]| verify(&stage, handle, stage.user(1), proof);
    assert_reverts(attempt(handles[0], &[]), NativeInputVerifier::EmptyInputProof {});
    for length in [1, 2, 3, 33, 34, 97, 98] {
        let cut = attempt(handles[0], &proof[..length]);
        assert_reverts(cut, NativeInputVerifier::DeserializingInputProofFail {});
    }
    let mut signed = proof.clone();
    signed[1] = 1;
    assert_reverts(attempt(handles[0], &signed), NativeInputVerifier::DeserializingInputProofFail {});
    let mut none = vec![0, 0];
    none.extend_from_slice(LIST);
    assert_reverts(attempt(handles[0], &none), NativeInputVerifier::InvalidIndex {});
    // Fewer or more handles than the list has values.
    let wrong_number = |handles: usize| NativeInputVerifier::WrongNumberOfHandles {
        handles: U256::from(handles),
        values: U256::from(3),
    };
    assert_reverts(attempt(handles[0], &naming(&handles[..2])), wrong_number(2));
    let four = input_handles(LIST, &[TYPES.as_slice(), &[FheType::Bool]].concat(), stage.host.acl, CHAIN).unwrap();
    assert_reverts(attempt(handles[0], &naming(&four)), wrong_number(4));
    assert_reverts(attempt(four[3], &proof), NativeInputVerifier::InvalidIndex {});
    let swapped = [handles[1], handles[0], handles[2]];
    assert_reverts(attempt(handles[2], &naming(&swapped)), NativeInputVerifier::InvalidInputHandle {});
    // Bytes of another version can be no handle in Rust, so that they are written by hand.
    let mut version = proof.clone();
    version[2 + 31] = 1;
    assert_reverts(attempt(handles[1], &version), NativeInputVerifier::InvalidHandleVersion {});
    let computed = Handle::computed(handles[0].as_b256(), CHAIN, FheType::Uint64);
    assert_reverts(attempt(computed, &proof), NativeInputVerifier::InvalidIndex {});
}

#[test]
fn a_checked_list_is_remembered_for_the_transaction_and_forgotten_on_request() {
    let stage = stage();
    let (handles, proof) = native_input_proof(LIST, &TYPES, stage.host.acl, CHAIN).unwrap();
    let with = |count: usize, clean: bool| {
        let mut script = stage.script();
        for handle in &handles[..count] {
            if clean {
                script.call(stage.host.input_verifier, "cleanTransientStorage()", &[]);
            }
            add_verification(&stage, &mut script, handle.as_b256(), stage.user(1), &proof);
        }
        stage.gas(&script)
    };
    let (one, two, three) = (with(1, false), with(2, false), with(3, false));
    assert!(three - two < one, "again {}, first {one}", three - two);
    assert!(with(3, true) > three + 2 * 2000, "cleaned {}, remembered {three}", with(3, true));
    // What is remembered holds for one user.
    let mut script = stage.script();
    add_verification(&stage, &mut script, handles[0].as_b256(), stage.user(1), &proof);
    add_verification(&stage, &mut script, handles[0].as_b256(), stage.user(2), &proof);
    assert_reverts(stage.run(&script), NativeInputVerifier::InputProofRefused {});
}

#[test]
fn callers_of_an_input_verifier_find_one_without_coprocessors() {
    let stage = stage();
    let verifier = stage.host.input_verifier;
    let none: [Address; 0] = [];
    assert_eq!(stage.read(verifier, &InputVerifier::getCoprocessorSignersCall {}), none);
    assert_eq!(stage.read(verifier, &InputVerifier::getThresholdCall {}), U256::ZERO);
    assert!(!stage.read(verifier, &InputVerifier::isSignerCall { account: stage.user(1) }));
    assert_eq!(stage.read(verifier, &InputVerifier::getHandleVersionCall {}), 0);
    let version = HostContract::InputVerifier.version(cipherloom_contracts::Face::default());
    assert_eq!(stage.read(verifier, &InputVerifier::getVersionCall {}), version);
    let domain = stage.read(verifier, &InputVerifier::eip712DomainCall {});
    assert_eq!(domain.name, "InputVerification");
    assert_eq!(domain.verifyingContract, development::INPUT_VERIFICATION);
    let define = InputVerifier::defineNewContextCall {
        newSigners: vec![stage.user(1)],
        newThreshold: U256::ONE,
    };
    assert_reverts(stage.send(stage.owner(), verifier, &define), NativeInputVerifier::NoCoprocessors {});
    let threshold = InputVerifier::setThresholdCall { newThreshold: U256::ONE };
    assert_reverts(
        stage.send(stage.owner(), verifier, &threshold),
        NativeInputVerifier::NoCoprocessors {},
    );
}

#[test]
fn only_the_owner_of_the_acl_replaces_it_and_nobody_initializes_it_again() {
    let stage = stage();
    let verifier = stage.host.input_verifier;
    let user = stage.user(1);
    let wiring = cipherloom_contracts::Wiring::native(stage.host, cipherloom_contracts::Face::default());
    let implementation = stage.create(HostContract::InputVerifier.creation_code(&wiring));
    assert_eq!(
        stage.chain.code(implementation, crate::stage::LATEST).unwrap(),
        HostContract::InputVerifier.runtime_code(&wiring, implementation)
    );
    let upgrade = NativeInputVerifier::upgradeToAndCallCall {
        newImplementation: implementation,
        data: Bytes::new(),
    };
    assert_reverts(
        stage.send(user, verifier, &upgrade),
        NativeInputVerifier::NotHostOwner { sender: user },
    );
    stage.administer(verifier, &upgrade);
    let again = NativeInputVerifier::initializeFromEmptyProxyCall {
        verifyingContractSource: user,
        chainIDSource: 1,
    };
    let proxy = stage.send(user, verifier, &again);
    assert_reverts(proxy, NativeInputVerifier::NotInitializingFromEmptyProxy {});
    let directly = stage.send(user, implementation, &again);
    assert_reverts(directly, NativeInputVerifier::NotInitializingFromEmptyProxy {});
}

/// The proof of published SDKs: handles, and one zero byte where the list would be.
fn without_list(handles: &[Handle]) -> Vec<u8> {
    let mut proof = vec![u8::try_from(handles.len()).unwrap(), 0];
    handles.iter().for_each(|handle| proof.extend_from_slice(handle.as_slice()));
    proof.push(0);
    proof
}

fn deposit(stage: &Stage, proof: &[u8]) -> NativeInputVerifier::depositInputCall {
    NativeInputVerifier::depositInputCall {
        context: context(stage, stage.user(1)),
        inputProof: proof.to_vec().into(),
    }
}

fn context(stage: &Stage, user: Address) -> NativeInputContext {
    NativeInputContext {
        userAddress: user,
        contractAddress: stage.batch,
    }
}

fn is_deposited(stage: &Stage, user: Address, handle: Handle) -> bool {
    let call = NativeInputVerifier::isDepositedCall {
        context: context(stage, user),
        inputHandle: handle.as_b256(),
    };
    stage.read(stage.host.input_verifier, &call)
}

#[test]
fn deposited_inputs_need_no_list_and_anybody_can_deposit_them() {
    let stage = stage();
    for (handles, proof) in [
        native_input_proof(LIST, &TYPES, stage.host.acl, CHAIN).unwrap(),
        (
            native_input_handles(LIST, &TYPES).unwrap(),
            naming(&native_input_handles(LIST, &TYPES).unwrap()),
        ),
    ] {
        let short = without_list(&handles);
        let not_yet = NativeInputVerifier::InputNotDeposited {
            inputHandle: handles[0].as_b256(),
        };
        assert_reverts(verify(&stage, handles[0], stage.user(1), &short), not_yet);
        assert!(!is_deposited(&stage, stage.user(1), handles[0]));
        // Somebody else than the user pays for it.
        let mined = stage
            .send(stage.user(3), stage.host.input_verifier, &deposit(&stage, &proof))
            .unwrap();
        let event = NativeInputVerifier::InputDeposited::decode_log(&mined.logs[0]).unwrap();
        assert_eq!((event.contractAddress, event.userAddress), (stage.batch, stage.user(1)));
        assert_eq!(event.handles, handles.iter().map(Handle::as_b256).collect::<Vec<_>>());
        for handle in &handles {
            assert!(is_deposited(&stage, stage.user(1), *handle));
            verify(&stage, *handle, stage.user(1), &short).unwrap();
        }
    }
}

#[test]
fn a_deposit_is_bound_to_user_contract_and_handle() {
    let stage = stage();
    let (handles, proof) = native_input_proof(LIST, &TYPES, stage.host.acl, CHAIN).unwrap();
    stage
        .send(stage.user(3), stage.host.input_verifier, &deposit(&stage, &proof))
        .unwrap();
    let short = without_list(&handles);
    let not_deposited = |handle: Handle| NativeInputVerifier::InputNotDeposited {
        inputHandle: handle.as_b256(),
    };
    // Another user, another contract.
    assert_reverts(verify(&stage, handles[0], stage.user(2), &short), not_deposited(handles[0]));
    assert!(!is_deposited(&stage, stage.user(2), handles[0]));
    let call = Executor::verifyInputCall {
        inputHandle: handles[0].as_b256(),
        userAddress: stage.user(1),
        inputProof: short.into(),
        inputType: handles[0].fhe_type().id(),
    };
    assert_reverts(stage.call(stage.user(3), stage.host.executor, &call), not_deposited(handles[0]));
    // Another type, and a handle that somebody made up.
    let mut word = handles[0].as_b256();
    word.0[30] = FheType::Uint128.id();
    let retyped = Handle::try_from(word).unwrap();
    assert_reverts(
        verify(&stage, retyped, stage.user(1), &without_list(&[retyped])),
        not_deposited(retyped),
    );
    // Any other short byte is taken for a list, which nodes refuse.
    let mut one = without_list(&handles);
    *one.last_mut().unwrap() = 1;
    assert_reverts(
        verify(&stage, handles[0], stage.user(1), &one),
        NativeInputVerifier::InputProofRefused {},
    );
}

#[test]
fn what_could_not_be_used_cannot_be_deposited() {
    let stage = stage();
    let (handles, proof) = native_input_proof(LIST, &TYPES, stage.host.acl, CHAIN).unwrap();
    let call = |call: &NativeInputVerifier::depositInputCall| stage.call(stage.user(3), stage.host.input_verifier, call).map(|_| ());
    let attempt = |proof: &[u8]| call(&deposit(&stage, proof));
    let mut damaged = proof.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_reverts(attempt(&damaged), NativeInputVerifier::InputProofRefused {});
    assert_reverts(attempt(&without_list(&handles)), NativeInputVerifier::InputProofRefused {});
    let swapped = [handles[1], handles[0], handles[2]];
    assert_reverts(attempt(&naming(&swapped)), NativeInputVerifier::InvalidInputHandle {});
    assert_reverts(attempt(&[]), NativeInputVerifier::EmptyInputProof {});
    assert_reverts(attempt(&proof[..34]), NativeInputVerifier::DeserializingInputProofFail {});
    let for_another = NativeInputVerifier::depositInputCall {
        context: context(&stage, stage.user(2)),
        inputProof: proof.clone().into(),
    };
    assert_reverts(call(&for_another), NativeInputVerifier::InputProofRefused {});
    attempt(&proof).unwrap();
}

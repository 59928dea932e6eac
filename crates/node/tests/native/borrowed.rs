//! Which kinds of calls ask the executor for something.

use alloy::primitives::{Address, B256};
use cipherloom_contracts::call_selector;
use cipherloom_primitives::{FheType, Handle, Operation, U256};

use crate::client::{Client, Done};

/// Answers every call with the same handle, in calls that may change nothing too.
const ANSWERING: Address = Address::repeat_byte(0xe0);
const FORWARDING: Address = Address::repeat_byte(0xf0);

const CALL: u8 = 0xf1;
const CALLCODE: u8 = 0xf2;
const DELEGATECALL: u8 = 0xf4;
const STATICCALL: u8 = 0xfa;

fn answer() -> Handle {
    Handle::computed(B256::repeat_byte(0x11), 31337, FheType::Uint8)
}

/// `mstore(0, answer); return(0, 32)`
fn answering_code() -> Vec<u8> {
    [&[0x7f], answer().as_slice(), &[0x5f, 0x52, 0x60, 0x20, 0x5f, 0xf3]].concat()
}

/// Passes its call data on to the answering contract by one kind of call, and then ends: `return` or `revert`.
fn forwarding_code(kind: u8, revert: bool) -> Vec<u8> {
    // calldatacopy(0, 0, calldatasize())
    let mut code = vec![0x36, 0x5f, 0x5f, 0x37];
    // retSize, retOffset, argsSize, argsOffset
    code.extend([0x5f, 0x5f, 0x36, 0x5f]);
    if matches!(kind, CALL | CALLCODE) {
        code.push(0x5f);
    }
    code.push(0x73);
    code.extend_from_slice(ANSWERING.as_slice());
    code.extend([0x5a, kind]);
    code.extend([0x5f, 0x5f, if revert { 0xfd } else { 0xf3 }]);
    code
}

/// Forwards a trivial encryption by one kind of call.
fn forward(kind: u8, revert: bool) -> Done {
    let mut client = Client::new();
    client.executor = ANSWERING;
    client.insert_code(ANSWERING, &answering_code());
    client.insert_code(FORWARDING, &forwarding_code(kind, revert));
    let words = [
        U256::from(3).to_be_bytes::<32>(),
        U256::from(FheType::Uint8.id()).to_be_bytes::<32>(),
    ];
    let data = [call_selector(Operation::TrivialEncrypt).as_slice(), &words.concat()].concat();
    let (done, _) = client.block_with(|block| block.send(FORWARDING, data).unwrap(), |_| Vec::new());
    assert_eq!(done.result.is_success(), !revert, "{:?}", done.result);
    done
}

#[test]
fn calls_and_static_calls_are_noticed() {
    for kind in [CALL, STATICCALL] {
        let noticed = forward(kind, false).work;
        assert_eq!(
            noticed.computations().map(|computation| computation.result).collect::<Vec<_>>(),
            [answer()]
        );
    }
}

#[test]
fn borrowed_code_asks_for_nothing() {
    for kind in [DELEGATECALL, CALLCODE] {
        assert_eq!(forward(kind, false).work.noticed, [], "{kind:#x}");
    }
}

#[test]
fn a_frame_that_fails_takes_its_calls_along() {
    for kind in [CALL, STATICCALL] {
        assert_eq!(forward(kind, true).work.noticed, [], "{kind:#x}");
    }
}

//! Whether an account that is a contract recognises a signature (ERC-1271).
//!
//! The account is asked by `isValidSignature(bytes32,bytes)` from within a program that exists for the length of one `eth_call` only. The program
//! makes a *static* call with [`WALLET_GAS`] and returns one word, whatever the account does: reverts, uses up its gas, answers with
//! megabytes, or does not exist. So the account cannot make the call fail, which would look like a node that fails, and cannot hold anybody up.

use cipherloom_primitives::{Address, B256, Bytes, U256};

use alloy::{primitives::TxKind, rpc::types::TransactionRequest, sol_types::SolCall};

alloy::sol! {
    interface IERC1271 {
        function isValidSignature(bytes32 digest, bytes signature) external view returns (bytes4);
    }
}

/// The gas a wallet gets to look at a signature.
pub(crate) const WALLET_GAS: u32 = 100_000;

/// The gas of the whole call: the wallet's, that of the program, and that of the bytes of the longest signature.
const CALL_GAS: u64 = 2_000_000;

/// Where the call's data begin in the program.
const PROGRAM_BYTES: u16 = 89;

/// Writes a call that returns [`is_recognised`]'s word.
pub(crate) fn question(account: Address, digest: B256, signature: Bytes) -> TransactionRequest {
    let data = IERC1271::isValidSignatureCall { digest, signature }.abi_encode();
    TransactionRequest {
        to: Some(TxKind::Create),
        gas: Some(CALL_GAS),
        input: Bytes::from(program(account, &data)).into(),
        ..TransactionRequest::default()
    }
}

/// Reads what the program returned: exactly the word 1 means that the account recognises the signature.
pub(crate) fn is_recognised(returned: &[u8]) -> Option<bool> {
    let word: [u8; 32] = returned.try_into().ok()?;
    match U256::from_be_bytes(word).try_into() {
        Ok(0u8) => Some(false),
        Ok(1u8) => Some(true),
        _ => None,
    }
}

/// Assembles the program with the call's data behind it.
fn program(account: Address, data: &[u8]) -> Vec<u8> {
    // The longest data are those of the longest signature that a permit may have, far below 16 bits.
    let length = u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes();
    let start = PROGRAM_BYTES.to_be_bytes();
    let [_, gas @ ..] = WALLET_GAS.to_be_bytes();
    let magic = IERC1271::isValidSignatureCall::SELECTOR;
    let mut code = Vec::with_capacity(usize::from(PROGRAM_BYTES) + data.len());
    // CODECOPY(0, start, length)
    code.extend([0x61, length[0], length[1], 0x61, start[0], start[1], 0x5f, 0x39]);
    // STATICCALL(gas, account, 0, length, 0, 32)
    code.extend([0x60, 32, 0x5f, 0x61, length[0], length[1], 0x5f, 0x73]);
    code.extend(account.as_slice());
    code.push(0x62);
    code.extend(gas);
    code.push(0xfa);
    // and RETURNDATASIZE == 32
    code.extend([0x3d, 0x60, 32, 0x14, 0x16]);
    // and MLOAD(0) == the selector, followed by zeros
    code.extend([0x5f, 0x51, 0x7f]);
    code.extend(magic);
    code.extend([0; 28]);
    code.extend([0x14, 0x16]);
    // RETURN the word
    code.extend([0x5f, 0x52, 0x60, 32, 0x5f, 0xf3]);
    code.extend(data);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_stand_where_the_program_looks_for_them() {
        let code = program(Address::repeat_byte(7), b"data");
        assert_eq!(&code[usize::from(PROGRAM_BYTES)..], b"data");
    }

    #[test]
    fn only_the_word_one_is_a_yes() {
        let word = |number: u64| U256::from(number).to_be_bytes::<32>();
        assert_eq!(is_recognised(&word(1)), Some(true));
        assert_eq!(is_recognised(&word(0)), Some(false));
        assert_eq!(is_recognised(&word(2)), None);
        assert_eq!(is_recognised(&[]), None);
        assert_eq!(is_recognised(&[1]), None);
    }
}

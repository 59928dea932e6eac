//! The vocabulary of Cipherloom: what a handle is, which operations exist, and what is signed.
//!
//! Everything here is pure: no I/O, no clock, no randomness, no ciphertexts. Bytes and integers from outside become
//! types in this crate; past it no part of the system passes type codes or operation numbers as integers.
//!
//! * [`FheType`] and [`Handle`]: the encrypted types and the 32-byte references contracts compute with.
//! * [`Operation`] and [`operation::TABLE`]: the one table of all operations, from which the Solidity constants, the
//!   documentation page and the test matrix are generated.
//! * [`TypedOperation`] and [`Computation`]: an operation whose operands were checked against that table.
//! * [`acl`]: what the access-control contract is asked about a decryption.
//! * [`boundary`]: the forms of stored ciphertexts, and which one a computation reads.
//! * [`ciphertext_state`]: how a native chain keeps ciphertexts in its state.
//! * [`quorum`]: what a native chain's validators sign, and how certificates are checked.
//! * [`eip712`]: the payloads users, coprocessors and the KMS sign.
//! * [`input`] and [`decryption`]: input lists, input proofs, decryption requests and results as bytes.

pub mod acl;
pub mod boundary;
pub mod ciphertext_state;
pub mod computation;
pub mod cost;
pub mod decryption;
pub mod eip712;
pub mod fhe_type;
pub mod generation_0_6;
pub mod genesis_terms;
pub mod given;
pub mod handle;
pub mod input;
pub mod native;
pub mod operation;
pub mod quorum;
mod recovery;

pub use acl::{AclFacts, AclQuestion};
pub use alloy_primitives::{Address, B256, Bytes, U256};
pub use boundary::{CiphertextForm, HotWindow, RandomiserContext};
pub use computation::{Computation, Operand, OperationError, RawOperands, TypedOperation};
pub use fhe_type::{FheType, UnknownFheType};
pub use given::Given;
pub use handle::{Handle, HandleError, HandleOrigin};
pub use operation::{Operation, OperationSpec, UnknownOperation};

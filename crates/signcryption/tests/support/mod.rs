//! A deployment, a node and a user that the tests share.

use cipherloom_primitives::{Address, B256, FheType, Handle, U256, eip712::SigningDomains};
use cipherloom_signcryption::{AnswerContext, Randomness, SigncryptionError, SigningKey, UserKeypair};

pub(crate) const USER: Address = Address::repeat_byte(0x33);

pub(crate) fn domains() -> SigningDomains {
    SigningDomains {
        host_chain_id: 31337,
        gateway_chain_id: 10901,
        decryption: Address::repeat_byte(0xd1),
        input_verification: Address::repeat_byte(0xd2),
    }
}

pub(crate) fn node_key() -> SigningKey {
    SigningKey::from_slice(&[0x42; 32]).unwrap()
}

pub(crate) fn user_keys() -> UserKeypair {
    UserKeypair::from_seed([0x17; 64].into())
}

pub(crate) fn handle(tag: u8, ty: FheType) -> Handle {
    Handle::computed(B256::repeat_byte(tag), 31337, ty)
}

/// One value of every type, each with its top bit set.
pub(crate) fn values() -> Vec<(Handle, U256)> {
    FheType::ALL
        .into_iter()
        .map(|ty| (handle(ty.id(), ty), ty.max_value() - (ty.max_value() >> 2)))
        .collect()
}

pub(crate) fn context<'a>(domains: &'a SigningDomains, keys: &'a UserKeypair) -> AnswerContext<'a> {
    AnswerContext {
        domains,
        public_key: keys.public_key(),
        user: USER,
        extra_data: &[0],
    }
}

/// Randomness that counts up, for answers that are the same in every run. Never outside tests.
pub(crate) fn fixed_randomness() -> impl FnMut() -> Result<Randomness, SigncryptionError> {
    let mut next = 0u8;
    move || {
        next += 1;
        Ok(Randomness {
            encapsulation: [next; 32],
            nonce: [next ^ 0xff; 12],
        })
    }
}

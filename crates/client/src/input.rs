//! Encrypting inputs for contract calls.

use std::sync::Arc;

use cipherloom_primitives::{
    Address, Bytes, FheType, Handle, U256,
    input::{InputMetadata, input_handles},
};

use crate::{
    Client, EXTRA_DATA,
    error::ClientError,
    gateway::Operation,
    signatures,
    wire::{self, InputResult},
};

const WHAT: &str = "input-proof";

const OPERATION: Operation = Operation {
    what: WHAT,
    jobs: "v2/input-proof",
    synchronous: Some("v1/input-proof"),
};

/// Values to encrypt together, for one contract and one account; at most 255 values and 2048 bits (`ebool` counts 2).
#[must_use = "nothing is encrypted before `encrypt` is called"]
pub struct InputBuilder {
    client: Client,
    contract: Address,
    user: Address,
    values: Vec<(FheType, U256)>,
}

/// Encrypted values as a contract call takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptedInput {
    /// One handle per value, in order.
    pub handles: Vec<Handle>,
    /// The proof that belongs to all of them.
    pub input_proof: Bytes,
}

impl Client {
    /// Starts an input for `contract`, to be sent by `user`: the `msg.sender` the contract will see.
    pub fn encrypt(&self, contract: Address, user: Address) -> InputBuilder {
        InputBuilder {
            client: self.clone(),
            contract,
            user,
            values: Vec::new(),
        }
    }
}

impl InputBuilder {
    /// Adds an `ebool`.
    pub fn add_bool(self, value: bool) -> Self {
        self.add(FheType::Bool, U256::from(value))
    }

    /// Adds an `euint8`.
    pub fn add8(self, value: u8) -> Self {
        self.add(FheType::Uint8, U256::from(value))
    }

    /// Adds an `euint16`.
    pub fn add16(self, value: u16) -> Self {
        self.add(FheType::Uint16, U256::from(value))
    }

    /// Adds an `euint32`.
    pub fn add32(self, value: u32) -> Self {
        self.add(FheType::Uint32, U256::from(value))
    }

    /// Adds an `euint64`.
    pub fn add64(self, value: u64) -> Self {
        self.add(FheType::Uint64, U256::from(value))
    }

    /// Adds an `euint128`.
    pub fn add128(self, value: u128) -> Self {
        self.add(FheType::Uint128, U256::from(value))
    }

    /// Adds an `euint256`.
    pub fn add256(self, value: U256) -> Self {
        self.add(FheType::Uint256, value)
    }

    /// Adds an `eaddress`.
    pub fn add_address(self, value: Address) -> Self {
        self.add(FheType::Address, value.into_word().into())
    }

    /// Adds a value of any type; whether it fits is checked by [`Self::encrypt`].
    pub fn add(mut self, ty: FheType, value: U256) -> Self {
        self.values.push((ty, value));
        self
    }

    /// Encrypts the values with a proof (seconds of CPU on production parameters, on a thread of its own) and has the
    /// coprocessors admit them.
    ///
    /// On a native chain ([`Client::is_native_chain`]) nobody is asked: the proof that a contract call takes holds the encrypted list itself, some
    /// tens of kilobytes, and every validator checks it.
    ///
    /// Dropping the future abandons the request; a proof that is being computed is finished on its thread and thrown away.
    ///
    /// # Errors
    /// [`ClientError::Fhe`] if the values are too many or too large, [`ClientError::InputRejected`] if the proof is refused,
    /// [`ClientError::Verification`] if the answer is not signed by enough registered coprocessors, and the errors of the network.
    pub async fn encrypt(self) -> Result<EncryptedInput, ClientError> {
        let shared = &self.client.shared;
        let chain_id = shared.config.domains.host_chain_id;
        let acl = shared.config.addresses.acl;
        let metadata = InputMetadata {
            contract: self.contract,
            user: self.user,
            acl,
            chain_id,
        };
        let is_native = self.client.is_native_chain().await?;
        let encryptor = Arc::clone(&self.client.encryptor().await?.encrypt);
        let types: Vec<FheType> = self.values.iter().map(|(ty, _)| *ty).collect();
        let values = self.values;
        let list = tokio::task::spawn_blocking(move || encryptor.encrypt(&values, &metadata))
            .await
            .map_err(|_| ClientError::Task)??;
        if is_native {
            return self.client.native_input(&list, &types);
        }

        let body = wire::input_body(self.contract, self.user, chain_id, &list, &EXTRA_DATA);
        let result: InputResult = shared.gateway.job(OPERATION, &body).await?;
        if !result.accepted {
            return Err(ClientError::InputRejected);
        }
        let untrusted = |reason: &str| ClientError::Verification {
            what: WHAT,
            reason: reason.to_owned(),
        };
        // What the list's handles are follows from the list; what the server says must be the same.
        let handles = input_handles(&list, &types, acl, chain_id).ok_or_else(|| untrusted("too many values"))?;
        let returned = result.handles.iter().map(|text| text.parse().ok()).collect::<Option<Vec<Handle>>>();
        if returned.as_ref() != Some(&handles) {
            return Err(untrusted("it names other handles than the input has"));
        }
        let is_ours = wire::is_extra_data(result.extra_data.as_deref(), &EXTRA_DATA);
        if !is_ours.map_err(|reason| ClientError::Malformed { what: WHAT, reason })? {
            return Err(untrusted("it has other extra data than was sent"));
        }
        let digest = shared.config.domains.input_digest(&handles, self.user, self.contract, &EXTRA_DATA);
        let coprocessors = shared.chain.coprocessor_signers().await?;
        let counted = signatures::verify(WHAT, digest, &result.signatures, &coprocessors)?;
        let counts = [handles.len(), counted.len()].map(u8::try_from);
        let [Ok(handle_count), Ok(signature_count)] = counts else {
            return Err(untrusted("too many values or signatures"));
        };
        let parts = handles.iter().map(|handle| handle.as_b256().into()).chain(counted);
        let input_proof = signatures::proof(&[handle_count, signature_count], parts, &EXTRA_DATA);
        Ok(EncryptedInput { handles, input_proof })
    }
}

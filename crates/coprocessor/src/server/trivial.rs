//! `TrivialEncryptCiphertexts`: public values become ciphertexts at once.
//!
//! They belong to no block, so they are kept packed. A handle that is known keeps what it stands for.

use std::{collections::HashSet, sync::Arc};

use alloy::primitives::keccak256;
use bytes::Bytes;
use cipherloom_fhe::{FheBackend, FheError};
use cipherloom_primitives::{
    B256, FheType, Handle, HandleOrigin, TypedOperation, U256,
    given::{big_endian, public_value},
};
use cipherloom_rpc::fhevm::coprocessor::{GenericResponse, TrivialEncryptBatch};
use cipherloom_store::{NamedHandle, StoreError, StoredCiphertext};
use tracing::{Instrument as _, info_span};

use super::{
    authentication::Caller,
    error::RequestError,
    names,
    service::{Service, done},
};
use crate::{Coprocessor, CoprocessorError};

/// A value to encrypt.
#[derive(Clone, Copy)]
struct Value {
    handle: Handle,
    value: U256,
}

impl Service {
    /// Encrypts public values.
    pub(super) async fn encrypt(&self, caller: &Caller, batch: TrivialEncryptBatch) -> Result<GenericResponse, RequestError> {
        let values = read(caller, &batch).await?;
        if values.is_empty() {
            return Ok(done());
        }
        let coprocessor = self.shared.coprocessor(caller).await?;
        let handles: Vec<Handle> = values.iter().map(|(_, value)| value.handle).collect();
        let known = caller.store.known_handles(&handles).await?;
        let new: Vec<(Bytes, Value)> = values
            .into_iter()
            .zip(known)
            .filter(|(_, known)| !known)
            .map(|(value, _)| value)
            .collect();
        let encrypting = encrypted(&coprocessor, new.iter().map(|(_, value)| *value).collect());
        let ciphertexts = encrypting.instrument(info_span!("encrypt")).await?;
        // Names first: one without a ciphertext is as good as none, whereas nobody could ask for a ciphertext without its name.
        name(caller, &new).await?;
        caller.store.add_ciphertexts(&ciphertexts).instrument(info_span!("record")).await?;
        coprocessor.notify_change();
        Ok(done())
    }
}

async fn name(caller: &Caller, values: &[(Bytes, Value)]) -> Result<(), RequestError> {
    let is_name = |(name, value): &&(Bytes, Value)| name[..] != *value.handle.as_slice();
    let names = values.iter().filter(is_name).map(|(name, value)| NamedHandle {
        name: name.to_vec(),
        handle: value.handle,
    });
    let names: Vec<NamedHandle> = names.collect();
    if names.is_empty() {
        return Ok(());
    }
    match caller.store.add_names(&names).await {
        Err(StoreError::NameTaken(_)) => Err(RequestError::Contended),
        other => Ok(other?),
    }
}

/// Reads the values and finds the handles of their names.
async fn read(caller: &Caller, batch: &TrivialEncryptBatch) -> Result<Vec<(Bytes, Value)>, RequestError> {
    let names: Vec<Bytes> = batch.values.iter().map(|value| value.handle.clone()).collect();
    let types = batch
        .values
        .iter()
        .map(|value| names::check(&value.handle).and_then(|()| names::fhe_type(value.output_type)))
        .collect::<Result<Vec<FheType>, _>>()?;
    let known = names::resolve(&*caller.store, caller.tenant.chain_id, &names).await?;
    let (mut seen, mut seen_handles) = (HashSet::with_capacity(names.len()), HashSet::with_capacity(names.len()));
    let mut values = Vec::with_capacity(names.len());
    for (((value, ty), name), known) in batch.values.iter().zip(types).zip(names).zip(known) {
        let handle = match known {
            Some(handle) if handle.origin() != HandleOrigin::Computed => return Err(RequestError::ComputedInput(name)),
            Some(handle) if handle.fhe_type() != ty => {
                return Err(RequestError::OtherType {
                    output: name,
                    given: ty,
                    found: handle.fhe_type(),
                });
            }
            Some(handle) => handle,
            None => Handle::named(&name, caller.tenant.chain_id, ty),
        };
        if !seen.insert(name.clone()) || !seen_handles.insert(handle) {
            return Err(RequestError::Duplicate(name));
        }
        let value = ty.truncate(public_value(big_endian(&value.be_value), ty));
        values.push((name, Value { handle, value }));
    }
    Ok(values)
}

async fn encrypted(coprocessor: &Coprocessor, values: Vec<Value>) -> Result<Vec<StoredCiphertext>, RequestError> {
    let (backend, key_set_id) = (Arc::clone(coprocessor.backend()), coprocessor.key_set_id());
    let encrypt = move || {
        let values = values.into_iter();
        values
            .map(|value| {
                let handle = value.handle;
                packed(&*backend, key_set_id, value).map_err(|source| CoprocessorError::Ciphertext { handle, source })
            })
            .collect::<Result<Vec<_>, _>>()
    };
    let encrypted = coprocessor.compute(encrypt).await.map_err(|_| CoprocessorError::ThreadLost)?;
    Ok(encrypted?)
}

fn packed(backend: &dyn FheBackend, key_set_id: B256, value: Value) -> Result<StoredCiphertext, FheError> {
    let Value { handle, value } = value;
    let ty = handle.fhe_type();
    let ciphertext = backend.evaluate(&TypedOperation::TrivialEncrypt { value, ty }, &[])?;
    let raw = backend.serialize(&ciphertext)?;
    let packed = backend.pack(&ciphertext)?;
    Ok(StoredCiphertext::raw(handle, key_set_id, keccak256(&raw), raw).packed(keccak256(&packed), packed))
}

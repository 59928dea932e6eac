//! What a request brings along: ciphertexts of earlier blocks, and values of proven input lists.
//!
//! A list's proof is checked against its context: contract, user, access-control contract and chain. Its values are then known under the
//! handles of both generations of chains, [`native_input_handles`] and [`input_handles`], so that an operand names one of them as it stands on
//! chain. The type is part of the handle and comes from the list itself, so that a handle with another type is unknown.
//!
//! Ciphertexts are kept as they came and read when the part that needs them is computed: a value takes hundreds of times more memory than its
//! packed form. Only what several parts need is kept once it is read.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, OnceLock},
};

use alloy_primitives::keccak256;
use bytes::Bytes;
use cipherloom_fhe::{Ciphertext, FheBackend, form_of};
use cipherloom_primitives::{
    Address, B256, CiphertextForm, FheType, Handle,
    input::{InputMetadata, input_handles, list_digest},
    native::native_input_handles,
};
use cipherloom_rpc::{
    cipherloom::input::v1::InputContext,
    fhevm::executor::{CompressedCiphertext, SyncComputeRequest},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    config::{ExecutorConfig, Limits},
    error::ComputeError,
};

/// The values a request brings along, by handle.
pub(crate) struct Outside {
    backend: Arc<dyn FheBackend>,
    values: HashMap<Handle, Given>,
    lists: Vec<Bytes>,
    /// What is wrong with what was given, lists first.
    pub(crate) faults: Vec<ComputeError>,
}

/// A value that was given.
struct Given {
    place: Place,
    /// The value, once it is read and if it is needed again.
    kept: OnceLock<Ciphertext>,
}

/// Where a value is.
enum Place {
    Ciphertext {
        position: usize,
        form: CiphertextForm,
        bytes: Bytes,
    },
    Listed {
        list: usize,
        index: u8,
    },
    Nowhere(ComputeError),
}

/// What inputs are read with and under.
pub(crate) struct Reader<'a> {
    pub(crate) backend: &'a Arc<dyn FheBackend>,
    pub(crate) config: &'a ExecutorConfig,
    pub(crate) cancelled: &'a CancellationToken,
}

impl Reader<'_> {
    /// Reads and checks what a request brings along. Blocks for as long as proofs are checked. Nothing is computed yet.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if there is too much of it, `CANCELLED` if nobody waits any more.
    pub(crate) fn read(&self, request: &SyncComputeRequest) -> Result<Outside, Status> {
        let mut outside = Outside {
            backend: Arc::clone(self.backend),
            values: HashMap::new(),
            lists: Vec::with_capacity(request.compact_ciphertext_lists.len()),
            faults: Vec::new(),
        };
        let (lists, contexts) = (&request.compact_ciphertext_lists, &request.input_contexts);
        let contexts_match = contexts.is_empty() || contexts.len() == lists.len();
        for (number, bytes) in lists.iter().enumerate() {
            self.check_cancelled()?;
            outside.lists.push(bytes.clone());
            let added = if contexts_match {
                self.add_list(&mut outside, number, bytes, contexts.get(number))
            } else {
                Err(format!("there are {} contexts for {} lists", contexts.len(), lists.len()))
            };
            if let Err(reason) = added {
                outside.faults.push(ComputeError::BadInputList { list: number, reason });
            }
            self.check_count(outside.values.len())?;
        }
        for (position, ciphertext) in request.compressed_ciphertexts.iter().enumerate() {
            self.check_cancelled()?;
            outside.add_ciphertext(position, ciphertext);
        }
        self.check_count(outside.values.len())?;
        Ok(outside)
    }

    /// Checks a list and adds its values under their handles.
    fn add_list(&self, outside: &mut Outside, list: usize, bytes: &[u8], context: Option<&InputContext>) -> Result<(), String> {
        let Some(context) = context else {
            return self.add_trusted_list(outside, list, bytes);
        };
        let metadata = metadata(context)?;
        let types = match self.config.client_checks_proofs {
            true => self.backend.list_types(bytes),
            false => self.backend.verify_input(bytes, &metadata).map(|verified| verified.types),
        };
        let types = types.map_err(|error| error.to_string())?;
        let native = native_input_handles(bytes, &types);
        let current = input_handles(bytes, &types, metadata.acl, metadata.chain_id);
        for handles in [native, current] {
            let handles = handles.ok_or("the list has too many values")?;
            for (index, handle) in (0u8..=u8::MAX).zip(handles) {
                outside.values.insert(handle, Given::at(Place::Listed { list, index }));
            }
        }
        Ok(())
    }

    /// Adds the values of a list without a check of its proof, if the node is trusted to have made one. Its types are known once it is expanded.
    fn add_trusted_list(&self, outside: &mut Outside, list: usize, bytes: &[u8]) -> Result<(), String> {
        if !self.config.trust_node_for_proofs {
            return Err(
                "the request does not say for which contract, user and chain it was made, which its proof is checked against".to_owned(),
            );
        }
        let values = self.backend.expand_input(bytes).map_err(|error| error.to_string())?;
        let types: Vec<FheType> = values.iter().map(Ciphertext::fhe_type).collect();
        let handles = native_input_handles(bytes, &types).ok_or("the list has too many values")?;
        for ((index, handle), value) in (0u8..=u8::MAX).zip(handles).zip(values) {
            let given = Given {
                place: Place::Listed { list, index },
                kept: OnceLock::from(value),
            };
            outside.values.insert(handle, given);
        }
        Ok(())
    }

    fn check_count(&self, count: usize) -> Result<(), Status> {
        // A value of a list is known under two handles.
        let Limits { ciphertexts, .. } = self.config.limits;
        if count > ciphertexts.saturating_mul(2) {
            return Err(Status::resource_exhausted(format!(
                "more than {ciphertexts} ciphertexts in one request"
            )));
        }
        Ok(())
    }

    fn check_cancelled(&self) -> Result<(), Status> {
        if self.cancelled.is_cancelled() {
            return Err(Status::cancelled("nobody waits for the results any more"));
        }
        Ok(())
    }
}

fn metadata(context: &InputContext) -> Result<InputMetadata, String> {
    let address = |what: &str, bytes: &Bytes| {
        let bytes: [u8; 20] = bytes.as_ref().try_into().map_err(|_| {
            let length = bytes.len();
            format!("the {what} address has {length} bytes instead of 20")
        })?;
        Ok::<_, String>(Address::from(bytes))
    };
    Ok(InputMetadata {
        contract: address("contract", &context.contract_address)?,
        user: address("user", &context.user_address)?,
        acl: address("ACL", &context.acl_address)?,
        chain_id: context.chain_id,
    })
}

impl Given {
    const fn at(place: Place) -> Self {
        Self {
            place,
            kept: OnceLock::new(),
        }
    }
}

impl Outside {
    /// Returns the handles under which something was given.
    pub(crate) fn handles(&self) -> HashSet<Handle> {
        self.values.keys().copied().collect()
    }

    fn add_ciphertext(&mut self, position: usize, ciphertext: &CompressedCiphertext) {
        let fault = |reason: String| ComputeError::BadInputCiphertext { position, reason };
        let handle = match Handle::try_from(&*ciphertext.handle) {
            Ok(handle) => handle,
            Err(error) => {
                self.faults.push(fault(error.to_string()));
                return;
            }
        };
        let place = match self.values.get(&handle).map(|given| &given.place) {
            None => self
                .checked(handle, &ciphertext.serialization)
                .map_err(fault)
                .map(|form| Place::Ciphertext {
                    position,
                    form,
                    bytes: ciphertext.serialization.clone(),
                }),
            Some(Place::Ciphertext { bytes, .. }) if *bytes != ciphertext.serialization => {
                Err(fault(format!("{handle} was given before with other bytes")))
            }
            // What a proven list says about a handle is not overruled.
            Some(_) => return,
        };
        let place = place.unwrap_or_else(|error| {
            self.faults.push(error.clone());
            Place::Nowhere(error)
        });
        self.values.insert(handle, Given::at(place));
    }

    /// Checks what can be checked without computing.
    fn checked(&self, handle: Handle, bytes: &[u8]) -> Result<CiphertextForm, String> {
        let form = form_of(bytes).ok_or("the bytes are no stored ciphertext")?;
        if form == CiphertextForm::Raw {
            let value = self.backend.deserialize(handle.fhe_type(), bytes);
            value.map_err(|error| error.to_string())?;
        }
        Ok(form)
    }

    /// Returns the value of a handle; it is kept if it is needed again. Blocks for as long as it takes to unpack or expand it.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn value(&self, handle: Handle, keep: bool) -> Result<Ciphertext, ComputeError> {
        let given = self.values.get(&handle).ok_or(ComputeError::UnknownHandle(handle))?;
        if let Some(value) = given.kept.get() {
            return Ok(value.clone());
        }
        let value = self.read(handle, &given.place)?;
        if keep {
            // If another part was faster, its value is the same.
            let _ = given.kept.set(value.clone());
        }
        Ok(value)
    }

    fn read(&self, handle: Handle, place: &Place) -> Result<Ciphertext, ComputeError> {
        match place {
            Place::Ciphertext { position, form, bytes } => {
                let value = match form {
                    CiphertextForm::Raw => self.backend.deserialize(handle.fhe_type(), bytes),
                    CiphertextForm::Packed => self.backend.unpack(handle.fhe_type(), bytes),
                };
                value.map_err(|error| ComputeError::BadInputCiphertext {
                    position: *position,
                    reason: error.to_string(),
                })
            }
            Place::Listed { list, index } => {
                let fault = |reason: String| ComputeError::BadInputList { list: *list, reason };
                let bytes = self.lists.get(*list).ok_or(ComputeError::UnknownHandle(handle))?;
                let values = self.backend.expand_values(bytes, &[*index]);
                let value = values.map_err(|error| fault(error.to_string()))?.pop();
                value
                    .filter(|value| value.fhe_type() == handle.fhe_type())
                    .ok_or_else(|| fault(format!("has no {} at {index}", handle.fhe_type())))
            }
            Place::Nowhere(error) => Err(error.clone()),
        }
    }

    /// Returns the bytes of a handle's ciphertext if it was given in this form.
    pub(crate) fn bytes(&self, handle: Handle, wanted: CiphertextForm) -> Option<Bytes> {
        match &self.values.get(&handle)?.place {
            Place::Ciphertext { form, bytes, .. } if *form == wanted => Some(bytes.clone()),
            _ => None,
        }
    }

    /// Returns the digest of what a value is read from: its stored bytes, or its list.
    pub(crate) fn digest(&self, handle: Handle) -> Option<B256> {
        match &self.values.get(&handle)?.place {
            Place::Ciphertext { bytes, .. } => Some(keccak256(bytes)),
            Place::Listed { list, .. } => self.lists.get(*list).map(|list| list_digest(list)),
            Place::Nowhere(_) => None,
        }
    }
}

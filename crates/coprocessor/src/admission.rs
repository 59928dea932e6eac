//! Admission of encrypted inputs.
//!
//! A list is admitted after its zero-knowledge proof was checked against the contract, user, ACL and chain it is for. Admission
//! gives each value a handle and signs the handles; the host chain accepts them with that signature. Handing in the
//! same list again gives the same handles without checking the proof again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::signers::{Signature, SignerSync};
use cipherloom_fhe::{FheError, VerifiedInput};
use cipherloom_primitives::{
    FheType, Handle,
    eip712::SigningDomains,
    input::{InputMetadata, MAX_INPUT_LIST_BYTES, input_handles, list_digest},
};
use cipherloom_store::InputKey;
use tokio::sync::TryAcquireError;

use crate::{Coprocessor, CoprocessorError, Progress};

/// The most extra data accepted with an input, in bytes; the protocol's own forms have at most 65.
pub const MAX_EXTRA_DATA_BYTES: usize = 1024;

/// The answer to an admitted input list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmittedInput {
    /// The handles of the values, in order.
    pub handles: Vec<Handle>,
    /// The coprocessors' signatures over them; here one.
    pub signatures: Vec<Signature>,
    /// The extra data the signatures cover.
    pub extra_data: Vec<u8>,
}

/// A list whose proof holds.
pub(crate) struct CheckedList {
    /// The types of its values.
    pub(crate) types: Vec<FheType>,
    /// The list as it was received.
    pub(crate) list: Vec<u8>,
    /// How long the check took; nothing if the list was admitted before.
    checked_in: Option<Duration>,
}

impl Coprocessor {
    /// Checks an input list, remembers it and signs its handles.
    ///
    /// # Errors
    /// [`CoprocessorError::WrongChain`], [`CoprocessorError::WrongAcl`], [`CoprocessorError::TooLarge`],
    /// [`CoprocessorError::EmptyInput`] and [`CoprocessorError::InputRefused`] are the sender's fault;
    /// [`CoprocessorError::Busy`] asks to try again.
    pub async fn admit_input(
        &self,
        metadata: InputMetadata,
        list: Vec<u8>,
        extra_data: Vec<u8>,
    ) -> Result<AdmittedInput, CoprocessorError> {
        self.admit_input_for(&self.config().domains, metadata, list, extra_data).await
    }

    /// The same, with signatures that are valid where these domains say.
    pub(crate) async fn admit_input_for(
        &self,
        domains: &SigningDomains,
        metadata: InputMetadata,
        list: Vec<u8>,
        extra_data: Vec<u8>,
    ) -> Result<AdmittedInput, CoprocessorError> {
        self.check_bounds(&metadata, &list, &extra_data)?;
        let checked = self.check_list(metadata, list).await?;
        let handles = self.remember_list(metadata, checked).await?;
        let digest = domains.input_digest(&handles, metadata.user, metadata.contract, &extra_data);
        let signature = self.signer().sign_hash_sync(&digest)?;
        Ok(AdmittedInput {
            handles,
            signatures: vec![signature],
            extra_data,
        })
    }

    /// Checks the proof of a list, unless the list was admitted before for the same contract and user. Nothing is kept.
    pub(crate) async fn check_list(&self, metadata: InputMetadata, list: Vec<u8>) -> Result<CheckedList, CoprocessorError> {
        let start = Instant::now();
        let key = InputKey::Digest {
            chain_id: metadata.chain_id,
            digest: list_digest(&list),
        };
        match self.store().admitted_input(key).await? {
            // Another contract or user has to pass the proof check, which it cannot.
            Some(known) if known.metadata == metadata => {
                return Ok(CheckedList {
                    types: known.types,
                    list,
                    checked_in: None,
                });
            }
            _ => {}
        }
        let verified = self.verify(metadata, list).await?;
        if verified.types.is_empty() {
            return Err(CoprocessorError::EmptyInput);
        }
        Ok(CheckedList {
            types: verified.types,
            list: verified.list,
            checked_in: Some(start.elapsed()),
        })
    }

    /// Keeps a list that was checked, and returns the handles of its values.
    pub(crate) async fn remember_list(&self, metadata: InputMetadata, checked: CheckedList) -> Result<Vec<Handle>, CoprocessorError> {
        let CheckedList { types, list, checked_in } = checked;
        let handles = input_handles(&list, &types, metadata.acl, metadata.chain_id).ok_or_else(too_many_values)?;
        if let Some(checked_in) = checked_in {
            let admitted = cipherloom_store::AdmittedInput {
                digest: list_digest(&list),
                metadata,
                types,
                list,
            };
            self.store().admit_input(&admitted, &handles, (self.config().clock)()).await?;
            self.report(Progress::Input {
                values: handles.len(),
                seconds: checked_in.as_secs_f64(),
            });
            self.notify_change();
        }
        Ok(handles)
    }

    fn check_bounds(&self, metadata: &InputMetadata, list: &[u8], extra_data: &[u8]) -> Result<(), CoprocessorError> {
        if metadata.chain_id != self.chain_id() {
            return Err(CoprocessorError::WrongChain {
                expected: self.chain_id(),
                found: metadata.chain_id,
            });
        }
        if metadata.acl != self.config().acl {
            return Err(CoprocessorError::WrongAcl {
                expected: self.config().acl,
                found: metadata.acl,
            });
        }
        for (what, size, limit) in [
            ("the input list", list.len(), MAX_INPUT_LIST_BYTES),
            ("the extra data", extra_data.len(), MAX_EXTRA_DATA_BYTES),
        ] {
            if size > limit {
                return Err(CoprocessorError::TooLarge { what, size, limit });
            }
        }
        Ok(())
    }

    /// Checks the proof on a blocking thread. The permits go with the thread: a sender that hangs up does not make room
    /// while its proof is still being checked.
    async fn verify(&self, metadata: InputMetadata, list: Vec<u8>) -> Result<VerifiedInput, CoprocessorError> {
        let place = self.admitted().try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits => CoprocessorError::Busy,
            TryAcquireError::Closed => CoprocessorError::ThreadLost,
        })?;
        let turn = self.checking().acquire_owned().await.map_err(|_| CoprocessorError::ThreadLost)?;
        let (engine, metrics) = (Arc::clone(self.keyed_engine()), self.config().metrics.clone());
        let checked = tokio::task::spawn_blocking(move || {
            let checked = engine.machine().compute(|| {
                let start = Instant::now();
                let checked = engine.backend().verify_input(&list, &metadata);
                metrics.requests().proof_checked(start.elapsed(), checked.is_ok());
                checked
            });
            drop((turn, place));
            checked
        });
        checked
            .await
            .map_err(|_| CoprocessorError::ThreadLost)?
            .map_err(CoprocessorError::InputRefused)
    }
}

fn too_many_values() -> CoprocessorError {
    CoprocessorError::InputRefused(FheError::MalformedInput("more values than an input list can have".to_owned()))
}

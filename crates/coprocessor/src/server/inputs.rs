//! `UploadInputs`: lists of encrypted values are admitted, and their handles signed.
//!
//! A list's proof is checked against contract, user, access-control contract and chain, which the 0.6 generation left to the key management
//! system. Its values get handles of ours, under which they are kept, and the handles of that generation as names. All lists of a batch are
//! checked before the first is kept.

use alloy::signers::SignerSync as _;
use cipherloom_primitives::{
    Address, Handle,
    generation_0_6::VerifiedList,
    input::{InputMetadata, MAX_INPUT_LIST_BYTES},
};
use cipherloom_rpc::fhevm::coprocessor::{
    InputCiphertextResponse, InputCiphertextResponseHandle, InputToUpload, InputUploadBatch, InputUploadResponse,
};
use cipherloom_store::NamedHandle;
use futures_util::future::try_join_all;
use tracing::{Instrument as _, info_span};

use super::{authentication::Caller, error::RequestError, service::Service};
use crate::{Coprocessor, CoprocessorError, Fault, admission::CheckedList};

impl Service {
    /// Admits input lists.
    pub(super) async fn upload(&self, caller: &Caller, batch: InputUploadBatch) -> Result<InputUploadResponse, RequestError> {
        let coprocessor = self.shared.coprocessor(caller).await?;
        let uploads = batch
            .input_ciphertexts
            .into_iter()
            .enumerate()
            .map(|(index, input)| Upload::read(caller, index, input))
            .collect::<Result<Vec<_>, _>>()?;
        let checks = uploads.into_iter().map(|upload| self.check(&coprocessor, upload));
        let checked = try_join_all(checks).await?;
        let mut upload_responses = Vec::with_capacity(checked.len());
        for (metadata, list) in checked {
            let admitting = admit(caller, &coprocessor, metadata, list);
            upload_responses.push(admitting.instrument(info_span!("record")).await?);
        }
        Ok(InputUploadResponse { upload_responses })
    }

    async fn check(&self, coprocessor: &Coprocessor, upload: Upload) -> Result<(InputMetadata, CheckedList), RequestError> {
        let Upload { index, metadata, list } = upload;
        let checked = coprocessor
            .check_list(metadata, list)
            .instrument(info_span!("verify", index))
            .await
            .map_err(|error| refused(index, error))?;
        let (count, maximum) = (checked.types.len(), self.shared.config.limits.handles_per_input);
        if count > maximum {
            return Err(RequestError::TooManyValues { index, count, maximum });
        }
        Ok((metadata, checked))
    }
}

/// A list as it was sent.
struct Upload {
    index: usize,
    metadata: InputMetadata,
    list: Vec<u8>,
}

impl Upload {
    fn read(caller: &Caller, index: usize, input: InputToUpload) -> Result<Self, RequestError> {
        let size = input.input_payload.len();
        if size > MAX_INPUT_LIST_BYTES {
            return Err(RequestError::LargeInput {
                index,
                size,
                maximum: MAX_INPUT_LIST_BYTES,
            });
        }
        let metadata = InputMetadata {
            contract: address(&input.contract_address)?,
            user: address(&input.user_address)?,
            acl: caller.tenant.acl,
            chain_id: caller.tenant.chain_id,
        };
        let list = input.input_payload.to_vec();
        Ok(Self { index, metadata, list })
    }
}

/// Keeps a list and answers for it.
async fn admit(
    caller: &Caller,
    coprocessor: &Coprocessor,
    metadata: InputMetadata,
    checked: CheckedList,
) -> Result<InputCiphertextResponse, RequestError> {
    let InputMetadata {
        contract,
        user,
        acl,
        chain_id,
    } = metadata;
    let types = checked.types.clone();
    let list = VerifiedList::new(&checked.list, &types, chain_id, acl, user, contract).ok_or(RequestError::Internal)?;
    let handles = coprocessor.remember_list(metadata, checked).await?;
    caller.store.add_names(&named(&list, &handles)).await?;
    let signature = coprocessor
        .signer()
        .sign_hash_sync(&list.digest(chain_id, caller.tenant.input_verifier))
        .map_err(CoprocessorError::from)?;
    let input_handles = list.handles.iter().zip(&types).map(|(handle, ty)| InputCiphertextResponseHandle {
        handle: handle.to_vec().into(),
        ciphertext_type: ty.id().into(),
    });
    Ok(InputCiphertextResponse {
        acl_address: acl.to_checksum(None),
        hash_of_ciphertext: list.hash.to_vec().into(),
        input_handles: input_handles.collect(),
        contract_address: contract.to_checksum(None),
        user_address: user.to_checksum(None),
        signer_address: coprocessor.signer_address().to_checksum(None),
        eip712_signature: signature.as_bytes().to_vec().into(),
    })
}

fn named(list: &VerifiedList, handles: &[Handle]) -> Vec<NamedHandle> {
    let named = list.handles.iter().zip(handles);
    named
        .map(|(name, handle)| NamedHandle {
            name: name.to_vec(),
            handle: *handle,
        })
        .collect()
}

fn address(text: &str) -> Result<Address, RequestError> {
    // Quoted back only as far as an address is long.
    text.trim()
        .parse()
        .map_err(|_| RequestError::Address(text.chars().take(2 * Address::len_bytes() + 2).collect()))
}

fn refused(index: usize, error: CoprocessorError) -> RequestError {
    match error.fault() {
        Fault::Request => RequestError::Input {
            index,
            reason: error.to_string(),
        },
        Fault::Coprocessor => error.into(),
    }
}

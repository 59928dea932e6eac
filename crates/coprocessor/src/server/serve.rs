//! `GetCiphertexts`: ciphertexts in packed form, each signed.
//!
//! Values that are stored raw are packed for the answer, inputs that nobody used yet are expanded. What is signed is the handle as a 256-bit number
//! and the Keccak hash of the bytes; a name of less than 32 bytes is that number with zeros in front, and one of more has no number and an empty
//! signature. The bytes of an answer are counted while they are gathered.

use std::collections::HashMap;

use alloy::{primitives::keccak256, signers::SignerSync as _};
use bytes::Bytes;
use cipherloom_primitives::{
    CiphertextForm, Handle, HandleOrigin,
    generation_0_6::{VERSION, served_ciphertext_digest},
};
use cipherloom_rpc::fhevm::coprocessor::{FetchedCiphertext, GetCiphertextBatch, GetCiphertextResponse, GetCiphertextSingleResponse};
use cipherloom_store::{CiphertextHead, HandleState, StoredCiphertext};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tracing::{Instrument as _, info_span};

use super::{answers::Served, authentication::Caller, error::RequestError, names, service::Service};
use crate::{Coprocessor, CoprocessorError};

/// How many raw values are read at a time; each has half a megabyte.
const RAW_CHUNK: usize = 16;
/// How many packed values are read at a time.
const PACKED_CHUNK: usize = 512;
/// How many values are packed or expanded for one request at a time. Processors are shared with everybody, so that more would not help.
const CONCURRENT: usize = 8;

/// A name that was asked for and the handle it stands for.
type Asked = (Bytes, Handle);

impl Service {
    /// Serves ciphertexts.
    pub(super) async fn serve(&self, caller: &Caller, batch: GetCiphertextBatch) -> Result<GetCiphertextResponse, RequestError> {
        let mut distinct: Vec<Bytes> = batch.handles.clone();
        distinct.sort_unstable();
        distinct.dedup();
        distinct.iter().try_for_each(names::check)?;
        let handles = names::resolve(&*caller.store, caller.tenant.chain_id, &distinct).await?;
        let asked = distinct.into_iter().zip(handles);
        let asked: Vec<Asked> = asked.filter_map(|(name, handle)| Some((name, handle?))).collect();
        let found = self.find(caller, asked).instrument(info_span!("find")).await?;
        let times_asked = batch.handles.iter().filter_map(|name| found.get(name));
        self.check_size(times_asked.map(|answer| answer.ciphertext_bytes.len()).sum())?;
        let responses = batch.handles.into_iter().map(|handle| GetCiphertextSingleResponse {
            ciphertext: found.get(&handle).cloned(),
            handle,
        });
        Ok(GetCiphertextResponse {
            responses: responses.collect(),
        })
    }

    /// Finds the ciphertexts that there are, by name.
    async fn find(&self, caller: &Caller, asked: Vec<Asked>) -> Result<HashMap<Bytes, FetchedCiphertext>, RequestError> {
        if asked.is_empty() {
            return Ok(HashMap::new());
        }
        let handles: Vec<Handle> = asked.iter().map(|(_, handle)| *handle).collect();
        let heads = caller.store.ciphertext_heads(&handles).await?;
        let mut gathered = Gathered::default();
        let (mut raw, mut packed, mut inputs) = (Vec::new(), Vec::new(), Vec::new());
        for ((name, handle), head) in asked.into_iter().zip(heads) {
            let kept = head
                .as_ref()
                .and_then(|head| self.shared.answers.find(&served(caller, &name, head)));
            match (kept, head) {
                (Some(answer), _) => gathered.add(name, answer),
                (None, Some(head)) if head.form == CiphertextForm::Packed => packed.push((name, handle)),
                (None, Some(_)) => raw.push((name, handle)),
                (None, None) if matches!(handle.origin(), HandleOrigin::Input(_)) => inputs.push((name, handle)),
                (None, None) => {}
            }
        }
        self.check_size(gathered.bytes)?;
        if raw.is_empty() && packed.is_empty() && inputs.is_empty() {
            return Ok(gathered.answers);
        }
        let coprocessor = self.shared.coprocessor(caller).await?;
        for (list, size) in [(packed, PACKED_CHUNK), (raw, RAW_CHUNK)] {
            for chunk in list.chunks(size) {
                let stored = self.read(caller, &coprocessor, chunk).await?;
                self.gather(caller, &coprocessor, stored, &mut gathered).await?;
            }
        }
        for chunk in inputs.chunks(RAW_CHUNK) {
            let stored = expanded(caller, &coprocessor, chunk).await?;
            self.gather(caller, &coprocessor, stored, &mut gathered).await?;
        }
        Ok(gathered.answers)
    }

    /// Reads values and packs those that are raw.
    async fn read(
        &self,
        caller: &Caller,
        coprocessor: &Coprocessor,
        asked: &[Asked],
    ) -> Result<Vec<(Bytes, StoredCiphertext)>, RequestError> {
        let handles: Vec<Handle> = asked.iter().map(|(_, handle)| *handle).collect();
        let stored = caller.store.ciphertexts(&handles).await?;
        let stored = asked
            .iter()
            .zip(stored)
            .filter_map(|((name, _), stored)| Some((name.clone(), stored?)));
        let packed = stream::iter(stored.collect::<Vec<_>>()).map(|(name, stored)| async move {
            let packed = coprocessor.packed(stored).await?;
            Ok::<_, RequestError>((name, packed))
        });
        packed.buffered(CONCURRENT).try_collect().await
    }

    /// Signs values, keeps them for others, and counts their bytes.
    async fn gather(
        &self,
        caller: &Caller,
        coprocessor: &Coprocessor,
        stored: Vec<(Bytes, StoredCiphertext)>,
        gathered: &mut Gathered,
    ) -> Result<(), RequestError> {
        let sizes = stored.iter().map(|(_, stored)| stored.bytes.len());
        self.check_size(sizes.fold(gathered.bytes, usize::saturating_add))?;
        let signer = coprocessor.signer().clone();
        let tenant = caller.tenant.id.number();
        let sign = move || {
            let signed = stored.into_iter().map(|(name, stored)| answer(&signer, tenant, name, stored));
            signed.collect::<Result<Vec<_>, CoprocessorError>>()
        };
        // A signature takes about 50 microseconds, and a chunk has hundreds.
        let signed = tokio::task::spawn_blocking(sign)
            .await
            .map_err(|_| CoprocessorError::ThreadLost)??;
        for (served, answer) in signed {
            gathered.add(served.name.clone(), answer.clone());
            self.shared.answers.keep(served, answer);
        }
        Ok(())
    }

    fn check_size(&self, bytes: usize) -> Result<(), RequestError> {
        let maximum = self.shared.config.limits.answer_bytes;
        if bytes > maximum {
            return Err(RequestError::LargeAnswer { maximum });
        }
        Ok(())
    }
}

/// What there is for an answer so far.
#[derive(Default)]
struct Gathered {
    answers: HashMap<Bytes, FetchedCiphertext>,
    bytes: usize,
}

impl Gathered {
    fn add(&mut self, name: Bytes, answer: FetchedCiphertext) {
        self.bytes = self.bytes.saturating_add(answer.ciphertext_bytes.len());
        self.answers.insert(name, answer);
    }
}

fn served(caller: &Caller, name: &Bytes, head: &CiphertextHead) -> Served {
    Served {
        tenant: caller.tenant.id.number(),
        name: name.clone(),
        handle: head.handle,
        key_set_id: head.key_set_id,
        raw_digest: head.raw_digest,
    }
}

fn answer(
    signer: &alloy::signers::local::PrivateKeySigner,
    tenant: i32,
    name: Bytes,
    stored: StoredCiphertext,
) -> Result<(Served, FetchedCiphertext), CoprocessorError> {
    let signature = match names::signed_number(&name) {
        Some(number) => {
            let digest = served_ciphertext_digest(number, keccak256(&stored.bytes));
            signer.sign_hash_sync(&digest)?.as_bytes().to_vec()
        }
        None => Vec::new(),
    };
    let answer = FetchedCiphertext {
        ciphertext_version: VERSION.into(),
        ciphertext_type: stored.handle.fhe_type().id().into(),
        signature: signature.into(),
        ciphertext_bytes: stored.bytes.into(),
    };
    let served = Served {
        tenant,
        name,
        handle: stored.handle,
        key_set_id: stored.key_set_id,
        raw_digest: stored.raw_digest,
    };
    Ok((served, answer))
}

/// Expands inputs that nobody used yet. One that is in no admitted list has no ciphertext.
async fn expanded(caller: &Caller, coprocessor: &Coprocessor, asked: &[Asked]) -> Result<Vec<(Bytes, StoredCiphertext)>, RequestError> {
    let expanded = stream::iter(asked.to_vec()).map(|(name, handle)| async move {
        if caller.store.handle_state(handle).await? != HandleState::Admitted {
            return Ok(None);
        }
        let stored = coprocessor.expand_stored(handle).await?;
        Ok::<_, RequestError>(Some((name, stored)))
    });
    let expanded: Vec<Option<_>> = expanded.buffered(CONCURRENT).try_collect().await?;
    Ok(expanded.into_iter().flatten().collect())
}

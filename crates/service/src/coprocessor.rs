//! A coprocessor in another process, as one of its tenants calls it.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use cipherloom_primitives::{Address, B256, Handle};
use cipherloom_rpc::{
    cipherloom::coprocessor::v1::{
        AdmitInputRequest, AdmitInputResponse, DescribeRequest, DescribeResponse, GetKeyFileRequest, GetSignedCiphertextRequest,
        GetSquashedCiphertextRequest, HandleState, KeyFileKind, WatchHandlesRequest, coprocessor_client::CoprocessorClient,
        get_signed_ciphertext_response, get_squashed_ciphertext_response,
    },
    codec::MAX_WATCHED_HANDLES,
};
use tonic::{Status, transport::Channel};

use crate::{
    endpoints::{Endpoints, Place},
    messages::{handle, read_address, read_handle, read_hash},
};

/// What people call the part.
pub const PART: &str = "coprocessor";

/// How long answers that need no work may take.
const QUICK: Duration = Duration::from_secs(10);
/// How long checking a proof may take, with those that wait before it.
const PROOF: Duration = Duration::from_secs(120);
/// How long a ciphertext may take: one that is stored raw is packed for it.
const CIPHERTEXT: Duration = Duration::from_secs(60);
/// How much longer than it was asked to wait a coprocessor may take.
const MARGIN: Duration = Duration::from_secs(10);
/// The most bytes of an answer: a ciphertext or the reference string.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A coprocessor, called as a tenant.
pub struct RemoteCoprocessor {
    endpoints: Endpoints,
}

/// For which chain and under which keys a coprocessor works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The tenant's chain.
    pub chain_id: u64,
    /// The chain's access-control contract.
    pub acl: Address,
    /// The contract that verifies signatures of inputs.
    pub input_verifier: Address,
    /// The address that the coprocessor signs with.
    pub signer: Address,
    /// The id of the key set.
    pub key_set_id: B256,
    /// The manifest of the key set, as JSON.
    pub manifest: String,
    /// Whether the coprocessor follows the chain by itself.
    pub followed: bool,
    /// The software version.
    pub version: String,
}

/// What a coprocessor has for a handle.
pub enum Fetched {
    /// Its ciphertext.
    Signed {
        /// Whose it is.
        handle: Handle,
        /// The id of the key set that it is encrypted under.
        key_set_id: B256,
        /// The ciphertext in the form that was asked for.
        bytes: Vec<u8>,
        /// The coprocessors' signatures over it.
        attestations: Vec<Bytes>,
    },
    /// Nothing yet, or nothing ever.
    Missing(HandleState),
}

impl RemoteCoprocessor {
    /// Sets up calls; nothing is sent yet.
    ///
    /// # Errors
    /// As [`Endpoints::new`].
    pub fn new(place: &Place<'_>) -> Result<Self> {
        Ok(Self {
            endpoints: Endpoints::new(place)?,
        })
    }

    /// Asks for which chain and under which keys it works.
    ///
    /// # Errors
    /// The status of the call.
    pub async fn describe(&self) -> Result<Described, Status> {
        let call = async |channel, request| client(channel).describe(request).await;
        let answer = self.endpoints.call(DescribeRequest {}, QUICK, call).await?;
        read_description(answer).map_err(|error| misread(&error))
    }

    /// Fetches a public file of its key set.
    ///
    /// # Errors
    /// The status of the call.
    pub async fn key_file(&self, kind: KeyFileKind, key_set_id: B256) -> Result<Bytes, Status> {
        let request = GetKeyFileRequest {
            kind: kind.into(),
            key_set_id: Bytes::copy_from_slice(key_set_id.as_slice()),
        };
        let call = async |channel, request| client(channel).get_key_file(request).await;
        Ok(self.endpoints.call(request, CIPHERTEXT, call).await?.content)
    }

    /// Has an input admitted.
    ///
    /// # Errors
    /// The status of the call.
    pub async fn admit(&self, request: AdmitInputRequest) -> Result<AdmitInputResponse, Status> {
        let call = async |channel, request| client(channel).admit_input(request).await;
        self.endpoints.call(request, PROOF, call).await
    }

    /// Asks what became of handles, as soon as one of them is done and at the latest after this time. There is a state for each of them.
    ///
    /// # Errors
    /// The status of the call.
    pub async fn watch(&self, handles: &[Handle], at_most: Duration) -> Result<Vec<HandleState>, Status> {
        let mut states = Vec::with_capacity(handles.len());
        for handles in handles.chunks(MAX_WATCHED_HANDLES) {
            let request = WatchHandlesRequest {
                handles: handles.iter().map(handle).collect(),
                at_most_ms: u32::try_from(at_most.as_millis()).unwrap_or(u32::MAX),
            };
            let call = async |channel, request| client(channel).watch_handles(request).await;
            let answer = self.endpoints.call(request, at_most.saturating_add(MARGIN), call).await;
            let found = answer?.states;
            if found.len() != handles.len() {
                return Err(Status::internal("an answer about handles is about others"));
            }
            states.extend(found);
        }
        Ok(states)
    }

    /// Fetches the ciphertext of a handle.
    ///
    /// # Errors
    /// The status of the call.
    pub async fn signed_ciphertext(&self, wanted: Handle) -> Result<Fetched, Status> {
        let request = GetSignedCiphertextRequest { handle: handle(&wanted) };
        let call = async |channel, request| client(channel).get_signed_ciphertext(request).await;
        match self.endpoints.call(request, CIPHERTEXT, call).await?.outcome {
            Some(get_signed_ciphertext_response::Outcome::Signed(signed)) => Ok(Fetched::Signed {
                handle: read_handle(&signed.handle).map_err(|error| misread(&error))?,
                key_set_id: read_hash(&signed.key_set_id).map_err(|error| misread(&error))?,
                bytes: signed.content.into(),
                attestations: signed.attestations,
            }),
            Some(get_signed_ciphertext_response::Outcome::Missing(state)) => Ok(Fetched::Missing(state)),
            None => Err(Status::internal("an answer about a ciphertext says nothing")),
        }
    }

    /// Fetches the noise-squashed form of a handle's ciphertext, which the coprocessor waits for at most this long. Attestations are those of the squashed
    /// list.
    ///
    /// # Errors
    /// The status of the call.
    pub async fn squashed_ciphertext(&self, wanted: Handle, at_most: Duration) -> Result<Fetched, Status> {
        let request = GetSquashedCiphertextRequest {
            handle: handle(&wanted),
            at_most_ms: u32::try_from(at_most.as_millis()).unwrap_or(u32::MAX),
        };
        let call = async |channel, request| client(channel).get_squashed_ciphertext(request).await;
        match self.endpoints.call(request, at_most.saturating_add(MARGIN), call).await?.outcome {
            Some(get_squashed_ciphertext_response::Outcome::Signed(signed)) => Ok(Fetched::Signed {
                handle: read_handle(&signed.handle).map_err(|error| misread(&error))?,
                key_set_id: read_hash(&signed.key_set_id).map_err(|error| misread(&error))?,
                bytes: signed.content.into(),
                attestations: signed.attestations,
            }),
            Some(get_squashed_ciphertext_response::Outcome::Missing(state)) => Ok(Fetched::Missing(state)),
            None => Err(Status::internal("an answer about a squashed ciphertext says nothing")),
        }
    }
}

fn client(channel: Channel) -> CoprocessorClient<Channel> {
    CoprocessorClient::new(channel)
        .max_decoding_message_size(MAX_ANSWER_BYTES)
        .max_encoding_message_size(MAX_ANSWER_BYTES)
}

fn read_description(answer: DescribeResponse) -> Result<Described> {
    Ok(Described {
        chain_id: answer.chain_id,
        acl: read_address(&answer.acl).context("the access-control contract")?,
        input_verifier: read_address(&answer.input_verifier).context("the InputVerifier")?,
        signer: read_address(&answer.signer).context("the signer")?,
        key_set_id: read_hash(&answer.key_set_id).context("the key set")?,
        manifest: answer.manifest,
        followed: answer.followed,
        version: answer.version,
    })
}

fn misread(error: &anyhow::Error) -> Status {
    Status::internal(format!("an answer is not of its form: {error:#}"))
}

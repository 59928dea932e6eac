//! A KMS node in another process.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use cipherloom_gateway::ServiceError;
use cipherloom_primitives::{
    Address, B256,
    decryption::{PublicDecryptionAnswer, PublicDecryptionRequest, UserDecryptionRequest, UserDecryptionShare},
};
use cipherloom_rpc::cipherloom::kms::v1::{DescribeRequest, kms_client::KmsClient};
use cipherloom_service::{
    endpoints::{Endpoints, Place},
    messages::{public_request, read_address, read_hash, read_public_answer, read_share, user_request},
};
use futures_util::future::BoxFuture;
use tonic::{Status, transport::Channel};

use super::failure::service_error;
use crate::wiring::Kms;

/// What people call the part.
pub(crate) const PART: &str = "KMS";

/// How long answers that need no work may take.
const QUICK: Duration = Duration::from_secs(10);
/// How long a decryption may take, with those that wait before it.
const DECRYPTION: Duration = Duration::from_secs(120);
/// The most bytes of an answer.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// A KMS node, or several that have the same keys.
pub(crate) struct RemoteKms {
    endpoints: Endpoints,
}

/// Which keys a node has, and for which chains it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) key_set_id: B256,
    pub(crate) signer: Address,
    pub(crate) chain_ids: Vec<u64>,
    pub(crate) centralised: bool,
    pub(crate) insecure: bool,
    pub(crate) version: String,
}

impl RemoteKms {
    /// Sets up calls; nothing is sent yet.
    ///
    /// # Errors
    /// As [`Endpoints::new`].
    pub(crate) fn new(place: &Place<'_>) -> Result<Self> {
        Ok(Self {
            endpoints: Endpoints::new(place)?,
        })
    }

    /// Asks which keys it has.
    ///
    /// # Errors
    /// The status of the call.
    pub(crate) async fn describe(&self) -> Result<Described, Status> {
        let call = async |channel, request| client(channel).describe(request).await;
        let answer = self.endpoints.call(DescribeRequest {}, QUICK, call).await?;
        let misread = |error: anyhow::Error| Status::internal(format!("an answer is not of its form: {error:#}"));
        Ok(Described {
            key_set_id: read_hash(&answer.key_set_id).map_err(misread)?,
            signer: read_address(&answer.signer).map_err(misread)?,
            chain_ids: answer.chain_ids,
            centralised: answer.centralised,
            insecure: answer.insecure,
            version: answer.version,
        })
    }

    fn failed(&self, status: &Status) -> ServiceError {
        service_error(self.endpoints.part(), status)
    }
}

impl Kms for RemoteKms {
    fn public_decrypt<'a>(
        &'a self,
        request: &'a PublicDecryptionRequest,
        proofs: Bytes,
    ) -> BoxFuture<'a, Result<PublicDecryptionAnswer, ServiceError>> {
        Box::pin(async move {
            let call = async |channel, request| client(channel).public_decrypt(request).await;
            let answer = self.endpoints.call(public_request(request, proofs), DECRYPTION, call).await;
            answer.map(read_public_answer).map_err(|status| self.failed(&status))
        })
    }

    fn user_decrypt<'a>(
        &'a self,
        request: &'a UserDecryptionRequest,
        proofs: Bytes,
    ) -> BoxFuture<'a, Result<Vec<UserDecryptionShare>, ServiceError>> {
        Box::pin(async move {
            let call = async |channel, request| client(channel).user_decrypt(request).await;
            let answer = self.endpoints.call(user_request(request, proofs), DECRYPTION, call).await;
            let answer = answer.map_err(|status| self.failed(&status))?;
            Ok(answer.shares.into_iter().map(read_share).collect())
        })
    }
}

fn client(channel: Channel) -> KmsClient<Channel> {
    KmsClient::new(channel)
        .max_decoding_message_size(MAX_ANSWER_BYTES)
        .max_encoding_message_size(MAX_ANSWER_BYTES)
}

//! A node of a committee in another process, over a channel between attested processes.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use cipherloom_gateway::ServiceError;
use cipherloom_primitives::{
    Address,
    decryption::{PublicDecryptionRequest, UserDecryptionRequest},
};
use cipherloom_rpc::{
    cipherloom::committee::v1::{self as wire, committee_client::CommitteeClient as Client},
    failure::Failure,
};
use cipherloom_service::{
    endpoints::{is_unanswered, with_causes},
    messages::{public_request, read_address, read_hash, read_share, user_request},
};
use futures_util::{FutureExt, future::BoxFuture};
use tonic::{Code, Status, transport::Channel};

use super::client::{CommitteeClient, MadeWith, NodeError, PublicShares, PublicSignature, SealedShares};
use crate::remote::failure::service_error;

/// What people call the part.
const PART: &str = "KMS node";

/// What a failure is labelled with if a node cannot put values together of the shares that it was given.
const MORE_SHARES_NEEDED: &str = "more_shares_needed";

/// How long answers that need no work may take.
const QUICK: Duration = Duration::from_secs(10);

/// The most bytes of an answer: sealed shares of a whole request are a tenth of it.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// A node behind a channel.
#[derive(Clone)]
pub(crate) struct RemoteNode {
    channel: Channel,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeDescription {
    /// The address that it signs with.
    pub(crate) signer: Address,
    /// The chains that it answers for.
    pub(crate) chain_ids: Vec<u64>,
    /// The shares that it holds, the newest first.
    pub(crate) shares: Vec<HeldShare>,
    /// The software version.
    pub(crate) version: String,
    /// Whether its key set hides nothing.
    pub(crate) insecure_keys: bool,
    /// Whether its evidence proves nothing.
    pub(crate) simulated_attestation: bool,
}

/// A share that a node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeldShare {
    /// What its answers are made with.
    pub(crate) made_with: MadeWith,
    /// Its number.
    pub(crate) party: u32,
    /// The members of the committee, the first one first.
    pub(crate) members: Vec<Address>,
    /// How many of them may be corrupt.
    pub(crate) threshold: u32,
}

impl RemoteNode {
    /// Asks over this channel.
    pub(crate) const fn new(channel: Channel) -> Self {
        Self { channel }
    }

    /// Asks what the node is.
    ///
    /// # Errors
    /// The status of the call.
    pub(crate) async fn describe(&self) -> Result<NodeDescription, Status> {
        let mut client = self.client();
        let answer = tokio::time::timeout(QUICK, client.describe(wire::DescribeRequest {}))
            .await
            .map_err(|_| Status::deadline_exceeded(format!("no answer within {} s", QUICK.as_secs())))??;
        read_description(answer.into_inner()).map_err(|error| Status::internal(format!("an answer is not of its form: {error:#}")))
    }

    fn client(&self) -> Client<Channel> {
        Client::new(self.channel.clone())
            .max_decoding_message_size(MAX_ANSWER_BYTES)
            .max_encoding_message_size(MAX_ANSWER_BYTES)
    }
}

impl CommitteeClient for RemoteNode {
    fn user_share(&self, request: Arc<UserDecryptionRequest>, proofs: Bytes) -> BoxFuture<'static, Result<SealedShares, NodeError>> {
        let mut client = self.client();
        async move {
            let asked = wire::UserShareRequest {
                request: Some(user_request(&request, proofs)),
            };
            let answer = client.user_share(asked).await.map_err(|status| failed(&status))?.into_inner();
            read_sealed(answer).map_err(misread)
        }
        .boxed()
    }

    fn public_shares(&self, request: Arc<PublicDecryptionRequest>, proofs: Bytes) -> BoxFuture<'static, Result<PublicShares, NodeError>> {
        let mut client = self.client();
        async move {
            let asked = wire::PublicSharesRequest {
                request: Some(public_request(&request, proofs)),
            };
            let answer = client.public_shares(asked).await.map_err(|status| failed(&status))?.into_inner();
            read_bundle(answer).map_err(misread)
        }
        .boxed()
    }

    fn public_sign(
        &self,
        request: Arc<PublicDecryptionRequest>,
        proofs: Bytes,
        shares: Arc<[PublicShares]>,
    ) -> BoxFuture<'static, Result<PublicSignature, NodeError>> {
        let mut client = self.client();
        async move {
            let asked = wire::PublicSignRequest {
                request: Some(public_request(&request, proofs)),
                bundles: shares.iter().map(|shares| shares.bundle.clone()).collect(),
            };
            let answer = client.public_sign(asked).await.map_err(|status| failed(&status))?.into_inner();
            for refused in &answer.refused {
                tracing::info!(
                    index = refused.index,
                    reason = refused.reason,
                    "a KMS node left out shares of another"
                );
            }
            Ok(PublicSignature {
                decrypted_result: answer.decrypted_result,
                signature: answer.signature,
                faulty: answer.faults.iter().map(|fault| fault.party).collect(),
            })
        }
        .boxed()
    }
}

/// Says what the status of a call means.
fn failed(status: &Status) -> NodeError {
    match Failure::of(status) {
        Some(failure) if failure.label == MORE_SHARES_NEEDED => NodeError::MoreShares(failure.message),
        Some(_) => NodeError::Refused(service_error(PART, status)),
        None if is_unanswered(status) => NodeError::Unreachable(with_causes(status)),
        None if status.code() == Code::ResourceExhausted => NodeError::Refused(ServiceError::new(
            cipherloom_gateway::Label::ProtocolOverload,
            "has too much to do; try again",
        )),
        None => NodeError::Unreachable(format!("{:?}: {}", status.code(), with_causes(status))),
    }
}

fn misread(error: anyhow::Error) -> NodeError {
    NodeError::Invalid(format!("an answer is not of its form: {error:#}"))
}

fn read_ref(share: Option<&wire::ShareRef>) -> Result<(MadeWith, u32)> {
    let share = share.context("it does not say what it was made with")?;
    let made_with = MadeWith {
        key_set_id: read_hash(&share.key_set_id)?,
        context: read_hash(&share.context_id)?,
        epoch: read_hash(&share.epoch_id)?,
        committee: read_hash(&share.committee_digest)?,
    };
    Ok((made_with, share.party))
}

fn read_sealed(answer: wire::UserShareResponse) -> Result<SealedShares> {
    let (made_with, _) = read_ref(answer.made_with.as_ref())?;
    Ok(SealedShares {
        made_with,
        share: read_share(answer.share.context("there is no share")?),
    })
}

fn read_bundle(answer: wire::PublicSharesResponse) -> Result<PublicShares> {
    let bundle = answer.bundle.context("there are no shares")?;
    let (made_with, party) = read_ref(bundle.made_with.as_ref())?;
    Ok(PublicShares { party, made_with, bundle })
}

fn read_description(answer: wire::DescribeResponse) -> Result<NodeDescription> {
    let held = |held: &wire::HeldShare| -> Result<HeldShare> {
        let (made_with, party) = read_ref(held.share.as_ref())?;
        let members: Vec<Address> = held.members.iter().map(read_address).collect::<Result<_>>()?;
        ensure!(
            usize::try_from(party).is_ok_and(|party| (1..=members.len()).contains(&party)),
            "party {party} is none of {} members",
            members.len()
        );
        Ok(HeldShare {
            made_with,
            party,
            members,
            threshold: held.threshold,
        })
    };
    Ok(NodeDescription {
        signer: read_address(&answer.signer)?,
        chain_ids: answer.chain_ids,
        shares: answer.shares.iter().map(held).collect::<Result<_>>()?,
        version: answer.version,
        insecure_keys: answer.insecure_keys,
        simulated_attestation: answer.simulated_attestation,
    })
}

#[cfg(test)]
mod tests {
    use cipherloom_gateway::Label;

    use cipherloom_primitives::B256;

    use super::*;

    fn reference(party: u32) -> wire::ShareRef {
        wire::ShareRef {
            key_set_id: Bytes::from_static(&[1; 32]),
            context_id: Bytes::from_static(&[2; 32]),
            epoch_id: Bytes::from_static(&[3; 32]),
            committee_digest: Bytes::from_static(&[4; 32]),
            party,
        }
    }

    #[test]
    fn each_way_to_fail_is_told_from_the_others() {
        let more = Failure::new(MORE_SHARES_NEEDED, "two agree").into_status(Code::FailedPrecondition);
        assert!(matches!(failed(&more), NodeError::MoreShares(reason) if reason == "two agree"));
        let refused = Failure::new("not_allowed_on_host_acl", "no").into_status(Code::PermissionDenied);
        assert!(matches!(failed(&refused), NodeError::Refused(error) if error.label == Label::NotAllowedOnHostAcl));
        assert!(
            matches!(failed(&Status::unavailable("connection refused")), NodeError::Unreachable(reason) if reason == "connection refused")
        );
        assert!(matches!(failed(&Status::unimplemented("what?")), NodeError::Unreachable(reason) if reason == "Unimplemented: what?"));
        assert!(matches!(failed(&Status::resource_exhausted("busy")), NodeError::Refused(error) if error.label == Label::ProtocolOverload));
    }

    #[test]
    fn answers_that_say_too_little_are_refused() {
        let good = wire::Bundle {
            made_with: Some(reference(2)),
            ..wire::Bundle::default()
        };
        let read = read_bundle(wire::PublicSharesResponse {
            bundle: Some(good.clone()),
        })
        .unwrap();
        assert_eq!((read.party, read.made_with.epoch), (2, B256::repeat_byte(3)));
        let short = wire::ShareRef {
            epoch_id: Bytes::from_static(&[3; 31]),
            ..reference(2)
        };
        for made_with in [None, Some(short)] {
            let bundle = wire::Bundle { made_with, ..good.clone() };
            assert!(read_bundle(wire::PublicSharesResponse { bundle: Some(bundle) }).is_err());
        }
        assert!(read_bundle(wire::PublicSharesResponse { bundle: None }).is_err());
        let described = |party| wire::DescribeResponse {
            signer: Bytes::from_static(&[9; 20]),
            shares: vec![wire::HeldShare {
                share: Some(reference(party)),
                members: vec![Bytes::from_static(&[9; 20]); 4],
                threshold: 1,
            }],
            ..wire::DescribeResponse::default()
        };
        assert_eq!(read_description(described(4)).unwrap().shares[0].members.len(), 4);
        for party in [0, 5] {
            assert!(read_description(described(party)).is_err());
        }
    }
}

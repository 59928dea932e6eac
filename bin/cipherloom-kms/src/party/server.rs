//! The gRPC service of a party: `cipherloom.committee.v1.Committee`.
//!
//! Callers are gateways, which showed evidence when they connected. They are not trusted for that: each request is checked as if a stranger had sent it.
//! The node of the chain that the first handle names answers a request, and refuses handles of others.

use std::sync::Arc;

use cipherloom_attest::Role;
use cipherloom_rpc::{
    cipherloom::committee::v1::{
        DescribeRequest, DescribeResponse, PublicSharesRequest, PublicSharesResponse, PublicSignRequest, PublicSignResponse, RefusedBundle,
        UserShareRequest, UserShareResponse, committee_server::Committee,
    },
    failure::Failure,
};
use cipherloom_service::{
    attested::AttestedPeer,
    messages::{address, read_evidence, read_public_request, read_user_request},
};
use tonic::{Code, Request, Response, Status};

use super::{Party, messages};
use crate::server::{carry_out, malformed, node_of, refused};

/// The service.
#[derive(Clone)]
pub(super) struct CommitteeService(pub(super) Arc<Party>);

#[tonic::async_trait]
impl Committee for CommitteeService {
    async fn describe(&self, request: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        admit(&request, &[Role::Gateway, Role::Dealer, Role::KmsNode])?;
        let party = &self.0;
        let mut chain_ids: Vec<u64> = party.nodes.keys().copied().collect();
        chain_ids.sort_unstable();
        Ok(Response::new(DescribeResponse {
            signer: address(&party.signer),
            chain_ids,
            shares: party.shares.list().iter().map(|share| messages::held_share(share)).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            insecure_keys: party.insecure_keys,
            simulated_attestation: party.attestation.is_simulated(),
        }))
    }

    async fn user_share(&self, request: Request<UserShareRequest>) -> Result<Response<UserShareResponse>, Status> {
        let work = async |request: UserShareRequest| {
            let request = request.request.ok_or_else(no_request)?;
            let evidence = read_evidence(&request.acl_evidence).map_err(|error| malformed(&error))?;
            let request = read_user_request(request).map_err(|error| malformed(&error))?;
            let node = node_of(&self.0.nodes, &request.handles())?;
            let answer = node.user_share(request, evidence).await.map_err(|error| refused(&error))?;
            Ok(messages::user_share(answer))
        };
        Box::pin(self.0.answer("user_share", request, work)).await
    }

    async fn public_shares(&self, request: Request<PublicSharesRequest>) -> Result<Response<PublicSharesResponse>, Status> {
        let work = async |request: PublicSharesRequest| {
            let request = request.request.ok_or_else(no_request)?;
            let evidence = read_evidence(&request.acl_evidence).map_err(|error| malformed(&error))?;
            let request = read_public_request(request).map_err(|error| malformed(&error))?;
            let node = node_of(&self.0.nodes, &request.handles)?;
            let bundle = node.public_shares(request, evidence).await.map_err(|error| refused(&error))?;
            Ok(PublicSharesResponse {
                bundle: Some(messages::bundle(bundle)),
            })
        };
        Box::pin(self.0.answer("public_shares", request, work)).await
    }

    async fn public_sign(&self, request: Request<PublicSignRequest>) -> Result<Response<PublicSignResponse>, Status> {
        let work = async |PublicSignRequest { request, bundles }: PublicSignRequest| {
            let request = request.ok_or_else(no_request)?;
            let evidence = read_evidence(&request.acl_evidence).map_err(|error| malformed(&error))?;
            let request = read_public_request(request).map_err(|error| malformed(&error))?;
            let node = node_of(&self.0.nodes, &request.handles)?;
            // A bundle that is none counts as one that did not come: one party must not be able to stop all.
            let (mut places, mut read, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
            for (index, bundle) in (0..).zip(bundles) {
                match messages::read_bundle(bundle) {
                    Ok(bundle) => {
                        places.push(index);
                        read.push(bundle);
                    }
                    Err(error) => unreadable.push(RefusedBundle {
                        index,
                        reason: format!("{error:#}"),
                    }),
                }
            }
            let answer = node.public_sign(request, evidence, read).await.map_err(|error| refused(&error))?;
            let mut answer = messages::public_signature(answer, &places);
            answer.refused.append(&mut unreadable);
            Ok(answer)
        };
        Box::pin(self.0.answer("public_sign", request, work)).await
    }
}

/// Lets only callers of these roles in. The port takes no connection of others; a service does not rely on that.
pub(super) fn admit<T>(request: &Request<T>, roles: &[Role]) -> Result<AttestedPeer, Status> {
    let unknown = || Status::unauthenticated("the connection is not attested");
    let peer = AttestedPeer::of(request).ok_or_else(unknown)?;
    let role = peer.peer.statement.role;
    if !roles.contains(&role) {
        return Err(Status::permission_denied(format!("a {} may not ask this", role.as_str())));
    }
    Ok(peer.clone())
}

fn no_request() -> (Code, Failure) {
    malformed(&anyhow::anyhow!("the message holds no request"))
}

impl Party {
    async fn answer<T, A>(
        &self,
        what: &'static str,
        request: Request<T>,
        work: impl AsyncFnOnce(T) -> Result<A, (Code, Failure)>,
    ) -> Result<Response<A>, Status> {
        admit(&request, &[Role::Gateway])?;
        let stopping = "the KMS node is stopping; try again";
        carry_out(self.metrics.requests(), &self.stopped, stopping, what, work(request.into_inner())).await
    }
}

//! The gRPC service of a node: `cipherloom.ceremony.v1.Ceremony`.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use cipherloom_attest::Role;
use cipherloom_ceremony::{CeremonyError, Node, Proposal, Record, RecoveryKey, Registration};
use cipherloom_primitives::B256;
use cipherloom_rpc::{
    cipherloom::ceremony::v1::{self as wire, ceremony_server},
    failure::Failure,
};
use cipherloom_threshold::{EpochId, KeyId};
use futures_util::future::BoxFuture;
use tonic::{Code, Request, Response, Status};

use super::{MAX_MESSAGE_BYTES, messages};
use crate::attested::AttestedPeer;

/// What the process gives to the service.
pub trait CeremonyHost: Send + Sync + 'static {
    /// Returns the node.
    fn node(&self) -> &Node;

    /// Reads from the chain what it says of the committee that a proposal names, and of the one whose shares are to be replaced.
    fn registration<'a>(&'a self, proposal: &'a Proposal) -> BoxFuture<'a, Result<Registration>>;

    /// Reads the chain's current epoch, before which no share counts.
    fn epoch(&self) -> BoxFuture<'_, Result<EpochId>>;

    /// Returns the recovery key of the process's own configuration, if backups are made.
    fn recovery_key(&self) -> Option<&RecoveryKey>;

    /// Is told that the node holds other shares than before.
    fn shares_changed(&self);
}

/// The service.
#[derive(Clone)]
pub struct CeremonyService(Arc<dyn CeremonyHost>);

impl CeremonyService {
    /// Makes the service, ready to be served on the attested port.
    #[must_use]
    pub fn server(host: Arc<dyn CeremonyHost>) -> ceremony_server::CeremonyServer<Self> {
        ceremony_server::CeremonyServer::new(Self(host))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Runs a step beside the runtime: it computes, and writes files.
    async fn step<T: Send + 'static>(&self, work: impl FnOnce(&Node) -> Result<T, CeremonyError> + Send + 'static) -> Result<T, Status> {
        let host = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(host.node()))
            .await
            .map_err(|_| Failure::new("internal_server_error", "the step was interrupted").into_status(Code::Internal))?
            .map_err(|error| refused(&error))
    }
}

/// Lets only drivers of ceremonies in.
fn admit<T>(request: Request<T>) -> Result<T, Status> {
    let peer = AttestedPeer::of(&request).ok_or_else(|| Status::unauthenticated("the connection is not attested"))?;
    match peer.peer.statement.role {
        Role::Dealer => Ok(request.into_inner()),
        role => Err(Status::permission_denied(format!("a {} may not drive ceremonies", role.as_str()))),
    }
}

fn malformed(error: &anyhow::Error) -> Status {
    Failure::new("request_error", &format!("{error:#}")).into_status(Code::InvalidArgument)
}

fn unread(error: &anyhow::Error) -> Status {
    Failure::new("readiness_check_timed_out", &format!("the chain cannot be read: {error:#}")).into_status(Code::Unavailable)
}

fn refused(error: &CeremonyError) -> Status {
    let (label, code) = match error {
        CeremonyError::Malformed { .. } => ("request_error", Code::InvalidArgument),
        CeremonyError::NotRegistered(_) => ("not_registered", Code::PermissionDenied),
        CeremonyError::OldEpoch { .. } => ("old_epoch", Code::FailedPrecondition),
        CeremonyError::Evidence { .. } => ("evidence_refused", Code::PermissionDenied),
        error if error.is_callers_fault() => ("ceremony_refused", Code::FailedPrecondition),
        _ => ("internal_server_error", Code::Internal),
    };
    if code == Code::Internal {
        tracing::error!(%error, "a step of a ceremony failed");
    } else {
        tracing::warn!(%error, "a step of a ceremony was refused");
    }
    Failure::new(label, &error.to_string()).into_status(code)
}

fn session(bytes: &[u8]) -> Result<B256, Status> {
    messages::read_word("ceremony", bytes).map_err(|error| malformed(&error))
}

#[tonic::async_trait]
impl ceremony_server::Ceremony for CeremonyService {
    async fn describe(&self, request: Request<wire::DescribeRequest>) -> Result<Response<wire::DescribeResponse>, Status> {
        admit(request)?;
        let (signer, records) = self
            .step(|node| {
                let mut records = Vec::new();
                for (key, epoch) in node.held() {
                    if let Some(held) = node.share(key, epoch)? {
                        records.push(held.record.to_json()?.into());
                    }
                }
                Ok((node.identity().address(), records))
            })
            .await?;
        Ok(Response::new(wire::DescribeResponse {
            signer: bytes::Bytes::copy_from_slice(signer.as_slice()),
            records,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }

    async fn begin(&self, request: Request<wire::BeginRequest>) -> Result<Response<wire::BeginResponse>, Status> {
        let request = admit(request)?;
        // A proposal has a whole record inside, whose signatures are checked.
        let bytes = request.proposal;
        let proposal = self.step(move |_| Proposal::from_json(&bytes)).await?;
        let dealer = match request.dealer.is_empty() {
            true => None,
            false => Some(messages::read_document("dealer's card", &request.dealer).map_err(|error| malformed(&error))?),
        };
        let registration = self.0.registration(&proposal).await.map_err(|error| unread(&error))?;
        let card = Box::pin(self.0.node().begin(proposal, dealer, &registration))
            .await
            .map_err(|error| refused(&error))?;
        Ok(Response::new(wire::BeginResponse {
            card: messages::document(&card).map_err(|error| malformed(&error))?,
        }))
    }

    async fn cards(&self, request: Request<wire::CardsRequest>) -> Result<Response<wire::LettersResponse>, Status> {
        let request = admit(request)?;
        let session = session(&request.session)?;
        let cards = request.cards.iter().map(|card| messages::read_document("card", card));
        let cards = cards.collect::<Result<Vec<_>>>().map_err(|error| malformed(&error))?;
        let delivered = self.step(move |node| node.cards(session, cards)).await?;
        Ok(Response::new(messages::delivered(&delivered)))
    }

    async fn deal(&self, request: Request<wire::DealRequest>) -> Result<Response<wire::DealResponse>, Status> {
        let request = admit(request)?;
        let read = || {
            let letter = messages::read_letter(request.letter.context("there is no letter")?)?;
            let core = messages::read_document("outcome", &request.core)?;
            let evidence = messages::read_document("evidence", &request.dealer_evidence)?;
            Ok((core, evidence, letter))
        };
        let (core, evidence, letter) = read().map_err(|error| malformed(&error))?;
        let acceptance = self.step(move |node| node.deal(&core, &evidence, &letter)).await?;
        Ok(Response::new(wire::DealResponse {
            acceptance: messages::document(&acceptance).map_err(|error| malformed(&error))?,
        }))
    }

    async fn deliver(&self, request: Request<wire::DeliverRequest>) -> Result<Response<wire::LettersResponse>, Status> {
        let request = admit(request)?;
        let session = session(&request.session)?;
        let letters = messages::read_letters(request.letters).map_err(|error| malformed(&error))?;
        let delivered = self.step(move |node| node.deliver(session, &letters)).await?;
        Ok(Response::new(messages::delivered(&delivered)))
    }

    async fn close(&self, request: Request<wire::CloseRequest>) -> Result<Response<wire::LettersResponse>, Status> {
        let session = session(&admit(request)?.session)?;
        let delivered = self.step(move |node| node.close(session)).await?;
        Ok(Response::new(messages::delivered(&delivered)))
    }

    async fn accept(&self, request: Request<wire::AcceptRequest>) -> Result<Response<wire::AcceptResponse>, Status> {
        let session = session(&admit(request)?.session)?;
        let accepted = self.step(move |node| node.accept(session)).await?;
        let write = || {
            anyhow::Ok(wire::AcceptResponse {
                core: messages::document(&accepted.core)?,
                acceptance: messages::document(&accepted.acceptance)?,
            })
        };
        write().map(Response::new).map_err(|error| malformed(&error))
    }

    async fn activate(&self, request: Request<wire::ActivateRequest>) -> Result<Response<wire::ActivateResponse>, Status> {
        let record = admit(request)?.record;
        self.step(move |node| node.activate(&Record::from_json(&record)?)).await?;
        self.0.shares_changed();
        Ok(Response::new(wire::ActivateResponse {}))
    }

    async fn abort(&self, request: Request<wire::AbortRequest>) -> Result<Response<wire::AbortResponse>, Status> {
        let session = session(&admit(request)?.session)?;
        self.step(move |node| node.abort(session)).await?;
        Ok(Response::new(wire::AbortResponse {}))
    }

    async fn backup(&self, request: Request<wire::BackupRequest>) -> Result<Response<wire::BackupResponse>, Status> {
        let key = messages::read_word("key", &admit(request)?.key_id).map_err(|error| malformed(&error))?;
        let recovery_key = self.0.recovery_key().cloned().ok_or_else(|| {
            let message = "the node's configuration names no recovery key, so it makes no backups";
            Failure::new("ceremony_refused", message).into_status(Code::FailedPrecondition)
        })?;
        let epoch = self.0.epoch().await.map_err(|error| unread(&error))?;
        let backup = self
            .step(move |node| node.backup(KeyId(key.0), epoch, &recovery_key)?.to_json())
            .await?;
        Ok(Response::new(wire::BackupResponse { backup: backup.into() }))
    }
}

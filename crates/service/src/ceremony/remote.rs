//! A node of a committee as whoever drives a ceremony reaches it.

use std::time::Duration;

use anyhow::Result;
use cipherloom_attest::Evidence;
use cipherloom_ceremony::{Acceptance, Accepted, Backup, Card, CeremonyError, Core, Delivered, Letter, NodeLink, Proposal, Record};
use cipherloom_primitives::{Address, B256};
use cipherloom_rpc::{
    cipherloom::ceremony::v1::{self as wire, ceremony_client::CeremonyClient},
    failure::Failure,
};
use futures_util::future::BoxFuture;
use tonic::{Request, Status, transport::Channel};

use super::{MAX_MESSAGE_BYTES, messages};

/// How long one step may take: sealing and checking shares of production parameters takes seconds.
const STEP_TIMEOUT: Duration = Duration::from_secs(120);

/// A node over an attested channel.
#[derive(Clone)]
pub struct RemoteNode {
    name: String,
    signer: Address,
    client: CeremonyClient<Channel>,
}

impl RemoteNode {
    /// Asks the node at the other end who it is. `name` is how errors call it, for instance its address.
    ///
    /// # Errors
    /// If it does not answer, or not as a node does.
    pub async fn connect(name: &str, channel: Channel) -> Result<(Self, Vec<Record>), CeremonyError> {
        let client = CeremonyClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let mut node = Self {
            name: name.to_owned(),
            signer: Address::ZERO,
            client,
        };
        let described = node.client.clone().describe(step(wire::DescribeRequest {})).await;
        let described = described.map_err(|status| node.failed(&status))?.into_inner();
        node.signer = Address::try_from(described.signer.as_ref()).map_err(|_| node.wrong("its signer is no address"))?;
        let records = described
            .records
            .iter()
            .map(|record| Record::from_json(record))
            .collect::<Result<_, _>>()?;
        Ok((node, records))
    }

    /// Asks for a backup of the node's identity and share, sealed to the recovery key of the node's configuration.
    ///
    /// # Errors
    /// If the node has no recovery key, or no share.
    pub async fn backup(&self, key_id: B256) -> Result<Backup, CeremonyError> {
        let request = wire::BackupRequest {
            key_id: messages::word(key_id),
        };
        let answer = self.client.clone().backup(step(request)).await;
        Backup::from_json(&answer.map_err(|status| self.failed(&status))?.into_inner().backup)
    }

    fn failed(&self, status: &Status) -> CeremonyError {
        let reason = Failure::of(status).map_or_else(|| status.message().to_owned(), |failure| failure.message);
        self.wrong(if reason.is_empty() { "it did not answer" } else { &reason })
    }

    fn wrong(&self, reason: &str) -> CeremonyError {
        CeremonyError::Link {
            who: self.name.clone(),
            reason: reason.to_owned(),
        }
    }

    fn read<T>(&self, read: Result<T>) -> Result<T, CeremonyError> {
        read.map_err(|error| self.wrong(&format!("{error:#}")))
    }
}

fn step<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(STEP_TIMEOUT);
    request
}

impl NodeLink for RemoteNode {
    fn signer(&self) -> Address {
        self.signer
    }

    fn begin<'a>(&'a self, proposal: &'a Proposal, dealer: Option<&'a Card>) -> BoxFuture<'a, Result<Card, CeremonyError>> {
        Box::pin(async move {
            let request = wire::BeginRequest {
                proposal: proposal.to_json()?.into(),
                dealer: self.read(dealer.map(messages::document).transpose())?.unwrap_or_default(),
            };
            let answer = self.client.clone().begin(step(request)).await;
            let answer = answer.map_err(|status| self.failed(&status))?.into_inner();
            self.read(messages::read_document("card", &answer.card))
        })
    }

    fn cards<'a>(&'a self, session: B256, cards: &'a [Card]) -> BoxFuture<'a, Result<Delivered, CeremonyError>> {
        Box::pin(async move {
            let request = wire::CardsRequest {
                session: messages::word(session),
                cards: self.read(cards.iter().map(messages::document).collect())?,
            };
            let answer = self.client.clone().cards(step(request)).await;
            self.read(messages::read_delivered(
                answer.map_err(|status| self.failed(&status))?.into_inner(),
            ))
        })
    }

    fn deal<'a>(
        &'a self,
        core: &'a Core,
        dealer_evidence: &'a Evidence,
        letter: &'a Letter,
    ) -> BoxFuture<'a, Result<Acceptance, CeremonyError>> {
        Box::pin(async move {
            let request = wire::DealRequest {
                core: self.read(messages::document(core))?,
                dealer_evidence: self.read(messages::document(dealer_evidence))?,
                letter: Some(messages::letter(letter)),
            };
            let answer = self.client.clone().deal(step(request)).await;
            let answer = answer.map_err(|status| self.failed(&status))?.into_inner();
            self.read(messages::read_document("acceptance", &answer.acceptance))
        })
    }

    fn deliver(&self, session: B256, letters: Vec<Letter>) -> BoxFuture<'_, Result<Delivered, CeremonyError>> {
        Box::pin(async move {
            let request = wire::DeliverRequest {
                session: messages::word(session),
                letters: letters.iter().map(messages::letter).collect(),
            };
            let answer = self.client.clone().deliver(step(request)).await;
            self.read(messages::read_delivered(
                answer.map_err(|status| self.failed(&status))?.into_inner(),
            ))
        })
    }

    fn close(&self, session: B256) -> BoxFuture<'_, Result<Delivered, CeremonyError>> {
        Box::pin(async move {
            let request = wire::CloseRequest {
                session: messages::word(session),
            };
            let answer = self.client.clone().close(step(request)).await;
            self.read(messages::read_delivered(
                answer.map_err(|status| self.failed(&status))?.into_inner(),
            ))
        })
    }

    fn accept(&self, session: B256) -> BoxFuture<'_, Result<Accepted, CeremonyError>> {
        Box::pin(async move {
            let request = wire::AcceptRequest {
                session: messages::word(session),
            };
            let answer = self.client.clone().accept(step(request)).await;
            let answer = answer.map_err(|status| self.failed(&status))?.into_inner();
            Ok(Accepted {
                core: self.read(messages::read_document("outcome", &answer.core))?,
                acceptance: self.read(messages::read_document("acceptance", &answer.acceptance))?,
            })
        })
    }

    fn activate<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<(), CeremonyError>> {
        Box::pin(async move {
            let request = wire::ActivateRequest {
                record: record.to_json()?.into(),
            };
            let answer = self.client.clone().activate(step(request)).await;
            answer.map(|_| ()).map_err(|status| self.failed(&status))
        })
    }

    fn abort(&self, session: B256) -> BoxFuture<'_, Result<(), CeremonyError>> {
        Box::pin(async move {
            let request = wire::AbortRequest {
                session: messages::word(session),
            };
            let answer = self.client.clone().abort(step(request)).await;
            answer.map(|_| ()).map_err(|status| self.failed(&status))
        })
    }
}

//! What nodes say on their public ports, with their signatures checked.

use alloy::hex;
use anyhow::{Context, Result, bail, ensure};
use cipherloom_kms_node::public::documents::{Attestation, AuditHeads, NodeStatus, SIGNATURE_HEADER, document_signer};
use cipherloom_primitives::{Address, B256};
use serde::de::DeserializeOwned;

use super::web::Web;

/// The longest document of a node that is read, in bytes. Manifests are the longest: they have the evidence of all nodes.
const MAX_DOCUMENT_BYTES: usize = 8 << 20;

/// A node's public port.
#[derive(Clone)]
pub(super) struct Node {
    web: Web,
    url: String,
}

/// An answer, and who signed it.
pub(super) struct Signed<T> {
    pub(super) document: T,
    pub(super) signer: Address,
}

impl Node {
    pub(super) fn new(web: &Web, url: &str) -> Self {
        Self {
            web: web.clone(),
            url: url.to_owned(),
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Challenges the node; returns its evidence and the nonce that this must be for.
    pub(super) async fn attestation(&self) -> Result<(Signed<Attestation>, B256)> {
        let nonce = nonce()?;
        Ok((self.document("/attestation", nonce).await?, nonce))
    }

    pub(super) async fn status(&self) -> Result<Signed<NodeStatus>> {
        let status: Signed<NodeStatus> = self.document("/status", nonce()?).await?;
        ensure!(
            status.document.signer == status.signer,
            "{} says that it signs as {}, and the answer is signed by {}",
            self.url,
            status.document.signer,
            status.signer
        );
        Ok(status)
    }

    pub(super) async fn audit_heads(&self) -> Result<Signed<AuditHeads>> {
        let heads: Signed<AuditHeads> = self.document("/audit/head", nonce()?).await?;
        for head in &heads.document.heads {
            ensure!(
                head.signer == heads.signer && head.is_signed(),
                "{}: the head of the audit log of chain {} is not signed by the node",
                self.url,
                head.chain_id
            );
        }
        Ok(heads)
    }

    /// Returns the manifest's bytes; `None` if there was no ceremony yet.
    pub(super) async fn manifest(&self) -> Result<Option<Signed<Vec<u8>>>> {
        let nonce = nonce()?;
        match self.bytes("/manifest", nonce).await? {
            Answer::Signed(signed) => Ok(Some(signed)),
            Answer::NotFound => Ok(None),
        }
    }

    async fn document<T: DeserializeOwned>(&self, route: &str, nonce: B256) -> Result<Signed<T>> {
        match self.bytes(route, nonce).await? {
            Answer::Signed(Signed { document, signer }) => Ok(Signed {
                document: serde_json::from_slice(&document)
                    .with_context(|| format!("{}{route} answers something that this version cannot read", self.url))?,
                signer,
            }),
            Answer::NotFound => bail!("{} has no {route}: is it the public port of a KMS node?", self.url),
        }
    }

    async fn bytes(&self, route: &str, nonce: B256) -> Result<Answer> {
        let url = format!("{}{route}?nonce={nonce}", self.url);
        let fetched = self.web.get(&url, MAX_DOCUMENT_BYTES).await?;
        if fetched.status == http::StatusCode::NOT_FOUND {
            return Ok(Answer::NotFound);
        }
        let fetched = fetched.expect_ok(&url)?;
        let header = fetched.headers.get(SIGNATURE_HEADER);
        let signature = header.and_then(|value| hex::decode(value.as_bytes()).ok());
        let signer = signature.and_then(|signature| document_signer(route, Some(nonce), &fetched.body, &signature));
        let signer = signer.with_context(|| {
            format!(
                "{}{route}: the answer is not signed; is it the public port of a KMS node?",
                self.url
            )
        })?;
        Ok(Answer::Signed(Signed {
            document: fetched.body,
            signer,
        }))
    }
}

enum Answer {
    Signed(Signed<Vec<u8>>),
    NotFound,
}

/// Draws the nonce of a challenge.
fn nonce() -> Result<B256> {
    let mut nonce = B256::ZERO;
    getrandom::fill(nonce.as_mut_slice()).map_err(|error| anyhow::anyhow!("the system gives no randomness: {error}"))?;
    Ok(nonce)
}

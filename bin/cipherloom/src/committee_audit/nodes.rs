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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alloy::signers::local::PrivateKeySigner;
    use axum::{Router, extract::State, http::HeaderMap, response::IntoResponse};
    use cipherloom_attest::{Role, Statement, TeeKind, simulated::InsecureSimulatedAttestor};
    use cipherloom_kms::audit::AuditHead;
    use cipherloom_kms_node::public::{
        self, PublicLimits, PublicParts,
        documents::{Form, NodeState, SignedAuditHead},
    };
    use tokio::net::TcpListener;

    use super::*;

    fn key(byte: u8) -> PrivateKeySigner {
        PrivateKeySigner::from_bytes(&B256::repeat_byte(byte)).unwrap()
    }

    fn status() -> NodeStatus {
        NodeStatus {
            version: "1".into(),
            form: Form::Threshold,
            state: NodeState::Serving,
            detail: None,
            time: 1,
            started: 1,
            chain_id: 31337,
            signer: key(7).address(),
            party: 1,
            parties: 4,
            threshold: 1,
            context: B256::ZERO,
            epoch: B256::ZERO,
            share: None,
            attestation: TeeKind::InsecureSimulated,
            policy: B256::ZERO,
            insecure_parameters: false,
        }
    }

    async fn honest() -> String {
        let statement = Statement {
            role: Role::KmsNode,
            chain_id: 31337,
            context: B256::ZERO,
            party: 1,
            signer: key(7).address(),
        };
        let parts = PublicParts {
            attestor: Arc::new(InsecureSimulatedAttestor::new("node").unwrap()),
            signer: key(7),
            statement: Box::new(move || statement.clone()),
            status: Box::new(status),
            manifest: Box::new(|| None),
            audit: Box::new(|| {
                vec![(
                    31337,
                    AuditHead {
                        records: 2,
                        hash: B256::repeat_byte(1),
                    },
                )]
            }),
            clock: Box::new(|| 5),
            limits: PublicLimits::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(public::serve(listener, parts, std::future::pending()));
        url
    }

    /// Answers everything with the same body and signature.
    async fn parrot(body: Vec<u8>, signature: Option<String>) -> String {
        async fn answer(State((body, signature)): State<(Vec<u8>, Option<String>)>) -> impl IntoResponse {
            let mut headers = HeaderMap::new();
            if let Some(signature) = signature {
                headers.insert(SIGNATURE_HEADER, signature.parse().unwrap());
            }
            (headers, body)
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state((body, signature));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    fn node(url: &str) -> Node {
        Node::new(&Web::new(None).unwrap(), url)
    }

    #[tokio::test]
    async fn an_honest_node_is_read() {
        let node = node(&honest().await);
        assert_eq!(node.status().await.unwrap().document, status());
        let (attestation, _) = node.attestation().await.unwrap();
        assert_eq!(attestation.signer, key(7).address());
        assert_eq!(node.audit_heads().await.unwrap().document.heads[0].records, 2);
        assert!(node.manifest().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_answer_to_somebody_else_is_not_taken() {
        // Recorded from the node itself, for another nonce.
        let url = format!("{}/status?nonce={}", honest().await, B256::repeat_byte(1));
        let recorded = Web::new(None).unwrap().get(&url, 10_000).await.unwrap();
        let signature = recorded.headers.get(SIGNATURE_HEADER).unwrap().to_str().unwrap().to_owned();
        let replayed = node(&parrot(recorded.body.clone(), Some(signature)).await).status().await;
        let error = replayed.err().unwrap().to_string();
        assert!(error.contains("the answer is signed by"), "{error}");
        let unsigned = node(&parrot(recorded.body, None).await).status().await;
        let error = unsigned.err().unwrap().to_string();
        assert!(error.contains("not signed"), "{error}");
    }

    #[tokio::test]
    async fn heads_that_another_signed_are_not_taken() {
        let head = AuditHead {
            records: 2,
            hash: B256::ZERO,
        };
        let heads = AuditHeads {
            heads: vec![SignedAuditHead::sign(1, head, 5, &key(8)).unwrap()],
        };
        let body = serde_json::to_vec(&heads).unwrap();
        // Whatever is recovered from this signature, it is not the head's signer.
        let signature = alloy::hex::encode_prefixed(alloy::primitives::Signature::test_signature().as_bytes());
        assert!(node(&parrot(body, Some(signature)).await).audit_heads().await.is_err());
    }

    #[tokio::test]
    async fn floods_are_cut_off() {
        let url = parrot(vec![b' '; MAX_DOCUMENT_BYTES + 1], None).await;
        let error = node(&url).status().await.err().unwrap().to_string();
        assert!(error.contains("more than"), "{error}");
    }
}

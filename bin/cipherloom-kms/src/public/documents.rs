//! What the public port says, and how it is signed. Written by nodes, read by whoever checks them.

use alloy::{
    primitives::{Signature, keccak256},
    signers::{SignerSync, local::PrivateKeySigner},
};
use cipherloom_attest::{Evidence, Statement, TeeKind};
use cipherloom_kms::audit::AuditHead;
use cipherloom_primitives::{Address, B256, Bytes};
use serde::{Deserialize, Serialize};

/// The header with the node's signature over an answer.
pub const SIGNATURE_HEADER: &str = "cipherloom-signature";

/// Keeps what is signed here apart from everything else that a node signs.
const DOCUMENT_DOMAIN: &[u8] = b"cipherloom kms public document v1";
const AUDIT_DOMAIN: &[u8] = b"cipherloom kms audit head v1";

/// The answer to a challenge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attestation {
    /// What the node says to be.
    pub statement: Statement,
    /// What its hardware says.
    pub evidence: Evidence,
}

/// How a node holds the secret key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// As one party of a committee.
    Threshold,
    /// Alone.
    Centralised,
}

/// What a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NodeState {
    /// Its signer is not in the chain's current KMS context.
    AwaitingRegistration,
    /// It has no share for the current epoch.
    AwaitingCeremony,
    /// A ceremony is under way.
    InCeremony,
    /// It answers requests.
    Serving,
    /// It has a share and answers nothing: see the detail.
    Refusing,
    /// It is shutting down.
    Stopping,
    /// Something that this version has no word for.
    #[serde(other)]
    Unknown,
}

impl NodeState {
    /// Returns the word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AwaitingRegistration => "awaiting registration",
            Self::AwaitingCeremony => "awaiting ceremony",
            Self::InCeremony => "in ceremony",
            Self::Serving => "serving",
            Self::Refusing => "refusing",
            Self::Stopping => "stopping",
            Self::Unknown => "unknown",
        }
    }
}

/// The share of a key that a node holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShareStatus {
    /// The key set.
    pub key_set_id: B256,
    /// The committee that it was dealt to.
    pub context: B256,
    /// The epoch of the share.
    pub epoch: B256,
    /// The digest of the manifest that it was checked against.
    pub manifest: B256,
}

/// What a node says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// The software's version.
    pub version: String,
    /// How it holds the secret key.
    pub form: Form,
    /// What it is doing.
    pub state: NodeState,
    /// Why, in words, where that is not plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// When this was written, in seconds since 1970.
    pub time: u64,
    /// When the process started, in seconds since 1970.
    pub started: u64,
    /// The host chain.
    pub chain_id: u64,
    /// The address that answers are signed with.
    pub signer: Address,
    /// The number in the committee; 0 for none.
    pub party: u32,
    /// How many parties there are.
    pub parties: u32,
    /// How many parties may be corrupt.
    pub threshold: u32,
    /// The chain's current KMS context, as the node reads it.
    pub context: B256,
    /// The context's current epoch, as the node reads it.
    pub epoch: B256,
    /// The share that it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<ShareStatus>,
    /// What makes its evidence. Only the evidence proves it.
    pub attestation: TeeKind,
    /// The digest of the policy by which it judges others.
    pub policy: B256,
    /// Whether the key set hides nothing.
    pub insecure_parameters: bool,
}

impl NodeStatus {
    /// Says whether something about the node is for development only.
    #[must_use]
    pub fn is_insecure(&self) -> bool {
        self.insecure_parameters || self.attestation == TeeKind::InsecureSimulated
    }
}

/// Where the audit logs of a node end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditHeads {
    /// One for each chain.
    pub heads: Vec<SignedAuditHead>,
}

/// Where an audit log ended at a time, in the node's word. Whoever keeps it can show later that records before it were changed or cut off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignedAuditHead {
    /// The host chain whose decryptions the log is about.
    pub chain_id: u64,
    /// How many records there were.
    pub records: u64,
    /// The hash of the last; zero without any.
    pub hash: B256,
    /// When, in seconds since 1970.
    pub time: u64,
    /// The node.
    pub signer: Address,
    /// Its signature (EIP-191) over [`Self::digest`].
    pub signature: Bytes,
}

impl SignedAuditHead {
    /// Signs a head.
    ///
    /// # Errors
    /// If signing fails, which it does not for keys in memory.
    pub fn sign(chain_id: u64, head: AuditHead, time: u64, key: &PrivateKeySigner) -> Result<Self, alloy::signers::Error> {
        let unsigned = Self {
            chain_id,
            records: head.records,
            hash: head.hash,
            time,
            signer: key.address(),
            signature: Bytes::new(),
        };
        let signature = key.sign_message_sync(unsigned.digest().as_slice())?;
        Ok(Self {
            signature: signature.as_bytes().to_vec().into(),
            ..unsigned
        })
    }

    /// Returns what is signed.
    #[must_use]
    pub fn digest(&self) -> B256 {
        digest_of(&[
            AUDIT_DOMAIN,
            &self.chain_id.to_be_bytes(),
            &self.records.to_be_bytes(),
            self.hash.as_slice(),
            &self.time.to_be_bytes(),
            self.signer.as_slice(),
        ])
    }

    /// Says whether the signature is the signer's.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        recover(self.digest(), &self.signature) == Some(self.signer)
    }

    /// Returns the head without the signature.
    #[must_use]
    pub const fn head(&self) -> AuditHead {
        AuditHead {
            records: self.records,
            hash: self.hash,
        }
    }
}

/// Returns what is signed over an answer: its route, the nonce of the request (zero without) and its bytes.
#[must_use]
pub fn document_digest(route: &str, nonce: Option<B256>, body: &[u8]) -> B256 {
    let nonce = nonce.unwrap_or_default();
    digest_of(&[DOCUMENT_DOMAIN, route.as_bytes(), nonce.as_slice(), keccak256(body).as_slice()])
}

/// Returns whose signature it is over an answer; `None` if it is none.
#[must_use]
pub fn document_signer(route: &str, nonce: Option<B256>, body: &[u8], signature: &[u8]) -> Option<Address> {
    recover(document_digest(route, nonce, body), signature)
}

fn recover(digest: B256, signature: &[u8]) -> Option<Address> {
    let signature = Signature::from_raw(signature).ok()?;
    signature.recover_address_from_msg(digest.as_slice()).ok()
}

/// Hashes parts with their lengths, so that neighbours cannot slide into one another.
fn digest_of(parts: &[&[u8]]) -> B256 {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    keccak256(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_over_everything() {
        let key = PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).unwrap();
        let head = AuditHead {
            records: 3,
            hash: B256::repeat_byte(1),
        };
        let signed = SignedAuditHead::sign(31337, head, 99, &key).unwrap();
        assert!(signed.is_signed());
        let changed = [
            SignedAuditHead {
                chain_id: 1,
                ..signed.clone()
            },
            SignedAuditHead {
                records: 2,
                ..signed.clone()
            },
            SignedAuditHead {
                hash: B256::ZERO,
                ..signed.clone()
            },
            SignedAuditHead {
                time: 98,
                ..signed.clone()
            },
            SignedAuditHead {
                signer: Address::ZERO,
                ..signed.clone()
            },
            SignedAuditHead {
                signature: Bytes::new(),
                ..signed.clone()
            },
        ];
        assert!(changed.iter().all(|head| !head.is_signed()));
        let read: SignedAuditHead = serde_json::from_slice(&serde_json::to_vec(&signed).unwrap()).unwrap();
        assert_eq!(read, signed);

        let nonce = Some(B256::repeat_byte(2));
        let digest = document_digest("/status", nonce, b"{}");
        let signature = key.sign_message_sync(digest.as_slice()).unwrap().as_bytes();
        assert_eq!(document_signer("/status", nonce, b"{}", &signature), Some(key.address()));
        for (route, nonce, body) in [
            ("/manifest", nonce, &b"{}"[..]),
            ("/status", None, b"{}"),
            ("/status", nonce, b"{ }"),
        ] {
            assert_ne!(document_signer(route, nonce, body, &signature), Some(key.address()));
        }
        assert_eq!(document_signer("/status", nonce, b"{}", &signature[..64]), None);
    }

    #[test]
    fn states_of_later_versions_are_read() {
        let state: NodeState = serde_json::from_str("\"on-holiday\"").unwrap();
        assert_eq!(state, NodeState::Unknown);
        assert_eq!(
            serde_json::to_string(&NodeState::AwaitingCeremony).unwrap(),
            "\"awaiting-ceremony\""
        );
    }
}

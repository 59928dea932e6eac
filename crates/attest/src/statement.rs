//! What a prover states, and the 64 bytes that the hardware signs for it.

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha512};

/// Keeps digests of this protocol apart from everything else that a trust domain may have signed.
const DOMAIN: &[u8] = b"cipherloom attestation v1";

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Holds a share of the secret key.
    KmsNode,
    /// Generates a key set and deals its shares once.
    Dealer,
    /// Carries requests to the nodes.
    Gateway,
    /// Reads the nodes' evidence.
    Auditor,
}

impl Role {
    /// Returns the word for the role.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KmsNode => "kms-node",
            Self::Dealer => "dealer",
            Self::Gateway => "gateway",
            Self::Auditor => "auditor",
        }
    }
}

/// What evidence is made for. Evidence for one occasion is refused on any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "occasion", content = "nonce")]
pub enum Occasion {
    /// Inside a TLS certificate; valid as long as the certificate.
    Certificate,
    /// On a connection: the nonce is the keying material that only its two ends have.
    Connection(B256),
    /// In answer to somebody's challenge: the nonce is theirs.
    Challenge(B256),
    /// In the transcript of a key ceremony: the nonce is the transcript's digest.
    Ceremony(B256),
}

impl Occasion {
    const fn tag(&self) -> &'static [u8] {
        match self {
            Self::Certificate => b"certificate",
            Self::Connection(_) => b"connection",
            Self::Challenge(_) => b"challenge",
            Self::Ceremony(_) => b"ceremony",
        }
    }

    const fn nonce(&self) -> B256 {
        match self {
            Self::Certificate => B256::ZERO,
            Self::Connection(nonce) | Self::Challenge(nonce) | Self::Ceremony(nonce) => *nonce,
        }
    }
}

/// Who proves what: everything that evidence is bound to, but the TLS key and the occasion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Statement {
    /// What the process is.
    pub role: Role,
    /// The host chain that it serves.
    pub chain_id: u64,
    /// The committee ("KMS context"), as registered on that chain.
    pub context: B256,
    /// Its number in the committee, from 1; 0 for processes that are not members.
    pub party: u32,
    /// The address that its answers are signed with; zero if it signs none.
    pub signer: Address,
}

impl Statement {
    /// Returns what the hardware signs: a digest of the statement, the TLS key and the occasion.
    ///
    /// `tls_key` is the `SubjectPublicKeyInfo` in DER; empty on occasions that have none.
    #[must_use]
    pub fn report_data(&self, tls_key: &[u8], occasion: &Occasion) -> [u8; 64] {
        let mut hasher = Sha512::new();
        let mut part = |bytes: &[u8]| {
            // Lengths keep neighbouring parts from sliding into one another.
            hasher.update((bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        part(DOMAIN);
        part(self.role.as_str().as_bytes());
        part(&self.chain_id.to_be_bytes());
        part(self.context.as_slice());
        part(&self.party.to_be_bytes());
        part(self.signer.as_slice());
        part(tls_key);
        part(occasion.tag());
        part(occasion.nonce().as_slice());
        hasher.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn statement() -> Statement {
        Statement {
            role: Role::KmsNode,
            chain_id: 31337,
            context: B256::repeat_byte(7),
            party: 1,
            signer: Address::repeat_byte(1),
        }
    }

    #[test]
    fn every_part_changes_what_is_signed() {
        let base = statement();
        let nonce = B256::repeat_byte(9);
        let variants = [
            base.report_data(b"key", &Occasion::Certificate),
            base.report_data(b"kez", &Occasion::Certificate),
            base.report_data(b"", &Occasion::Certificate),
            base.report_data(b"key", &Occasion::Connection(B256::ZERO)),
            base.report_data(b"key", &Occasion::Connection(nonce)),
            base.report_data(b"key", &Occasion::Challenge(nonce)),
            base.report_data(b"key", &Occasion::Ceremony(nonce)),
            Statement {
                role: Role::Dealer,
                ..base.clone()
            }
            .report_data(b"key", &Occasion::Certificate),
            Statement {
                chain_id: 1,
                ..base.clone()
            }
            .report_data(b"key", &Occasion::Certificate),
            Statement {
                context: nonce,
                ..base.clone()
            }
            .report_data(b"key", &Occasion::Certificate),
            Statement { party: 2, ..base.clone() }.report_data(b"key", &Occasion::Certificate),
            Statement {
                signer: Address::ZERO,
                ..base.clone()
            }
            .report_data(b"key", &Occasion::Certificate),
        ];
        assert_eq!(variants.iter().collect::<HashSet<_>>().len(), variants.len());
    }

    #[test]
    fn what_is_signed_does_not_change_between_versions() {
        let digest = statement().report_data(b"key", &Occasion::Certificate);
        let by_hand = {
            let mut bytes = Vec::new();
            for part in [
                b"cipherloom attestation v1".to_vec(),
                b"kms-node".to_vec(),
                31337u64.to_be_bytes().to_vec(),
                vec![7; 32],
                1u32.to_be_bytes().to_vec(),
                vec![1; 20],
                b"key".to_vec(),
                b"certificate".to_vec(),
                vec![0; 32],
            ] {
                bytes.extend((part.len() as u64).to_be_bytes());
                bytes.extend(part);
            }
            Sha512::digest(bytes)
        };
        assert_eq!(digest[..], by_hand[..]);
    }
}

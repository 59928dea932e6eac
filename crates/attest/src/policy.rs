//! What a verifier accepts: a document that a committee agrees on, and whose digest it can publish.

use std::time::Duration;

use alloy_primitives::{B256, Bytes, FixedBytes};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::AttestError;

/// The version of the policy's form.
pub const POLICY_VERSION: u32 = 1;

/// The longest policy that is read, in bytes of JSON.
pub const MAX_POLICY_BYTES: usize = 256 << 10;

/// Chains on which simulated evidence can be allowed: those whose accounts everybody knows.
pub const DEVELOPMENT_CHAINS: [u64; 3] = [31337, 31338, 12345];

/// The measurements and platform states that are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// [`POLICY_VERSION`].
    pub version: u32,
    /// The software that is accepted. Without any nothing is.
    #[serde(default)]
    pub images: Vec<Image>,
    /// The platforms that are accepted.
    #[serde(default)]
    pub tcb: TcbPolicy,
    /// Whether evidence that proves nothing is accepted too, on chains for development.
    #[serde(default)]
    pub allow_insecure_simulated: bool,
}

/// One release of the software: how a machine that runs it measures. Every list must have an entry, and evidence must match one entry of each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Image {
    /// A name for people.
    pub name: String,
    /// The firmware (MRTD).
    pub mr_td: FixedBytes<48>,
    /// The virtual hardware (RTMR0): one for each size of machine that nodes run on.
    pub rtmr0: Vec<FixedBytes<48>>,
    /// The kernel (RTMR1).
    pub rtmr1: FixedBytes<48>,
    /// The command line and root file system (RTMR2).
    pub rtmr2: FixedBytes<48>,
    /// The compositions of containers that may run: SHA-256 of the application's compose file as dstack measures it.
    pub compose_hashes: Vec<B256>,
    /// The ids of the applications: one per operator, so that no single key can upgrade all nodes.
    pub app_ids: Vec<FixedBytes<20>>,
    /// Who may give the application its keys, as the event log words it.
    pub key_providers: Vec<Bytes>,
}

/// The states of a platform's trusted computing base (TCB) that are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TcbPolicy {
    /// The states.
    pub statuses: Vec<TcbStatus>,
    /// Security advisories that must not apply to the platform, like `INTEL-SA-00837`.
    pub refused_advisories: Vec<String>,
    /// How long a platform may stay out of date after the state's date, in days. Only with [`TcbStatus::OutOfDate`].
    pub grace_days: u32,
    /// The manufacturer's number of the evaluation that collateral must at least be of. Raise it after a recovery of the platform's security, so
    /// that older collateral, although not expired, does not count.
    pub min_evaluation: u32,
    /// Whether platforms count that their owner can extend by processors; nearly all servers are of this kind.
    pub allow_dynamic_platform: bool,
    /// Whether platforms count whose keys the owner caches.
    pub allow_cached_keys: bool,
    /// Whether hyper-threading may be on.
    pub allow_smt: bool,
}

impl Default for TcbPolicy {
    fn default() -> Self {
        Self {
            statuses: vec![TcbStatus::UpToDate],
            refused_advisories: Vec::new(),
            grace_days: 0,
            min_evaluation: 0,
            allow_dynamic_platform: true,
            allow_cached_keys: true,
            allow_smt: true,
        }
    }
}

/// What the manufacturer says of a platform. A revoked one is never accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TcbStatus {
    /// Nothing is known to be wrong.
    UpToDate,
    /// Software must be hardened.
    SwHardeningNeeded,
    /// The platform must be configured otherwise.
    ConfigurationNeeded,
    /// Both of the former.
    ConfigurationAndSwHardeningNeeded,
    /// Updates are missing.
    OutOfDate,
    /// Updates are missing and the platform must be configured otherwise.
    OutOfDateConfigurationNeeded,
}

impl Policy {
    /// Returns a policy for development that accepts simulated evidence and nothing else.
    #[must_use]
    pub fn insecure_simulated_only() -> Self {
        Self {
            version: POLICY_VERSION,
            images: Vec::new(),
            tcb: TcbPolicy::default(),
            allow_insecure_simulated: true,
        }
    }

    /// Reads a policy and checks that it can be applied.
    ///
    /// # Errors
    /// [`AttestError::InvalidPolicy`] if it is too long, not in its form, or fails [`Self::validate`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, AttestError> {
        if bytes.len() > MAX_POLICY_BYTES {
            return Err(AttestError::InvalidPolicy(format!(
                "it has {} bytes; at most {MAX_POLICY_BYTES} are read",
                bytes.len()
            )));
        }
        let policy: Self = serde_json::from_slice(bytes).map_err(|error| AttestError::InvalidPolicy(error.to_string()))?;
        policy.validate()?;
        Ok(policy)
    }

    /// Checks that the policy says something that can be applied. An empty policy is valid; it accepts nothing.
    ///
    /// # Errors
    /// [`AttestError::InvalidPolicy`] if it is of another version, or an image could never match because one of its lists is empty.
    pub fn validate(&self) -> Result<(), AttestError> {
        if self.version != POLICY_VERSION {
            return Err(AttestError::InvalidPolicy(format!(
                "it is of version {}; this build reads version {POLICY_VERSION}",
                self.version
            )));
        }
        for image in &self.images {
            let lists = [
                ("rtmr0", image.rtmr0.is_empty()),
                ("compose-hashes", image.compose_hashes.is_empty()),
                ("app-ids", image.app_ids.is_empty()),
                ("key-providers", image.key_providers.is_empty()),
            ];
            if let Some((list, _)) = lists.iter().find(|(_, is_empty)| *is_empty) {
                return Err(AttestError::InvalidPolicy(format!(
                    "image {:?} has an empty list {list}, so nothing could ever match it; nothing means \"any\" here",
                    image.name
                )));
            }
        }
        Ok(())
    }

    /// Returns the digest of the policy, which a committee can publish: SHA-256 of its JSON with the members in the order of their declaration.
    ///
    /// # Errors
    /// [`AttestError::InvalidPolicy`] if it cannot be written, which no policy that was read shows.
    pub fn digest(&self) -> Result<B256, AttestError> {
        let json = serde_json::to_vec(self).map_err(|error| AttestError::InvalidPolicy(error.to_string()))?;
        Ok(B256::from_slice(&Sha256::digest(json)))
    }

    /// Returns the grace for platforms that are out of date.
    pub(crate) fn grace(&self) -> Duration {
        Duration::from_secs(u64::from(self.tcb.grace_days) * 24 * 3600)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn image() -> Image {
        Image {
            name: "release 1".into(),
            mr_td: FixedBytes::repeat_byte(1),
            rtmr0: vec![FixedBytes::repeat_byte(2)],
            rtmr1: FixedBytes::repeat_byte(3),
            rtmr2: FixedBytes::repeat_byte(4),
            compose_hashes: vec![B256::repeat_byte(5)],
            app_ids: vec![FixedBytes::repeat_byte(6)],
            key_providers: vec![b"kms".to_vec().into()],
        }
    }

    fn policy(image: Image) -> Policy {
        Policy {
            images: vec![image],
            allow_insecure_simulated: false,
            ..Policy::insecure_simulated_only()
        }
    }

    #[test]
    fn an_image_with_an_empty_list_is_a_mistake() {
        policy(image()).validate().unwrap();
        let broken = [
            Image { rtmr0: vec![], ..image() },
            Image {
                compose_hashes: vec![],
                ..image()
            },
            Image {
                app_ids: vec![],
                ..image()
            },
            Image {
                key_providers: vec![],
                ..image()
            },
        ];
        for image in broken {
            assert!(matches!(policy(image).validate(), Err(AttestError::InvalidPolicy(_))));
        }
        let newer = Policy {
            version: 2,
            ..policy(image())
        };
        assert!(matches!(newer.validate(), Err(AttestError::InvalidPolicy(_))));
    }

    #[test]
    fn policies_are_read_strictly() {
        let read = |text: &str| serde_json::from_str::<Policy>(text);
        let minimal = read(r#"{"version":1}"#).unwrap();
        assert!(minimal.images.is_empty() && !minimal.allow_insecure_simulated);
        assert_eq!(minimal.tcb.statuses, [TcbStatus::UpToDate]);
        assert!(read(r#"{"version":1,"imagess":[]}"#).is_err());
        assert!(read(r#"{"version":1,"tcb":{"statuses":["revoked"]}}"#).is_err());
        assert!(read("{}").is_err());
    }

    #[test]
    fn policies_are_checked_when_they_are_read() {
        let text = serde_json::to_vec(&policy(image())).unwrap();
        assert_eq!(Policy::from_json(&text).unwrap(), policy(image()));
        let broken = serde_json::to_vec(&policy(Image {
            app_ids: vec![],
            ..image()
        }))
        .unwrap();
        for bytes in [broken, b"{}".to_vec(), vec![b' '; MAX_POLICY_BYTES + 1]] {
            assert!(matches!(Policy::from_json(&bytes), Err(AttestError::InvalidPolicy(_))));
        }
    }

    #[test]
    fn the_documents_example_is_a_policy() {
        let document = include_str!("../../../docs/attestation.md");
        let (_, rest) = document.split_once("```json\n").unwrap();
        let (example, _) = rest.split_once("```").unwrap();
        let read = Policy::from_json(example.as_bytes()).unwrap();
        assert_eq!(read.images[0].mr_td, image().mr_td);
        assert_eq!(read.images[0].key_providers, image().key_providers);
        assert!(read.tcb.min_evaluation == 17 && read.tcb.allow_smt && !read.allow_insecure_simulated);
    }

    #[test]
    fn the_digest_is_of_everything() {
        let base = policy(image());
        let digest = |policy: &Policy| policy.digest().unwrap();
        let tolerant = TcbPolicy {
            grace_days: 1,
            ..TcbPolicy::default()
        };
        assert_ne!(
            digest(&base),
            digest(&Policy {
                tcb: tolerant,
                ..base.clone()
            })
        );
        assert_ne!(
            digest(&base),
            digest(&Policy {
                allow_insecure_simulated: true,
                ..base.clone()
            })
        );
        assert_ne!(
            digest(&base),
            digest(&policy(Image {
                name: "release 2".into(),
                ..image()
            }))
        );
        let read: Policy = serde_json::from_slice(&serde_json::to_vec(&base).unwrap()).unwrap();
        assert_eq!(digest(&read), digest(&base));
    }
}

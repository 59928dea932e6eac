//! How whoever decrypts finds out what the access-control contract allows, and how sure it must be.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// How rights are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AclCheck {
    /// What is believed.
    #[serde(default)]
    pub by: AclSource,
    /// Which block's state counts.
    #[serde(default)]
    pub finality: Finality,
}

/// What is believed about the access-control contract.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AclSource {
    /// What the contract answers to calls, as a quorum of nodes say.
    #[default]
    Call,
    /// What is proven to stand in its storage, against the hash of a block that a quorum of nodes name.
    Proof,
    /// Both, and they must agree.
    Both,
}

/// Which block's state counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finality {
    /// The newest. A reorganisation can take back a right that was used already.
    #[default]
    Latest,
    /// The newest that the chain's nodes call safe.
    Safe,
    /// The newest that the chain's nodes call finalized.
    Finalized,
    /// The one with this many newer ones above it.
    Depth(u64),
}

/// A text names no [`AclSource`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rights are read by call, proof or both, not by {0:?}")]
pub struct UnknownAclSource(pub String);

/// A text names no [`Finality`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("finality is latest, safe, finalized or a number of blocks, not {0:?}")]
pub struct UnknownFinality(pub String);

impl AclSource {
    /// Every source.
    pub const ALL: [Self; 3] = [Self::Call, Self::Proof, Self::Both];

    /// Says whether proofs are needed.
    #[must_use]
    pub const fn needs_proofs(self) -> bool {
        matches!(self, Self::Proof | Self::Both)
    }

    /// Says whether calls are needed.
    #[must_use]
    pub const fn needs_calls(self) -> bool {
        matches!(self, Self::Call | Self::Both)
    }
}

impl fmt::Display for AclSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Call => "call",
            Self::Proof => "proof",
            Self::Both => "both",
        })
    }
}

impl FromStr for AclSource {
    type Err = UnknownAclSource;

    fn from_str(text: &str) -> Result<Self, UnknownAclSource> {
        let found = Self::ALL.into_iter().find(|source| source.to_string() == text);
        found.ok_or_else(|| UnknownAclSource(text.to_owned()))
    }
}

impl fmt::Display for Finality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Safe => f.write_str("safe"),
            Self::Finalized => f.write_str("finalized"),
            Self::Depth(blocks) => blocks.fmt(f),
        }
    }
}

impl FromStr for Finality {
    type Err = UnknownFinality;

    fn from_str(text: &str) -> Result<Self, UnknownFinality> {
        match text {
            "latest" => Ok(Self::Latest),
            "safe" => Ok(Self::Safe),
            "finalized" => Ok(Self::Finalized),
            number => number.parse().map(Self::Depth).map_err(|_| UnknownFinality(text.to_owned())),
        }
    }
}

impl Serialize for Finality {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Depth(blocks) => serializer.serialize_u64(*blocks),
            named => serializer.collect_str(named),
        }
    }
}

impl<'de> Deserialize<'de> for Finality {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(blocks) => Ok(Self::Depth(blocks)),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_written_as_they_are_read() {
        for source in AclSource::ALL {
            assert_eq!(source.to_string().parse(), Ok(source));
        }
        for finality in [Finality::Latest, Finality::Safe, Finality::Finalized, Finality::Depth(12)] {
            assert_eq!(finality.to_string().parse(), Ok(finality));
            let json = serde_json::to_string(&finality).unwrap();
            assert_eq!(serde_json::from_str::<Finality>(&json).unwrap(), finality);
        }
        assert_eq!(serde_json::from_str::<Finality>("\"12\"").unwrap(), Finality::Depth(12));
        assert!("final".parse::<Finality>().is_err());
        assert!("-1".parse::<Finality>().is_err());
        assert!("guess".parse::<AclSource>().is_err());
        let check: AclCheck = serde_json::from_str(r#"{"by": "both", "finality": "finalized"}"#).unwrap();
        assert_eq!((check.by, check.finality), (AclSource::Both, Finality::Finalized));
        assert!(serde_json::from_str::<AclCheck>(r#"{"by": "both", "finalty": "finalized"}"#).is_err());
    }
}

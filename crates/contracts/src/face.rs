//! The protocol version a deployment speaks for.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Which version of the protocol the contracts' `getVersion()` names.
///
/// Client libraries choose wire formats by it. What the contracts can do is the same under every face.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Face {
    /// Protocol 0.12: extra data of version 1, which carry a context id.
    #[default]
    #[serde(rename = "0.12")]
    V0_12,
    /// Protocol 0.14: extra data of version 2, which carry a context id and an epoch id, and unified permits.
    #[serde(rename = "0.14")]
    V0_14,
}

/// A text names no [`Face`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the contracts can speak for protocol 0.12 or 0.14, not for {0:?}")]
pub struct UnknownFace(pub String);

impl Face {
    /// Every face.
    pub const ALL: [Self; 2] = [Self::V0_12, Self::V0_14];

    /// The minor number of the version, which the implementations' constructors take.
    #[must_use]
    pub const fn minor(self) -> u8 {
        match self {
            Self::V0_12 => 12,
            Self::V0_14 => 14,
        }
    }

    /// The version as it is written: `0.12`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_12 => "0.12",
            Self::V0_14 => "0.14",
        }
    }
}

impl fmt::Display for Face {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Face {
    type Err = UnknownFace;

    fn from_str(text: &str) -> Result<Self, UnknownFace> {
        let found = Self::ALL.into_iter().find(|face| face.as_str() == text);
        found.ok_or_else(|| UnknownFace(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_face_is_written_as_it_is_read() {
        for face in Face::ALL {
            assert_eq!(face.to_string().parse(), Ok(face));
            let json = serde_json::to_string(&face).unwrap();
            assert_eq!(json, format!("\"{face}\""));
            assert_eq!(serde_json::from_str::<Face>(&json).unwrap(), face);
        }
        assert_eq!("0.13".parse::<Face>(), Err(UnknownFace("0.13".to_owned())));
    }
}

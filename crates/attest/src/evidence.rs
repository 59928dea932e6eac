//! Evidence as it travels: JSON, so that people can look at it.

use alloy_primitives::Bytes;
use serde::{Deserialize, Serialize};

use crate::{AttestError, event_log::Event};

/// The longest evidence that is read, in bytes of JSON. A quote has about 5 kB, an event log about 2.
pub const MAX_EVIDENCE_BYTES: usize = 48 << 10;

/// The longest quote that is looked at, in bytes.
pub(crate) const MAX_QUOTE_BYTES: usize = 16 << 10;

/// The most events that are replayed.
pub(crate) const MAX_EVENTS: usize = 128;

/// What made evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TeeKind {
    /// An Intel TDX trust domain under dstack.
    DstackTdx,
    /// Nothing: keys that everybody knows. For development.
    InsecureSimulated,
}

impl TeeKind {
    /// Returns the word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DstackTdx => "dstack-tdx",
            Self::InsecureSimulated => "insecure-simulated",
        }
    }
}

/// A quote and the log of what was measured into its last register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Evidence {
    /// What made it. Nothing is believed because of this word: each kind is verified under its own root.
    pub kind: TeeKind,
    /// The quote, as the hardware's quoting enclave signed it.
    pub quote: Bytes,
    /// The events measured into RTMR3, in their order.
    pub events: Vec<Event>,
}

impl Evidence {
    /// Reads evidence.
    ///
    /// # Errors
    /// [`AttestError::Malformed`] if it is too long or not in its form.
    pub fn from_json(bytes: &[u8]) -> Result<Self, AttestError> {
        if bytes.len() > MAX_EVIDENCE_BYTES {
            return Err(AttestError::Malformed(format!(
                "it has {} bytes; at most {MAX_EVIDENCE_BYTES} are read",
                bytes.len()
            )));
        }
        let evidence: Self = serde_json::from_slice(bytes).map_err(|error| AttestError::Malformed(error.to_string()))?;
        evidence.check_size()?;
        Ok(evidence)
    }

    /// Writes the evidence.
    ///
    /// # Errors
    /// [`AttestError::Malformed`] if it is longer than verifiers read.
    pub fn to_json(&self) -> Result<Vec<u8>, AttestError> {
        self.check_size()?;
        let bytes = serde_json::to_vec(self).map_err(|error| AttestError::Malformed(error.to_string()))?;
        if bytes.len() > MAX_EVIDENCE_BYTES {
            return Err(AttestError::Malformed(format!(
                "it would have {} bytes; verifiers read {MAX_EVIDENCE_BYTES}",
                bytes.len()
            )));
        }
        Ok(bytes)
    }

    pub(crate) fn check_size(&self) -> Result<(), AttestError> {
        if self.quote.len() > MAX_QUOTE_BYTES {
            return Err(AttestError::Malformed(format!("the quote has {} bytes", self.quote.len())));
        }
        if self.events.len() > MAX_EVENTS {
            return Err(AttestError::Malformed(format!("the log has {} events", self.events.len())));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(quote: usize, events: usize) -> Evidence {
        Evidence {
            kind: TeeKind::DstackTdx,
            quote: vec![1; quote].into(),
            events: vec![Event::new("app-id", vec![2; 20]); events],
        }
    }

    #[test]
    fn evidence_survives_its_encoding() {
        let evidence = evidence(5000, 12);
        assert_eq!(Evidence::from_json(&evidence.to_json().unwrap()).unwrap(), evidence);
    }

    #[test]
    fn what_is_too_long_is_neither_written_nor_read() {
        for long in [evidence(MAX_QUOTE_BYTES + 1, 1), evidence(10, MAX_EVENTS + 1)] {
            assert!(matches!(long.to_json(), Err(AttestError::Malformed(_))));
            assert!(matches!(
                Evidence::from_json(&serde_json::to_vec(&long).unwrap()),
                Err(AttestError::Malformed(_))
            ));
        }
        assert!(matches!(
            Evidence::from_json(&vec![b' '; MAX_EVIDENCE_BYTES + 1]),
            Err(AttestError::Malformed(_))
        ));
    }

    #[test]
    fn what_is_not_evidence_is_refused() {
        for text in [
            "",
            "{}",
            "[]",
            r#"{"kind":"sgx","quote":"0x","events":[]}"#,
            r#"{"kind":"dstack-tdx","quote":"0x0","events":[]}"#,
        ] {
            assert!(
                matches!(Evidence::from_json(text.as_bytes()), Err(AttestError::Malformed(_))),
                "{text}"
            );
        }
    }
}

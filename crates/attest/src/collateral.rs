//! The manufacturer's signed statements about platforms, without which no quote can be verified.
//!
//! They are not secret, come from anywhere and are verified themselves; but whoever chooses which of several unexpired ones is used can hide a newer
//! one. So a verifier brings its own, and the policy can ask for a minimum evaluation number.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use alloy_primitives::hex;
use dcap_qvl::{QuoteCollateralV3, quote::Quote};
use serde::Deserialize;

use crate::AttestError;

/// The longest collateral that is read, in bytes of JSON.
pub const MAX_COLLATERAL_BYTES: usize = 512 << 10;

/// Statements for one family of platforms.
#[derive(Clone, Debug)]
pub struct Collateral {
    fmspc: [u8; 6],
    statements: QuoteCollateralV3,
}

/// The part of the signed statement that names the family.
#[derive(Deserialize)]
struct Family {
    fmspc: String,
}

impl Collateral {
    /// Reads collateral in the JSON form that quoting libraries share.
    ///
    /// # Errors
    /// [`AttestError::Malformed`] if it is too long or not in its form.
    pub fn from_json(bytes: &[u8]) -> Result<Self, AttestError> {
        if bytes.len() > MAX_COLLATERAL_BYTES {
            return Err(AttestError::Malformed(format!(
                "the collateral has {} bytes; at most {MAX_COLLATERAL_BYTES} are read",
                bytes.len()
            )));
        }
        let statements = serde_json::from_slice(bytes).map_err(|error| AttestError::Malformed(format!("collateral: {error}")))?;
        Self::new(statements)
    }

    pub(crate) fn new(mut statements: QuoteCollateralV3) -> Result<Self, AttestError> {
        // A quote brings the certificates of its platform; others, that come with the statements, would be looked at instead of them.
        statements.pck_certificate_chain = None;
        let malformed = |problem: String| AttestError::Malformed(format!("collateral: {problem}"));
        let family: Family = serde_json::from_str(&statements.tcb_info).map_err(|error| malformed(error.to_string()))?;
        let fmspc = hex::decode_to_array(&family.fmspc).map_err(|error| malformed(error.to_string()))?;
        Ok(Self { fmspc, statements })
    }

    /// Writes the collateral in the form that [`Self::from_json`] reads.
    ///
    /// # Errors
    /// [`AttestError::Malformed`] if it is longer than what is read.
    pub fn to_json(&self) -> Result<Vec<u8>, AttestError> {
        let bytes = serde_json::to_vec_pretty(&self.statements).map_err(|error| AttestError::Malformed(format!("collateral: {error}")))?;
        if bytes.len() > MAX_COLLATERAL_BYTES {
            return Err(AttestError::Malformed(format!("the collateral has {} bytes", bytes.len())));
        }
        Ok(bytes)
    }

    /// Returns which family of platforms (FMSPC) it is for.
    #[must_use]
    pub const fn fmspc(&self) -> [u8; 6] {
        self.fmspc
    }

    pub(crate) const fn statements(&self) -> &QuoteCollateralV3 {
        &self.statements
    }
}

/// The collateral that a verifier has, by family of platforms. It can be replaced while verifiers use it.
#[derive(Debug, Default)]
pub struct CollateralStore {
    by_family: RwLock<HashMap<[u8; 6], Arc<Collateral>>>,
}

impl CollateralStore {
    /// Reads every `*.json` file of a directory.
    ///
    /// # Errors
    /// [`AttestError::Malformed`] naming the file that cannot be read.
    pub fn read_directory(directory: &Path) -> Result<Self, AttestError> {
        let store = Self::default();
        store.read_again(directory)?;
        Ok(store)
    }

    /// Reads every `*.json` file of a directory in place of what there was for the same families.
    ///
    /// # Errors
    /// As [`Self::read_directory`]; what was read before the file in question counts.
    pub fn read_again(&self, directory: &Path) -> Result<(), AttestError> {
        let unreadable = |path: &Path, problem: String| AttestError::Malformed(format!("{}: {problem}", path.display()));
        let entries = std::fs::read_dir(directory).map_err(|error| unreadable(directory, error.to_string()))?;
        for entry in entries {
            let path = entry.map_err(|error| unreadable(directory, error.to_string()))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let size = std::fs::metadata(&path)
                .map_err(|error| unreadable(&path, error.to_string()))?
                .len();
            if size > MAX_COLLATERAL_BYTES as u64 {
                return Err(unreadable(
                    &path,
                    format!("it has {size} bytes; at most {MAX_COLLATERAL_BYTES} are read"),
                ));
            }
            let bytes = std::fs::read(&path).map_err(|error| unreadable(&path, error.to_string()))?;
            self.insert(Collateral::from_json(&bytes).map_err(|error| unreadable(&path, error.to_string()))?);
        }
        Ok(())
    }

    /// Returns how many families of platforms there is collateral for.
    #[must_use]
    pub fn families(&self) -> usize {
        self.by_family.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Adds collateral, in place of what there was for its family.
    pub fn insert(&self, collateral: Collateral) {
        // The map is only ever replaced entry by entry, so a panic elsewhere leaves it whole.
        let mut map = self.by_family.write().unwrap_or_else(PoisonError::into_inner);
        map.insert(collateral.fmspc, Arc::new(collateral));
    }

    /// Returns the collateral for the platform of a quote.
    pub(crate) fn for_quote(&self, quote: &Quote) -> Result<Arc<Collateral>, AttestError> {
        let fmspc = family(quote)?;
        let map = self.by_family.read().unwrap_or_else(PoisonError::into_inner);
        map.get(&fmspc).cloned().ok_or_else(|| AttestError::NoCollateral {
            fmspc: hex::encode_upper(fmspc),
        })
    }
}

/// Reads the family of a quote's platform from the certificate inside.
pub(crate) fn family(quote: &Quote) -> Result<[u8; 6], AttestError> {
    dcap_qvl::intel::quote_fmspc(quote).map_err(|error| AttestError::Malformed(format!("quote: {error:#}")))
}

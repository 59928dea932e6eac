//! The ledger: for each key the highest epoch that was ever active here, and where the share of it is.

use std::path::Path;

use alloy_primitives::{Address, B256};
use cipherloom_attest::{SealingKey, sealing};
use serde::{Deserialize, Serialize};

use super::files::{read_if_there, write};
use crate::{
    CeremonyError, Identity,
    digest::{from_json, to_json},
};

const LABEL: &str = "ledger";
const MAX_BYTES: u64 = 1 << 20;

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ledger {
    /// Whose it is: a ledger of another identity, put here, is noticed.
    pub(super) owner: Address,
    /// How often it was written.
    pub(super) counter: u64,
    pub(super) entries: Vec<Entry>,
    /// The ceremony whose record is waited for.
    pub(super) pending: Option<B256>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) key: B256,
    pub(super) highest: B256,
    /// Nothing if others hold the shares now.
    pub(super) active: Option<Active>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Active {
    pub(super) session: B256,
    pub(super) record: B256,
}

impl Ledger {
    pub(super) fn read(path: &Path, key: &SealingKey, owner: &Identity) -> Result<Self, CeremonyError> {
        let Some(sealed) = read_if_there(path, MAX_BYTES)? else {
            return Ok(Self {
                owner: owner.address(),
                counter: 0,
                entries: Vec::new(),
                pending: None,
            });
        };
        let (counter, content) = sealing::open(key, LABEL, 0, &sealed)?;
        let ledger: Self = from_json("ledger", &content, sealed.len())?;
        // A ledger without entries is of nobody yet: a recovery may have been interrupted after it put its identity in place.
        let is_own = ledger.owner == owner.address() || ledger.entries.is_empty();
        if !is_own || ledger.counter != counter {
            return Err(CeremonyError::Refused("the ledger is of another node"));
        }
        Ok(ledger)
    }

    pub(super) fn write(&mut self, path: &Path, key: &SealingKey, owner: &Identity) -> Result<(), CeremonyError> {
        self.counter += 1;
        self.owner = owner.address();
        let sealed = sealing::seal(key, LABEL, self.counter, &to_json("ledger", self)?)?;
        write(path, &sealed)
    }

    pub(super) fn entry(&self, key: B256) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    pub(super) fn set(&mut self, key: B256, highest: B256, active: Option<Active>) {
        self.entries.retain(|entry| entry.key != key);
        self.entries.push(Entry { key, highest, active });
    }
}

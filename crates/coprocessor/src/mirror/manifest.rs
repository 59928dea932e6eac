//! What a mirror has, for finding one's way.

use cipherloom_primitives::{Address, B256};
use cipherloom_store::PublicPlace;
use serde::{Deserialize, Serialize};

use super::{
    LAYOUT_VERSION, MirrorError,
    record::{check_layout, malformed},
};

/// The name of the manifest in a mirror.
pub const MANIFEST_NAME: &str = "manifest.json";

const DOCUMENT: &str = "the mirror's manifest";

/// Whose ciphertexts a mirror has. Nobody signs it: whom to trust is learnt elsewhere, on the chain or from the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MirrorManifest {
    /// [`LAYOUT_VERSION`].
    pub layout: u32,
    /// The chains, by id.
    pub chains: Vec<MirrorChain>,
}

/// A chain of a mirror.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MirrorChain {
    /// Its id.
    pub chain_id: u64,
    /// Who published records.
    pub signers: Vec<Address>,
    /// The key sets of the ciphertexts.
    pub key_set_ids: Vec<B256>,
}

impl Default for MirrorManifest {
    fn default() -> Self {
        Self {
            layout: LAYOUT_VERSION,
            chains: Vec::new(),
        }
    }
}

impl MirrorManifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// [`MirrorError::Malformed`], [`MirrorError::Layout`].
    pub fn parse(document: &[u8]) -> Result<Self, MirrorError> {
        check_layout(DOCUMENT, document)?;
        serde_json::from_slice(document).map_err(|error| malformed(DOCUMENT, error))
    }

    /// Adds what a signer published, and says whether that was new.
    pub fn add(&mut self, chain_id: u64, signer: Address, key_set_ids: &[B256]) -> bool {
        let index = match self.chains.binary_search_by_key(&chain_id, |chain| chain.chain_id) {
            Ok(index) => index,
            Err(index) => {
                let chain = MirrorChain {
                    chain_id,
                    signers: Vec::new(),
                    key_set_ids: Vec::new(),
                };
                self.chains.insert(index, chain);
                index
            }
        };
        let Some(chain) = self.chains.get_mut(index) else {
            return false;
        };
        let mut new = insert(&mut chain.signers, signer);
        for id in key_set_ids {
            new |= insert(&mut chain.key_set_ids, *id);
        }
        new
    }
}

/// Inserts into a sorted list, and says whether it was not there.
fn insert<T: Ord>(list: &mut Vec<T>, value: T) -> bool {
    match list.binary_search(&value) {
        Ok(_) => false,
        Err(index) => {
            list.insert(index, value);
            true
        }
    }
}

/// Returns the manifest of a place, an empty one if there is none.
pub(super) async fn read(place: &dyn PublicPlace) -> Result<MirrorManifest, MirrorError> {
    match place.document(MANIFEST_NAME).await? {
        Some(document) => MirrorManifest::parse(&document),
        None => Ok(MirrorManifest::default()),
    }
}

/// Adds to the manifest of a place what a signer published. Of two publishers that do so at the same time one may overwrite the other; every
/// publisher looks again whenever it begins and whenever it publishes something of a key set that is new to it.
pub(super) async fn add(place: &dyn PublicPlace, chain_id: u64, signer: Address, key_set_ids: &[B256]) -> Result<(), MirrorError> {
    let mut manifest = read(place).await?;
    if manifest.add(chain_id, signer, key_set_ids) {
        let document = serde_json::to_vec_pretty(&manifest).map_err(|error| malformed(DOCUMENT, error))?;
        place.put_document(MANIFEST_NAME, &document).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_grows_by_what_is_new() {
        let mut manifest = MirrorManifest::default();
        let (first, second) = (Address::repeat_byte(1), Address::repeat_byte(2));
        assert!(manifest.add(5, second, &[B256::repeat_byte(9)]));
        assert!(manifest.add(5, first, &[B256::repeat_byte(9)]));
        assert!(!manifest.add(5, first, &[B256::repeat_byte(9)]));
        assert!(manifest.add(5, first, &[B256::repeat_byte(8)]));
        assert!(manifest.add(3, first, &[]));
        assert!(!manifest.add(3, first, &[]));
        let chains: Vec<u64> = manifest.chains.iter().map(|chain| chain.chain_id).collect();
        assert_eq!(chains, [3, 5]);
        assert_eq!(manifest.chains[1].signers, [first, second]);
        let read = MirrorManifest::parse(&serde_json::to_vec(&manifest).unwrap()).unwrap();
        assert_eq!(read, manifest);
    }
}

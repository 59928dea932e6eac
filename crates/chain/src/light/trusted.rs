//! What a light client knows for sure: a block, and who signs the next one. And how it gets to know more.
//!
//! Nothing here talks to anybody. Headers, certificates and sets come from nodes that may lie; a header is taken if the known set signed it, and a set is
//! taken if its digest stands in a header that was taken.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use alloy::{consensus::Header, primitives::keccak256, rlp::Decodable};
use cipherloom_primitives::{
    B256,
    quorum::{CertifiedHeader, CommitCertificate, ConsensusDomain, QuorumError, ValidatorChange, ValidatorSet},
};
use serde::{Deserialize, Serialize};

use super::genesis::{read_file, unusable};
use crate::error::ChainError;

/// The most bytes of a header: Ethereum's have about 600.
const MAX_HEADER_BYTES: usize = 4096;
/// The longest file that is read: a set of 128 has some ten thousand bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The version of the file's form.
const FORMAT: u32 = 1;

/// A header, a certificate or a set is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LightError {
    /// The bytes are no header.
    #[error("the header cannot be read")]
    Header,
    /// The certificate is for another block than the header.
    #[error("the certificate is for block {certified} and the header is of block {header}, or has another hash")]
    OtherBlock {
        /// The certificate's height.
        certified: u64,
        /// The header's number.
        header: u64,
    },
    /// The known set did not sign.
    #[error("block {number} is not certified by the validators that are known: {source}")]
    Quorum {
        /// The block.
        number: u64,
        /// What is wrong with the certificate.
        source: QuorumError,
    },
    /// After this block another set signs than was shown, or than is known.
    #[error("after block {number} other validators sign than are known")]
    OtherSet {
        /// The block.
        number: u64,
    },
    /// The block is not newer than what is known.
    #[error("block {number} is not newer than block {known}, which is known")]
    NotNewer {
        /// The block.
        number: u64,
        /// The block that is known.
        known: u64,
    },
    /// More than a third of the voting power signed two histories. Nothing of this chain can be believed any more.
    #[error("validators signed two histories: block {number} does not follow the one that is known at this height or before it")]
    Forked {
        /// Where it was seen.
        number: u64,
    },
}

/// The newest block that a light client took, and who signs the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustedState {
    format: u32,
    #[serde(flatten)]
    domain: Domain,
    height: u64,
    hash: B256,
    timestamp: u64,
    /// Who signed this block; nobody signs block 0.
    signers: Option<ValidatorSet>,
    /// Who signs the next one.
    validators: ValidatorSet,
}

/// As [`ConsensusDomain`]; of the same names in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Domain {
    chain_id: u64,
    genesis_hash: B256,
}

impl TrustedState {
    /// Trusts block 0 and the set that signs block 1.
    #[must_use]
    pub const fn at_genesis(domain: ConsensusDomain, validators: ValidatorSet) -> Self {
        Self {
            format: FORMAT,
            domain: Domain {
                chain_id: domain.chain_id,
                genesis_hash: domain.genesis_hash,
            },
            height: 0,
            hash: domain.genesis_hash,
            timestamp: 0,
            signers: None,
            validators,
        }
    }

    /// Returns the chain.
    #[must_use]
    pub const fn domain(&self) -> ConsensusDomain {
        ConsensusDomain {
            chain_id: self.domain.chain_id,
            genesis_hash: self.domain.genesis_hash,
        }
    }

    /// Returns the number of the newest block that was taken.
    #[must_use]
    pub const fn height(&self) -> u64 {
        self.height
    }

    /// Returns its hash.
    #[must_use]
    pub const fn hash(&self) -> B256 {
        self.hash
    }

    /// Returns who signs the next block.
    #[must_use]
    pub const fn validators(&self) -> &ValidatorSet {
        &self.validators
    }

    /// Takes a newer block after which other validators sign.
    ///
    /// # Errors
    /// [`LightError`] if the known set did not sign the header, or the header does not name the set that is shown.
    pub fn take_change(&mut self, change: &ValidatorChange) -> Result<Header, LightError> {
        let header = self.check(&change.header, &change.certificate)?;
        if header.extra_data.as_ref() != change.validators.digest().as_slice() {
            return Err(LightError::OtherSet { number: header.number });
        }
        self.advance(&header, change.certificate.block_hash, change.validators.clone());
        Ok(header)
    }

    /// Takes a newer block after which the same validators sign.
    ///
    /// # Errors
    /// [`LightError::OtherSet`] if others sign then, who have to be shown first; otherwise as [`Self::take_change`].
    pub fn take_header(&mut self, certified: &CertifiedHeader) -> Result<Header, LightError> {
        let header = self.check(&certified.header, &certified.certificate)?;
        if header.extra_data.as_ref() != self.validators.digest().as_slice() {
            return Err(LightError::OtherSet { number: header.number });
        }
        self.advance(&header, certified.certificate.block_hash, self.validators.clone());
        Ok(header)
    }

    /// Reads a header, and checks that it has the certificate's hash and number. Who signed it is not looked at.
    ///
    /// # Errors
    /// [`LightError::Header`] and [`LightError::OtherBlock`].
    pub(super) fn read(bytes: &[u8], certificate: &CommitCertificate) -> Result<Header, LightError> {
        let mut rest = bytes;
        if bytes.len() > MAX_HEADER_BYTES {
            return Err(LightError::Header);
        }
        let header = Header::decode(&mut rest).map_err(|_| LightError::Header)?;
        if !rest.is_empty() {
            return Err(LightError::Header);
        }
        if header.number != certificate.height || keccak256(bytes) != certificate.block_hash {
            return Err(LightError::OtherBlock {
                certified: certificate.height,
                header: header.number,
            });
        }
        Ok(header)
    }

    fn check(&self, bytes: &[u8], certificate: &CommitCertificate) -> Result<Header, LightError> {
        let header = Self::read(bytes, certificate)?;
        let number = header.number;
        let signed_by = |set: &ValidatorSet| {
            let checked = certificate.check(&self.domain(), set);
            checked.map_err(|source| LightError::Quorum { number, source })
        };
        if number == self.height && certificate.block_hash != self.hash {
            // Nobody signs block 0: another one is another chain's, whose signatures are for nothing here.
            let Some(signers) = &self.signers else {
                return Err(LightError::Quorum {
                    number,
                    source: QuorumError::NoBlock,
                });
            };
            signed_by(signers)?;
            return Err(LightError::Forked { number });
        }
        if number <= self.height {
            let known = self.height;
            return Err(LightError::NotNewer { number, known });
        }
        signed_by(&self.validators)?;
        // Certified, and yet not after what is certified.
        if (number - 1 == self.height && header.parent_hash != self.hash) || header.timestamp < self.timestamp {
            return Err(LightError::Forked { number });
        }
        Ok(header)
    }

    fn advance(&mut self, header: &Header, hash: B256, next: ValidatorSet) {
        self.height = header.number;
        self.hash = hash;
        self.timestamp = header.timestamp;
        self.signers = Some(std::mem::replace(&mut self.validators, next));
    }

    /// Reads what was written before, if there is a file.
    ///
    /// # Errors
    /// [`ChainError::NativeFile`] if it cannot be read, is of another form or of another chain.
    pub fn open(path: &Path, domain: ConsensusDomain) -> Result<Option<Self>, ChainError> {
        if !path.exists() {
            return Ok(None);
        }
        let bytes = read_file(path, MAX_FILE_BYTES)?;
        let state: Self = serde_json::from_slice(&bytes).map_err(|error| unusable(path, error))?;
        if state.format != FORMAT {
            return Err(unusable(path, format!("its form is {}, not {FORMAT}", state.format)));
        }
        if state.domain() != domain {
            return Err(unusable(path, "it is about another chain than the genesis"));
        }
        Ok(Some(state))
    }

    /// Writes the file: either all of it or nothing.
    ///
    /// # Errors
    /// [`ChainError::NativeFile`].
    pub fn save(&self, path: &Path) -> Result<(), ChainError> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| unusable(path, error))?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let write = || {
            let mut file = fs::File::create(&beside)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&beside, path)
        };
        write().map_err(|error| unusable(path, error))
    }
}

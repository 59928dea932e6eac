//! From the parties' bundles to values: what counts, who lied, and when nothing is signed.
//!
//! A bundle counts if its party signed it for this request and this epoch; others say nothing about the party and are left out. Among those that count up to `t` may be wrong in any way. The node's own share is
//! one of them, and it knows that one: if the others agree on values that contradict it, it signs nothing.

use cipherloom_primitives::{B256, Bytes, Handle, U256};
use cipherloom_threshold::{Contribution, Expected, PartialDecryption, PartyId, Scope, ThresholdError, ValueShape, reconstruct};

use super::messages::{Bundle, Fault, RefusedBundle};
use crate::{alarms::Alarm, error::KmsError};

/// What a node knows of a request that it has accepted.
pub(super) struct Accepted {
    pub(super) scope: Scope,
    pub(super) handles: Vec<Handle>,
    pub(super) expected: Vec<Expected>,
    /// What this node contributes.
    pub(super) own: Bundle,
}

/// Values, and what was wrong on the way to them.
pub(super) struct Opened {
    pub(super) values: Vec<U256>,
    pub(super) faults: Vec<Fault>,
    pub(super) refused: Vec<RefusedBundle>,
}

/// One party's bundles: one, or several that contradict each other.
struct Heard {
    party: PartyId,
    bundles: Vec<Bundle>,
}

const WRONG: &str = "signed shares that are wrong";
const CONTRADICTS_ITSELF: &str = "signed two different answers to one request";

impl Accepted {
    /// Puts the values together. Alarms are added to `alarms`, whatever comes of it.
    ///
    /// # Errors
    /// [`KmsError::MoreSharesNeeded`] if the bundles do not determine the values, [`KmsError::OwnShareWrong`] if they contradict this node, [`KmsError::Threshold`] if what they agree on is no plaintext.
    pub(super) fn open(&self, bundles: Vec<Bundle>, alarms: &mut Vec<Alarm>) -> Result<Opened, KmsError> {
        let size = self.scope.committee.size();
        let own = size.party(self.own.made_with.party).map_err(KmsError::Threshold)?;
        let (heard, refused) = self.sort(own, bundles);
        let mut contributions = vec![self.contribution(own, &self.own)];
        contributions.extend(heard.iter().map(|heard| match heard.bundles.as_slice() {
            [bundle] => self.contribution(heard.party, bundle),
            _ => Contribution::unusable(heard.party),
        }));
        let shapes: Vec<ValueShape> = self.expected.iter().map(|expected| expected.shape).collect();
        let opened = reconstruct(size, &shapes, &contributions).map_err(|source| match source {
            ThresholdError::NotEnoughShares { .. } | ThresholdError::TooManyWrongShares { .. } => KmsError::MoreSharesNeeded {
                source,
                refused: refused.clone(),
            },
            ThresholdError::NotAPlaintext { value, .. } => {
                alarms.extend(self.handles.get(value).map(|handle| Alarm::NotAPlaintext { handle: *handle }));
                KmsError::Threshold(source)
            }
            source => KmsError::Threshold(source),
        })?;
        if opened.wrong.contains(own) {
            alarms.push(Alarm::OwnShareWrong);
            return Err(KmsError::OwnShareWrong);
        }
        let faults: Vec<Fault> = heard
            .into_iter()
            .filter(|heard| opened.wrong.contains(heard.party))
            .map(|heard| Fault {
                party: heard.party.number().into(),
                what: if heard.bundles.len() > 1 { CONTRADICTS_ITSELF } else { WRONG },
                evidence: heard.bundles,
            })
            .collect();
        alarms.extend(faults.iter().map(|fault| Alarm::WrongShares {
            party: fault.party,
            what: fault.what,
        }));
        let values = opened
            .values
            .iter()
            .map(|value| U256::from_le_bytes(*value.little_endian()))
            .collect();
        Ok(Opened { values, faults, refused })
    }

    /// Tells bundles of other parties from those that say nothing.
    fn sort(&self, own: PartyId, bundles: Vec<Bundle>) -> (Vec<Heard>, Vec<RefusedBundle>) {
        let mut heard: Vec<Heard> = Vec::new();
        let mut refused = Vec::new();
        for (index, bundle) in bundles.into_iter().enumerate() {
            let party = match bundle.check(&self.scope, self.request_digest()) {
                Ok(party) if party == own => continue,
                Ok(party) => party,
                Err(reason) => {
                    refused.push(RefusedBundle { index, reason });
                    continue;
                }
            };
            match heard.iter_mut().find(|heard| heard.party == party) {
                None => heard.push(Heard {
                    party,
                    bundles: vec![bundle],
                }),
                // The same once more says nothing new; signatures may differ.
                Some(heard) if heard.bundles.iter().any(|other| other.digest() == bundle.digest()) => {}
                Some(heard) if heard.bundles.len() == 1 => heard.bundles.push(bundle),
                // Two are proof enough.
                Some(_) => {}
            }
        }
        (heard, refused)
    }

    fn contribution(&self, party: PartyId, bundle: &Bundle) -> Contribution {
        let size = self.scope.committee.size();
        let read = |bytes: &Bytes| PartialDecryption::from_bytes(size, bytes);
        match bundle.partials.iter().map(read).collect::<Result<Vec<_>, _>>() {
            Ok(partials) => Contribution::of_partials(party, &self.expected, &partials),
            Err(_) => Contribution::unusable(party),
        }
    }

    fn request_digest(&self) -> B256 {
        self.own.request_digest
    }
}

//! What the access-control contract (ACL) is asked before anything is decrypted, and what it said.
//!
//! A request is turned into the questions that decide it; somebody gets the answers for one block, by calls or by storage proofs; whoever decrypts
//! judges by them. So nodes, gateways and provers need not know what the rules are, only the questions.
//!
//! Source: public protocol, section 1.5.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;

use crate::{
    decryption::{PublicDecryptionRequest, UserDecryptionRequest},
    handle::Handle,
};

/// What stands for any contract in a delegation.
pub const ANY_CONTRACT: Address = Address::repeat_byte(0xff);

/// The most questions that a request can lead to: 1024 `ebool`, each with owner, contract and two delegations, and the accounts with their permits.
pub const MAX_ACL_QUESTIONS: usize = 6144;

/// One question. All answers are numbers; to a yes-or-no question 1 or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AclQuestion {
    /// May anyone decrypt the handle (`isAllowedForDecryption`)?
    AllowedForDecryption(Handle),
    /// May the account use the handle for good (`persistAllowed`)?
    PersistAllowed {
        /// The handle.
        handle: Handle,
        /// The account, or contract.
        account: Address,
    },
    /// Until when, in seconds since 1970, may the delegate read what the delegator may read in the contract? 0 if there is no delegation.
    DelegationExpiration {
        /// Whose values.
        delegator: Address,
        /// Who reads.
        delegate: Address,
        /// In which contract; [`ANY_CONTRACT`] asks for the delegation for all.
        contract: Address,
    },
    /// Before which time, in seconds since 1970, did the account declare its permits void? 0 if never.
    SignaturesInvalidatedBefore(Address),
}

/// The answers at one block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AclFacts(BTreeMap<AclQuestion, u64>);

impl AclFacts {
    /// Returns the answer, 0 where the question was not asked: what nobody vouched for is not allowed.
    #[must_use]
    pub fn number(&self, question: &AclQuestion) -> u64 {
        self.0.get(question).copied().unwrap_or(0)
    }

    /// Returns the answer to a yes-or-no question; no, where it was not asked.
    #[must_use]
    pub fn holds(&self, question: &AclQuestion) -> bool {
        self.number(question) == 1
    }

    /// Says whether all of these were asked.
    #[must_use]
    pub fn answer_all(&self, questions: &BTreeSet<AclQuestion>) -> bool {
        questions.iter().all(|question| self.0.contains_key(question))
    }

    /// Returns questions and answers.
    pub fn iter(&self) -> impl Iterator<Item = (&AclQuestion, u64)> {
        self.0.iter().map(|(question, answer)| (question, *answer))
    }
}

impl FromIterator<(AclQuestion, u64)> for AclFacts {
    fn from_iter<I: IntoIterator<Item = (AclQuestion, u64)>>(answers: I) -> Self {
        Self(answers.into_iter().collect())
    }
}

impl PublicDecryptionRequest {
    /// Returns what decides the request.
    #[must_use]
    pub fn acl_questions(&self) -> BTreeSet<AclQuestion> {
        self.handles.iter().copied().map(AclQuestion::AllowedForDecryption).collect()
    }
}

impl UserDecryptionRequest {
    /// Returns what decides the request, once its signature was found to be right.
    ///
    /// Everybody whose rights are used can void permits of an age: the account that signed, and owners for whom it reads.
    #[must_use]
    pub fn acl_questions(&self) -> BTreeSet<AclQuestion> {
        let mut questions = BTreeSet::from([AclQuestion::SignaturesInvalidatedBefore(self.user)]);
        for value in &self.values {
            let (handle, owner, contract) = (value.handle, value.owner, value.contract_address);
            questions.insert(AclQuestion::PersistAllowed { handle, account: owner });
            questions.insert(AclQuestion::PersistAllowed { handle, account: contract });
            if owner != self.user {
                questions.insert(AclQuestion::SignaturesInvalidatedBefore(owner));
                questions.extend([contract, ANY_CONTRACT].map(|contract| AclQuestion::DelegationExpiration {
                    delegator: owner,
                    delegate: self.user,
                    contract,
                }));
            }
        }
        questions
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{B256, Bytes};

    use super::*;
    use crate::{
        decryption::{DecryptionPermit, RequestedValue, UnifiedPermit},
        fhe_type::FheType,
    };

    const USER: Address = Address::repeat_byte(1);
    const OWNER: Address = Address::repeat_byte(2);
    const CONTRACT: Address = Address::repeat_byte(3);

    fn handle(tag: u8) -> Handle {
        Handle::computed(B256::repeat_byte(tag), 31337, FheType::Bool)
    }

    #[test]
    fn what_was_not_asked_is_not_allowed() {
        let asked = AclQuestion::AllowedForDecryption(handle(1));
        let facts: AclFacts = [(asked, 1)].into_iter().collect();
        assert!(facts.holds(&asked));
        assert!(!facts.holds(&AclQuestion::AllowedForDecryption(handle(2))));
        assert!(facts.answer_all(&BTreeSet::from([asked])));
        assert!(!facts.answer_all(&BTreeSet::from([AclQuestion::AllowedForDecryption(handle(2))])));
    }

    #[test]
    fn a_request_asks_about_everybody_whose_rights_it_uses_and_not_more() {
        let value = |tag, owner| RequestedValue {
            handle: handle(tag),
            contract_address: CONTRACT,
            owner,
        };
        let mut request = UserDecryptionRequest {
            values: vec![value(1, USER), value(1, USER)],
            user: USER,
            permit: DecryptionPermit::Unified(UnifiedPermit {
                allowed_contracts: vec![],
                start_timestamp: 0,
                duration_seconds: 1,
            }),
            public_key: Bytes::new(),
            extra_data: Bytes::new(),
            signature: Bytes::new(),
        };
        let allowed = |tag, account| AclQuestion::PersistAllowed {
            handle: handle(tag),
            account,
        };
        let own = BTreeSet::from([
            AclQuestion::SignaturesInvalidatedBefore(USER),
            allowed(1, USER),
            allowed(1, CONTRACT),
        ]);
        assert_eq!(request.acl_questions(), own);

        request.values.push(value(2, OWNER));
        let delegated = |contract| AclQuestion::DelegationExpiration {
            delegator: OWNER,
            delegate: USER,
            contract,
        };
        let mut both = own;
        both.extend([
            AclQuestion::SignaturesInvalidatedBefore(OWNER),
            allowed(2, OWNER),
            allowed(2, CONTRACT),
            delegated(CONTRACT),
            delegated(ANY_CONTRACT),
        ]);
        assert_eq!(request.acl_questions(), both);
        assert!(both.len() <= MAX_ACL_QUESTIONS);
    }
}

//! A chain at one block, as a quorum of its nodes know it.

use std::collections::BTreeSet;

use alloy::{eips::BlockId as RpcBlockId, rpc::types::TransactionRequest, sol_types::SolCall};
use cipherloom_contracts::bindings::{ACL, InputVerifier, KMSVerifier};
use cipherloom_primitives::{AclFacts, AclQuestion, Address, B256, Bytes, acl::MAX_ACL_QUESTIONS};
use futures_util::future::try_join;

use crate::{
    acl_check::AclSource,
    error::ChainError,
    evidence::AclEvidence,
    host_chain::{HostChain, SignerSetOnChain},
    proof::invalid,
    quorum::Quorum,
    wallet,
    witnessed::SealedHeader,
};

/// How many questions go into one call: the contract reads a few slots for each, far below the gas of a call.
const QUESTIONS_PER_CALL: usize = 512;

/// The chain after one block. See [`crate::WitnessedChain`] for what is believed.
#[derive(Clone, Debug)]
pub struct PinnedChain {
    quorum: Quorum,
    by: AclSource,
    block: SealedHeader,
    evidence: Option<AclEvidence>,
}

/// Whom the chain has for a KMS context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextOnChain {
    /// These nodes.
    Signers(Vec<Address>),
    /// There is no such context, or it was destroyed.
    NoSuchContext,
    /// The context exists; the epoch does not, was destroyed, or is another context's.
    NoSuchEpoch,
}

impl PinnedChain {
    pub(crate) const fn new(quorum: Quorum, by: AclSource, block: SealedHeader, evidence: Option<AclEvidence>) -> Self {
        Self {
            quorum,
            by,
            block,
            evidence,
        }
    }

    /// Returns the number of the block.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.block.number
    }

    /// Returns the hash of the block.
    #[must_use]
    pub const fn hash(&self) -> B256 {
        self.block.hash
    }

    /// Returns the time of the block, in seconds since 1970.
    #[must_use]
    pub const fn timestamp(&self) -> u64 {
        self.block.timestamp
    }

    /// Returns what the access-control contract says.
    ///
    /// # Errors
    /// As all reads; [`ChainError::Disagreement`] if the nodes' answers differ too much; [`ChainError::Proof`] if no node proves them;
    /// [`ChainError::Contradiction`] if calls and proofs differ.
    pub async fn acl(&self, questions: &BTreeSet<AclQuestion>) -> Result<AclFacts, ChainError> {
        if questions.len() > MAX_ACL_QUESTIONS {
            return Err(invalid(self.acl_address(), "too many questions"));
        }
        match self.by {
            AclSource::Call => self.called(questions).await,
            AclSource::Proof => self.proven(questions).await,
            AclSource::Both => {
                let (called, proven) = try_join(self.called(questions), self.proven(questions)).await?;
                let differing = questions.iter().find(|question| called.number(question) != proven.number(question));
                match differing {
                    None => Ok(proven),
                    Some(question) => Err(ChainError::Contradiction {
                        method: "eth_getProof",
                        node: "(several)".to_owned(),
                        reason: format!("the contract answers otherwise than is proven: {question:?}"),
                    }),
                }
            }
        }
    }

    /// By calls: the contract answers many questions in one, so that they come from one state.
    async fn called(&self, questions: &BTreeSet<AclQuestion>) -> Result<AclFacts, ChainError> {
        let (acl, block) = (self.acl_address(), self.block.hash);
        let questions: Vec<AclQuestion> = questions.iter().copied().collect();
        let mut facts = Vec::with_capacity(questions.len());
        for chunk in questions.chunks(QUESTIONS_PER_CALL) {
            let calls: Vec<Bytes> = chunk.iter().map(|question| call_for(question).into()).collect();
            let call = ACL::multicallCall { data: calls };
            let answers = self
                .quorum
                .agree(ACL::multicallCall::SIGNATURE, |host| {
                    let call = call.clone();
                    async move { read_at(&host, acl, call, block).await }
                })
                .await?;
            if answers.len() != chunk.len() {
                return Err(not_understood::<ACL::multicallCall>(acl, "it does not answer each question"));
            }
            for (question, answer) in chunk.iter().zip(&answers) {
                facts.push((*question, decode(question, acl, answer)?));
            }
        }
        Ok(facts.into_iter().collect())
    }

    /// By proofs: those that were brought, or those of the first node whose proofs hold.
    async fn proven(&self, questions: &BTreeSet<AclQuestion>) -> Result<AclFacts, ChainError> {
        let acl = self.acl_address();
        if let Some(evidence) = &self.evidence {
            match evidence.facts(acl, questions) {
                Ok(facts) => return Ok(facts),
                Err(error) => tracing::warn!(block = %self.block.hash, %error, "evidence proves nothing; asking the nodes"),
            }
        }
        let Some(header) = &self.block.header else {
            return Err(invalid(acl, "the header of the block is not known"));
        };
        let mut failure = invalid(acl, "there is no node to ask");
        for witness in self.quorum.witnesses() {
            match AclEvidence::gather(&witness.host, header, questions).await {
                Ok(evidence) => return evidence.facts(acl, questions),
                Err(error) => {
                    tracing::warn!(node = witness.label, block = %self.block.hash, %error, "a node proves nothing");
                    failure = error;
                }
            }
        }
        Err(failure)
    }

    /// Returns the coprocessors whose signatures over inputs the chain accepts.
    ///
    /// # Errors
    /// As all reads, and [`ChainError::Disagreement`].
    pub async fn coprocessor_signers(&self) -> Result<SignerSetOnChain, ChainError> {
        let block = self.block.hash;
        let contract = self.with_any(|host| host.addresses().input_verifier);
        let (signers, threshold) = try_join(
            self.quorum.agree("getCoprocessorSigners", |host| async move {
                read_at(&host, contract, InputVerifier::getCoprocessorSignersCall {}, block).await
            }),
            self.quorum.agree("getThreshold", |host| async move {
                read_at(&host, contract, InputVerifier::getThresholdCall {}, block).await
            }),
        )
        .await?;
        Ok(SignerSetOnChain { signers, threshold })
    }

    /// Returns the KMS nodes of the context that extra data name, as the verifier of decryptions on chain sees it.
    ///
    /// # Errors
    /// As all reads, and [`ChainError::Disagreement`].
    pub async fn kms_context(&self, extra_data: &[u8]) -> Result<ContextOnChain, ChainError> {
        let call = KMSVerifier::getContextSignersAndThresholdFromExtraDataCall {
            extraData: Bytes::copy_from_slice(extra_data),
        };
        if let Some(signers) = self.unless_reverted(call).await?.map(|found| found.signers) {
            return Ok(ContextOnChain::Signers(signers));
        }
        // Only now, to say what is wrong.
        let (Some((2, ids)), block) = (extra_data.split_first(), self.block.hash) else {
            return Ok(ContextOnChain::NoSuchContext);
        };
        tracing::debug!(%block, "the chain refuses a context with its epoch");
        let Some(context) = ids.get(..32) else {
            return Ok(ContextOnChain::NoSuchContext);
        };
        let call = KMSVerifier::getContextSignersAndThresholdFromExtraDataCall {
            extraData: [&[1], context].concat().into(),
        };
        Ok(match self.unless_reverted(call).await? {
            Some(_) => ContextOnChain::NoSuchEpoch,
            None => ContextOnChain::NoSuchContext,
        })
    }

    /// Asks the verifier of decryptions; `None` if it refuses to answer.
    async fn unless_reverted<C: SolCall + Clone>(&self, call: C) -> Result<Option<C::Return>, ChainError> {
        let block = self.block.hash;
        let contract = self.with_any(|host| host.addresses().kms_verifier);
        let input = Bytes::from(call.abi_encode());
        let answer = self
            .quorum
            .agree(C::SIGNATURE, |host| {
                let request = TransactionRequest::default().to(contract).input(input.clone().into());
                async move {
                    match call_at(&host, request, block).await {
                        Ok(answer) => Ok(Some(answer)),
                        Err(error) if error.is_revert() => Ok(None),
                        Err(error) => Err(error),
                    }
                }
            })
            .await?;
        let decoded = answer.map(|answer| C::abi_decode_returns(&answer)).transpose();
        decoded.map_err(|error| not_understood::<C>(contract, error))
    }

    /// Says whether an account that is a contract recognises a signature (ERC-1271). Accounts without code recognise none.
    ///
    /// # Errors
    /// As all reads, and [`ChainError::Disagreement`]. What the account itself does is no error.
    pub async fn is_valid_signature(&self, account: Address, digest: B256, signature: &Bytes) -> Result<bool, ChainError> {
        let block = self.block.hash;
        let request = wallet::question(account, digest, signature.clone());
        let answer = self
            .quorum
            .agree("isValidSignature", |host| {
                let request = request.clone();
                async move { call_at(&host, request, block).await }
            })
            .await?;
        wallet::is_recognised(&answer).ok_or_else(|| ChainError::Contract {
            method: "isValidSignature",
            contract: account,
            reason: "the node did not run the question as it is".to_owned(),
        })
    }

    fn acl_address(&self) -> Address {
        self.with_any(|host| host.addresses().acl)
    }

    /// All nodes are of one deployment, so any of them knows its addresses.
    fn with_any(&self, read: impl Fn(&HostChain) -> Address) -> Address {
        self.quorum.witnesses().first().map_or(Address::ZERO, |witness| read(&witness.host))
    }
}

fn call_for(question: &AclQuestion) -> Vec<u8> {
    match *question {
        AclQuestion::AllowedForDecryption(handle) => ACL::isAllowedForDecryptionCall { handle: handle.as_b256() }.abi_encode(),
        AclQuestion::PersistAllowed { handle, account } => ACL::persistAllowedCall {
            handle: handle.as_b256(),
            account,
        }
        .abi_encode(),
        AclQuestion::DelegationExpiration {
            delegator,
            delegate,
            contract,
        } => ACL::getUserDecryptionDelegationExpirationDateCall {
            delegator,
            delegate,
            contractAddress: contract,
        }
        .abi_encode(),
        AclQuestion::SignaturesInvalidatedBefore(account) => ACL::decryptionSignatureInvalidatedBeforeCall { account }.abi_encode(),
    }
}

fn decode(question: &AclQuestion, acl: Address, answer: &[u8]) -> Result<u64, ChainError> {
    let decoded = match question {
        AclQuestion::AllowedForDecryption(_) => ACL::isAllowedForDecryptionCall::abi_decode_returns(answer).map(u64::from),
        AclQuestion::PersistAllowed { .. } => ACL::persistAllowedCall::abi_decode_returns(answer).map(u64::from),
        AclQuestion::DelegationExpiration { .. } => ACL::getUserDecryptionDelegationExpirationDateCall::abi_decode_returns(answer),
        // A time beyond 64 bits is after every permit's start, and so is the largest one within them.
        AclQuestion::SignaturesInvalidatedBefore(_) => {
            ACL::decryptionSignatureInvalidatedBeforeCall::abi_decode_returns(answer).map(|time| time.saturating_to())
        }
    };
    decoded.map_err(|error| not_understood::<ACL::multicallCall>(acl, error))
}

fn not_understood<C: SolCall>(contract: Address, reason: impl ToString) -> ChainError {
    ChainError::Contract {
        method: C::SIGNATURE,
        contract,
        reason: reason.to_string(),
    }
}

async fn call_at(host: &HostChain, request: TransactionRequest, block: B256) -> Result<Bytes, ChainError> {
    host.request("eth_call", (request, RpcBlockId::hash(block))).await
}

async fn read_at<C: SolCall>(host: &HostChain, contract: Address, call: C, block: B256) -> Result<C::Return, ChainError> {
    let request = TransactionRequest::default().to(contract).input(call.abi_encode().into());
    let answer = call_at(host, request, block).await?;
    C::abi_decode_returns(&answer).map_err(|error| not_understood::<C>(contract, error))
}

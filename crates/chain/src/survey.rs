//! The state of a deployment as the chain tells it: code, versions, owner, signers, limits.
//!
//! Everything is read from the contracts, nothing from files, so that a survey shows what is, whatever was planned.

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256, Bytes, U256, keccak256},
};
use cipherloom_contracts::{
    Face, HostAddresses, HostContract, Wiring,
    bindings::{ACL, HCULimit, ProtocolConfig},
    proxy_runtime_code,
};
use cipherloom_primitives::eip712::SigningDomains;

use crate::{
    error::ChainError,
    host_chain::{HostChain, SignerSetOnChain},
    proxy,
};

/// One host contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractSurvey {
    /// Which.
    pub contract: HostContract,
    /// Where callers find it.
    pub address: Address,
    /// The code there.
    pub code: Bytes,
    /// What is behind the proxy, if it has one.
    pub implementation: Option<ImplementationSurvey>,
    /// What `getVersion()` answers; `None` if it does not.
    pub version: Option<String>,
}

/// The code behind a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImplementationSurvey {
    /// Where it is.
    pub address: Address,
    /// The code there.
    pub code: Bytes,
}

/// A whole deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The chain.
    pub chain_id: u64,
    /// The newest block.
    pub block: u64,
    /// Where the contracts are.
    pub addresses: HostAddresses,
    /// The contracts. Those that the deployment does not have are not listed.
    pub contracts: Vec<ContractSurvey>,
    /// What the contracts say, if they are all there.
    pub state: Option<StateSurvey>,
}

/// What the contracts say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSurvey {
    /// Who administers them.
    pub owner: Address,
    /// Whom administration is offered to; zero if to nobody.
    pub pending_owner: Address,
    /// Whether they are paused.
    pub is_paused: bool,
    /// Where signatures are valid.
    pub domains: SigningDomains,
    /// The coprocessors.
    pub coprocessors: SignerSetOnChain,
    /// The KMS nodes, with the threshold of public decryptions.
    pub kms: SignerSetOnChain,
    /// How many KMS nodes must answer a user's request.
    pub user_decryption_threshold: U256,
    /// How many KMS nodes may be dishonest without harm.
    pub mpc_threshold: U256,
    /// The current KMS context.
    pub context_id: U256,
    /// Its current epoch.
    pub epoch_id: U256,
    /// The limit per block in HCU; 2⁴⁸−1 means none.
    pub per_block_hcu: u64,
    /// The limit per transaction in HCU.
    pub per_transaction_hcu: u64,
    /// The limit per chain of dependent operations in HCU.
    pub depth_hcu: u64,
}

impl Survey {
    /// Reads everything.
    ///
    /// # Errors
    /// As all reads of a chain. Contracts that are missing or do not answer are no errors; they are seen in the result.
    pub async fn take(chain: &HostChain) -> Result<Self, ChainError> {
        let addresses = *chain.addresses();
        let mut contracts = Vec::new();
        for contract in HostContract::ALL {
            let address = contract.address(&addresses);
            if address != Address::ZERO {
                contracts.push(survey_contract(chain, contract, address).await?);
            }
        }
        let all_there = contracts.iter().all(|contract| contract.version.is_some());
        let state = if all_there { Some(survey_state(chain).await?) } else { None };
        Ok(Self {
            chain_id: chain.chain_id().await?,
            block: chain.header(BlockNumberOrTag::Latest).await?.map_or(0, |header| header.number),
            addresses,
            contracts,
            state,
        })
    }

    /// Returns the face the contracts show, if it is one that this build knows.
    #[must_use]
    pub fn face(&self) -> Option<Face> {
        let acl = self.contracts.iter().find(|survey| survey.contract == HostContract::Acl)?;
        let version = acl.version.as_deref()?;
        Face::ALL.into_iter().find(|face| HostContract::Acl.version(*face) == version)
    }

    /// Returns what the implementations should have compiled in.
    #[must_use]
    pub fn wiring(&self, face: Face) -> Wiring {
        // No other InputVerifier can be without coprocessors.
        let native = |state: &StateSurvey| state.coprocessors.signers.is_empty() && state.coprocessors.threshold.is_zero();
        if self.state.as_ref().is_some_and(native) {
            return Wiring::native(self.addresses, face);
        }
        Wiring::new(self.addresses, face)
    }
}

impl ContractSurvey {
    /// Returns where the contract's own code is: behind the proxy, or at its address.
    #[must_use]
    pub fn logic(&self) -> Option<(Address, &Bytes)> {
        if self.contract.is_upgradeable() {
            self.implementation.as_ref().map(|behind| (behind.address, &behind.code))
        } else {
            Some((self.address, &self.code))
        }
    }

    /// Returns the hash of the contract's own code.
    #[must_use]
    pub fn code_hash(&self) -> Option<B256> {
        self.logic().filter(|(_, code)| !code.is_empty()).map(|(_, code)| keccak256(code))
    }

    /// Says whether the proxy and the code behind it are what this build deploys with this wiring.
    #[must_use]
    pub fn is_of_this_build(&self, wiring: &Wiring) -> bool {
        let proxy_is_ours = !self.contract.is_upgradeable() || self.code == *proxy_runtime_code();
        let logic_is_ours = self
            .logic()
            .is_some_and(|(address, code)| *code == self.contract.runtime_code(wiring, address));
        proxy_is_ours && logic_is_ours
    }
}

async fn survey_contract(chain: &HostChain, contract: HostContract, address: Address) -> Result<ContractSurvey, ChainError> {
    let code = chain.code(address).await?;
    let behind = if contract.is_upgradeable() {
        proxy::implementation(chain, address).await?
    } else {
        None
    };
    let implementation = match behind {
        Some(address) => Some(ImplementationSurvey {
            address,
            code: chain.code(address).await?,
        }),
        None => None,
    };
    // All host contracts have the same function; the ACL's binding stands for it.
    let version = match chain.read(address, ACL::getVersionCall {}).await {
        Ok(version) => Some(version),
        Err(ChainError::Contract { .. } | ChainError::Refused { .. }) => None,
        Err(error) => return Err(error),
    };
    Ok(ContractSurvey {
        contract,
        address,
        code,
        implementation,
        version,
    })
}

async fn survey_state(chain: &HostChain) -> Result<StateSurvey, ChainError> {
    let HostAddresses {
        acl,
        protocol_config,
        hcu_limit,
        ..
    } = *chain.addresses();
    let (context_id, epoch_id) = chain.kms_context_and_epoch().await?;
    let user = ProtocolConfig::getUserDecryptionThresholdForContextCall { contextId: context_id };
    let mpc = ProtocolConfig::getMpcThresholdForContextCall { contextId: context_id };
    Ok(StateSurvey {
        owner: chain.read(acl, ACL::ownerCall {}).await?,
        pending_owner: chain.read(acl, ACL::pendingOwnerCall {}).await?,
        is_paused: chain.read(acl, ACL::pausedCall {}).await?,
        domains: chain.signing_domains().await?,
        coprocessors: chain.coprocessor_signers().await?,
        kms: chain.kms_signers().await?,
        user_decryption_threshold: chain.read(protocol_config, user).await?,
        mpc_threshold: chain.read(protocol_config, mpc).await?,
        context_id,
        epoch_id,
        per_block_hcu: chain.read(hcu_limit, HCULimit::getGlobalHCUCapPerBlockCall {}).await?.to(),
        per_transaction_hcu: chain.read(hcu_limit, HCULimit::getMaxHCUPerTxCall {}).await?.to(),
        depth_hcu: chain.read(hcu_limit, HCULimit::getMaxHCUDepthPerTxCall {}).await?.to(),
    })
}

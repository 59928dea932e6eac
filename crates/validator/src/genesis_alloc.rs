//! The contracts of a new chain's first block, as accounts with code and storage.
//!
//! The deployment's own transactions run on a chain in memory, in the name of accounts whose keys nobody needs, and what they leave is kept: so that
//! a chain begins with exactly what a deployment by transactions gives, and nothing about storage is written down twice. The clock stands still, so
//! that equal plans give equal accounts.

use std::{collections::BTreeMap, sync::Arc};

use alloy::{
    primitives::{Address, B256, Bytes, U256, keccak256},
    rpc::types::TransactionRequest,
    sol_types::SolCall,
};
use anyhow::{Context, Result, ensure};
use cipherloom_contracts::{
    NativeDeployment,
    bindings::ACL,
    native::{VALIDATOR_SET, validator_set_creation_code},
    native_deployment_steps,
};
use cipherloom_node::{AccountsConfig, DevChain, DevChainConfig, ManualClock, native::GenesisAccount};
use serde::Deserialize;

/// More than the gas of a deployment can cost.
const ENOUGH_WEI: U256 = U256::from_limbs([0, 0, 1, 0]);

/// Returns the accounts of the host contracts, of the deployer, whose nonce stays used, and of the set of validators.
///
/// The owner of the deployment has accepted, and owns the set of validators if it is `set_owner`.
///
/// # Errors
/// If the contracts refuse the deployment or the set.
pub(crate) fn genesis_alloc(
    deployment: &NativeDeployment,
    validators: &[(Address, u64)],
    set_owner: Address,
) -> Result<BTreeMap<Address, GenesisAccount>> {
    let (deployer, owner) = (deployment.deployer, deployment.owner);
    // Its nonce must not move, whoever it is, and the deployer's only by the deployment.
    let creator = Address::from_word(keccak256("cipherloom creator of the first validators"));
    let chain = Scratch::new(deployment.domains.host_chain_id, vec![deployer, owner, creator])?;

    let mut kept = vec![deployer];
    for step in native_deployment_steps(deployment) {
        let created = chain
            .send(deployer, step.to, step.data)
            .with_context(|| format!("cannot {}", step.name))?;
        let expected = step.creates.map(|creation| creation.address);
        ensure!(
            created == expected,
            "the step to {} created {created:?} and not {expected:?}",
            step.name
        );
        kept.extend(created);
    }
    if owner != deployer {
        let accept = ACL::acceptOwnershipCall {}.abi_encode();
        let acl = deployment.addresses().acl;
        chain.send(owner, Some(acl), accept.into()).context("cannot accept the ownership")?;
    }
    let creation = validator_set_creation_code(set_owner, validators);
    let set = chain
        .send(creator, None, creation)
        .context("the contract refuses the set of validators")?;
    let set = set.context("the transaction created no set of validators")?;

    let mut state = chain.accounts()?;
    let mut account = |address: Address| {
        let account = state.remove(&address).with_context(|| format!("nothing is left at {address}"))?;
        // Gas was paid with ether that no chain has.
        Ok::<_, anyhow::Error>(GenesisAccount {
            balance: U256::ZERO,
            ..account
        })
    };
    let mut alloc = BTreeMap::from([(VALIDATOR_SET, account(set)?)]);
    for address in kept {
        alloc.insert(address, account(address)?);
    }
    Ok(alloc)
}

/// A chain in memory that is thrown away.
struct Scratch(DevChain);

/// What is read of a dumped state.
#[derive(Deserialize)]
struct Dump {
    accounts: BTreeMap<Address, GenesisAccount>,
}

impl Scratch {
    fn new(chain_id: u64, funded: Vec<Address>) -> Result<Self> {
        let config = DevChainConfig {
            chain_id,
            accounts: AccountsConfig {
                count: 0,
                balance_wei: ENOUGH_WEI,
                fund_deployer: false,
                extra_funded: funded,
                ..AccountsConfig::default()
            },
            clock: Arc::new(ManualClock::new(0)),
            ..DevChainConfig::default()
        };
        Ok(Self(DevChain::new(config)?))
    }

    /// Sends a transaction in anybody's name and returns the address of what it created.
    fn send(&self, from: Address, to: Option<Address>, data: Bytes) -> Result<Option<Address>> {
        let request = TransactionRequest {
            from: Some(from),
            to: to.map(Into::into),
            input: data.into(),
            ..TransactionRequest::default()
        };
        let hash: B256 = self.0.send_unsigned_transaction(request)?;
        let (block, index) = self.0.mined_transaction(&hash)?.context("the transaction was not mined")?;
        let receipt = block.receipts.get(index).context("the block has no receipt of the transaction")?;
        ensure!(receipt.is_success(), "the transaction failed");
        Ok(receipt.contract_address)
    }

    fn accounts(&self) -> Result<BTreeMap<Address, GenesisAccount>> {
        let dump: Dump = serde_json::from_slice(&self.0.dump_state()?).context("the state cannot be read")?;
        Ok(dump.accounts)
    }
}

#[cfg(test)]
mod tests {
    use alloy::eips::{BlockId, BlockNumberOrTag};
    use alloy::sol_types::SolValue;
    use cipherloom_contracts::{
        Face, HcuLimits, HostContract, SignerSet,
        bindings::{FHEVMExecutor, InputVerifier, PauserSet, ValidatorSet},
        development, proxy_runtime_code,
    };

    use super::*;

    const OWNER: Address = Address::repeat_byte(0x77);
    const VALIDATORS: [(Address, u64); 2] = [(Address::repeat_byte(1), 3), (Address::repeat_byte(2), 5)];

    fn deployment(owner: Address) -> NativeDeployment {
        NativeDeployment {
            deployer: development::DEPLOYER,
            owner,
            domains: cipherloom_chain::LocalProfile::of_new_chain(4242),
            face: Face::default(),
            kms: SignerSet::single(Address::repeat_byte(9)).into(),
            hcu_limits: HcuLimits::default(),
            pausers: vec![owner],
            relayers: vec![owner],
        }
    }

    /// A chain whose state is exactly what was made, with ether for those who send.
    fn chain_of(alloc: &BTreeMap<Address, GenesisAccount>) -> Scratch {
        let chain = Scratch::new(4242, vec![OWNER, Address::repeat_byte(0x78)]).unwrap();
        let dump = serde_json::json!({ "accounts": alloc });
        chain.0.load_state(dump.to_string().as_bytes()).unwrap();
        chain
    }

    fn read<C: SolCall>(chain: &Scratch, to: Address, call: C) -> C::Return {
        let request = TransactionRequest {
            to: Some(to.into()),
            input: Bytes::from(call.abi_encode()).into(),
            ..TransactionRequest::default()
        };
        let output = chain.0.call(&request, BlockId::Number(BlockNumberOrTag::Latest)).unwrap();
        C::abi_decode_returns(&output).unwrap()
    }

    #[test]
    fn a_state_with_these_accounts_is_a_finished_deployment_of_the_owner() {
        let deployment = deployment(OWNER);
        let alloc = genesis_alloc(&deployment, &VALIDATORS, OWNER).unwrap();
        let chain = chain_of(&alloc);
        let host = deployment.addresses();
        assert_eq!(read(&chain, host.acl, ACL::ownerCall {}), OWNER);
        assert_eq!(read(&chain, host.acl, ACL::getFHEVMExecutorAddressCall {}), host.executor);
        assert_eq!(
            read(&chain, host.executor, FHEVMExecutor::getInputVerifierAddressCall {}),
            host.input_verifier
        );
        assert_eq!(read(&chain, host.input_verifier, InputVerifier::getThresholdCall {}), U256::ZERO);
        assert!(read(&chain, host.pauser_set, PauserSet::isPauserCall { account: OWNER }));
        for contract in HostContract::ALL {
            let account = &alloc[&contract.address(&host)];
            if contract.is_upgradeable() {
                assert_eq!(account.code, *proxy_runtime_code(), "{contract}");
                // ERC-1967: the slot of a proxy's implementation.
                let slot = U256::from_be_bytes(keccak256("eip1967.proxy.implementation").0) - U256::ONE;
                let implementation = Address::from_word(account.storage[&B256::from(slot)]);
                let expected = contract.runtime_code(&deployment.wiring(), implementation);
                assert_eq!(alloc[&implementation].code, expected, "{contract}");
            } else {
                assert_eq!(account.code, contract.runtime_code(&deployment.wiring(), contract.address(&host)));
            }
            assert_eq!(
                read(&chain, contract.address(&host), ACL::getVersionCall {}),
                contract.version(Face::default())
            );
        }
        let members = read(&chain, VALIDATOR_SET, ValidatorSet::validatorsCall {});
        assert_eq!(members.addresses.into_iter().zip(members.powers).collect::<Vec<_>>(), VALIDATORS);
        assert_eq!(read(&chain, VALIDATOR_SET, ValidatorSet::ownerCall {}), OWNER);
        // The owner can act at once.
        let remove = ValidatorSet::removeValidatorCall { account: VALIDATORS[0].0 };
        chain.send(OWNER, Some(VALIDATOR_SET), remove.abi_encode().into()).unwrap();
        assert_eq!(read(&chain, VALIDATOR_SET, ValidatorSet::totalPowerCall {}), 5);
        let stranger = chain.send(Address::repeat_byte(0x78), Some(VALIDATOR_SET), remove.abi_encode().into());
        assert!(stranger.is_err());
    }

    #[test]
    fn only_contracts_and_the_deployer_are_there_and_none_has_ether() {
        let alloc = genesis_alloc(&deployment(OWNER), &VALIDATORS, OWNER).unwrap();
        assert!(alloc.values().all(|account| account.balance.is_zero()));
        let without_code: Vec<_> = alloc.iter().filter(|(_, account)| account.code.is_empty()).collect();
        assert_eq!(without_code.len(), 1);
        let (address, deployer) = without_code[0];
        assert_eq!(*address, development::DEPLOYER);
        assert_eq!(deployer.nonce, native_deployment_steps(&deployment(OWNER)).len() as u64);
        assert!(!alloc.contains_key(&OWNER), "the owner begins at nonce 0");
        // Two empty contracts, proxies and implementations of seven, the PauserSet, the validators, the deployer.
        assert_eq!(alloc.len(), 2 + 7 * 2 + 1 + 1 + 1);
    }

    #[test]
    fn equal_plans_give_equal_accounts_and_a_deployer_can_be_the_owner() {
        let of = |owner: Address| genesis_alloc(&deployment(owner), &VALIDATORS, owner).unwrap();
        assert_eq!(of(OWNER), of(OWNER));
        let own = of(development::DEPLOYER);
        let acl = deployment(OWNER).addresses().acl;
        assert_eq!(read(&chain_of(&own), acl, ACL::ownerCall {}), development::DEPLOYER);
        assert_ne!(own, of(OWNER));
    }

    #[test]
    fn what_the_contracts_refuse_is_an_error_that_names_the_step() {
        let twice = [VALIDATORS[0], VALIDATORS[0]];
        let error = genesis_alloc(&deployment(OWNER), &twice, OWNER).unwrap_err();
        assert!(error.to_string().contains("refuses the set of validators"), "{error:#}");
        let mut without_kms = deployment(OWNER);
        without_kms.kms.signers.clear();
        let error = genesis_alloc(&without_kms, &VALIDATORS, OWNER).unwrap_err();
        assert!(error.to_string().contains("upgrade to the ProtocolConfig"), "{error:#}");
    }

    #[test]
    fn the_list_of_validators_is_where_nodes_look_for_it() {
        let alloc = genesis_alloc(&deployment(OWNER), &VALIDATORS, OWNER).unwrap();
        let storage = &alloc[&VALIDATOR_SET].storage;
        assert_eq!(storage[&B256::ZERO], B256::from(U256::from(2)));
        let first = U256::from_be_bytes(keccak256(U256::ZERO.abi_encode()).0);
        for (index, (account, power)) in VALIDATORS.iter().enumerate() {
            let word = U256::from_be_bytes(storage[&B256::from(first + U256::from(index))].0);
            assert_eq!(word, (U256::from(*power) << 160) | U256::from_be_bytes(account.into_word().0));
        }
    }
}

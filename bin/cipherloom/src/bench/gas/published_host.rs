//! Deploys the published host contracts, `@fhevm/host-contracts` from npm, on a chain in this process.
//!
//! Their bytecode has each other's addresses compiled in: those of the development chain, which follow from the nonces of its deployer. So the
//! proxies are created at these nonces, and the published implementations are put behind them. The proxies are OpenZeppelin's
//! `ERC1967Proxy` in our deployments and in theirs, and here the same bytecode is in front of both.

use std::path::Path;

use alloy::{
    primitives::{Address, Bytes, U256},
    sol,
    sol_types::{SolCall, SolConstructor},
};
use anyhow::{Context, Result, ensure};
use cipherloom_contracts::{
    SignerSet,
    bindings::{EmptyACL, EmptyHostContract, HostProxy},
    development,
};

use crate::{dapp_transactions::bytecode_in, symbolic_chain::SymbolicChain};

sol! {
    /// What all of them have.
    interface Upgradeable {
        function upgradeToAndCall(address newImplementation, bytes memory data) external payable;
        function getVersion() external view returns (string memory);
    }

    /// Those without parameters.
    interface Plain {
        function initializeFromEmptyProxy() external;
    }

    /// Those that check signatures.
    interface Verifier {
        function initializeFromEmptyProxy(address verifyingContractSource, uint64 chainIDSource, address[] memory signers, uint256 threshold) external;
    }
}

/// Deploys them with the signers of the chain. Nothing else may have been sent by [`development::DEPLOYER`].
///
/// # Errors
/// If an artifact cannot be read, a contract refuses, or an address is not the expected one.
pub(super) fn deploy(chain: &SymbolicChain, folder: &Path) -> Result<()> {
    let host = *chain.addresses();
    let owner = development::DEPLOYER;
    let empty_acl = chain.deploy(owner, &EmptyACL::BYTECODE, &[])?;
    let owned = EmptyACL::initializeCall { initialOwner: owner }.abi_encode();
    proxy(chain, empty_acl, owned, host.acl)?;
    let acl = EmptyHostContract::constructorCall { acl: host.acl }.abi_encode();
    let empty = chain.deploy(owner, &EmptyHostContract::BYTECODE, &acl)?;
    for address in [host.executor, host.kms_verifier, host.input_verifier, host.hcu_limit] {
        proxy(chain, empty, EmptyHostContract::initializeCall {}.abi_encode(), address)?;
    }
    chain.deploy(owner, &artifact(folder, "PauserSet")?, &[])?;

    let domains = development::signing_domains();
    let plain = || Plain::initializeFromEmptyProxyCall {}.abi_encode();
    let verifier = |contract, signers: SignerSet| {
        Verifier::initializeFromEmptyProxyCall {
            verifyingContractSource: contract,
            chainIDSource: domains.gateway_chain_id,
            signers: signers.signers,
            threshold: U256::from(signers.threshold),
        }
        .abi_encode()
    };
    for (name, address, initialize) in [
        ("ACL", host.acl, plain()),
        ("FHEVMExecutor", host.executor, plain()),
        ("KMSVerifier", host.kms_verifier, verifier(domains.decryption, chain.kms())),
        (
            "InputVerifier",
            host.input_verifier,
            verifier(domains.input_verification, chain.coprocessors()),
        ),
        ("HCULimit", host.hcu_limit, plain()),
    ] {
        let implementation = chain.deploy(owner, &artifact(folder, name)?, &[]).context(name)?;
        let upgrade = Upgradeable::upgradeToAndCallCall {
            newImplementation: implementation,
            data: initialize.into(),
        };
        chain.call(owner, address, &upgrade).context(name)?;
        let version = chain.read(address, &Upgradeable::getVersionCall {})?;
        ensure!(version.starts_with(&format!("{name} v")), "{name} says that it is {version}");
    }
    Ok(())
}

/// Creates a proxy, which must come out at an address.
fn proxy(chain: &SymbolicChain, implementation: Address, initialize: Vec<u8>, address: Address) -> Result<()> {
    let arguments = HostProxy::constructorCall {
        implementation,
        data: initialize.into(),
    }
    .abi_encode();
    let created = chain.deploy(development::DEPLOYER, &HostProxy::BYTECODE, &arguments)?;
    ensure!(created == address, "a proxy came out at {created} instead of {address}");
    Ok(())
}

fn artifact(folder: &Path, name: &str) -> Result<Bytes> {
    bytecode_in(&folder.join(name).with_extension("json"))
}

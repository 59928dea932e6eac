//! The host contracts as things to deploy, compare and upgrade: code, immutables, storage layout.
//!
//! An implementation has its peers' addresses compiled in as immutables, so the code on chain is the artifact with these
//! words filled in. [`Wiring`] holds them, and [`HostContract::runtime_code`] gives the bytes that must be on chain.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::LazyLock};

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{SolCall, SolConstructor};
use serde::{Deserialize, Serialize};

use crate::{
    addresses::HostAddresses,
    bindings::{
        ACL, EmptyACL, EmptyHostContract, FHEVMExecutor, GatewayContract, HCULimit, HostProxy, InputVerifier, KMSVerifier,
        NativeInputVerifier, PauserSet, ProtocolConfig,
    },
    face::Face,
    storage_layout::StorageLayout,
};

/// A contract of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum HostContract {
    /// Who may use and decrypt which handle; owns the other contracts.
    #[serde(rename = "ACL")]
    Acl,
    /// Takes the operations of dApps.
    #[serde(rename = "FHEVMExecutor")]
    FhevmExecutor,
    /// Checks signatures of the KMS.
    #[serde(rename = "KMSVerifier")]
    KmsVerifier,
    /// Checks signatures of coprocessors over inputs, or on native chains the inputs themselves.
    InputVerifier,
    /// Limits the cost of operations.
    #[serde(rename = "HCULimit")]
    HcuLimit,
    /// Who the KMS is.
    ProtocolConfig,
    /// Who may pause. The one contract without a proxy.
    PauserSet,
    /// Brings decrypted values to contracts as a call.
    GatewayContract,
}

/// What implementations have compiled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wiring {
    /// The contracts of the deployment.
    pub addresses: HostAddresses,
    /// A bridge that may allow handles it creates, like the executor; zero for none.
    #[serde(default)]
    pub bridge: Address,
    /// Which version of the protocol they speak for.
    pub face: Face,
    /// Who checks encrypted inputs.
    #[serde(default)]
    pub inputs: InputChecks,
}

/// Who checks encrypted inputs on a chain: which contract the `InputVerifier` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InputChecks {
    /// Coprocessors sign their handles.
    #[default]
    Coprocessors,
    /// Every validator of a native chain checks the list that a transaction carries.
    Validators,
}

impl Wiring {
    /// The wiring of a deployment without a bridge, whose inputs coprocessors check.
    #[must_use]
    pub const fn new(addresses: HostAddresses, face: Face) -> Self {
        Self {
            addresses,
            bridge: Address::ZERO,
            face,
            inputs: InputChecks::Coprocessors,
        }
    }

    /// The wiring of a native chain without a bridge.
    #[must_use]
    pub const fn native(addresses: HostAddresses, face: Face) -> Self {
        Self {
            inputs: InputChecks::Validators,
            ..Self::new(addresses, face)
        }
    }
}

/// A name is not that of a [`HostContract`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no host contract {0:?}; there are ACL, FHEVMExecutor, KMSVerifier, InputVerifier, HCULimit, ProtocolConfig, PauserSet, GatewayContract"
)]
pub struct UnknownHostContract(pub String);

/// The places of immutables in the code of each contract, in bytes, by contract and name; each is one word.
type Immutables = BTreeMap<String, BTreeMap<String, Vec<usize>>>;

static IMMUTABLES: LazyLock<Immutables> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../contracts/snapshots/code/immutables.json"))
        .expect("the committed snapshot is what the compiler's script writes")
});

impl HostContract {
    /// Every contract of a deployment.
    pub const ALL: [Self; 8] = [
        Self::Acl,
        Self::FhevmExecutor,
        Self::KmsVerifier,
        Self::InputVerifier,
        Self::HcuLimit,
        Self::ProtocolConfig,
        Self::PauserSet,
        Self::GatewayContract,
    ];

    /// The name in the sources.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Acl => "ACL",
            Self::FhevmExecutor => "FHEVMExecutor",
            Self::KmsVerifier => "KMSVerifier",
            Self::InputVerifier => "InputVerifier",
            Self::HcuLimit => "HCULimit",
            Self::ProtocolConfig => "ProtocolConfig",
            Self::PauserSet => "PauserSet",
            Self::GatewayContract => "GatewayContract",
        }
    }

    /// Whether it stands behind a proxy, and so can be upgraded.
    #[must_use]
    pub const fn is_upgradeable(self) -> bool {
        !matches!(self, Self::PauserSet)
    }

    /// Where callers find it: the proxy, if there is one.
    #[must_use]
    pub const fn address(self, addresses: &HostAddresses) -> Address {
        match self {
            Self::Acl => addresses.acl,
            Self::FhevmExecutor => addresses.executor,
            Self::KmsVerifier => addresses.kms_verifier,
            Self::InputVerifier => addresses.input_verifier,
            Self::HcuLimit => addresses.hcu_limit,
            Self::ProtocolConfig => addresses.protocol_config,
            Self::PauserSet => addresses.pauser_set,
            Self::GatewayContract => addresses.gateway_contract,
        }
    }

    /// What its `getVersion()` answers under a face.
    #[must_use]
    pub const fn version(self, face: Face) -> &'static str {
        match (self, face) {
            (Self::Acl, Face::V0_12) => "ACL v0.3.0",
            (Self::Acl, Face::V0_14) => "ACL v0.5.0",
            (Self::FhevmExecutor, Face::V0_12) => "FHEVMExecutor v0.3.0",
            (Self::FhevmExecutor, Face::V0_14) => "FHEVMExecutor v0.5.0",
            (Self::KmsVerifier, Face::V0_12) => "KMSVerifier v0.2.0",
            (Self::KmsVerifier, Face::V0_14) => "KMSVerifier v0.4.0",
            (Self::InputVerifier, _) => "InputVerifier v0.2.0",
            (Self::HcuLimit, Face::V0_12) => "HCULimit v0.2.0",
            (Self::HcuLimit, Face::V0_14) => "HCULimit v0.4.0",
            (Self::ProtocolConfig, _) => "ProtocolConfig v0.2.0",
            (Self::PauserSet, _) => "PauserSet v0.1.0",
            (Self::GatewayContract, _) => "GatewayContract v0.1.1",
        }
    }

    /// The data of the transaction that creates the implementation.
    #[must_use]
    pub fn creation_code(self, wiring: &Wiring) -> Bytes {
        let Wiring {
            addresses,
            bridge,
            face,
            inputs,
        } = wiring;
        let (acl, face) = (addresses.acl, face.minor());
        let (code, arguments) = match self {
            Self::Acl => (
                &ACL::BYTECODE,
                ACL::constructorCall {
                    executor: addresses.executor,
                    pauserSet: addresses.pauser_set,
                    bridge: *bridge,
                    face,
                }
                .abi_encode(),
            ),
            Self::FhevmExecutor => (
                &FHEVMExecutor::BYTECODE,
                FHEVMExecutor::constructorCall {
                    acl,
                    inputVerifier: addresses.input_verifier,
                    hcuLimit: addresses.hcu_limit,
                    face,
                }
                .abi_encode(),
            ),
            Self::KmsVerifier => (
                &KMSVerifier::BYTECODE,
                KMSVerifier::constructorCall {
                    acl,
                    protocolConfig: addresses.protocol_config,
                    face,
                }
                .abi_encode(),
            ),
            // Both implementations take the same.
            Self::InputVerifier => (
                match inputs {
                    InputChecks::Coprocessors => &InputVerifier::BYTECODE,
                    InputChecks::Validators => &NativeInputVerifier::BYTECODE,
                },
                InputVerifier::constructorCall { acl }.abi_encode(),
            ),
            Self::HcuLimit => (
                &HCULimit::BYTECODE,
                HCULimit::constructorCall {
                    acl,
                    executor: addresses.executor,
                    face,
                }
                .abi_encode(),
            ),
            Self::ProtocolConfig => (&ProtocolConfig::BYTECODE, ProtocolConfig::constructorCall { acl }.abi_encode()),
            Self::PauserSet => (&PauserSet::BYTECODE, PauserSet::constructorCall { acl }.abi_encode()),
            Self::GatewayContract => (
                &GatewayContract::BYTECODE,
                GatewayContract::constructorCall {
                    acl,
                    kmsVerifier: addresses.kms_verifier,
                }
                .abi_encode(),
            ),
        };
        [code.as_ref(), &arguments].concat().into()
    }

    /// The code that must be on chain where the implementation was created.
    #[must_use]
    pub fn runtime_code(self, wiring: &Wiring, implementation: Address) -> Bytes {
        let template = match self {
            Self::Acl => &ACL::DEPLOYED_BYTECODE,
            Self::FhevmExecutor => &FHEVMExecutor::DEPLOYED_BYTECODE,
            Self::KmsVerifier => &KMSVerifier::DEPLOYED_BYTECODE,
            Self::InputVerifier => match wiring.inputs {
                InputChecks::Coprocessors => &InputVerifier::DEPLOYED_BYTECODE,
                InputChecks::Validators => &NativeInputVerifier::DEPLOYED_BYTECODE,
            },
            Self::HcuLimit => &HCULimit::DEPLOYED_BYTECODE,
            Self::ProtocolConfig => &ProtocolConfig::DEPLOYED_BYTECODE,
            Self::PauserSet => &PauserSet::DEPLOYED_BYTECODE,
            Self::GatewayContract => &GatewayContract::DEPLOYED_BYTECODE,
        };
        fill(self.artifact(wiring.inputs), template, wiring, implementation)
    }

    /// The name of what is compiled for it.
    const fn artifact(self, inputs: InputChecks) -> &'static str {
        match (self, inputs) {
            (Self::InputVerifier, InputChecks::Validators) => "NativeInputVerifier",
            _ => self.name(),
        }
    }

    /// How this version of the contract keeps its state, where coprocessors check inputs.
    #[must_use]
    pub fn storage_layout(self) -> StorageLayout {
        self.storage_layout_with(InputChecks::Coprocessors)
    }

    /// How this version of the contract keeps its state.
    #[must_use]
    pub fn storage_layout_with(self, inputs: InputChecks) -> StorageLayout {
        let snapshot = match self {
            Self::InputVerifier if inputs == InputChecks::Validators => {
                include_str!("../../../contracts/snapshots/storage/NativeInputVerifier.json")
            }
            Self::Acl => include_str!("../../../contracts/snapshots/storage/ACL.json"),
            Self::FhevmExecutor => include_str!("../../../contracts/snapshots/storage/FHEVMExecutor.json"),
            Self::KmsVerifier => include_str!("../../../contracts/snapshots/storage/KMSVerifier.json"),
            Self::InputVerifier => include_str!("../../../contracts/snapshots/storage/InputVerifier.json"),
            Self::HcuLimit => include_str!("../../../contracts/snapshots/storage/HCULimit.json"),
            Self::ProtocolConfig => include_str!("../../../contracts/snapshots/storage/ProtocolConfig.json"),
            Self::PauserSet => include_str!("../../../contracts/snapshots/storage/PauserSet.json"),
            Self::GatewayContract => include_str!("../../../contracts/snapshots/storage/GatewayContract.json"),
        };
        serde_json::from_str(snapshot).expect("the committed snapshot is what the compiler's script writes")
    }
}

/// The code that must be on chain at every proxy. It has no immutables: its implementation stands in storage.
#[must_use]
pub fn proxy_runtime_code() -> &'static Bytes {
    &HostProxy::DEPLOYED_BYTECODE
}

/// The code of the empty ACL that a deployment begins with, where it was created.
#[must_use]
pub fn empty_acl_runtime_code(wiring: &Wiring, implementation: Address) -> Bytes {
    fill("EmptyACL", &EmptyACL::DEPLOYED_BYTECODE, wiring, implementation)
}

/// The code of the empty host contract that a deployment begins with, where it was created.
#[must_use]
pub fn empty_host_contract_runtime_code(wiring: &Wiring, implementation: Address) -> Bytes {
    fill("EmptyHostContract", &EmptyHostContract::DEPLOYED_BYTECODE, wiring, implementation)
}

/// The call that makes a proxy use another implementation, sent by the owner of the ACL; `initialize` is called in the same
/// transaction unless it is empty.
#[must_use]
pub fn upgrade_call(implementation: Address, initialize: Bytes) -> Bytes {
    // All host contracts have the same upgrade function; the ACL's binding stands for it.
    let call = ACL::upgradeToAndCallCall {
        newImplementation: implementation,
        data: initialize,
    };
    call.abi_encode().into()
}

/// Writes the immutables into code that has zeros in their places.
fn fill(contract: &str, template: &Bytes, wiring: &Wiring, implementation: Address) -> Bytes {
    let mut code = template.to_vec();
    let places = IMMUTABLES.get(contract).into_iter().flatten();
    for (name, starts) in places {
        let word = immutable(name, wiring, implementation);
        for start in starts {
            let place = code.get_mut(*start..start.saturating_add(32));
            place
                .expect("the compiler names places inside the code")
                .copy_from_slice(word.as_slice());
        }
    }
    code.into()
}

/// The value of an immutable, by its name in the sources.
fn immutable(name: &str, wiring: &Wiring, implementation: Address) -> B256 {
    let addresses = &wiring.addresses;
    match name {
        "FACE" => U256::from(wiring.face.minor()).into(),
        // Of the proxy library: an implementation tells by it whether it was called through a proxy.
        "__self" => implementation.into_word(),
        "ACL_ADDRESS" => addresses.acl.into_word(),
        "BRIDGE" => wiring.bridge.into_word(),
        "EXECUTOR" => addresses.executor.into_word(),
        "HCU_LIMIT" => addresses.hcu_limit.into_word(),
        "INPUT_VERIFIER" => addresses.input_verifier.into_word(),
        "KMS_VERIFIER" => addresses.kms_verifier.into_word(),
        "PAUSER_SET" => addresses.pauser_set.into_word(),
        "PROTOCOL_CONFIG" => addresses.protocol_config.into_word(),
        other => unreachable!("a test compares the names of all immutables with this list, and {other} is not in it"),
    }
}

impl fmt::Display for HostContract {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for HostContract {
    type Err = UnknownHostContract;

    fn from_str(text: &str) -> Result<Self, UnknownHostContract> {
        let found = Self::ALL.into_iter().find(|contract| contract.name() == text);
        found.ok_or_else(|| UnknownHostContract(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::development;

    #[test]
    fn every_immutable_has_a_value_and_a_place_in_its_code() {
        let implementation = Address::repeat_byte(0xa5);
        let addresses = development::addresses();
        for wiring in [Wiring::new(addresses, Face::V0_14), Wiring::native(addresses, Face::V0_14)] {
            for contract in HostContract::ALL {
                let names = &IMMUTABLES[contract.artifact(wiring.inputs)];
                assert_eq!(names.contains_key("__self"), contract.is_upgradeable(), "{contract}");
                let code = contract.runtime_code(&wiring, implementation);
                for (name, starts) in names {
                    assert!(!starts.is_empty(), "{contract} {name}");
                    for start in starts {
                        assert_eq!(&code[*start..start + 32], immutable(name, &wiring, implementation).as_slice());
                    }
                }
            }
        }
        assert!(!IMMUTABLES["HostProxy"].values().any(|starts| !starts.is_empty()));
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for contract in HostContract::ALL {
            assert_eq!(contract.to_string().parse(), Ok(contract));
            assert_eq!(serde_json::to_string(&contract).unwrap(), format!("\"{contract}\""));
            assert!(contract.version(Face::V0_12).starts_with(&format!("{contract} v")));
        }
        assert!("Acl".parse::<HostContract>().is_err());
    }

    #[test]
    fn layouts_are_those_of_their_contracts() {
        for contract in HostContract::ALL {
            for inputs in [InputChecks::Coprocessors, InputChecks::Validators] {
                assert_eq!(contract.storage_layout_with(inputs).contract, contract.artifact(inputs));
            }
        }
    }
}

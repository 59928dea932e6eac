//! Upgrades: another implementation behind a proxy, with everything that is stored kept.
//!
//! **Roles.** The owner of the ACL decides; anybody may create an implementation.
//!
//! **Flow.** The new storage layout is compared with the one of the code that is there. The implementation is created; one transaction of the owner
//! makes the proxy use it, and runs its migration if it has one. Afterwards every word that the old layout knows a place for is compared with before.
//!
//! **Restart.** A failure leaves at most an unused implementation behind, which costs its gas and nothing else: the proxy is on the old or on the new
//! one, never in between.

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    sol_types::SolCall,
};
use cipherloom_contracts::{
    HostContract, IncompatibleLayout, InputChecks, StorageLayout, Wiring,
    bindings::{ACL, FHEVMExecutor, GatewayContract, HCULimit, InputVerifier, KMSVerifier, NativeInputVerifier, PauserSet, ProtocolConfig},
    upgrade_call,
};

use crate::{
    error::ChainError,
    host_chain::HostChain,
    proxy,
    sender::{Call, Included, Observer, TransactionSender},
};

/// Another implementation for a contract.
#[derive(Clone, Debug)]
pub struct Upgrade {
    /// Which contract.
    pub contract: HostContract,
    /// The implementation it has.
    pub from: Address,
    /// The data that create the new one.
    pub creation_code: Bytes,
    /// How the new one lays out storage.
    pub layout: Option<StorageLayout>,
    /// The call that migrates storage in the same transaction; empty for none.
    pub migration: Bytes,
}

/// A finished upgrade.
#[derive(Clone, Debug)]
pub struct Upgraded {
    /// Where the new implementation is.
    pub implementation: Address,
    /// The transaction that made the switch.
    pub switch: Included,
}

/// A storage word that an upgrade changed and should not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedWord {
    /// Its slot.
    pub slot: B256,
    /// What was there.
    pub before: B256,
    /// What is there.
    pub after: B256,
}

impl Upgrade {
    /// Returns the upgrade to this build's implementation.
    #[must_use]
    pub fn to_this_build(contract: HostContract, from: Address, wiring: &Wiring) -> Self {
        Self {
            contract,
            from,
            creation_code: contract.creation_code(wiring),
            layout: Some(contract.storage_layout_with(wiring.inputs)),
            migration: Bytes::new(),
        }
    }

    /// Compares the storage layouts.
    ///
    /// # Errors
    /// [`IncompatibleLayout`] with everything that the new code would misread.
    pub fn check_layout(&self, present: &StorageLayout) -> Result<(), IncompatibleLayout> {
        self.layout.as_ref().map_or(Ok(()), |new| present.check_upgrade(new))
    }

    /// Returns the transaction that creates the implementation.
    #[must_use]
    pub fn creation(&self) -> Call {
        Call {
            name: format!("create another {}", self.contract),
            to: None,
            data: self.creation_code.clone(),
        }
    }

    /// Returns the owner's transaction that makes the proxy use an implementation.
    #[must_use]
    pub fn switch(&self, proxy: Address, implementation: Address) -> Call {
        Call {
            name: format!("upgrade the {}", self.contract),
            to: Some(proxy),
            data: upgrade_call(implementation, self.migration.clone()),
        }
    }

    /// Creates the implementation.
    ///
    /// # Errors
    /// As [`TransactionSender::send`].
    pub async fn create(&self, sender: &mut TransactionSender, observer: &mut Observer<'_>) -> Result<(Address, Included), ChainError> {
        let nonce = sender.next_nonce().await?;
        let included = Box::pin(sender.send(&self.creation(), nonce, observer)).await?;
        // The address follows from the account and the nonce, whatever the receipt says.
        Ok((sender.account().create(nonce), included))
    }

    /// Makes the proxy use the implementation. The sender must be the owner.
    ///
    /// # Errors
    /// As [`TransactionSender::send`], and [`ChainError::Inconsistent`] if the proxy is on another implementation than before the upgrade was
    /// planned, or not on the new one afterwards.
    pub async fn carry_out(
        &self,
        chain: &HostChain,
        implementation: Address,
        sender: &mut TransactionSender,
        observer: &mut Observer<'_>,
    ) -> Result<Upgraded, ChainError> {
        let proxy = self.contract.address(chain.addresses());
        expect_implementation(chain, proxy, self.from).await?;
        let nonce = sender.next_nonce().await?;
        let switch = Box::pin(sender.send(&self.switch(proxy, implementation), nonce, observer)).await?;
        expect_implementation(chain, proxy, implementation).await?;
        Ok(Upgraded { implementation, switch })
    }
}

/// Reads every word that a layout knows a place for. Members of mappings and lists have places that only their keys tell; the words that lead to
/// them are read.
///
/// # Errors
/// As all reads of a chain.
pub async fn stored_words(chain: &HostChain, contract: Address, layout: &StorageLayout) -> Result<Vec<(B256, B256)>, ChainError> {
    let mut slots: Vec<B256> = layout
        .namespaces
        .iter()
        .flat_map(|namespace| {
            let root = U256::from_be_bytes(namespace.slot.0);
            namespace.members.iter().flat_map(move |member| {
                let words = layout.types.get(&member.ty).map_or(1, |ty| ty.bytes.div_ceil(32).max(1));
                (0..words).map(move |word| B256::from(root.wrapping_add(U256::from(member.slot)).wrapping_add(U256::from(word))))
            })
        })
        .collect();
    slots.sort_unstable();
    slots.dedup();
    let mut words = Vec::with_capacity(slots.len());
    for slot in slots {
        words.push((slot, chain.storage(contract, slot).await?));
    }
    Ok(words)
}

/// Compares words with what is there now. What runs between, such as the HCU meter of a block in use, changes words too; a caller decides.
///
/// # Errors
/// As all reads of a chain.
pub async fn changed_words(chain: &HostChain, contract: Address, before: &[(B256, B256)]) -> Result<Vec<ChangedWord>, ChainError> {
    let mut changed = Vec::new();
    for (slot, before) in before {
        let after = chain.storage(contract, *slot).await?;
        if after != *before {
            changed.push(ChangedWord {
                slot: *slot,
                before: *before,
                after,
            });
        }
    }
    Ok(changed)
}

/// Returns the constructor's arguments of a contract, ABI-encoded: what follows the code in the data that create it.
#[must_use]
pub fn constructor_arguments(contract: HostContract, wiring: &Wiring) -> Bytes {
    let bytecode = match contract {
        HostContract::Acl => &ACL::BYTECODE,
        HostContract::FhevmExecutor => &FHEVMExecutor::BYTECODE,
        HostContract::KmsVerifier => &KMSVerifier::BYTECODE,
        HostContract::InputVerifier => match wiring.inputs {
            InputChecks::Coprocessors => &InputVerifier::BYTECODE,
            InputChecks::Validators => &NativeInputVerifier::BYTECODE,
        },
        HostContract::HcuLimit => &HCULimit::BYTECODE,
        HostContract::ProtocolConfig => &ProtocolConfig::BYTECODE,
        HostContract::PauserSet => &PauserSet::BYTECODE,
        HostContract::GatewayContract => &GatewayContract::BYTECODE,
        _ => return Bytes::new(),
    };
    let creation = contract.creation_code(wiring);
    creation.slice(bytecode.len().min(creation.len())..)
}

/// Decodes which implementation an upgrade's call names, for those who look at transactions before they sign.
#[must_use]
pub fn implementation_of_call(call: &Call) -> Option<Address> {
    ACL::upgradeToAndCallCall::abi_decode(&call.data)
        .ok()
        .map(|call| call.newImplementation)
}

async fn expect_implementation(chain: &HostChain, proxy: Address, expected: Address) -> Result<(), ChainError> {
    let found = proxy::implementation(chain, proxy).await?;
    if found == Some(expected) {
        return Ok(());
    }
    Err(ChainError::Inconsistent {
        what: "the implementation behind the proxy",
        expected: expected.to_string(),
        found: found.map_or_else(|| "none".to_owned(), |found| found.to_string()),
    })
}

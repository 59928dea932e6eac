//! Which contracts are upgraded to what, and whether what they have stored would still be read.

use alloy::primitives::Address;
use anyhow::{Context, Result, bail, ensure};
use cipherloom_chain::{survey::Survey, upgrade::Upgrade};
use cipherloom_contracts::{Face, StorageLayout};

use super::UpgradeOptions;
use crate::contracts::options::Deployed;

/// An upgrade that is to be made.
pub(super) struct Planned {
    /// What is done.
    pub(super) upgrade: Upgrade,
    /// Where the contract is.
    pub(super) proxy: Address,
    /// The layout of the code that is there.
    pub(super) present: Option<StorageLayout>,
}

/// Finds out what to upgrade, and refuses what would misread storage.
///
/// # Errors
/// If a layout is not known or does not fit, or a contract cannot be upgraded.
pub(super) fn plan(options: &UpgradeOptions, deployed: &Deployed, survey: &Survey, face: Face) -> Result<Vec<Planned>> {
    let wiring = survey.wiring(face);
    let own = options.replacement.read(&options.contracts, &wiring)?;
    let mut planned = Vec::new();
    for contract in &survey.contracts {
        let name = contract.contract;
        let is_named = options.contracts.contains(&name);
        if !name.is_upgradeable() {
            ensure!(
                !is_named,
                "the {name} has no proxy and cannot be upgraded, because a brake must not depend on an upgrade"
            );
            continue;
        }
        let is_wanted = is_named || options.contracts.is_empty();
        let is_there = own.is_none() && contract.is_of_this_build(&wiring);
        if !is_wanted || (is_there && !options.force) {
            continue;
        }
        let Some((from, _)) = contract.logic() else {
            bail!("the {name} has no implementation to upgrade from");
        };
        let upgrade = match &own {
            Some(own) => own.upgrade(name, from),
            None => Upgrade {
                migration: options.replacement.migration(),
                ..Upgrade::to_this_build(name, from, &wiring)
            },
        };
        let recorded = deployed.record.as_ref().and_then(|record| record.implementations.get(&name));
        // This build's code under another face has this build's layout; for anything else the file has to tell.
        let present = if Face::ALL.into_iter().any(|face| contract.is_of_this_build(&survey.wiring(face))) {
            Some(name.storage_layout_with(wiring.inputs))
        } else {
            recorded
                .filter(|recorded| Some(recorded.code_hash) == contract.code_hash())
                .and_then(|recorded| recorded.storage_layout.clone())
        };
        match (&present, &upgrade.layout) {
            (Some(present), Some(_)) => upgrade.check_layout(present).context("nothing is upgraded")?,
            _ if options.insecure_skip_storage_check => {}
            (None, _) => bail!(
                "how the present {name} lays out its storage is not known: name the deployment file that was written when it was deployed with \
                 --deployment, or take the risk with --insecure-skip-storage-check"
            ),
            (_, None) => bail!(
                "how the new {name} lays out its storage is not known: give it with --storage-layout, or take the risk with \
                 --insecure-skip-storage-check"
            ),
        }
        planned.push(Planned {
            upgrade,
            proxy: contract.address,
            present,
        });
    }
    for named in &options.contracts {
        let exists = survey.contracts.iter().any(|contract| contract.contract == *named);
        ensure!(exists, "this deployment has no {named}");
    }
    Ok(planned)
}

//! `cipherloom contracts upgrade`: another implementation behind proxies, with everything that is stored kept.

mod plan;
mod replacement;

use alloy::primitives::{Address, B256};
use anyhow::{Context, Result, ensure};
use cipherloom_chain::{
    HostChain, TransactionSender,
    administration::owner,
    deployment_run::note_implementations,
    manifest::{Deployment, UpgradeRecord},
    survey::Survey,
    upgrade::{Upgrade, changed_words, stored_words},
};
use cipherloom_contracts::{Face, HostContract};
use clap::Args;
use serde_json::{Value, json};

use self::plan::{Planned, plan};
use super::{
    keys::{self, KeyOptions},
    options::{Deployed, DeployedOptions, SendingOptions},
    reports::{self, Progress},
};

pub(crate) const HELP: &str = "\
Give contracts another implementation, and keep what they have stored.

Without names, every contract whose code differs from this build's is upgraded to this build's. The storage layout that the present code writes is compared with the new one's first, \
and an upgrade that would misread anything is refused. After each upgrade every stored word that the layout knows a place for is compared with before. \
The owner of the ACL has to sign; --print-calls prints what a multisignature wallet has to send.

With --artifact a contract gets an implementation of your own, compiled from a source that extends ours.";

/// The gas that a switch takes where the node cannot estimate it before the implementation is there: about twice what it uses.
const SWITCH_GAS: u64 = 100_000;

/// What to upgrade, and to what.
#[derive(Clone, Debug, Args)]
pub(crate) struct UpgradeOptions {
    /// The contracts, such as ACL or FHEVMExecutor [default: all whose code differs].
    #[arg(value_name = "CONTRACT", value_parser = str::parse::<HostContract>)]
    contracts: Vec<HostContract>,

    #[command(flatten)]
    deployed: DeployedOptions,

    #[command(flatten)]
    key: KeyOptions,

    #[command(flatten)]
    sending: SendingOptions,

    /// Have the contracts speak for another version of the protocol: 0.12 or 0.14 [default: as before].
    #[arg(long, value_name = "VERSION", value_parser = str::parse::<Face>)]
    face: Option<Face>,

    /// Upgrade contracts that have this build's code already.
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    replacement: replacement::ReplacementOptions,

    /// Upgrade although the storage layout of the present code, or of the new one, is not known. What is stored may be misread.
    #[arg(long)]
    insecure_skip_storage_check: bool,

    /// Print the owner's transactions as JSON instead of sending them. The implementations are created with the key; anybody may do that.
    #[arg(long)]
    print_calls: bool,

    /// Where implementations are that were created before, in the order of the contracts: with --print-calls nothing is sent then.
    #[arg(long, value_name = "ADDRESS", requires = "print_calls", hide_short_help = true)]
    implementation: Vec<Address>,
}

/// Upgrades, or says what upgrading would take.
///
/// # Errors
/// If the layouts do not fit, the key is not the owner's, or the chain fails. Contracts that are upgraded stay so.
pub(crate) async fn run(options: &UpgradeOptions) -> Result<()> {
    let mut deployed = options.deployed.find().await?;
    let survey = Survey::take(&deployed.chain).await?;
    ensure!(
        survey.state.is_some(),
        "the host contracts on chain {} are not complete; `cipherloom contracts status` shows what is there",
        survey.chain_id
    );
    let present_face = survey
        .face()
        .or(deployed.record.as_ref().map(|record| record.face))
        .unwrap_or_default();
    let face = options.face.unwrap_or(present_face);
    let planned = plan(options, &deployed, &survey, face)?;
    let progress = Progress::new(options.deployed.json);
    if planned.is_empty() {
        finish(options, &deployed, &[]);
        return Ok(());
    }
    let owner = owner(&deployed.chain).await?;
    if options.sending.dry_run {
        return dry_run(options, &deployed.chain, &planned, owner).await;
    }
    if options.print_calls && options.implementation.len() == planned.len() {
        let created: Vec<_> = planned.iter().zip(options.implementation.iter().copied()).collect();
        print_calls(&deployed, owner, &created);
        return Ok(());
    }
    let signer = options.key.signer(&deployed.environment, deployed.chain_id)?;
    if !options.print_calls {
        keys::require_account(&signer, owner, "the owner of the contracts")?;
    }
    let gas = estimate(&deployed.chain, &planned, owner).await?;
    let cost = options
        .sending
        .cost(&deployed.chain, signer.address(), gas.saturating_add(gas / 5))
        .await?;
    cost.require_funds(signer.address())?;
    let names: Vec<_> = planned.iter().map(|planned| planned.upgrade.contract.name()).collect();
    let question = format!("Upgrade {} on chain {}: {}?", names.join(", "), deployed.chain_id, cost.sentence());
    options.sending.confirm(deployed.chain_id, &question)?;
    progress.say(&format!("upgrading {} on chain {}", names.join(", "), deployed.chain_id));
    let mut sender = TransactionSender::new(&deployed.chain, signer, options.sending.on(deployed.chain_id)).await?;
    if options.print_calls {
        let mut created = Vec::new();
        for planned in &planned {
            created.push((planned, create(planned, &mut sender, &progress).await?));
        }
        print_calls(&deployed, owner, &created);
        return Ok(());
    }
    let mut reports = Vec::new();
    for (index, planned) in planned.iter().enumerate() {
        let position = format!("{}/{}", index + 1, names.len());
        let report = Box::pin(upgrade(&mut deployed, planned, &mut sender, &progress, &position)).await;
        reports.push(report.with_context(|| format!("{} is not upgraded", planned.upgrade.contract))?);
        // The next one is upgraded only if the file knows of this one.
        if let Some(record) = &mut deployed.record {
            record.face = face;
            note_implementations(&deployed.chain, record).await?;
            note_own_layouts(record, &planned.upgrade);
        }
        deployed.save()?;
    }
    finish(options, &deployed, &reports);
    Ok(())
}

/// Notes the layout of an implementation of the user's own, so that the next upgrade is checked against it.
fn note_own_layouts(record: &mut Deployment, upgrade: &Upgrade) {
    if let Some(implementation) = record.implementations.get_mut(&upgrade.contract)
        && implementation.storage_layout.is_none()
    {
        implementation.storage_layout.clone_from(&upgrade.layout);
    }
}

/// Estimates the gas of everything. The switch cannot be estimated by a node before the implementation is there, unless the node can pretend it is.
async fn estimate(chain: &HostChain, planned: &[Planned], owner: Address) -> Result<u64> {
    let mut gas: u64 = 0;
    for planned in planned {
        let creation = chain.gas_of(owner, &planned.upgrade.creation()).await;
        let creation = creation.with_context(|| format!("the new {} cannot be created", planned.upgrade.contract))?;
        gas = gas.saturating_add(creation).saturating_add(SWITCH_GAS);
    }
    Ok(gas)
}

async fn dry_run(options: &UpgradeOptions, chain: &HostChain, planned: &[Planned], owner: Address) -> Result<()> {
    let gas = estimate(chain, planned, owner).await?;
    let cost = options.sending.cost(chain, owner, gas.saturating_add(gas / 5)).await?;
    if options.deployed.json {
        let upgrades: Vec<Value> = planned
            .iter()
            .map(|planned| {
                json!({
                    "contract": planned.upgrade.contract.name(),
                    "from": reports::checksummed(planned.upgrade.from),
                    "storageChecked": planned.present.is_some() && planned.upgrade.layout.is_some(),
                })
            })
            .collect();
        let summary = json!({
            "dryRun": true,
            "owner": reports::checksummed(owner),
            "upgrades": upgrades,
            "gas": gas,
            "mostWei": cost.most().to_string(),
        });
        println!("{summary}");
        return Ok(());
    }
    println!("dry run: nothing is sent");
    for planned in planned {
        println!(
            "  upgrade the {:<16} from {}",
            planned.upgrade.contract.name(),
            planned.upgrade.from
        );
    }
    println!("the owner {owner} pays at most: {}", cost.sentence());
    Ok(())
}

async fn create(planned: &Planned, sender: &mut TransactionSender, progress: &Progress) -> Result<Address> {
    let mut observer = |event: cipherloom_chain::SendEvent<'_>| progress.transaction(event);
    let (implementation, included) = Box::pin(planned.upgrade.create(sender, &mut observer)).await?;
    progress.included("", &planned.upgrade.creation(), &included);
    Ok(implementation)
}

/// Upgrades one contract and compares what it has stored with before.
async fn upgrade(
    deployed: &mut Deployed,
    planned: &Planned,
    sender: &mut TransactionSender,
    progress: &Progress,
    position: &str,
) -> Result<Value> {
    let Planned { upgrade, proxy, present } = planned;
    let implementation = create(planned, sender, progress).await?;
    let before = match present {
        Some(layout) => stored_words(&deployed.chain, *proxy, layout).await?,
        None => Vec::new(),
    };
    let mut observer = |event: cipherloom_chain::SendEvent<'_>| progress.transaction(event);
    let upgraded = Box::pin(upgrade.carry_out(&deployed.chain, implementation, sender, &mut observer)).await?;
    Box::pin(sender.confirm(&mut observer)).await?;
    progress.included(position, &upgrade.switch(*proxy, implementation), &upgraded.switch);
    let changed = changed_words(&deployed.chain, *proxy, &before).await?;
    // A migration is there to change words; without one, only what runs meanwhile does.
    if upgrade.migration.is_empty() && !changed.is_empty() {
        let slots: Vec<String> = changed.iter().map(|word| word.slot.to_string()).collect();
        progress.say(&format!(
            "          stored words changed meanwhile, by use or by the upgrade: {}",
            slots.join(", ")
        ));
    } else {
        progress.say(&format!(
            "          {} stored words are as before",
            before.len().saturating_sub(changed.len())
        ));
    }
    if let Some(record) = &mut deployed.record {
        record.upgrades.push(UpgradeRecord {
            contract: upgrade.contract,
            from: upgrade.from,
            to: implementation,
            transaction: upgraded.switch.hash,
            block: upgraded.switch.block,
            software: Deployment::this_software(),
        });
    }
    let changed: Vec<B256> = changed.iter().map(|word| word.slot).collect();
    Ok(json!({
        "contract": upgrade.contract.name(),
        "from": reports::checksummed(upgrade.from),
        "to": reports::checksummed(implementation),
        "transaction": upgraded.switch.hash,
        "block": upgraded.switch.block,
        "gasUsed": upgraded.switch.gas_used,
        "storedWords": before.len(),
        "changedWords": changed,
    }))
}

fn print_calls(deployed: &Deployed, owner: Address, created: &[(&Planned, Address)]) {
    let calls: Vec<Value> = created
        .iter()
        .map(|(planned, implementation)| reports::call(&planned.upgrade.switch(planned.proxy, *implementation)))
        .collect();
    println!(
        "{}",
        json!({ "chainId": deployed.chain_id, "owner": reports::checksummed(owner), "calls": calls })
    );
}

fn finish(options: &UpgradeOptions, deployed: &Deployed, reports: &[Value]) {
    if options.deployed.json {
        println!(
            "{}",
            json!({ "chainId": deployed.chain_id, "upgraded": reports, "deploymentFile": deployed.file })
        );
        return;
    }
    if reports.is_empty() {
        println!("every contract has this build's code already; --force upgrades it all the same");
        return;
    }
    println!("upgraded {} on chain {}", reports.len(), deployed.chain_id);
    match &deployed.file {
        Some(file) => println!("written down in {}", file.display()),
        None => println!("there is no file about this deployment, so nothing is written down"),
    }
}

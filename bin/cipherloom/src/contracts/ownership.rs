//! `cipherloom contracts owner`: who administers the contracts. It changes in two steps, so that it cannot go to an account that nobody has.

use alloy::primitives::Address;
use anyhow::{Context, Result, ensure};
use cipherloom_chain::{
    administration::{accept_ownership, offer_ownership},
    survey::{StateSurvey, Survey},
};
use clap::Subcommand;

use super::{
    options::Deployed,
    transaction::{How, Transaction},
};

/// What to do with the ownership.
#[derive(Debug, Subcommand)]
pub(crate) enum OwnerCommand {
    /// Offer the ownership to another account, which has to accept it. The owner sends this.
    Offer {
        /// The new owner.
        #[arg(value_name = "ADDRESS")]
        account: Address,

        #[command(flatten)]
        how: How,
    },
    /// Accept the ownership that was offered. The new owner sends this.
    Accept {
        #[command(flatten)]
        how: How,
    },
}

/// Offers or accepts.
///
/// # Errors
/// If nothing was offered, the key is another account's, or the chain fails.
pub(crate) async fn run(command: &OwnerCommand) -> Result<()> {
    let (OwnerCommand::Offer { how, .. } | OwnerCommand::Accept { how }) = command;
    let mut deployed = how.deployed.find().await?;
    let state = state(&deployed).await?;
    let addresses = *deployed.chain.addresses();
    let (new_owner, transaction) = match command {
        OwnerCommand::Offer { account, .. } => {
            ensure!(*account != state.owner, "{account} is the owner already");
            let outcome = format!("the contracts are offered to {account}, which has to accept them");
            let call = offer_ownership(&addresses, *account);
            (*account, (call, state.owner, "the owner of the contracts", outcome))
        }
        OwnerCommand::Accept { .. } => {
            let account = state.pending_owner;
            ensure!(
                account != Address::ZERO,
                "the contracts are offered to nobody; their owner is {}",
                state.owner
            );
            let outcome = format!("{account} is the owner of the contracts");
            (
                account,
                (accept_ownership(&addresses), account, "whom the contracts are offered to", outcome),
            )
        }
    };
    let (call, account, role, outcome) = transaction;
    let transaction = Transaction {
        call,
        account,
        role,
        outcome: &outcome,
    };
    let Some(included) = Box::pin(transaction.carry_out(&deployed, how)).await? else {
        return Ok(());
    };
    if let Some(record) = &mut deployed.record {
        record.owner = new_owner;
        deployed.save()?;
    }
    transaction.report(&included, how.deployed.json);
    Ok(())
}

/// Reads what the contracts say.
///
/// # Errors
/// If they are not all there.
pub(crate) async fn state(deployed: &Deployed) -> Result<StateSurvey> {
    let survey = Survey::take(&deployed.chain).await?;
    let chain_id = survey.chain_id;
    survey.state.with_context(|| {
        format!("the host contracts on chain {chain_id} are not complete; `cipherloom contracts status` shows what is there")
    })
}

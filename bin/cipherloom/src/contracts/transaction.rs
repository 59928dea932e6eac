//! One transaction of one account: what it costs, whether it should be sent, and what became of it.

use alloy::primitives::Address;
use anyhow::{Context, Result};
use cipherloom_chain::{Call, Included, SendEvent, TransactionSender};
use clap::Args;
use serde_json::json;

use super::{
    keys::{self, KeyOptions},
    options::{Deployed, DeployedOptions, SendingOptions},
    reports::{self, Progress},
};

/// A transaction that one account alone can send.
pub(crate) struct Transaction<'a> {
    /// The transaction.
    pub(crate) call: Call,
    /// The account.
    pub(crate) account: Address,
    /// What the account is, for messages: "the owner of the contracts".
    pub(crate) role: &'static str,
    /// What there will be afterwards, in a sentence.
    pub(crate) outcome: &'a str,
}

/// How it is to be sent, from the command line.
#[derive(Clone, Debug, Args)]
pub(crate) struct How {
    #[command(flatten)]
    pub(crate) deployed: DeployedOptions,

    #[command(flatten)]
    key: KeyOptions,

    #[command(flatten)]
    sending: SendingOptions,

    /// Print the transaction as JSON, for an account that sends it by other means, and send nothing.
    #[arg(long)]
    print_calls: bool,
}

impl Transaction<'_> {
    /// Sends the transaction, or says what it would cost, or prints it; `None` if it was not sent.
    ///
    /// # Errors
    /// If the contracts refuse it, the key is another account's, or the chain fails.
    pub(crate) async fn carry_out(&self, deployed: &Deployed, how: &How) -> Result<Option<Included>> {
        let How {
            deployed: DeployedOptions { json, .. },
            key,
            sending: options,
            print_calls,
        } = how;
        let (chain, chain_id) = (&deployed.chain, deployed.chain_id);
        if *print_calls {
            let calls = [reports::call(&self.call)];
            println!(
                "{}",
                json!({ "chainId": chain_id, "owner": reports::checksummed(self.account), "calls": calls })
            );
            return Ok(None);
        }
        let gas = chain
            .gas_of(self.account, &self.call)
            .await
            .context("the contracts refuse this change")?;
        let cost = options.cost(chain, self.account, gas.saturating_add(gas / 5)).await?;
        if options.dry_run {
            if *json {
                let summary = json!({ "dryRun": true, "gas": gas, "mostWei": cost.most().to_string(), "call": reports::call(&self.call) });
                println!("{summary}");
            } else {
                println!("dry run: {}; {}", self.outcome, cost.sentence());
            }
            return Ok(None);
        }
        let signer = key.signer(&deployed.environment, chain_id)?;
        keys::require_account(&signer, self.account, self.role)?;
        cost.require_funds(self.account)?;
        let question = format!("On chain {chain_id}, {}: {}. Send it?", self.outcome, cost.sentence());
        options.confirm(chain_id, &question)?;
        let progress = Progress::new(*json);
        let mut sender = TransactionSender::new(chain, signer, options.on(chain_id)).await?;
        let nonce = sender.next_nonce().await?;
        let mut observer = |event: SendEvent<'_>| progress.transaction(event);
        let included = Box::pin(sender.send(&self.call, nonce, &mut observer)).await?;
        Box::pin(sender.confirm(&mut observer)).await?;
        progress.included("", &self.call, &included);
        Ok(Some(included))
    }

    /// Prints what there is now.
    pub(crate) fn report(&self, included: &Included, json: bool) {
        if json {
            println!(
                "{}",
                json!({ "transaction": included.hash, "block": included.block, "gasUsed": included.gas_used })
            );
        } else {
            println!("{}", self.outcome);
        }
    }
}

//! `cipherloom tenant set-limits`: how much of a deployment one tenant can take.

use std::num::NonZero;

use anyhow::Result;
use cipherloom_store::TenantLimits;
use clap::Args;

use super::{
    OneTenant,
    display::{self, add_field, describe},
    find,
};

/// Limits to set. What is not given stays as it is.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct LimitOptions {
    /// How many transactions the tenant may have waiting, or `none`. A request that would go above it is refused; what is there stays.
    #[arg(long, value_name = "N", value_parser = parse::<NonZero<u64>>)]
    max_pending_transactions: Option<Limit<NonZero<u64>>>,

    /// How many of its transactions are computed at the same time, in all processes together, or `none`.
    #[arg(long, value_name = "N", value_parser = parse::<NonZero<u32>>)]
    max_concurrent_transactions: Option<Limit<NonZero<u32>>>,
}

/// A limit or its absence.
#[derive(Clone, Copy, Debug)]
struct Limit<N>(Option<N>);

/// Options of `tenant set-limits`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SetLimitsOptions {
    #[command(flatten)]
    tenant: OneTenant,

    #[command(flatten)]
    limits: LimitOptions,
}

impl LimitOptions {
    /// Returns the limits after the change; nothing if there is none.
    pub(super) fn applied_to(self, limits: TenantLimits) -> Option<TenantLimits> {
        let changed = TenantLimits {
            max_pending_transactions: self
                .max_pending_transactions
                .map_or(limits.max_pending_transactions, |Limit(limit)| limit.map(NonZero::get)),
            max_concurrent_transactions: self
                .max_concurrent_transactions
                .map_or(limits.max_concurrent_transactions, |Limit(limit)| limit.map(NonZero::get)),
        };
        (self.max_pending_transactions.is_some() || self.max_concurrent_transactions.is_some()).then_some(changed)
    }
}

fn parse<N: std::str::FromStr>(text: &str) -> Result<Limit<N>, String> {
    match text {
        "none" => Ok(Limit(None)),
        _ => text
            .parse()
            .map(|number| Limit(Some(number)))
            .map_err(|_| "a limit is a number above zero, or `none`; `cipherloom tenant disable` refuses everything".to_owned()),
    }
}

/// Sets the limits and prints them.
///
/// # Errors
/// If there is no such tenant, no limit is given, or the database fails.
pub(super) async fn set(options: &SetLimitsOptions) -> Result<()> {
    let (tenants, mut tenant) = find(&options.tenant).await?;
    let Some(limits) = options.limits.applied_to(tenant.limits) else {
        anyhow::bail!("say which limit: --max-pending-transactions or --max-concurrent-transactions, each a number or `none`");
    };
    tenants.set_tenant_limits(tenant.id, limits).await?;
    tenant.limits = limits;
    if options.tenant.common.json {
        let mut description = describe(&tenant);
        add_field(&mut description, "limits", display::limits(&limits));
        println!("{description}");
        return Ok(());
    }
    println!(
        "tenant {}: pending at most {}, computed at the same time at most {}",
        tenant.name,
        display::limit(limits.max_pending_transactions),
        display::limit(limits.max_concurrent_transactions)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: LimitOptions = LimitOptions {
        max_pending_transactions: None,
        max_concurrent_transactions: None,
    };

    #[test]
    fn what_is_not_given_stays() {
        let before = TenantLimits {
            max_pending_transactions: Some(10),
            max_concurrent_transactions: Some(2),
        };
        assert!(NONE.applied_to(before).is_none());
        let change = LimitOptions {
            max_pending_transactions: Some(parse("none").unwrap()),
            ..NONE
        };
        let after = change.applied_to(before).unwrap();
        assert_eq!((after.max_pending_transactions, after.max_concurrent_transactions), (None, Some(2)));
    }

    #[test]
    fn a_limit_is_a_number_above_zero_or_none() {
        assert!(parse::<NonZero<u32>>("none").unwrap().0.is_none());
        assert_eq!(parse::<NonZero<u32>>("7").unwrap().0.map(NonZero::get), Some(7));
        for wrong in ["0", "-1", "many", "", "4294967296"] {
            assert!(parse::<NonZero<u32>>(wrong).unwrap_err().contains("disable"), "{wrong}");
        }
    }
}

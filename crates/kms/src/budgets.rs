//! How much is decrypted at most: what limits the damage of a stolen permit, a mad dApp, and a flaw that nobody has found.
//!
//! Every decrypted value is paid for out of three budgets: that of its **handle**, that of its **requester** (the account that signed the permit; everybody together for values that were made public),
//! and that of the **key set**. A budget is a bucket that holds so many values and fills up evenly again. One that is used up refuses the whole request, says when to come back, and raises an alarm; so does the key set's when little is left.
//!
//! Rights come first: a request pays only after the chain has allowed it, so nobody can use up the budget of somebody else's handle without being allowed to read it. Handles that were made public anybody may read, so anybody can use
//! up *their* budget; it fills up again by the second, and identical requests that come within minutes are paid for once.
//!
//! **Restart.** Budgets are in memory and full after a restart. The audit log is the durable count.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    str::FromStr,
    sync::{Mutex, PoisonError},
};

use cipherloom_primitives::{Address, Handle};

/// The most accounts or handles with a budget of their own that is not full. Above that, others are refused: it takes far more than a key set's budget to get there.
const MAX_BUCKETS: usize = 1 << 17;

/// How many values per time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many values can be decrypted at once, and within `seconds`.
    pub values: u32,
    /// How long an empty budget takes to be full again, in seconds; 0 means at once, which is no limit over time.
    pub seconds: u32,
}

/// `VALUES/SECONDS`, such as `10000/3600`.
impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let (values, seconds) = text.split_once('/').ok_or(RateError)?;
        let number = |digits: &str| digits.parse().ok().filter(|number| *number > 0).ok_or(RateError);
        Ok(Self {
            values: number(values)?,
            seconds: number(seconds)?,
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.values, self.seconds)
    }
}

/// A text that is no [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a budget is VALUES/SECONDS, two numbers above zero, such as 10000/3600")]
pub struct RateError;

/// The budgets of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetLimits {
    /// For each handle.
    pub handle: Rate,
    /// For each account that asks for a user decryption.
    pub requester: Rate,
    /// For everybody together who asks for public decryptions.
    pub public: Rate,
    /// For everything under the key set, of all chains.
    pub key_set: Rate,
    /// An alarm is raised when less than this much of the key set's budget is left, in percent.
    pub alarm_percent: u8,
}

impl Default for BudgetLimits {
    fn default() -> Self {
        let hourly = |values| Rate { values, seconds: 3600 };
        Self {
            handle: hourly(10_000),
            requester: hourly(20_000),
            public: hourly(500_000),
            key_set: hourly(1_000_000),
            alarm_percent: 20,
        }
    }
}

/// Whose budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BudgetOf {
    /// One value's.
    Handle(Handle),
    /// An account's.
    Requester(Address),
    /// That of public decryptions.
    Public,
    /// That of the key set.
    KeySet,
    /// There are more budgets to keep than there is room for.
    Bookkeeping,
}

impl fmt::Display for BudgetOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handle(handle) => write!(f, "handle {handle}"),
            Self::Requester(account) => write!(f, "account {account}"),
            Self::Public => f.write_str("public decryptions"),
            Self::KeySet => f.write_str("the key set"),
            Self::Bookkeeping => f.write_str("bookkeeping"),
        }
    }
}

/// A budget that does not cover a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the decryption budget of {of} is used up; try again in {retry_after_seconds} seconds")]
pub struct BudgetExhausted {
    /// Whose.
    pub of: BudgetOf,
    /// When it covers the same request, in seconds.
    pub retry_after_seconds: u64,
}

/// The budgets of a key set. Processes that answer for several chains share one.
#[derive(Debug)]
pub struct Budgets {
    limits: BudgetLimits,
    buckets: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    handles: HashMap<Handle, Bucket>,
    requesters: HashMap<Address, Bucket>,
    public: Bucket,
    key_set: Bucket,
}

/// What was used up, in values times the seconds of its rate, and when that was computed.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    used: u64,
    at: u64,
}

impl Bucket {
    /// Returns what is used up at a time, after what has filled up again since.
    fn used(self, rate: Rate, now: u64) -> u64 {
        // A clock that goes back fills nothing up.
        let elapsed = now.saturating_sub(self.at);
        self.used.saturating_sub(elapsed.saturating_mul(rate.values.into()))
    }

    /// Returns how long the bucket takes until it covers `values`, in seconds; nothing if it does now.
    fn wait(self, rate: Rate, values: u64, now: u64) -> Option<u64> {
        let capacity = u64::from(rate.values).saturating_mul(rate.seconds.into());
        let wanted = self.used(rate, now).saturating_add(values.saturating_mul(rate.seconds.into()));
        let missing = wanted.saturating_sub(capacity);
        if missing == 0 && values <= u64::from(rate.values) {
            return None;
        }
        // A request above the size of the bucket is never covered; it may come back when the bucket is full, in smaller parts.
        Some(
            missing
                .checked_div(rate.values.into())
                .map_or(u64::from(u32::MAX), |wait| wait.saturating_add(1)),
        )
    }

    fn pay(self, rate: Rate, values: u64, now: u64) -> Self {
        Self {
            used: self.used(rate, now).saturating_add(values.saturating_mul(rate.seconds.into())),
            at: now.max(self.at),
        }
    }
}

impl Budgets {
    /// Makes full budgets.
    #[must_use]
    pub fn new(limits: BudgetLimits) -> Self {
        Self {
            limits,
            buckets: Mutex::new(Buckets {
                handles: HashMap::new(),
                requesters: HashMap::new(),
                public: Bucket::default(),
                key_set: Bucket::default(),
            }),
        }
    }

    /// Returns how much of the key set's budget is left at a time, in percent.
    #[must_use]
    pub fn key_set_left_percent(&self, now: u64) -> u64 {
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        left_percent(buckets.key_set, self.limits.key_set, now)
    }

    /// Says whether a request is covered, and takes nothing. `requester` is nobody for public decryptions.
    ///
    /// # Errors
    /// [`BudgetExhausted`] names the first budget that does not cover it.
    pub fn covers(&self, requester: Option<Address>, handles: &[Handle], now: u64) -> Result<(), BudgetExhausted> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        self.check(&mut buckets, requester, &counts(handles), now)
    }

    /// Pays for a request out of all its budgets, or out of none. Returns how much of the key set's budget is left, in percent, if that is alarmingly little.
    ///
    /// # Errors
    /// [`BudgetExhausted`] names the first budget that does not cover it.
    pub fn pay(&self, requester: Option<Address>, handles: &[Handle], now: u64) -> Result<Option<u64>, BudgetExhausted> {
        let counts = counts(handles);
        let mut guard = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        self.check(&mut guard, requester, &counts, now)?;
        let (limits, buckets) = (self.limits, &mut *guard);
        let total = handles.len() as u64;
        for (handle, count) in counts {
            let bucket = buckets.handles.entry(handle).or_default();
            *bucket = bucket.pay(limits.handle, count, now);
        }
        match requester {
            Some(account) => {
                let bucket = buckets.requesters.entry(account).or_default();
                *bucket = bucket.pay(limits.requester, total, now);
            }
            None => buckets.public = buckets.public.pay(limits.public, total, now),
        }
        buckets.key_set = buckets.key_set.pay(limits.key_set, total, now);
        let left = left_percent(buckets.key_set, limits.key_set, now);
        Ok((left < limits.alarm_percent.into()).then_some(left))
    }

    fn check(
        &self,
        buckets: &mut Buckets,
        requester: Option<Address>,
        counts: &HashMap<Handle, u64>,
        now: u64,
    ) -> Result<(), BudgetExhausted> {
        let limits = self.limits;
        let total = counts.values().sum();
        let refuse = |of, wait: Option<u64>| match wait {
            None => Ok(()),
            Some(retry_after_seconds) => Err(BudgetExhausted { of, retry_after_seconds }),
        };
        refuse(BudgetOf::KeySet, buckets.key_set.wait(limits.key_set, total, now))?;
        match requester {
            Some(account) => {
                let bucket = buckets.requesters.get(&account).copied().unwrap_or_default();
                refuse(BudgetOf::Requester(account), bucket.wait(limits.requester, total, now))?;
            }
            None => refuse(BudgetOf::Public, buckets.public.wait(limits.public, total, now))?,
        }
        for (handle, count) in counts {
            let bucket = buckets.handles.get(handle).copied().unwrap_or_default();
            refuse(BudgetOf::Handle(*handle), bucket.wait(limits.handle, *count, now))?;
        }
        let room = make_room(&mut buckets.handles, counts.len(), limits.handle, now)
            && make_room(&mut buckets.requesters, 1, limits.requester, now);
        refuse(BudgetOf::Bookkeeping, (!room).then_some(60))
    }
}

/// How often each handle is asked for.
fn counts(handles: &[Handle]) -> HashMap<Handle, u64> {
    let mut counts = HashMap::new();
    for handle in handles {
        *counts.entry(*handle).or_insert(0) += 1;
    }
    counts
}

/// Forgets buckets that are full again if there is no room for `more`. Says whether there is room then.
fn make_room<K: Eq + Hash>(buckets: &mut HashMap<K, Bucket>, more: usize, rate: Rate, now: u64) -> bool {
    if buckets.len() + more > MAX_BUCKETS {
        buckets.retain(|_, bucket| bucket.used(rate, now) > 0);
    }
    buckets.len() + more <= MAX_BUCKETS
}

fn left_percent(bucket: Bucket, rate: Rate, now: u64) -> u64 {
    let capacity = u64::from(rate.values).saturating_mul(rate.seconds.into());
    let left = capacity.saturating_sub(bucket.used(rate, now));
    left.saturating_mul(100).checked_div(capacity).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use cipherloom_primitives::{B256, FheType};

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn handle(tag: u8) -> Handle {
        Handle::computed(B256::repeat_byte(tag), 31337, FheType::Uint64)
    }

    fn of(result: Result<Option<u64>, BudgetExhausted>) -> Option<BudgetOf> {
        result.err().map(|exhausted| exhausted.of)
    }

    fn budgets(change: impl FnOnce(&mut BudgetLimits)) -> Budgets {
        let mut limits = BudgetLimits::default();
        change(&mut limits);
        Budgets::new(limits)
    }

    #[test]
    fn a_budget_is_used_up_and_fills_up_evenly() {
        let budgets = budgets(|limits| limits.handle = Rate { values: 3, seconds: 30 });
        let everybody = None;
        for _ in 0..3 {
            assert_eq!(of(budgets.pay(everybody, &[handle(1)], NOW)), None);
        }
        let refused = budgets.pay(everybody, &[handle(1)], NOW).unwrap_err();
        assert_eq!(refused.of, BudgetOf::Handle(handle(1)));
        assert!((10..=11).contains(&refused.retry_after_seconds), "{refused}");
        assert_eq!(of(budgets.pay(everybody, &[handle(2)], NOW)), None, "another handle has its own");
        assert!(budgets.covers(everybody, &[handle(1)], NOW + 9).is_err());
        assert_eq!(of(budgets.pay(everybody, &[handle(1)], NOW + 10)), None);
        assert!(budgets.covers(everybody, &[handle(1)], NOW + 10).is_err());
        assert!(
            budgets.covers(everybody, &[handle(1)], NOW).is_err(),
            "a clock that goes back gives nothing"
        );
    }

    #[test]
    fn asking_takes_nothing_and_a_refused_request_pays_nothing() {
        let budgets = budgets(|limits| limits.handle = Rate { values: 1, seconds: 60 });
        for _ in 0..5 {
            assert_eq!(budgets.covers(None, &[handle(1)], NOW), Ok(()));
        }
        assert_eq!(
            of(budgets.pay(None, &[handle(1), handle(2), handle(2)], NOW)),
            Some(BudgetOf::Handle(handle(2)))
        );
        assert_eq!(of(budgets.pay(None, &[handle(1), handle(2)], NOW)), None);
    }

    #[test]
    fn accounts_public_decryptions_and_the_key_set_have_budgets() {
        let four = [handle(1), handle(2), handle(3), handle(4)];
        let budgets = budgets(|limits| {
            limits.requester = Rate { values: 5, seconds: 60 };
            limits.public = Rate { values: 4, seconds: 60 };
            limits.key_set = Rate { values: 10, seconds: 60 };
        });
        let (alice, bob) = (Address::repeat_byte(1), Address::repeat_byte(2));
        assert_eq!(budgets.pay(Some(alice), &four, NOW), Ok(None));
        assert_eq!(of(budgets.pay(Some(alice), &four, NOW)), Some(BudgetOf::Requester(alice)));
        assert_eq!(budgets.pay(None, &four, NOW), Ok(None));
        assert_eq!(of(budgets.pay(None, &four, NOW)), Some(BudgetOf::KeySet));
        assert_eq!(of(budgets.pay(None, &[handle(1)], NOW)), Some(BudgetOf::Public));
        assert_eq!(of(budgets.pay(Some(bob), &four, NOW)), Some(BudgetOf::KeySet));
        assert_eq!(budgets.pay(Some(bob), &[handle(1)], NOW), Ok(Some(10)), "little is left: an alarm");
        assert_eq!(budgets.key_set_left_percent(NOW + 60), 100);
    }

    #[test]
    fn rates_are_written_as_values_per_seconds() {
        let rate: Rate = "10000/3600".parse().unwrap();
        assert_eq!((rate, rate.to_string().as_str()), (BudgetLimits::default().handle, "10000/3600"));
        for wrong in ["", "5", "/", "5/", "/5", "0/5", "5/0", "-1/5", "1.5/2", "1/2/3", "99999999999/1"] {
            assert_eq!(wrong.parse::<Rate>(), Err(RateError), "{wrong}");
        }
    }

    #[test]
    fn a_request_above_the_size_of_a_budget_is_refused_without_panicking() {
        let budgets = budgets(|limits| limits.handle = Rate { values: 0, seconds: 0 });
        assert_eq!(of(budgets.pay(None, &[handle(1)], NOW)), Some(BudgetOf::Handle(handle(1))));
        let endless = Budgets::new(BudgetLimits {
            handle: Rate {
                values: u32::MAX,
                seconds: u32::MAX,
            },
            ..BudgetLimits::default()
        });
        assert_eq!(of(endless.pay(None, &[handle(1)], u64::MAX)), None);
    }
}

//! What people have to look at: signs of an attack, a fault, or a committee that falls apart.
//!
//! A refusal is the requester's business and an ordinary thing. An *alarm* is the operator's: it means that something outside of this node is not as it should be, although the
//! node refused and nothing leaked. Where alarms go is the process's choice; without one they are log lines.

use std::fmt;

use cipherloom_primitives::{B256, Handle};

use crate::budgets::BudgetOf;

/// Where alarms go.
pub trait Alarms: Send + Sync {
    /// Takes an alarm. Called while a request is answered: it must not block.
    fn raise(&self, alarm: &Alarm);
}

/// What is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Alarm {
    /// A budget is used up and requests are refused: somebody decrypts far more than expected.
    BudgetExhausted(BudgetOf),
    /// The budget of the whole key set is nearly used up.
    BudgetRunningOut {
        /// How much of it is left, in percent.
        left_percent: u64,
    },
    /// A ciphertext is not what enough registered coprocessors vouch for: their storage or the way to it was tampered with. Of a native chain: what is proven to stand in its state is no ciphertext.
    UntrustedCiphertext {
        /// Its handle.
        handle: Handle,
        /// What is wrong with it.
        reason: String,
    },
    /// A party of the committee signed shares that are wrong.
    WrongShares {
        /// The number of the party.
        party: u32,
        /// What it did.
        what: &'static str,
    },
    /// The others' shares agree on values that this node's own share contradicts.
    OwnShareWrong,
    /// The parties' shares agree on something that no honest encryption decrypts to: a ciphertext is damaged or forged.
    NotAPlaintext {
        /// Its handle.
        handle: Handle,
    },
    /// The keys that the node squashes ciphertexts of native chains with are not those that its committee's record names, or cannot be read.
    SquashingKeys {
        /// What is wrong with them.
        reason: String,
    },
    /// The node holds shares of epochs that the chain does not have, or has destroyed, and answers nothing with them.
    EpochNotServed {
        /// The KMS context.
        context: B256,
        /// The epoch.
        epoch: B256,
    },
}

impl Alarm {
    /// The names of all kinds of alarms, for metrics.
    pub const NAMES: [&'static str; 8] = [
        "budget_exhausted",
        "budget_running_out",
        "untrusted_ciphertext",
        "wrong_shares",
        "own_share_wrong",
        "not_a_plaintext",
        "squashing_keys",
        "epoch_not_served",
    ];

    /// Returns the kind of the alarm, for metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        let [exhausted, running_out, untrusted, wrong, own, no_plaintext, keys, epoch] = Self::NAMES;
        match self {
            Self::BudgetExhausted(_) => exhausted,
            Self::BudgetRunningOut { .. } => running_out,
            Self::UntrustedCiphertext { .. } => untrusted,
            Self::WrongShares { .. } => wrong,
            Self::OwnShareWrong => own,
            Self::NotAPlaintext { .. } => no_plaintext,
            Self::SquashingKeys { .. } => keys,
            Self::EpochNotServed { .. } => epoch,
        }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BudgetExhausted(of) => write!(f, "the budget of {of} is used up; requests are refused"),
            Self::BudgetRunningOut { left_percent } => write!(f, "{left_percent} percent of the key set's budget are left"),
            Self::UntrustedCiphertext { handle, reason } => {
                write!(f, "the ciphertext of handle {handle} is not trusted: {reason}")
            }
            Self::WrongShares { party, what } => write!(f, "party {party} {what}"),
            Self::OwnShareWrong => f.write_str("the other parties' shares agree on values that this node's own share contradicts"),
            Self::NotAPlaintext { handle } => {
                write!(
                    f,
                    "the shares of handle {handle} agree on something that is no plaintext; its ciphertext is damaged or forged"
                )
            }
            Self::SquashingKeys { reason } => write!(f, "the keys of noise squashing cannot be used: {reason}"),
            Self::EpochNotServed { context, epoch } => {
                write!(
                    f,
                    "the chain knows no epoch {epoch} of KMS context {context}, which this node holds a share of"
                )
            }
        }
    }
}

/// Writes alarms to the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogAlarms;

impl Alarms for LogAlarms {
    fn raise(&self, alarm: &Alarm) {
        tracing::error!(kind = alarm.name(), "{alarm}");
    }
}

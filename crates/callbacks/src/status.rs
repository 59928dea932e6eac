//! How a relay is, for operators.

use alloy::primitives::U256;

/// What keeps a relay from its work, the most urgent first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Condition {
    /// It has not looked yet.
    #[default]
    Starting,
    /// Another process serves the contract; this one takes over when that is gone.
    StandingBy,
    /// The chain or the store cannot be used now.
    Unreachable,
    /// There is no gateway contract at the address, or the chain is still too short.
    NoContract,
    /// The gateway contract does not know the account as a relayer.
    NotARelayer,
    /// The account has less than the least balance: nothing is sent until it has more.
    InsufficientBalance,
    /// Gas costs more than allowed: what is to be sent waits.
    FeesAboveLimit,
    /// Everything is sent, and the account should get more soon.
    LowBalance,
    /// Everything is as it should be.
    Well,
}

impl Condition {
    /// All conditions.
    pub const ALL: [Self; 9] = [
        Self::Starting,
        Self::StandingBy,
        Self::Unreachable,
        Self::NoContract,
        Self::NotARelayer,
        Self::InsufficientBalance,
        Self::FeesAboveLimit,
        Self::LowBalance,
        Self::Well,
    ];

    /// Returns its name, as metrics and the command line have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::StandingBy => "standing_by",
            Self::Unreachable => "unreachable",
            Self::NoContract => "no_contract",
            Self::NotARelayer => "not_a_relayer",
            Self::InsufficientBalance => "insufficient_balance",
            Self::FeesAboveLimit => "fees_above_limit",
            Self::LowBalance => "low_balance",
            Self::Well => "well",
        }
    }

    /// Says whether transactions are sent.
    #[must_use]
    pub const fn sends(self) -> bool {
        matches!(self, Self::LowBalance | Self::Well)
    }
}

/// How a relay is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayStatus {
    /// What keeps it from its work, if anything does.
    pub condition: Condition,
    /// What the account has, in wei.
    pub balance: U256,
    /// The chain's newest block.
    pub head: u64,
    /// The last block that was read.
    pub read_to: u64,
    /// How many transactions are out.
    pub in_flight: u64,
}

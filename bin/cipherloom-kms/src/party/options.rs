//! What a party of a committee can be told.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use cipherloom_kms::{BudgetLimits, Rate, SquashingLimits};
use clap::{Args, value_parser};

/// Where these options stand in help texts.
pub const HEADING: &str = "As a party of a committee";

/// Options of a node that is one party of a committee.
#[derive(Clone, Args)]
pub struct PartyOptions {
    /// Be one party of a committee, and keep in this directory what is sealed to the hardware: the signing key, made at the first start, and shares of
    /// the secret key
    #[arg(long, value_name = "DIR", help_heading = HEADING)]
    pub party_dir: Option<PathBuf>,

    /// Where anybody may check the node: /attestation, /manifest, /status and /audit/head. Port 0 picks a free one, which is printed
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50062", help_heading = HEADING)]
    pub public_addr: SocketAddr,

    /// The policy: which software on which hardware is believed, a JSON file that all parties agree on
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub policy: Option<PathBuf>,

    /// The manufacturer's statements about platforms, *.json in a directory. They are read again every few minutes
    #[arg(long, value_name = "DIR", help_heading = HEADING)]
    pub collateral: Option<PathBuf>,

    /// The socket of dstack's guest agent [default: where releases of dstack put it]
    #[arg(long, value_name = "SOCKET", help_heading = HEADING)]
    pub dstack_socket: Option<PathBuf>,

    /// The public half of the key that backups of the share are sealed to, as `cipherloom kms recovery-key` makes it [default: no backups]
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub recovery_key: Option<PathBuf>,

    /// INSECURE: prove nothing, and believe others who prove nothing; only on chains for development, and in builds for it
    #[arg(long, help_heading = HEADING)]
    pub insecure_simulated_attestation: bool,

    /// How many values of one handle are decrypted at most: VALUES/SECONDS
    #[arg(long, value_name = "RATE", default_value_t = BudgetLimits::default().handle, help_heading = HEADING)]
    pub handle_budget: Rate,

    /// How many values are decrypted at most for one account
    #[arg(long, value_name = "RATE", default_value_t = BudgetLimits::default().requester, help_heading = HEADING)]
    pub requester_budget: Rate,

    /// How many values that were made public are decrypted at most, for everybody together
    #[arg(long, value_name = "RATE", default_value_t = BudgetLimits::default().public, help_heading = HEADING)]
    pub public_budget: Rate,

    /// How many values are decrypted at most under the key set
    #[arg(long, value_name = "RATE", default_value_t = BudgetLimits::default().key_set, help_heading = HEADING)]
    pub key_set_budget: Rate,

    /// Raise an alarm when less than this much of the key set's budget is left
    #[arg(long, value_name = "PERCENT", default_value_t = BudgetLimits::default().alarm_percent, value_parser = value_parser!(u8).range(0..=100), help_heading = HEADING)]
    pub budget_alarm_percent: u8,

    /// How many connections of other machines may be in the handshake at a time; more are closed
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = value_parser!(u16).range(1..=4096), help_heading = HEADING)]
    pub maximum_handshakes: u16,

    /// How many batches of values of native chains are squashed at a time; each keeps up to three threads busy
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u16).range(1..=256), help_heading = HEADING)]
    pub concurrent_squashings: u16,

    /// How many values of native chains may wait to be squashed or be squashed at a time; more are refused. One account has a quarter of these places
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = value_parser!(u16).range(1..=8192), help_heading = HEADING)]
    pub maximum_squashings: u16,

    /// How much memory squashed values of native chains may keep; each has 98 KB
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = value_parser!(u16).range(1..), help_heading = HEADING)]
    pub squashed_memory_mib: u16,

    /// After how long without use the keys of noise squashing are let go, which are two gigabytes
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = value_parser!(u32).range(1..=604_800), help_heading = HEADING)]
    pub release_squashing_keys_after_seconds: u32,
}

impl PartyOptions {
    /// Tells how much is decrypted at most.
    pub(super) const fn budgets(&self) -> BudgetLimits {
        BudgetLimits {
            handle: self.handle_budget,
            requester: self.requester_budget,
            public: self.public_budget,
            key_set: self.key_set_budget,
            alarm_percent: self.budget_alarm_percent,
        }
    }
    /// Tells how much squashing may take.
    pub(super) fn squashing(&self) -> SquashingLimits {
        SquashingLimits {
            concurrent: self.concurrent_squashings.into(),
            waiting: self.maximum_squashings.into(),
            memory_bytes: usize::from(self.squashed_memory_mib) << 20,
            release_keys_after: Duration::from_secs(self.release_squashing_keys_after_seconds.into()),
            ..SquashingLimits::default()
        }
    }
}

//! The policies and their names.

use std::{fmt, str::FromStr};

use crate::error::EngineError;

/// How tasks are ordered. The names are those of the environment variable `FHEVM_DF_SCHEDULE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// `BATCHED`: batches as large as the machine likes, from all programs, those tasks first on which the longest chains wait. Later
    /// programs of a group yield to earlier ones of it by the time those take, so that new ones never hold up old ones. Groups share the workers evenly.
    #[default]
    Batched,
    /// `LOOP`: one task after the other, program by program, in the order of their operations. One thread works.
    Loop,
    /// `FINE_GRAIN`: every thread one task at a time, in the order in which they become ready.
    FineGrain,
    /// `MAX_PARALLELISM`: everything that is ready at once, divided among the threads.
    MaxParallelism,
    /// `MAX_LOCALITY`: each thread stays with one program, and does what became ready last first, so that results are used while they are in its cache.
    MaxLocality,
}

impl Policy {
    /// All policies.
    pub const ALL: [Self; 5] = [Self::Batched, Self::Loop, Self::FineGrain, Self::MaxParallelism, Self::MaxLocality];

    /// Returns the name in the environment variable.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Batched => "BATCHED",
            Self::Loop => "LOOP",
            Self::FineGrain => "FINE_GRAIN",
            Self::MaxParallelism => "MAX_PARALLELISM",
            Self::MaxLocality => "MAX_LOCALITY",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Policy {
    type Err = EngineError;

    fn from_str(name: &str) -> Result<Self, EngineError> {
        let known = Self::ALL.into_iter().find(|policy| policy.name() == name);
        known.ok_or_else(|| EngineError::UnknownPolicy(name.to_owned()))
    }
}

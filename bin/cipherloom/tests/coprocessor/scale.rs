//! How much the tests do.

use std::time::Duration;

/// The variable that asks for full scale.
const VARIABLE: &str = "CIPHERLOOM_E2E";

/// Says whether everything is to be done at full scale.
pub(crate) fn is_full() -> bool {
    std::env::var(VARIABLE).is_ok_and(|value| value == "full")
}

/// Picks a number by scale.
pub(crate) fn of<T>(full: T, reduced: T) -> T {
    if is_full() { full } else { reduced }
}

/// Returns the seed of a test's traffic: printed, so that a failure can be repeated, and taken from the environment if it is there.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("CIPHERLOOM_E2E_SEED").ok().and_then(|text| text.parse().ok());
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let seed = given.unwrap_or_else(|| u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap_or_default());
    eprintln!("traffic of seed {seed}; CIPHERLOOM_E2E_SEED={seed} repeats it");
    seed
}

/// How long nothing may move before something must be wrong.
pub(crate) const STALL: Duration = Duration::from_secs(120);

/// How long a client asks again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Reports a figure, for `cargo xtask e2e coprocessor` to put into its table.
#[expect(clippy::print_stdout, reason = "the table is made of what tests print")]
pub(crate) fn report(bar: &str, value: &str) {
    println!("E2E {bar}: {value}");
}

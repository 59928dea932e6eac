//! All parts of a deployment as processes of their own, killed at random instants, on production parameters.

use anyhow::Result;

use crate::{
    anvil,
    bars::{self, Scale},
    e2e_chain::test_command,
};

/// Runs the tests of the processes and prints what they report.
///
/// # Errors
/// If anvil cannot be had, something does not build, or a test fails.
pub(crate) fn run(scale: Scale) -> Result<()> {
    let (mut command, shown) = test_command("cipherloom", "processes", &[]);
    anvil::provide(&mut command)?;
    scale.tell(&mut command);
    bars::print(bars::test(
        "parts as processes: every accepted request is answered",
        &shown,
        command,
    )?)
}

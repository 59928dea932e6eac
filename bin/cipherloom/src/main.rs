//! `cipherloom`: one binary for every role, and a complete local stack.

use std::process::ExitCode;

fn main() -> ExitCode {
    cipherloom::cipherloom()
}

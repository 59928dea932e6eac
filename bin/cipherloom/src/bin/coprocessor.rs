//! `coprocessor`: the command `cipherloom coprocessor` under the name that scripts of the 0.6 generation call.

use std::process::ExitCode;

fn main() -> ExitCode {
    cipherloom::coprocessor()
}

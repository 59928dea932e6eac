//! `cipherloom-kms`: a node of the key-management system, and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    cipherloom_kms_node::cipherloom_kms()
}

//! `cipherloom kms`: its nodes as processes, and what anybody can find out about them.

use clap::Subcommand;

use crate::{committee_admin::AdminCommand, committee_audit::AuditCommand};

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum KmsCommand {
    #[command(flatten)]
    Process(cipherloom_kms_node::KmsCommand),
    #[command(flatten)]
    Audit(AuditCommand),
    #[command(flatten)]
    Admin(AdminCommand),
}

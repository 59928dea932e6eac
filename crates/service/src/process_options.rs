//! Options that every long-running process has.

use clap::{Args, value_parser};

/// How a process starts, and what it does instead of serving.
#[derive(Clone, Debug, Args)]
pub struct ProcessOptions {
    /// How long what the process needs may take to answer at the start until it gives up
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = value_parser!(u32).range(0..=86_400))]
    pub startup_patience_seconds: u32,

    /// Threads for connections
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u16).range(1..=1024))]
    pub tokio_threads: u16,

    /// Print the options in effect as a config file, with where each comes from, and exit
    #[arg(long)]
    pub print_config: bool,

    /// Look at everything the process needs, say what to do about each finding, and exit: 0 if all is well, 1 for warnings, 2 if it could not serve
    #[arg(long)]
    pub check: bool,

    /// Print one JSON object with the addresses once everything runs, instead of sentences
    #[arg(long)]
    pub json: bool,
}

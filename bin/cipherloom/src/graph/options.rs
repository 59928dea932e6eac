//! The command line of `cipherloom graph`.

use std::path::PathBuf;

use cipherloom_engine::explain;
use clap::{ArgGroup, Args, Subcommand, ValueEnum};

/// What to do with graphs.
#[derive(Debug, Subcommand)]
pub(crate) enum GraphCommand {
    /// Explain a transaction: operations, rules applied, bootstraps and depth before and after, estimated time.
    #[command(long_about = EXPLAIN_HELP)]
    Explain(ExplainOptions),
    /// Measure what each rewriting rule saves on the transactions of real contracts.
    #[command(long_about = STATISTICS_HELP)]
    Statistics(StatisticsOptions),
}

const EXPLAIN_HELP: &str = "\
Explain a transaction: operations, rules applied, bootstraps and depth before and after, estimated time.

Reads the transaction's events from a node, `cipherloom dev` by default, and shows what the engine compiles them to. Time on the CPU is the number of bootstraps. \
--stage prints a stage in full instead of the summary; --svg and --dot draw the operations.

Without a node at hand, --file reads a recorded transaction: a JSON object with `computations` (operations, inputs and results) and `outputs` (the handles that leave the \
transaction), which --save writes.

  cipherloom graph explain 0x… --svg transfer.svg
  cipherloom graph explain 0x… --save transfer.json
  cipherloom graph explain --file transfer.json --stage program
  cipherloom graph explain --file transfer.json --without one-comparison

Estimates of time use documented figures of one machine, unless --data-dir names the directory of `dev` or `demo` (or of a key set): then bootstraps are \
measured here, with its keys, in some seconds.";

const STATISTICS_HELP: &str = "\
Measure what each rewriting rule saves on the transactions of real contracts.

Deploys the example contracts (token, auction, vote) on an embedded chain, sends the transactions that users of such contracts send, and compiles what they ask for: \
without any rule, with all rules, and without each rule alone. Nothing is encrypted for this; it takes a second. `cargo xtask rule-statistics` adds the published \
ERC-7984 token, for which it needs Node.js.";

/// Options of `graph explain`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).args(["transaction", "file"]))]
pub(crate) struct ExplainOptions {
    /// The transaction's hash.
    pub(crate) transaction: Option<String>,

    /// Read a recorded transaction from a file that --save wrote, instead of a node.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// The chain's JSON-RPC over HTTP.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8545")]
    pub(crate) rpc_url: String,

    /// What to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) stage: StageOption,

    /// Switch a rule off; can be repeated.
    #[arg(long, value_name = "RULE", value_parser = rule_names())]
    pub(crate) without: Vec<String>,

    /// How many cores to estimate the time for [default: those of this machine].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) cores: Option<u16>,

    /// Measure the time of a bootstrap on this machine, with the keys in this directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Print one JSON object with everything instead of text.
    #[arg(long)]
    pub(crate) json: bool,

    /// Write a picture of the operations after rewriting, as SVG.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    /// Write the same picture in the language of Graphviz.
    #[arg(long, value_name = "FILE")]
    pub(crate) dot: Option<PathBuf>,

    /// Write what was recorded, for --file.
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
}

/// What `graph explain` prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum StageOption {
    /// Numbers, rules and operations, on one screen.
    #[default]
    Summary,
    /// The operations as they were recorded.
    Recorded,
    /// Those that the outputs need.
    Pruned,
    /// The operations after rewriting, and the rules applied.
    Rewritten,
    /// Bootstraps on blocks.
    Program,
    /// Which bootstraps are done at one time on these cores.
    Schedule,
    /// The summary and every stage.
    All,
}

impl StageOption {
    /// Returns the stages to print in full, and whether the summary is printed first.
    pub(crate) fn parts(self) -> (bool, Vec<explain::Stage>) {
        use explain::Stage;
        match self {
            Self::Summary => (true, Vec::new()),
            Self::All => (true, Stage::ALL.to_vec()),
            Self::Recorded => (false, vec![Stage::Recorded]),
            Self::Pruned => (false, vec![Stage::Pruned]),
            Self::Rewritten => (false, vec![Stage::Rewritten]),
            Self::Program => (false, vec![Stage::Program]),
            Self::Schedule => (false, vec![Stage::Schedule]),
        }
    }
}

/// Options of `graph statistics`.
#[derive(Debug, Args)]
pub(crate) struct StatisticsOptions {
    /// Print one JSON object instead of tables.
    #[arg(long)]
    pub(crate) json: bool,

    /// The folder with the compiled published token and its receiver, as `cargo xtask erc7984` makes it.
    #[arg(long, value_name = "DIR")]
    pub(crate) erc7984: Option<PathBuf>,

    /// Write every transaction into this folder, for `graph explain --file`.
    #[arg(long, value_name = "DIR")]
    pub(crate) save: Option<PathBuf>,
}

/// The names of all rules, as values of an option.
fn rule_names() -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(rule_list())
}

fn rule_list() -> Vec<&'static str> {
    use cipherloom_engine::rewrite::{COMMON_SUBEXPRESSIONS, rules};
    rules().map(|rule| rule.name).chain([COMMON_SUBEXPRESSIONS]).collect()
}

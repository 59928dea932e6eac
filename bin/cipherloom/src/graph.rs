//! `cipherloom graph`: what transactions ask for, and what the engine makes of them.

mod json;
pub(crate) mod options;
mod recording;
mod statistics;
mod time;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use cipherloom_contracts::development;
use cipherloom_engine::{
    Engine,
    explain::{BootstrapTime, Estimate, MAX_DRAWN, Report},
};

pub(crate) use self::options::GraphCommand;
use self::{options::ExplainOptions, recording::Recording};

/// Runs one of the commands.
///
/// # Errors
/// If the chain or a file cannot be read or written, or the transaction is not there or asks for nothing.
pub(crate) async fn run(command: GraphCommand) -> Result<()> {
    match command {
        GraphCommand::Explain(options) => explain(&options).await,
        GraphCommand::Statistics(options) => statistics::run(&options),
    }
}

async fn explain(options: &ExplainOptions) -> Result<()> {
    let recording = read(options).await?;
    let name = name(options);
    ensure!(!recording.computations.is_empty(), "{name} asks for no encrypted computation");
    if let Some(path) = &options.save {
        recording.write(path)?;
    }
    let rules = options.without.iter();
    let engine = Engine {
        rules: rules.fold(Engine::default().rules, |rules, rule| rules.without(rule)),
        ..Engine::default()
    };
    let report = Report::new(&recording.graph()?, &engine);
    let cores = options
        .cores
        .map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    let time = match &options.data_dir {
        Some(directory) => time::measure(directory)?,
        None => BootstrapTime::DOCUMENTED,
    };
    let estimate = Estimate::of(&report.compiled.program, cores, time);

    let (with_summary, stages) = options.stage.parts();
    let texts: Vec<(&str, String)> = stages.into_iter().map(|stage| (stage.name(), report.stage(stage, cores))).collect();
    if options.json {
        println!("{}", json::describe(&recording, &report, &estimate, &texts));
    } else {
        if with_summary {
            println!("{name}\n\n{}", report.summary(&estimate));
        }
        for (stage, text) in &texts {
            println!("--- {stage}\n{text}");
        }
    }
    draw(options, &report, &name)
}

async fn read(options: &ExplainOptions) -> Result<Recording> {
    match (&options.file, &options.transaction) {
        (Some(file), _) => Recording::read(file),
        (None, Some(hash)) => Recording::from_chain(&options.rpc_url, hash, &development::addresses()).await,
        (None, None) => anyhow::bail!("a transaction or --file is needed"),
    }
}

/// What the transaction is called.
fn name(options: &ExplainOptions) -> String {
    match (&options.file, &options.transaction) {
        (Some(file), _) => file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned(),
        (None, hash) => format!("transaction {}", hash.as_deref().unwrap_or_default()),
    }
}

fn draw(options: &ExplainOptions, report: &Report, name: &str) -> Result<()> {
    if let Some(path) = &options.svg {
        let svg = report
            .svg(name)
            .with_context(|| format!("{name} has too many operations for a picture; at most {MAX_DRAWN} are drawn"))?;
        write(path, &svg)?;
    }
    if let Some(path) = &options.dot {
        write(path, &report.dot())?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

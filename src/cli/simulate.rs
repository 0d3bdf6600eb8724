//! `ringback simulate`: any number of seeds through the simulator. One seed alone tells what happened, line by line.

use std::time::Instant;

use clap::Args;
use serde::Serialize;

use super::exit::{Exit, Failure, Outcome};
use super::output::{Format, Out};
use crate::simulate::{self, Options};

#[derive(Args, Clone, Debug)]
pub struct Command {
    /// The first seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many seeds, each the next number
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// Turns in each time of trouble
    #[arg(long)]
    steps: Option<u32>,
    /// Only this stream
    #[arg(long)]
    shape: Option<String>,
    /// A fault to plant first
    #[cfg(feature = "planted")]
    #[arg(long, value_parser = fault)]
    planted: Option<crate::planted::Fault>,
    /// Go on after a broken promise
    #[arg(long)]
    keep_going: bool,
}

#[derive(Serialize)]
struct Report {
    runs: u64,
    asked: u64,
    changes: u64,
    events: u64,
    crashes: u64,
    seconds: f64,
    hash: String,
    broken: Vec<Broken>,
}

#[derive(Serialize)]
struct Broken {
    seed: u64,
    fault: String,
}

#[cfg(feature = "planted")]
fn fault(name: &str) -> Result<crate::planted::Fault, String> {
    let names = crate::planted::FAULTS;
    let found = names.iter().find(|(known, _)| *known == name).map(|(_, fault)| *fault);
    found.ok_or_else(|| format!("one of {}", names.map(|(name, _)| name).join(", ")))
}

pub fn run(command: &Command, out: &mut Out) -> Outcome {
    let mut options = Options::new(command.seed, command.runs);
    options.steps = command.steps.unwrap_or(options.steps);
    options.shape.clone_from(&command.shape);
    #[cfg(feature = "planted")]
    {
        options.planted = command.planted;
    }
    options.lines = command.runs == 1;
    options.stop_at_first = !command.keep_going;
    let begun = Instant::now();
    let summary = simulate::run(&options).map_err(|error| Failure::new(Exit::Failed, format!("{error:#}")))?;
    let report = Report {
        runs: summary.runs,
        asked: summary.asked,
        changes: summary.changes,
        events: summary.events,
        crashes: summary.crashes,
        seconds: begun.elapsed().as_secs_f64(),
        hash: format!("{:016x}", summary.hash),
        broken: summary
            .broken
            .iter()
            .map(|story| Broken { seed: story.seed, fault: story.fault.clone().unwrap_or_default() })
            .collect(),
    };
    match out.format {
        Format::Json | Format::Jsonl => out.json(&report)?,
        Format::Table => {
            for line in summary.broken.first().map_or(&summary.lines, |story| &story.lines) {
                out.line(line)?;
            }
            for Broken { seed, fault } in &report.broken {
                out.line(format!("seed {seed}: {fault}"))?;
            }
            let Report { runs, asked, changes, events, crashes, seconds, .. } = &report;
            out.line(format!(
                "{runs} seeds in {seconds:.1} s: {changes} changes, {asked} requests, {events} events, {crashes} crashes; {} broken promises",
                report.broken.len()
            ))?;
        }
    }
    Ok(if report.broken.is_empty() { Exit::Done } else { Exit::Failed })
}

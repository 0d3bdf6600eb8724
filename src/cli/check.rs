//! `ringback check`: is the configuration right? Every fault at once, with file, line, column, the line itself and what to do.

use super::{Exit, Global, Output, line};
use crate::shape::{Fault, Level};
use crate::{config, source};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Warnings end with code 3.
    #[arg(long)]
    strict: bool,
}

pub fn run(args: &Args, global: &Global) -> Exit {
    let path = global.config();
    let (faults, summary) = match config::load(&path) {
        Err(faults) => (faults, None),
        Ok((config, mut warnings)) => match source::join_all(&config, false) {
            Err(faults) => (faults, None),
            Ok((sources, more)) => {
                warnings.extend(more);
                let streams: usize =
                    sources.values().map(|source| source.streams.iter().filter(|s| s.polled).count()).sum();
                let summary = format!(
                    "{}: {} sources, {streams} polled streams, {} handlers",
                    path.display(),
                    sources.len(),
                    config.handlers.len()
                );
                (warnings, Some(summary))
            }
        },
    };
    let count = |level: Level| faults.iter().filter(|fault| fault.level == level).count();
    let (errors, warnings) = (count(Level::Error), count(Level::Warning));
    match global.output {
        Output::Table => {
            global.show(&faults);
            if errors > 0 {
                eprintln!("{errors} error(s), {warnings} warning(s). A running daemon is not touched.");
            } else if let Some(summary) = summary {
                line(format!("{summary}. The configuration is right."));
            }
        }
        Output::Json => line(serde_json::Value::from_iter(faults.iter().map(json))),
        Output::Jsonl => faults.iter().for_each(|fault| line(json(fault))),
    }
    match (errors, warnings) {
        (0, 0) => Exit::Done,
        (0, _) if args.strict => Exit::Findings,
        (0, _) => Exit::Done,
        _ => Exit::Configuration,
    }
}

fn json(fault: &Fault) -> serde_json::Value {
    serde_json::json!({
        "level": if fault.level == Level::Error { "error" } else { "warning" },
        "file": fault.file.path.display().to_string(),
        "line": fault.line(),
        "column": fault.column(),
        "message": fault.message,
        "help": fault.help,
    })
}

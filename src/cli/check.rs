//! `ringback check`: is the configuration right? Needs neither network nor secret values, and does not touch the daemon.

use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::Global;
use super::exit::{Exit, Failure, Outcome};
use super::output::{Format, Out};
use super::reach::config_path;
use crate::admin::human::counted;
use crate::app::Certificates;
use crate::certificate::Presented;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::shape::{self, Fault, Level};
use crate::source::{self, Sources};

#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct Command {
    /// Exit 3 when there are warnings
    #[arg(long)]
    pub strict: bool,
}

/// What is shown with `-o json`.
#[derive(Serialize)]
struct Report {
    valid: bool,
    file: String,
    errors: usize,
    warnings: usize,
    faults: Vec<Found>,
}

#[derive(Serialize)]
struct Found {
    level: &'static str,
    file: String,
    line: usize,
    column: usize,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
}

/// Reads the configuration with its provider files: the sources ready to work and the warnings, or every fault.
fn read(path: &Path) -> Result<(Config, Sources, Vec<Fault>), Vec<Fault>> {
    let (config, mut warnings) = config::load(path)?;
    match source::join_all(&config, false) {
        Ok((sources, more)) => {
            warnings.extend(more);
            // Whoever asks may be unable to read them: then nothing is known of them.
            warnings.extend(Certificates::new(&config, Presented::default()).faults(Clock::system().now()));
            Ok((config, sources, warnings))
        }
        Err(faults) => {
            warnings.extend(faults);
            Err(warnings)
        }
    }
}

pub fn run(command: &Command, global: &Global, out: &mut Out) -> Outcome {
    let path = config_path(global);
    let (read, faults) = match read(&path) {
        Ok((config, sources, warnings)) => (Some((config, sources)), warnings),
        Err(faults) => (None, faults),
    };
    let errors = faults.iter().filter(|fault| fault.level == Level::Error).count();
    let warnings = faults.len() - errors;
    if out.format != Format::Table {
        let faults = faults.iter().map(found).collect();
        out.json(&Report { valid: read.is_some(), file: path.display().to_string(), errors, warnings, faults })?;
    } else if read.is_some() && !faults.is_empty() {
        out.remark(shape::render(&faults, out.color).trim_end());
    }
    let Some((config, sources)) = read else {
        if out.format != Format::Table {
            return Ok(Exit::Configuration);
        }
        let mut failure = Failure::faults(&faults, out.color);
        failure.message.push_str(&format!("\n\n{}. The running daemon is not touched.", tally(errors, warnings)));
        return Err(failure);
    };
    if out.format == Format::Table {
        out.line(format!("{} is valid: {}", path.display(), contents(&config, &sources)))?;
    }
    Ok(if command.strict && warnings > 0 { Exit::Findings } else { Exit::Done })
}

fn contents(config: &Config, sources: &Sources) -> String {
    let streams: usize = sources.values().map(|source| source.streams.len()).sum();
    let number = |count: usize, one: &str, many: &str| counted(count as u64, one, many);
    format!(
        "{}, {}, {}",
        number(sources.len(), "source", "sources"),
        number(streams, "stream", "streams"),
        number(config.handlers.len(), "handler", "handlers")
    )
}

fn tally(errors: usize, warnings: usize) -> String {
    let errors = counted(errors as u64, "error", "errors");
    if warnings == 0 { errors } else { format!("{errors}, {}", counted(warnings as u64, "warning", "warnings")) }
}

fn found(fault: &Fault) -> Found {
    Found {
        level: match fault.level {
            Level::Error => "error",
            Level::Warning => "warning",
        },
        file: fault.file.path.display().to_string(),
        line: fault.line(),
        column: fault.column(),
        message: fault.message.clone(),
        help: fault.help.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::capture;
    use super::*;

    fn check(text: &str, format: Format) -> (Outcome, String) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config.toml");
        std::fs::write(&path, text).expect("written");
        let (mut out, captured) = capture::out(format);
        let global = Global { config: Some(path), ..Global::default() };
        let outcome = run(&Command::default(), &global, &mut out);
        (outcome, captured.text())
    }

    const GOOD: &str = "schema = 1\n[sources.s]\nprovider = \"core-banking\"\nsecrets = { user = { env = \"NOT_SET\" }, password = { env = \"NOT_SET\" } }\n\
        [handlers.h]\nurl = \"http://127.0.0.1:9/\"\nsecret = { file = \"none\" }\n";

    #[test]
    fn a_valid_configuration_is_summed_up_without_reading_secrets() {
        let (outcome, text) = check(GOOD, Format::Table);
        assert_eq!(outcome, Ok(Exit::Done), "{outcome:?}");
        assert!(text.contains("config.toml is valid: 1 source, ") && text.contains("1 handler"), "{text}");
    }

    #[test]
    fn every_fault_is_shown_with_line_and_remedy_and_the_code_is_78() {
        let (outcome, text) = check(&GOOD.replace("url =", "ulr =").replace("schema", "shcema"), Format::Table);
        let failure = outcome.expect_err("wrong");
        assert_eq!((failure.exit, text.as_str()), (Exit::Configuration, ""));
        for part in
            ["config.toml:1:1", "did you mean `schema`?", "config.toml:6:1", "did you mean `url`?", "not touched"]
        {
            assert!(failure.text().contains(part), "{part} is missing in {}", failure.text());
        }
    }

    #[test]
    fn faults_as_json_have_their_place() {
        let (outcome, text) = check(&GOOD.replace("schema = 1", "schema = 1\nlisen = 2"), Format::Json);
        assert_eq!(outcome, Ok(Exit::Configuration));
        let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((&report["valid"], &report["faults"][0]["line"]), (&false.into(), &2.into()), "{text}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let (mut out, _) = capture::out(Format::Table);
        let global = Global { config: Some("no/such/config.toml".into()), ..Global::default() };
        let failure = run(&Command::default(), &global, &mut out).expect_err("missing");
        assert!(failure.exit == Exit::Configuration && failure.message.contains("no/such/config.toml"), "{failure:?}");
    }
}

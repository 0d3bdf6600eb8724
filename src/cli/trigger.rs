//! `ringback trigger SOURCE/STREAM TYPE`: a made-up event through the real path, marked as a test.

use std::path::PathBuf;

use clap::Args;
use serde_json::value::RawValue;

use super::Global;
use super::exit::{Exit, Failure, Outcome};
use super::output::{Format, Out};
use super::reach::{self, segment};
use crate::admin::human::counted;
use crate::admin::shape::{TriggerOrder, Triggered};

#[derive(Args, Clone, Debug, PartialEq)]
pub struct Command {
    #[arg(value_name = "SOURCE/STREAM")]
    stream: String,
    /// The event's type
    #[arg(value_name = "TYPE")]
    event_type: String,
    /// The record's key
    #[arg(long, default_value = "test")]
    key: String,
    /// The record as JSON text
    #[arg(long, value_name = "JSON", conflicts_with = "from")]
    data: Option<String>,
    /// A file with the record
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

pub async fn run(command: &Command, global: &Global, out: &mut Out) -> Outcome {
    let (source, stream) = command
        .stream
        .split_once('/')
        .ok_or_else(|| Failure::usage(format!("`{}` is not SOURCE/STREAM", command.stream)))?;
    let text = match &command.from {
        Some(path) => Some(
            std::fs::read_to_string(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?,
        ),
        None => command.data.clone(),
    };
    let data = text
        .map(RawValue::from_string)
        .transpose()
        .map_err(|error| Failure::usage(format!("the data is not JSON: {error}")))?;
    let order = TriggerOrder { event_type: command.event_type.clone(), key: command.key.clone(), data };
    let daemon = reach::daemon(global, out).await?;
    let path = format!("streams/{}/{}/trigger", segment(source), segment(stream));
    let triggered: Triggered = daemon.post(&path, &order).await?;
    match out.format {
        Format::Json | Format::Jsonl => out.json(&triggered)?,
        Format::Table => {
            out.line(format!(
                "{}  goes to {}",
                triggered.id,
                counted(triggered.handlers as u64, "handler", "handlers")
            ))?;
        }
    }
    Ok(if triggered.handlers == 0 { Exit::Nothing } else { Exit::Done })
}

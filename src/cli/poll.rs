//! `ringback poll SOURCE[/STREAM] [--dry-run]`: look now, through the running daemon, and say what was found.

use std::io;
use std::time::Duration;

use clap::Args;

use super::Global;
use super::exit::{Exit, Failure, Outcome};
use super::output::{Format, Out, Tone, printable};
use super::reach::{self, Daemon, POLL_TIMEOUT, segment};
use crate::admin::shape::{PollOrder, PollReport, Stream};
use crate::admin::{ControlError, human};
use crate::app::{self, LookError};

#[derive(Args, Clone, Debug, PartialEq)]
pub struct Command {
    /// A stream, or a source for all its polled streams
    #[arg(value_name = "SOURCE[/STREAM]")]
    pub name: String,
    /// Ask and compare, store and send nothing
    #[arg(long)]
    pub dry_run: bool,
}

pub async fn run(command: &Command, global: &Global, out: &mut Out) -> Outcome {
    let daemon = match reach::daemon(global, out).await {
        // A dry run needs no daemon: it writes nothing.
        Err(failure) if failure.exit == Exit::Unreachable && command.dry_run => {
            return look(command, global, out).await;
        }
        reached => reached?,
    };
    let mut failed = false;
    for stream in streams(&daemon, &command.name).await? {
        let report = poll(&daemon, &stream, command.dry_run).await?;
        failed |= report.result == "failed";
        show_report(&report, out)?;
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

/// A dry run by ourselves.
async fn look(command: &Command, global: &Global, out: &mut Out) -> Outcome {
    let (source, stream) = match command.name.split_once('/') {
        Some((source, stream)) => (source, Some(stream)),
        None => (command.name.as_str(), None),
    };
    let reports = app::dry_run(&reach::config_path(global), source, stream).await.map_err(|error| match error {
        LookError::Configuration(faults) => Failure::faults(&faults, out.color),
        LookError::Other(ControlError::Unknown(error)) => Failure::new(Exit::Nothing, error),
        LookError::Other(error) => Failure::new(Exit::Failed, error.to_string()),
    })?;
    for report in &reports {
        show_report(report, out)?;
    }
    Ok(if reports.iter().any(|report| report.result == "failed") { Exit::Failed } else { Exit::Done })
}

async fn streams(daemon: &Daemon, name: &str) -> Result<Vec<(String, String)>, Failure> {
    if let Some((source, stream)) = name.split_once('/') {
        return Ok(vec![(source.to_owned(), stream.to_owned())]);
    }
    let streams: Vec<Stream> = daemon.get("streams", &[]).await?;
    let polled = streams.into_iter().filter(|stream| stream.source == name && stream.polled);
    let polled: Vec<(String, String)> = polled.map(|stream| (stream.source, stream.stream)).collect();
    if polled.is_empty() {
        return Err(Failure::new(Exit::Nothing, format!("there is no source `{name}` with a stream that is polled"))
            .help("`ringback source list` shows them"));
    }
    Ok(polled)
}

async fn poll(daemon: &Daemon, (source, stream): &(String, String), dry_run: bool) -> Result<PollReport, Failure> {
    let path = format!("streams/{}/{}/poll", segment(source), segment(stream));
    daemon.post_within(&path, &PollOrder { dry_run }, POLL_TIMEOUT).await
}

/// A poll as a person reads it, or as JSON.
pub fn show_report(report: &PollReport, out: &mut Out) -> io::Result<()> {
    if out.format != Format::Table {
        return out.json(report);
    }
    for request in &report.requests {
        out.line(format!("{} {}", request.method, printable(&request.url)))?;
        let took = human::span(Duration::from_millis(request.duration_ms));
        let status = match request.status {
            Some(status) => status.to_string(),
            None if request.method == "READ" => "read".to_owned(),
            None => "no answer".to_owned(),
        };
        let records = request.records.map(|records| format!(", {}", human::counted(records, "record", "records")));
        out.line(format!("  {status} in {took}, {}{}", human::bytes(request.bytes), records.unwrap_or_default()))?;
    }
    let name = format!("{}/{}", report.source, report.stream);
    match (&report.error, &report.found) {
        (Some(error), _) => {
            out.line(format!("{name}  {}: {}", out.paint(&report.result, Tone::Bad), printable(error)))?
        }
        (None, None) => out.line(format!("{name}  nothing new ({})", report.result.replace('_', " ")))?,
        (None, Some(found)) => {
            let mut parts = vec![human::counted(found.records, "record", "records")];
            let counts = [
                (found.created, "created"),
                (found.updated, "updated"),
                (found.deleted, "deleted"),
                (found.silent, "remembered silently"),
                (found.unreadable, "unreadable"),
            ];
            parts.extend(counts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{} {word}", human::count(*n))));
            let would = if report.dry_run { "would announce " } else { "" };
            parts.push(format!("{would}{}", human::counted(found.events, "event", "events")));
            out.line(format!("{name}  {}", parts.join(", ")))?;
        }
    }
    if report.dry_run {
        out.line("Nothing was stored or sent.")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::output::capture;
    use super::*;
    use crate::admin::shape::{PollFound, PollRequest};

    #[test]
    fn a_dry_run_says_what_it_asked_and_what_it_would_announce() {
        let report = PollReport {
            source: "core".into(),
            stream: "payments".into(),
            dry_run: true,
            result: "ok".into(),
            error: None,
            requests: vec![PollRequest {
                method: "GET".into(),
                url: "https://core.bank.example/api/v2/payments?page=1".into(),
                status: Some(200),
                records: Some(200),
                bytes: 41_000,
                duration_ms: 182,
            }],
            found: Some(PollFound { records: 200, created: 9, updated: 1, events: 10, ..PollFound::default() }),
        };
        let (mut out, captured) = capture::out(Format::Table);
        show_report(&report, &mut out).expect("written");
        assert_eq!(
            captured.text(),
            "\
GET https://core.bank.example/api/v2/payments?page=1
  200 in 182 ms, 41 kB, 200 records
core/payments  200 records, 9 created, 1 updated, would announce 10 events
Nothing was stored or sent.
"
        );
    }
}

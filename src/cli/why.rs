//! `ringback why SOURCE/STREAM KEY`: what is known of one record, what was decided about it and by which rule, and the stream's
//! last runs. For the question "why did nothing arrive?" as much as for "why did this arrive?".

use std::io;
use std::time::Duration;

use clap::Args;

use super::Global;
use super::exit::{Exit, Failure, Outcome};
use super::output::{Field, Format, Out, printable};
use super::reach::Reader;
use crate::admin::human;
use crate::admin::shape::{Why, WhyRecord};
use crate::model::StreamName;

#[derive(Args, Clone, Debug, PartialEq)]
pub struct Command {
    #[arg(value_name = "SOURCE/STREAM")]
    pub stream: String,
    /// The record's key, as `event list` shows it
    pub key: String,
}

pub async fn run(command: &Command, global: &Global, out: &mut Out) -> Outcome {
    let stream: StreamName = command.stream.parse().map_err(|error: String| Failure::usage(error))?;
    let why = Reader::open(global, out).await?.why(&stream, &command.key).await?;
    match out.format {
        Format::Json | Format::Jsonl => out.json(&why)?,
        Format::Table => show(&why, out)?,
    }
    let known = why.record.is_some() || !why.events.is_empty() || !why.decisions.is_empty();
    Ok(if known { Exit::Done } else { Exit::Nothing })
}

fn show(why: &Why, out: &mut Out) -> io::Result<()> {
    out.line(format!("{}/{}   key {}", why.source, why.stream, printable(&why.key)))?;
    out.line(format!("  verdict    {}", printable(&why.verdict)))?;
    match &why.record {
        Some(record) => out.line(format!("  record     {}", stored(record)))?,
        None => out.line("  record     none stored")?,
    }
    for event in &why.events {
        out.line(format!(
            "  event      {}  {}  revision {}  {}  by {}",
            out.time(event.seen.at),
            printable(&event.event_type),
            event.revision,
            event.id,
            event.seen.by
        ))?;
        out.line(format!("             {}", event.why))?;
    }
    for one in &why.decisions {
        let detail = if one.detail.is_empty() { String::new() } else { format!(" ({})", printable(&one.detail)) };
        out.line(format!(
            "  decided    {}  {}{detail}  {}  by {}",
            out.time(one.at),
            one.decided,
            human::counted(one.count, "time", "times"),
            one.by
        ))?;
        out.line(format!("             {}", one.rule))?;
    }
    runs(why, out)
}

fn stored(record: &WhyRecord) -> String {
    let mut text = format!("{}, revision {}, last written by {}", record.state, record.revision, record.by);
    if let Some(version) = &record.version {
        text.push_str(&format!(", version {}", printable(version)));
    }
    if record.silent {
        text.push_str(", taken silently");
    }
    if !record.listed {
        text.push_str(", never shown by a listing");
    }
    if record.absences > 0 {
        text.push_str(&format!(", absent from {}", human::counted(record.absences.into(), "listing", "listings")));
    }
    text
}

fn runs(why: &Why, out: &mut Out) -> io::Result<()> {
    if why.runs.is_empty() {
        return out.line("  runs       none yet");
    }
    out.line("")?;
    let row = |run: &crate::admin::shape::WhyRun, out: &Out| {
        vec![
            Field::text(out.time(run.ended_at)),
            Field::text(run.result.replace('_', " ")),
            Field::text(human::count(run.records)),
            Field::text(human::count(run.changes)),
            Field::text(human::span(Duration::from_millis(run.duration_ms))),
            Field::text(run.error.as_deref().map(printable).unwrap_or_default()),
        ]
    };
    let rows = why.runs.iter().map(|run| row(run, out)).collect();
    out.table(&["run ended", "result", "records", "changes", "took", ""], rows)
}

#[cfg(test)]
mod tests {
    use super::super::output::capture;
    use super::super::status::samples::at;
    use super::*;
    use crate::admin::shape::{Seen, WhyDecision, WhyEvent, WhyRun};

    #[test]
    fn a_record_is_explained_on_one_screen() {
        let why = Why {
            source: "core".into(),
            stream: "payments".into(),
            key: "P-1".into(),
            record: Some(WhyRecord {
                state: "live".into(),
                version: Some("7".into()),
                revision: 2,
                by: "webhook".into(),
                silent: false,
                listed: true,
                absences: 1,
                fingerprint: "00".into(),
            }),
            events: vec![WhyEvent {
                id: "evt_1".into(),
                event_type: "payment.updated".into(),
                revision: 2,
                seen: Seen { at: at(60), by: "webhook".into() },
                why: "its content differs from the copy that was stored".into(),
            }],
            decisions: vec![WhyDecision {
                at: at(30),
                decided: "older".into(),
                by: "poll".into(),
                count: 2,
                detail: "version 6, stored 7".into(),
                rule: "older copies are ignored".into(),
            }],
            runs: vec![WhyRun {
                ended_at: at(30),
                result: "ok".into(),
                records: 200,
                changes: 0,
                pages: 1,
                duration_ms: 80,
                error: None,
            }],
            verdict: "after its last event: older copies are ignored".into(),
        };
        let (mut out, captured) = capture::out(Format::Table);
        show(&why, &mut out).expect("written");
        assert_eq!(
            captured.text(),
            "\
core/payments   key P-1
  verdict    after its last event: older copies are ignored
  record     live, revision 2, last written by webhook, version 7, absent from 1 listing
  event      2025-11-20 09:23:07 UTC  payment.updated  revision 2  evt_1  by webhook
             its content differs from the copy that was stored
  decided    2025-11-20 09:23:37 UTC  older (version 6, stored 7)  2 times  by poll
             older copies are ignored

RUN ENDED                RESULT  RECORDS  CHANGES  TOOK
2025-11-20 09:23:37 UTC  ok      200      0        80 ms
"
        );
    }
}

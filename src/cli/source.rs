//! `ringback source list|show|pause|resume|keep|reset|backfill`: the streams and how their polls go.

use std::io;

use clap::Subcommand;

use super::Global;
use super::exit::{Exit, Failure, Outcome};
use super::output::{Field, Format, Out, Tone, printable};
use super::poll;
use super::reach::{self, Reader, segment};
use crate::admin::human;
use crate::admin::shape::{BackfillOrder, Backfilled, Done, Forgotten, PauseOrder, ResetOrder, Stream};
use crate::shape::nearest;

#[derive(Subcommand, Clone, Debug, PartialEq)]
pub enum Command {
    /// Every stream with its state
    List,
    /// One source, or one stream, with its last poll
    Show {
        #[arg(value_name = "SOURCE[/STREAM]")]
        name: String,
    },
    /// Stop polling a source until it is resumed; kept over restarts
    Pause {
        source: String,
        /// Why, for those who find it paused
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Poll a paused source again
    Resume { source: String },
    /// Confirm that the stored state holds for a source's new `base_url`: it is polled again
    Keep { source: String },
    /// Forget what is stored of a stream: the next poll is a first look
    Reset {
        /// A stream, or a source for all its streams
        #[arg(value_name = "SOURCE[/STREAM]")]
        name: String,
        /// Only say what would be forgotten
        #[arg(long)]
        dry_run: bool,
    },
    /// Look back once: announce what differs from the stored records; the cursor stays
    Backfill {
        #[arg(value_name = "SOURCE/STREAM")]
        name: String,
        /// A time, a number or whatever the cursor is; without it from the declared start
        #[arg(long, value_name = "CURSOR")]
        from: Option<String>,
        /// Only say what would be found
        #[arg(long)]
        dry_run: bool,
    },
}

pub async fn run(command: &Command, global: &Global, out: &mut Out) -> Outcome {
    match command {
        Command::List => {
            let streams = Reader::open(global, out).await?.streams().await?;
            list(&streams, out)?;
        }
        Command::Show { name } => {
            let streams = Reader::open(global, out).await?.streams().await?;
            let chosen = choose(&streams, name)?;
            match out.format {
                Format::Json | Format::Jsonl => out.json_list(&chosen)?,
                Format::Table => chosen.iter().try_for_each(|stream| show(stream, out))?,
            }
        }
        Command::Pause { source, reason } => {
            let path = format!("sources/{}/pause", segment(source));
            let done: Done =
                reach::daemon(global, out).await?.post(&path, &PauseOrder { reason: reason.clone() }).await?;
            out.remark(done.done);
        }
        Command::Resume { source } => {
            let path = format!("sources/{}/resume", segment(source));
            let done: Done = reach::daemon(global, out).await?.post(&path, &PauseOrder::default()).await?;
            out.remark(done.done);
        }
        Command::Keep { source } => {
            let path = format!("sources/{}/keep", segment(source));
            let done: Done = reach::daemon(global, out).await?.post(&path, &PauseOrder::default()).await?;
            out.remark(done.done);
        }
        Command::Reset { name, dry_run } => reset(name, *dry_run, global, out).await?,
        Command::Backfill { name, from, dry_run } => {
            let Some((source, stream)) = name.split_once('/') else {
                return Err(Failure::usage(format!("`{name}` is not SOURCE/STREAM: a cursor belongs to one stream")));
            };
            let path = format!("streams/{}/{}/backfill", segment(source), segment(stream));
            let order = BackfillOrder { from: from.clone(), dry_run: *dry_run };
            let daemon = reach::daemon(global, out).await?;
            let backfilled: Backfilled = daemon.post_within(&path, &order, reach::POLL_TIMEOUT).await?;
            if let Some(report) = &backfilled.report {
                poll::show_report(report, out)?;
            }
            out.remark(backfilled.done);
        }
    }
    Ok(Exit::Done)
}

/// Forgetting is asked for by name: nobody resets by mistake.
async fn reset(name: &str, dry_run: bool, global: &Global, out: &mut Out) -> Result<(), Failure> {
    let daemon = reach::daemon(global, out).await?;
    let streams: Vec<Stream> = daemon.get("streams", &[]).await?;
    for stream in choose(&streams, name)? {
        let path = format!("streams/{}/{}/reset", segment(&stream.source), segment(&stream.stream));
        let forgotten: Forgotten = daemon.post_within(&path, &ResetOrder { dry_run }, reach::POLL_TIMEOUT).await?;
        if out.format != Format::Table {
            out.json(&forgotten)?;
            continue;
        }
        let verb = if dry_run { "would forget" } else { "forgot" };
        out.line(format!(
            "{}  {verb} {} and {}; the cursor was {}; revisions go on from {}",
            stream.name(),
            human::counted(forgotten.records, "record", "records"),
            human::counted(forgotten.tombstones, "deleted one", "deleted ones"),
            forgotten.mark.as_deref().map_or_else(|| "not set".to_owned(), printable),
            forgotten.base_revision
        ))?;
    }
    if dry_run {
        out.remark("nothing was changed");
    }
    Ok(())
}

fn choose(streams: &[Stream], name: &str) -> Result<Vec<Stream>, Failure> {
    let chosen: Vec<Stream> = streams.iter().filter(|s| s.source == name || s.name() == name).cloned().collect();
    if !chosen.is_empty() {
        return Ok(chosen);
    }
    let names: Vec<String> = streams.iter().flat_map(|stream| [stream.source.clone(), stream.name()]).collect();
    let failure = Failure::new(Exit::Nothing, format!("there is no source or stream `{name}`"));
    Err(match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => failure.help(format!("did you mean `{near}`?")),
        None => failure.help("`ringback source list` shows them"),
    })
}

fn list(streams: &[Stream], out: &mut Out) -> io::Result<()> {
    match out.format {
        Format::Json | Format::Jsonl => out.json_list(streams),
        Format::Table => render(streams, out),
    }
}

pub fn render(streams: &[Stream], out: &mut Out) -> io::Result<()> {
    let row = |stream: &Stream, out: &Out| {
        vec![
            Field::text(stream.name()),
            Field::state(stream.state()),
            Field::count(stream.records),
            Field::text(out.ago(stream.last_poll_at)),
            Field::count(stream.last_changes),
            Field::text(out.ago(stream.next_poll_at)),
        ]
    };
    let rows = streams.iter().map(|stream| row(stream, out)).collect();
    out.table(&["stream", "state", "records", "last poll", "changes", "next poll"], rows)?;
    for stream in streams.iter().filter(|stream| stream.failing()) {
        if let Some(error) = &stream.last_error {
            out.line(format!("  {}: {}", stream.name(), out.paint(error, Tone::Bad)))?;
        }
    }
    Ok(())
}

fn show(stream: &Stream, out: &mut Out) -> io::Result<()> {
    out.line(format!("{}   {}", stream.name(), stream.state()))?;
    let time = |at: Option<crate::admin::shape::Time>, out: &Out| {
        at.map_or("never".into(), |time| format!("{} ({})", out.time(time), out.ago(Some(time))))
    };
    let mut facts = vec![
        ("records", human::count(stream.records)),
        ("last poll", time(stream.last_poll_at, out)),
        ("last success", time(stream.last_ok_at, out)),
        ("next poll", stream.next_poll_at.map_or("not planned".into(), |_| time(stream.next_poll_at, out))),
    ];
    if let Some(result) = &stream.last_result {
        let took = human::span(std::time::Duration::from_millis(stream.last_duration_ms));
        let (records, changes) = (human::count(stream.last_records), human::count(stream.last_changes));
        facts.push(("result", format!("{result}: {records} records, {changes} changes in {took}")));
    }
    if stream.set_aside > 0 {
        facts.push(("set aside", format!("{} unreadable", human::count(stream.set_aside))));
    }
    let score = &stream.score;
    if score.webhook + score.both > 0 {
        facts.push((
            "first seen",
            format!(
                "{} by webhook, {} by poll, {} by both; {} recovered by poll",
                human::count(score.webhook),
                human::count(score.poll),
                human::count(score.both),
                human::count(score.recovered)
            ),
        ));
    }
    if let Some(paused) = &stream.paused {
        facts.push(("paused", because(&paused.by, &paused.reason)));
    }
    if let Some(error) = &stream.last_error {
        facts.push(("error", printable(error)));
    }
    facts.into_iter().try_for_each(|(name, value)| out.line(format!("  {name:<13} {value}")))
}

/// Who paused something, and why.
pub fn because(by: &str, reason: &str) -> String {
    if reason.is_empty() {
        format!("by {}", printable(by))
    } else {
        format!("by {}: {}", printable(by), printable(reason))
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::capture;
    use super::super::status::samples;
    use super::*;
    use crate::admin::shape::Paused;

    #[test]
    fn a_stream_is_shown_with_its_last_poll() {
        let (mut out, captured) = capture::out(Format::Table);
        let paused = Some(Paused { by: "user 0".into(), reason: "maintenance".into() });
        show(&Stream { paused, ..samples::stream("payments") }, &mut out).expect("written");
        assert_eq!(
            captured.text(),
            "\
core/payments   paused
  records       1,284
  last poll     2025-11-20 09:23:59 UTC (8 s ago)
  last success  2025-11-20 09:23:59 UTC (8 s ago)
  next poll     2025-11-20 09:27:07 UTC (in 3 m)
  result        ok: 200 records, 3 changes in 182 ms
  paused        by user 0: maintenance
"
        );
    }

    #[test]
    fn a_misspelt_name_is_met_with_the_nearest_one() {
        let streams = [samples::stream("payments"), samples::stream("customers")];
        assert_eq!(choose(&streams, "core").expect("two streams").len(), 2);
        assert_eq!(choose(&streams, "core/payments").expect("one stream").len(), 1);
        let failure = choose(&streams, "core/paymets").expect_err("unknown");
        assert_eq!((failure.exit, failure.help.as_deref()), (Exit::Nothing, Some("did you mean `core/payments`?")));
    }
}

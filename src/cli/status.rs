//! `ringback status`: one screen, problems first. Exit 1 when something is wrong, so that it serves as a probe.

use std::io;
use std::time::Duration;

use super::Global;
use super::exit::{Exit, Outcome};
use super::output::{Field, Format, Out, Tone};
use super::reach::Reader;
use super::{handler, problem, source};
use crate::admin::human;
use crate::admin::shape::{Status, Stream};

pub async fn run(global: &Global, out: &mut Out) -> Outcome {
    let status = Reader::open(global, out).await?.status(out).await?;
    match out.format {
        Format::Json | Format::Jsonl => out.json(&status)?,
        Format::Table => render(&status, out)?,
    }
    Ok(if wrong(&status) { Exit::Failed } else { Exit::Done })
}

/// Whether a person is needed: what was acknowledged no longer counts.
fn wrong(status: &Status) -> bool {
    let now = status.now.0;
    !status.running
        || status.problems.iter().any(|problem| !problem.acknowledged)
        || status.streams.iter().any(|stream| stream.failing())
        || status.handlers.iter().any(|handler| handler.state(now) == "failing")
}

fn render(status: &Status, out: &mut Out) -> io::Result<()> {
    let running = if status.running { out.paint("running", Tone::Good) } else { out.paint("not running", Tone::Bad) };
    let free = status.store.free_bytes.map(|free| format!(", {} free", human::bytes(free))).unwrap_or_default();
    out.line(format!(
        "ringback {}  {running}  {}, {}, {}  database {}{free}",
        status.version,
        human::counted(status.streams.len() as u64, "stream", "streams"),
        human::counted(status.handlers.len() as u64, "handler", "handlers"),
        human::counted(status.store.events, "event", "events"),
        human::bytes(status.store.bytes),
    ))?;
    problem::render(&status.problems, out)?;
    if !status.streams.is_empty() {
        out.line("")?;
        source::render(&status.streams, out)?;
    }
    if !status.handlers.is_empty() {
        out.line("")?;
        handler::render(&status.handlers, out)?;
    }
    two_ways(status, out)?;
    inbox(status, out)
}

/// Who saw changes first, where real webhooks announce them: the proof that polling beside them is worth it.
fn two_ways(status: &Status, out: &mut Out) -> io::Result<()> {
    let both: Vec<_> =
        status.streams.iter().filter(|s| s.score.webhook + s.score.both + s.score.recovered > 0).collect();
    if both.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let row = |stream: &Stream| {
        let score = &stream.score;
        let counts = [score.webhook, score.poll, score.both, score.recovered];
        let counts = counts.into_iter().map(Field::count);
        std::iter::once(Field::text(stream.name())).chain(counts).collect()
    };
    let rows = both.into_iter().map(row).collect();
    out.table(&["first seen by", "webhook", "poll", "both", "recovered by poll"], rows)
}

/// Real webhooks are worth a line only when some wait or could not be read.
fn inbox(status: &Status, out: &mut Out) -> io::Result<()> {
    let inbox = &status.inbox;
    if inbox.pending + inbox.unreadable == 0 {
        return Ok(());
    }
    out.line("")?;
    let oldest = match inbox.oldest_pending_at {
        Some(at) => format!(", the oldest for {}", human::span(out.now.since(at.0).max(Duration::ZERO))),
        None => String::new(),
    };
    let rows = vec![vec![
        Field::text("real webhooks"),
        Field::text(format!("{} waiting{oldest}", human::count(inbox.pending))),
        Field::text(format!("{} unreadable", human::count(inbox.unreadable))),
    ]];
    out.table(&["inbox", "", ""], rows)
}

#[cfg(test)]
pub mod samples {
    //! A status that other tests show.

    use crate::admin::shape::*;
    use crate::model::Timestamp;

    pub const NOW: Timestamp = Timestamp(1_763_630_647_000);

    pub fn at(seconds_ago: i64) -> Time {
        Time(Timestamp(NOW.0 - seconds_ago * 1_000))
    }

    pub fn stream(name: &str) -> Stream {
        Stream {
            source: "core".into(),
            stream: name.into(),
            polled: true,
            phase: "live".into(),
            paused: None,
            records: 1_284,
            failures: 0,
            last_poll_at: Some(at(8)),
            last_ok_at: Some(at(8)),
            next_poll_at: Some(at(-180)),
            last_result: Some("ok".into()),
            last_records: 200,
            last_changes: 3,
            last_duration_ms: 182,
            last_error: None,
            set_aside: 0,
            score: Score::default(),
        }
    }

    pub fn handler(name: &str) -> Handler {
        Handler {
            name: name.into(),
            configured: true,
            temporary: None,
            paused: None,
            wait_until: None,
            strain: 0,
            pending: 0,
            claimed: 0,
            delivered: 40,
            failed: 0,
            held: 0,
            oldest_pending_at: None,
            last_attempt: None,
        }
    }

    pub fn status() -> Status {
        Status {
            version: "0.1.0".into(),
            now: at(0),
            running: true,
            problems: Vec::new(),
            streams: vec![stream("payments")],
            handlers: vec![handler("billing")],
            inbox: Inbox::default(),
            store: Store { bytes: 2_100_000, events: 1, version: "1".into(), ..Store::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{at, status};
    use super::*;
    use crate::admin::shape::Problem;
    use crate::cli::output::capture;

    fn shown(status: &Status) -> String {
        let (mut out, captured) = capture::out(Format::Table);
        render(status, &mut out).expect("written");
        captured.text()
    }

    #[test]
    fn a_healthy_daemon_fits_one_screen() {
        assert_eq!(
            shown(&status()),
            "\
ringback 0.1.0  running  1 stream, 1 handler, 1 event  database 2.1 MB

STREAM         STATE  RECORDS  LAST POLL  CHANGES  NEXT POLL
core/payments  ok       1,284  8 s ago          3  in 3 m

HANDLER  STATE  WAITING  OLDEST  HELD  FAILED  DELIVERED
billing  ok           0  -          0       0         40
"
        );
        assert!(!wrong(&status()));
    }

    #[test]
    fn a_problem_stands_first_and_is_wrong_until_acknowledged() {
        let mut status = status();
        status.problems.push(Problem {
            kind: "auth.failed".into(),
            subject: "core".into(),
            message: "the API answered 401; check its password".into(),
            opened_at: at(600),
            last_seen_at: at(5),
            count: 2,
            acknowledged: false,
            held: None,
            decided: None,
        });
        let text = shown(&status);
        let expected = "\n! auth.failed  core   since 2025-11-20 09:14:07 UTC, 2 times\n    the API answered 401; check its password\n";
        assert!(text.contains(expected), "{text}");
        assert!(wrong(&status));
        status.problems[0].acknowledged = true;
        assert!(!wrong(&status));
    }

    #[test]
    fn who_saw_changes_first_is_shown_where_there_are_two_ways_in() {
        let mut status = status();
        assert!(!shown(&status).contains("FIRST SEEN BY"));
        status.streams[0].score = crate::admin::shape::Score { webhook: 1_200, poll: 3, both: 1_190, recovered: 2 };
        let text = shown(&status);
        assert!(text.contains("FIRST SEEN BY  WEBHOOK  POLL  BOTH   RECOVERED BY POLL\n"), "{text}");
        assert!(text.contains("core/payments    1,200     3  1,190                  2\n"), "{text}");
    }

    #[test]
    fn a_failing_stream_shows_its_error_and_a_daemon_that_is_down_is_wrong() {
        let mut failing = status();
        failing.streams[0].failures = 2;
        failing.streams[0].last_error = Some("connection refused".into());
        let text = shown(&failing);
        assert!(text.contains("failing (2 in a row)") && text.contains("connection refused"), "{text}");
        assert!(wrong(&failing));
        assert!(wrong(&Status { running: false, ..status() }));
    }
}

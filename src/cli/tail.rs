//! `ringback tail [-f]`: attempts as lines, as they happen.

use std::time::Duration;

use clap::Args;

use super::Global;
use super::event::outcome;
use super::exit::{Exit, Failure, Outcome};
use super::output::{Format, Out, Tone, printable};
use super::reach::Reader;
use crate::admin::human;
use crate::admin::shape::{TailLine, TailPage};
use crate::admin::view::LINES_MAX;
use crate::jq::{Jq, Json, Vars};
use crate::subscription::type_matches;

/// Seconds that one question waits for the next line.
const WAIT: u64 = 25;
/// Between two tries to reach a daemon that went away.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Args, Clone, Debug, PartialEq)]
pub struct Command {
    /// Go on as attempts are made
    #[arg(short, long)]
    pub follow: bool,
    /// Begin with so many of the last lines
    #[arg(short = 'n', long = "lines", default_value_t = 20, value_name = "N")]
    pub lines: usize,
    /// Only of this source or stream
    #[arg(long, value_name = "SOURCE[/STREAM]")]
    pub source: Option<String>,
    /// Only of this type; `payment.*` matches all below `payment.`
    #[arg(long = "type", value_name = "TYPE")]
    pub event_type: Option<String>,
    /// Only to this handler
    #[arg(long)]
    pub handler: Option<String>,
    /// Only lines for which this jq expression is true; `-o jsonl` shows what it sees
    #[arg(long, visible_alias = "jq", value_name = "JQ", value_parser = jq)]
    pub when: Option<Jq>,
}

fn jq(text: &str) -> Result<Jq, String> {
    Jq::parse(text)
}

pub async fn run(command: &Command, global: &Global, out: &mut Out) -> Outcome {
    let reader = Reader::open(global, out).await?;
    if command.follow && matches!(reader, Reader::Database(_)) {
        let failure = Failure::new(Exit::Unreachable, "`tail -f` needs the daemon, which is not running");
        return Err(failure.help("without -f the last attempts are read from the database"));
    }
    // With a filter more is read, so that the number asked for is likely to be found.
    let first = if command.filtered() { LINES_MAX } else { command.lines };
    let page = reader.tail(None, first, 0).await?;
    let lines = command.matching(page.lines)?;
    let skip = lines.len().saturating_sub(command.lines);
    for line in &lines[skip..] {
        show(line, out)?;
    }
    if !command.follow {
        return Ok(Exit::Done);
    }
    tokio::select! {
        ended = follow(command, &reader, page.next, out) => ended,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    }
}

async fn follow(command: &Command, reader: &Reader, mut after: Option<String>, out: &mut Out) -> Outcome {
    let mut away = false;
    loop {
        let TailPage { lines, next } = match reader.tail(after.as_deref(), LINES_MAX, WAIT).await {
            Ok(page) => page,
            Err(failure) if matches!(failure.exit, Exit::Unreachable | Exit::Temporary) => {
                // A restart is ordinary: the position stays good, nothing is missed.
                if !away {
                    out.remark("the daemon went away; waiting for it");
                }
                away = true;
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        if away {
            out.remark("the daemon is back");
            away = false;
        }
        for line in command.matching(lines)? {
            show(&line, out)?;
        }
        after = next.or(after);
    }
}

impl Command {
    fn filtered(&self) -> bool {
        self.source.is_some() || self.event_type.is_some() || self.handler.is_some() || self.when.is_some()
    }

    fn matching(&self, lines: Vec<TailLine>) -> Result<Vec<TailLine>, Failure> {
        let mut matching = Vec::with_capacity(lines.len());
        for line in lines {
            if self.matches(&line)? {
                matching.push(line);
            }
        }
        Ok(matching)
    }

    fn matches(&self, line: &TailLine) -> Result<bool, Failure> {
        let event = &line.event;
        let of_source =
            |wanted: &String| event.source == *wanted || format!("{}/{}", event.source, event.stream) == *wanted;
        let plain = self.source.as_ref().is_none_or(of_source)
            && self.event_type.as_ref().is_none_or(|wanted| type_matches(wanted, &event.event_type))
            && self.handler.as_ref().is_none_or(|wanted| line.handler == *wanted);
        let Some(when) = self.when.as_ref().filter(|_| plain) else { return Ok(plain) };
        let text = serde_json::to_string(line).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        let json = Json::parse(text.as_bytes()).map_err(|error| Failure::new(Exit::Failed, error))?;
        when.truth(&json, &Vars::default()).map_err(|error| Failure::usage(format!("`--when` {error}")))
    }
}

fn show(line: &TailLine, out: &mut Out) -> std::io::Result<()> {
    if out.format != Format::Table {
        // A stream of lines has no end to close a list at: both forms are one value a line.
        let format = std::mem::replace(&mut out.format, Format::Jsonl);
        let written = out.json(line);
        out.format = format;
        return written;
    }
    let event = &line.event;
    let attempt = &line.attempt;
    let tone = if attempt.result == "delivered" { Tone::Good } else { Tone::Bad };
    let mut text = format!(
        "{}  {:<15}  {:<18} {:<12} {:<10} {:<5} {:>7}",
        out.clock(attempt.started_at),
        format!("{}/{}", event.source, event.stream),
        printable(&event.event_type),
        printable(&event.key),
        line.handler,
        out.paint(&outcome(attempt), tone),
        human::span(Duration::from_millis(attempt.duration_ms)),
    );
    if line.number > 1 || line.state != "delivered" {
        text.push_str(&format!("  try {}", line.number));
    }
    match (line.state.as_str(), line.next_attempt_at) {
        ("pending", Some(next)) if next.0 > out.now => text.push_str(&format!(", again {}", out.ago(Some(next)))),
        ("delivered" | "pending" | "claimed", _) => {}
        (state, _) => text.push_str(&format!(", {state}")),
    }
    // Where there was an answer its status says it.
    if let Some(error) = attempt.error.as_ref().filter(|_| attempt.status.is_none()) {
        text.push_str(&format!("  {}", printable(error)));
    }
    out.line(text)
}

#[cfg(test)]
mod tests {
    use super::super::output::capture;
    use super::super::status::samples::at;
    use super::*;
    use crate::admin::shape::{Attempt, EventSummary};

    fn line(handler: &str, status: u16, number: u32) -> TailLine {
        let delivered = status == 200;
        TailLine {
            event: EventSummary {
                id: "evt_1".into(),
                event_type: "payment.settled".into(),
                source: "core".into(),
                stream: "payments".into(),
                key: "P-88107".into(),
                revision: 1,
                time: at(20),
                seen_at: at(20),
                deliveries: Vec::new(),
            },
            handler: handler.into(),
            state: if delivered { "delivered" } else { "pending" }.into(),
            number,
            next_attempt_at: (!delivered).then(|| at(-5)),
            attempt: Attempt {
                started_at: at(19),
                duration_ms: 31,
                result: if delivered { "delivered" } else { "refused" }.into(),
                status: Some(status),
                error: None,
                answer: String::new(),
                detail: Default::default(),
            },
        }
    }

    fn command() -> Command {
        Command { follow: false, lines: 20, source: None, event_type: None, handler: None, when: None }
    }

    #[test]
    fn an_attempt_is_a_line() {
        let (mut out, captured) = capture::out(Format::Table);
        for line in [line("billing", 200, 1), line("audit", 503, 1), line("audit", 200, 2)] {
            show(&line, &mut out).expect("written");
        }
        assert_eq!(
            captured.text(),
            "\
09:23:48Z  core/payments    payment.settled    P-88107      billing    200     31 ms
09:23:48Z  core/payments    payment.settled    P-88107      audit      503     31 ms  try 1, again in 5 s
09:23:48Z  core/payments    payment.settled    P-88107      audit      200     31 ms  try 2
"
        );
    }

    #[test]
    fn lines_are_chosen_by_source_type_handler_and_expression() {
        let count = |command: Command| {
            command.matching(vec![line("billing", 200, 1), line("audit", 503, 1)]).expect("matched").len()
        };
        assert_eq!(count(command()), 2);
        assert_eq!(count(Command { source: Some("core/payments".into()), ..command() }), 2);
        assert_eq!(count(Command { source: Some("core/customers".into()), ..command() }), 0);
        assert_eq!(count(Command { event_type: Some("payment.*".into()), ..command() }), 2);
        assert_eq!(count(Command { handler: Some("audit".into()), ..command() }), 1);
        let when = Jq::parse(".attempt.status >= 500").expect("jq");
        assert_eq!(count(Command { when: Some(when), ..command() }), 1);
        let broken = Command { when: Some(Jq::parse(".attempt.status").expect("jq")), ..command() };
        assert_eq!(broken.matching(vec![line("a", 200, 1)]).expect_err("no truth").exit, Exit::Usage);
    }

    #[test]
    fn json_of_a_stream_of_lines_is_one_value_a_line() {
        let (mut out, captured) = capture::out(Format::Json);
        show(&line("billing", 200, 1), &mut out).expect("written");
        assert_eq!(captured.text().lines().count(), 1);
    }
}

//! `ringback handler list|show|pause|resume`: who receives events, and what waits for them.

use std::io;

use clap::Subcommand;

use super::Global;
use super::event::attempt_line;
use super::exit::{Exit, Failure, Outcome};
use super::output::{Field, Format, Out};
use super::reach::{self, Reader, segment};
use super::source::because;
use crate::admin::human;
use crate::admin::shape::{Done, EventQuery, EventSummary, Handler, PauseOrder};
use crate::shape::nearest;

#[derive(Subcommand, Clone, Debug, PartialEq)]
pub enum Command {
    /// Every handler with its state and backlog
    List,
    /// One handler: its state and why, its last attempt, its last events
    Show { name: String },
    /// Send nothing to a handler until it is resumed; its events are held, never dropped
    Pause {
        name: String,
        /// Why, for those who find it paused
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Send to a paused handler again, what was held first
    Resume { name: String },
}

pub async fn run(command: &Command, global: &Global, out: &mut Out) -> Outcome {
    match command {
        Command::List => {
            let handlers = Reader::open(global, out).await?.handlers().await?;
            match out.format {
                Format::Json | Format::Jsonl => out.json_list(&handlers)?,
                Format::Table => render(&handlers, out)?,
            }
        }
        Command::Show { name } => {
            let reader = Reader::open(global, out).await?;
            let handler = choose(reader.handlers().await?, name)?;
            if out.format != Format::Table {
                out.json(&handler)?;
                return Ok(Exit::Done);
            }
            let query = EventQuery { handler: Some(name.clone()), limit: Some(1), ..EventQuery::default() };
            let last = reader.events(&query).await?.events.into_iter().next();
            show(&handler, last.as_ref(), out)?;
        }
        Command::Pause { name, reason } => {
            let path = format!("handlers/{}/pause", segment(name));
            let done: Done =
                reach::daemon(global, out).await?.post(&path, &PauseOrder { reason: reason.clone() }).await?;
            out.remark(done.done);
        }
        Command::Resume { name } => {
            let path = format!("handlers/{}/resume", segment(name));
            let done: Done = reach::daemon(global, out).await?.post(&path, &PauseOrder::default()).await?;
            out.remark(done.done);
        }
    }
    Ok(Exit::Done)
}

fn choose(handlers: Vec<Handler>, name: &str) -> Result<Handler, Failure> {
    let failure = Failure::new(Exit::Nothing, format!("there is no handler `{name}`"));
    let failure = match nearest(name, handlers.iter().map(|handler| handler.name.as_str())) {
        Some(near) => failure.help(format!("did you mean `{near}`?")),
        None => failure.help("`ringback handler list` shows them"),
    };
    handlers.into_iter().find(|handler| handler.name == name).ok_or(failure)
}

pub fn render(handlers: &[Handler], out: &mut Out) -> io::Result<()> {
    let temporary = handlers.iter().any(|handler| handler.temporary.is_some());
    let row = |handler: &Handler, out: &Out| {
        let mut fields = vec![
            Field::text(&handler.name),
            Field::state(handler.state(out.now)),
            Field::count(handler.pending + handler.claimed),
            Field::text(out.ago(handler.oldest_pending_at)),
            Field::count(handler.held),
            Field::count(handler.failed),
            Field::count(handler.delivered),
        ];
        if temporary {
            fields.push(Field::text(handler.temporary.as_ref().map_or("-", |temporary| temporary.url.as_str())));
        }
        fields
    };
    let rows = handlers.iter().map(|handler| row(handler, out)).collect();
    let mut names = vec!["handler", "state", "waiting", "oldest", "held", "failed", "delivered"];
    names.extend(temporary.then_some("temporary, to"));
    out.table(&names, rows)
}

fn show(handler: &Handler, last: Option<&EventSummary>, out: &mut Out) -> io::Result<()> {
    out.line(format!("{}   {}", handler.name, handler.state(out.now)))?;
    let mut facts = vec![
        ("waiting", waiting(handler, out)),
        ("held", human::count(handler.held)),
        ("failed", human::count(handler.failed)),
        ("delivered", human::count(handler.delivered)),
    ];
    if let Some(temporary) = &handler.temporary {
        let what =
            format!("like `{}`, to {}, until replay {} is settled", temporary.like, temporary.url, temporary.replay);
        facts.insert(0, ("temporary", what));
        facts.extend(temporary.refused.clone().map(|reason| ("held because", reason)));
    }
    if let Some(paused) = &handler.paused {
        facts.push(("paused", because(&paused.by, &paused.reason)));
    }
    if let Some(until) = handler.wait_until.filter(|until| until.0 > out.now) {
        facts.push(("waits until", out.time(until)));
    }
    if let Some(attempt) = &handler.last_attempt {
        facts.push(("last attempt", attempt_line(attempt, out)));
    }
    if let Some(event) = last {
        facts.push((
            "last event",
            format!("{}  {}  {}  {}", out.time(event.seen_at), event.event_type, event.key, event.id),
        ));
    }
    for (name, value) in facts {
        out.line(format!("  {name:<13} {value}"))?;
    }
    if let Some(remedy) = remedy(handler) {
        out.line(format!("  {:<13} {remedy}", "to mend"))?;
    }
    match &handler.temporary {
        Some(temporary) => out.line(format!("  {:<13} ringback replay --cancel {}", "to drop", temporary.replay)),
        None => Ok(()),
    }
}

fn waiting(handler: &Handler, out: &Out) -> String {
    let number = human::count(handler.pending + handler.claimed);
    match handler.oldest_pending_at {
        Some(at) => format!("{number}, the oldest since {} ({})", out.time(at), out.ago(Some(at))),
        None => number,
    }
}

/// The command that gets things moving again.
fn remedy(handler: &Handler) -> Option<String> {
    let name = &handler.name;
    if handler.paused.is_some() {
        return Some(format!("ringback handler resume {name}"));
    }
    if let Some(temporary) = &handler.temporary {
        let like = &temporary.like;
        return temporary
            .refused
            .as_ref()
            .map(|_| format!("mend what stands in the way, in handler `{like}` or `network`, and reload"));
    }
    if !handler.configured {
        return Some("name it in config.toml again, or leave it: its deliveries stay held".into());
    }
    (handler.failed > 0).then(|| format!("ringback replay --handler {name} --status failed --dry-run"))
}

#[cfg(test)]
mod tests {
    use super::super::output::capture;
    use super::super::status::samples;
    use super::*;
    use crate::admin::shape::{Attempt, Paused, Temporary};

    #[test]
    fn a_handler_is_shown_with_why_and_what_to_do() {
        let (mut out, captured) = capture::out(Format::Table);
        let attempt = Attempt {
            started_at: samples::at(60),
            duration_ms: 12,
            result: "refused".into(),
            status: Some(410),
            error: None,
            answer: "gone".into(),
            detail: Default::default(),
        };
        let handler = Handler {
            held: 3,
            paused: Some(Paused { by: "ringback".into(), reason: "it answered 410".into() }),
            last_attempt: Some(attempt),
            ..samples::handler("billing")
        };
        show(&handler, None, &mut out).expect("written");
        assert_eq!(
            captured.text(),
            "\
billing   paused
  waiting       0
  held          3
  failed        0
  delivered     40
  paused        by ringback: it answered 410
  last attempt  2025-11-20 09:23:07 UTC  410  12 ms  \"gone\"
  to mend       ringback handler resume billing
"
        );
    }

    #[test]
    fn a_temporary_handler_says_where_it_sends_to_and_how_it_is_dropped() {
        let temporary = Temporary {
            like: "billing".into(),
            url: "https://repair.example/hooks".into(),
            replay: 7,
            refused: Some("the configuration no longer has handler `billing`".into()),
        };
        let held = Handler { configured: false, held: 2, temporary: Some(temporary), ..samples::handler("billing~7") };
        let (mut out, captured) = capture::out(Format::Table);
        show(&held, None, &mut out).expect("written");
        assert_eq!(
            captured.text(),
            "\
billing~7   held
  temporary     like `billing`, to https://repair.example/hooks, until replay 7 is settled
  waiting       0
  held          2
  failed        0
  delivered     40
  held because  the configuration no longer has handler `billing`
  to mend       mend what stands in the way, in handler `billing` or `network`, and reload
  to drop       ringback replay --cancel 7
"
        );
        let (mut out, captured) = capture::out(Format::Table);
        render(&[samples::handler("billing"), held], &mut out).expect("written");
        let shown = captured.text();
        assert!(shown.contains("TEMPORARY, TO") && shown.contains("https://repair.example/hooks"), "{shown}");
    }

    #[test]
    fn failed_deliveries_point_at_the_replay() {
        let handler = Handler { failed: 2, ..samples::handler("audit") };
        assert_eq!(remedy(&handler).as_deref(), Some("ringback replay --handler audit --status failed --dry-run"));
        assert_eq!(remedy(&samples::handler("audit")), None);
    }
}

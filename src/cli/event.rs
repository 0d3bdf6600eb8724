//! `ringback event list|show`: what changed, why it was announced, and what became of it.

use std::io;
use std::time::Duration;

use clap::Subcommand;

use super::Global;
use super::exit::{Exit, Outcome};
use super::filter::Filter;
use super::output::{Field, Format, Out, Tone, printable, tone};
use super::reach::Reader;
use crate::admin::human;
use crate::admin::shape::{Attempt, DeliveryDetail, EventDetail, EventPage, EventSummary};
use crate::jq::Json;

#[derive(Subcommand, Clone, Debug, PartialEq)]
pub enum Command {
    /// Events, newest first
    List {
        #[command(flatten)]
        filter: Filter,
        /// At most so many
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: usize,
        /// Continue a listing: what the former one named as next
        #[arg(long, value_name = "NEXT")]
        after: Option<String>,
    },
    /// One event: what changed and what became of it
    Show {
        id: String,
        /// Only the record, byte for byte as received
        #[arg(long, conflicts_with = "attempts")]
        payload: bool,
        /// Every attempt with time, error and answer
        #[arg(long)]
        attempts: bool,
    },
}

pub async fn run(command: &Command, global: &Global, out: &mut Out) -> Outcome {
    match command {
        Command::List { filter, limit, after } => {
            let mut query = filter.query(out)?;
            query.limit = Some(*limit);
            query.after = after.clone();
            let page = Reader::open(global, out).await?.events(&query).await?;
            list(&page, out)?;
            // A filter that finds nothing is an answer, told by the exit code to scripts.
            return Ok(if page.events.is_empty() { Exit::Nothing } else { Exit::Done });
        }
        Command::Show { id, payload, attempts } => {
            let event = Reader::open(global, out).await?.event(id).await?;
            match (&event.data, payload) {
                (Some(data), true) => out.line(data.get())?,
                (None, true) => out.remark("the record was over the cap of event data and is not kept"),
                (_, false) if out.format != Format::Table => out.json(&event)?,
                (_, false) => show(&event, *attempts, out)?,
            }
        }
    }
    Ok(Exit::Done)
}

fn list(page: &EventPage, out: &mut Out) -> io::Result<()> {
    match out.format {
        Format::Json => return out.json(page),
        Format::Jsonl => return out.json_list(&page.events),
        Format::Table => {}
    }
    let row = |event: &EventSummary, out: &Out| {
        let deliveries: Vec<String> = event.deliveries.iter().map(|d| format!("{} {}", d.handler, d.state)).collect();
        vec![
            Field::text(out.time(event.seen_at)),
            Field::text(format!("{}/{}", event.source, event.stream)),
            Field::text(&event.event_type),
            Field::text(&event.key),
            Field::text(if deliveries.is_empty() { "for nobody".into() } else { deliveries.join(", ") }),
            Field::text(&event.id),
        ]
    };
    let rows = page.events.iter().map(|event| row(event, out)).collect();
    out.table(&["seen", "stream", "type", "key", "deliveries", "id"], rows)?;
    if let Some(next) = &page.next {
        out.remark(format!("there are more: --after {next}"));
    }
    if page.events.is_empty() {
        out.remark("no event matches");
    }
    Ok(())
}

fn show(event: &EventDetail, attempts: bool, out: &mut Out) -> io::Result<()> {
    out.line(format!(
        "{}   {}   {}/{}   key {}   revision {}",
        event.id,
        printable(&event.event_type),
        event.source,
        event.stream,
        printable(&event.key),
        event.revision
    ))?;
    let lag = event.seen.at.0.since(event.time.0);
    let lag =
        if lag.is_zero() { String::new() } else { format!("   {} after the provider's own time", human::span(lag)) };
    out.line(format!("  seen       {} by {}{lag}", out.time(event.seen.at), event.seen.by))?;
    if !event.why.is_empty() {
        out.line(format!("  why        {}", printable(&event.why)))?;
    }
    if event.first_sight {
        out.line("  note       first sight: it was there before Ringback looked")?;
    }
    if event.test {
        out.line("  note       made up by `ringback trigger`, not seen at the provider")?;
    }
    for (number, change) in changes(event).iter().enumerate() {
        out.line(format!("  {:<9}  {}", if number == 0 { "change" } else { "" }, printable(change)))?;
    }
    if event.deliveries.is_empty() {
        out.line("  deliveries none: no handler subscribes to it")?;
    } else {
        out.line("  deliveries")?;
    }
    let width = event.deliveries.iter().map(|delivery| delivery.handler.len()).max().unwrap_or(0);
    for delivery in &event.deliveries {
        deliveries(delivery, width, attempts, out)?;
    }
    let payload = match &event.data {
        Some(data) => {
            format!("{}   (ringback event show {} --payload)", human::bytes(data.get().len() as u64), event.id)
        }
        None => "over the cap, not kept".into(),
    };
    out.line(format!("  payload    {payload}"))
}

/// `place  old -> new` for each changed place.
fn changes(event: &EventDetail) -> Vec<String> {
    let read = |part: &Option<Box<serde_json::value::RawValue>>| {
        part.as_ref().and_then(|raw| Json::parse(raw.get().as_bytes()).ok())
    };
    let Some(changed) = read(&event.changed).and_then(|changed| changed.items()) else { return Vec::new() };
    let (old, new) = (read(&event.previous), read(&event.data));
    let at = |json: &Option<Json>, pointer: &str| {
        let found = json.as_ref().and_then(|json| pointed(json, pointer));
        found.map_or("absent".into(), |json| short(&json.to_text()))
    };
    let line = |pointer: &str| format!("{pointer}  {} -> {}", at(&old, pointer), at(&new, pointer));
    changed.iter().filter_map(Json::as_str).map(line).collect()
}

/// What a JSON pointer points at; number literals stay as sent.
fn pointed(json: &Json, pointer: &str) -> Option<Json> {
    let mut here = json.clone();
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        here = match here.items() {
            Some(items) => items.get(step.parse::<usize>().ok()?)?.clone(),
            None => here.members()?.into_iter().find(|(name, _)| *name == step)?.1,
        };
    }
    Some(here)
}

/// A long value is shown by its beginning.
fn short(text: &str) -> String {
    const MAX: usize = 60;
    match text.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn deliveries(delivery: &DeliveryDetail, width: usize, attempts: bool, out: &mut Out) -> io::Result<()> {
    let mut line = format!("    {:<width$}  {}", delivery.handler, out.paint(&delivery.state, tone(&delivery.state)));
    if let Some(hold) = &delivery.hold {
        line.push_str(&format!(" ({hold})"));
    }
    if delivery.replay {
        line.push_str(" (replay)");
    }
    line.push_str(&format!("  {}", human::counted(delivery.attempts.len() as u64, "attempt", "attempts")));
    if !attempts {
        let short: Vec<String> = delivery.attempts.iter().map(brief).collect();
        if !short.is_empty() {
            line.push_str(&format!("   {}", short.join("  |  ")));
        }
    }
    if let Some(next) = delivery.next_attempt_at.filter(|_| delivery.state == "pending") {
        line.push_str(&format!("   again {}", out.ago(Some(next))));
    }
    out.line(line)?;
    if attempts {
        for (number, attempt) in delivery.attempts.iter().enumerate() {
            out.line(format!("      #{}  {}", number + 1, attempt_line(attempt, out)))?;
            for line in detail_lines(attempt) {
                out.line(format!("          {line}"))?;
            }
        }
    }
    Ok(())
}

/// Where an attempt went, why then, and where its time did; nothing for what is not known.
fn detail_lines(attempt: &Attempt) -> Vec<String> {
    let detail = &attempt.detail;
    let mut lines = Vec::new();
    if !detail.target.is_empty() {
        let class = detail.error_class.as_ref().map(|class| format!(", {class}")).unwrap_or_default();
        lines.push(format!("to {} ({}{class})", printable(&detail.target), detail.trigger));
    }
    lines.extend(detail.headers.iter().map(|(name, value)| format!("{name}: {}", printable(value))));
    let parts = [
        ("dns", detail.dns_us),
        ("connect", detail.connect_us),
        ("tls", detail.tls_us),
        ("first byte", detail.first_byte_us),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter_map(|(name, micros)| Some(format!("{name} {}", human::span(Duration::from_micros((*micros)?)))))
        .collect();
    if !parts.is_empty() {
        lines.push(parts.join(", "));
    }
    lines
}

/// `503  12 ms "maintenance"`.
fn brief(attempt: &Attempt) -> String {
    let took = human::span(Duration::from_millis(attempt.duration_ms));
    let words = if attempt.result == "delivered" { None } else { said(attempt) };
    format!("{}  {took}{}", outcome(attempt), words.map(|words| format!(" {words}")).unwrap_or_default())
}

/// The status where there was one, else the word for what happened.
pub fn outcome(attempt: &Attempt) -> String {
    attempt.status.map_or_else(|| attempt.result.clone(), |status| status.to_string())
}

/// The beginning of the answer; without an answer, what went wrong.
fn said(attempt: &Attempt) -> Option<String> {
    match (attempt.status, &attempt.error, attempt.answer.trim()) {
        (None, Some(error), _) => Some(printable(error)),
        (_, _, "") => None,
        (_, _, answer) => Some(format!("\"{}\"", short(&printable(answer).replace('\n', " ")))),
    }
}

/// One attempt with its time.
pub fn attempt_line(attempt: &Attempt, out: &Out) -> String {
    let took = human::span(Duration::from_millis(attempt.duration_ms));
    let word = outcome(attempt);
    let tone = if attempt.result == "delivered" { Tone::Good } else { Tone::Bad };
    let words = said(attempt).map(|words| format!("  {words}")).unwrap_or_default();
    format!("{}  {}  {took}{words}", out.time(attempt.started_at), out.paint(&word, tone))
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::super::output::capture;
    use super::super::status::samples::at;
    use super::*;
    use crate::admin::shape::Seen;

    fn raw(text: &str) -> Option<Box<RawValue>> {
        Some(RawValue::from_string(text.into()).expect("JSON"))
    }

    fn attempt(status: Option<u16>, result: &str, answer: &str) -> Attempt {
        let answer = answer.into();
        Attempt {
            started_at: at(10),
            duration_ms: 12,
            result: result.into(),
            status,
            error: None,
            answer,
            detail: Default::default(),
        }
    }

    fn event() -> EventDetail {
        let delivery = |handler: &str, attempts: Vec<Attempt>| DeliveryDetail {
            handler: handler.into(),
            state: "delivered".into(),
            hold: None,
            replay: false,
            counted: 0,
            next_attempt_at: None,
            attempts,
        };
        EventDetail {
            id: "evt_1".into(),
            event_type: "payment.settled".into(),
            kind: "updated".into(),
            source: "core".into(),
            stream: "payments".into(),
            key: "P-88107".into(),
            revision: 3,
            time: at(13),
            seen: Seen { at: at(10), by: "poll".into() },
            first_sight: false,
            test: false,
            data: raw(r#"{"status":"SETTLED","amount":10.00,"lines":[{"a/b":2}]}"#),
            previous: raw(r#"{"status":"PENDING","amount":9.50}"#),
            changed: raw(r#"["/status","/amount","/lines/0/a~1b"]"#),
            why: "its content differs from the copy that was stored".into(),
            deliveries: vec![
                delivery("billing", vec![attempt(Some(200), "delivered", "thanks")]),
                delivery(
                    "audit",
                    vec![attempt(Some(503), "refused", "maintenance"), attempt(Some(200), "delivered", "")],
                ),
            ],
        }
    }

    #[test]
    fn an_event_is_shown_with_what_changed_and_what_became_of_it() {
        let (mut out, captured) = capture::out(Format::Table);
        show(&event(), false, &mut out).expect("written");
        assert_eq!(
            captured.text(),
            r#"evt_1   payment.settled   core/payments   key P-88107   revision 3
  seen       2025-11-20 09:23:57 UTC by poll   3.0 s after the provider's own time
  why        its content differs from the copy that was stored
  change     /status  "PENDING" -> "SETTLED"
             /amount  9.50 -> 10.00
             /lines/0/a~1b  absent -> 2
  deliveries
    billing  delivered  1 attempt   200  12 ms
    audit    delivered  2 attempts   503  12 ms "maintenance"  |  200  12 ms
  payload    55 B   (ringback event show evt_1 --payload)
"#
        );
    }

    #[test]
    fn attempts_are_listed_with_time_and_answer() {
        let (mut out, captured) = capture::out(Format::Table);
        show(&event(), true, &mut out).expect("written");
        let line = "      #1  2025-11-20 09:23:57 UTC  503  12 ms  \"maintenance\"\n";
        assert!(captured.text().contains(line), "{}", captured.text());
    }

    #[test]
    fn a_listing_names_who_got_what() {
        let (mut out, captured) = capture::out(Format::Table);
        let event = EventSummary {
            id: "evt_1".into(),
            event_type: "payment.created".into(),
            source: "core".into(),
            stream: "payments".into(),
            key: "P\u{1b}1".into(),
            revision: 1,
            time: at(0),
            seen_at: at(0),
            deliveries: Vec::new(),
        };
        list(&EventPage { events: vec![event], next: None }, &mut out).expect("written");
        assert_eq!(
            captured.text(),
            "SEEN                     STREAM         TYPE             KEY  DELIVERIES  ID\n\
             2025-11-20 09:24:07 UTC  core/payments  payment.created  P\u{fffd}1  for nobody  evt_1\n"
        );
    }
}

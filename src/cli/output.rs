//! What a command shows: data on stdout as table, JSON or JSON lines; everything else on stderr.

use std::io::{self, IsTerminal, Write};

use chrono::{DateTime, Local, TimeZone, Utc};
use clap::ValueEnum;
use comfy_table::{Attribute, Cell, Color as Paint, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::admin::human;
use crate::admin::shape::Time;
use crate::model::Timestamp;

/// `--output`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
    /// One JSON value a line.
    Jsonl,
}

/// `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

impl Color {
    /// Whether to colour a stream: the flag decides, then `NO_COLOR`, then `CLICOLOR_FORCE`, then whether it is a terminal.
    pub fn decide(self, terminal: bool, variable: impl Fn(&str) -> Option<String>) -> bool {
        let set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto if set("NO_COLOR") => false,
            Color::Auto if set("CLICOLOR_FORCE") && variable("CLICOLOR_FORCE").as_deref() != Some("0") => true,
            Color::Auto => terminal && variable("TERM").as_deref() != Some("dumb"),
        }
    }
}

/// How a word is coloured. The word itself says the same: colour is never the only sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Bad,
    Waiting,
    Dim,
}

/// The tone of a state, result or kind as the API names it.
pub fn tone(word: &str) -> Tone {
    match word {
        "ok" | "delivered" | "valid" => Tone::Good,
        "held" | "paused" | "waiting" | "probing" | "pending" | "claimed" | "first look" | "not yet polled" => {
            Tone::Waiting
        }
        "not polled" | "not configured" => Tone::Dim,
        _ if ["failed", "failing", "refused", "timeout", "unreachable", "broken"]
            .iter()
            .any(|bad| word.starts_with(bad)) =>
        {
            Tone::Bad
        }
        _ => Tone::Plain,
    }
}

/// A cell of a table.
pub struct Field {
    text: String,
    tone: Tone,
    right: bool,
}

impl Field {
    pub fn text(text: impl Into<String>) -> Field {
        Field { text: printable(&text.into()), tone: Tone::Plain, right: false }
    }

    /// A state, coloured by what it says.
    pub fn state(text: impl Into<String>) -> Field {
        let field = Field::text(text);
        Field { tone: tone(&field.text), ..field }
    }

    pub fn count(number: u64) -> Field {
        Field { right: true, ..Field::text(human::count(number)) }
    }
}

/// Text from outside (keys, errors, answers) cannot move the cursor or colour the terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// Where a command writes its data, and how.
pub struct Out {
    pub format: Format,
    pub color: bool,
    pub utc: bool,
    pub now: Timestamp,
    /// Columns of the terminal; None: not a terminal, lines are never folded.
    width: Option<u16>,
    quiet: bool,
    writer: Box<dyn Write + Send>,
}

impl Out {
    /// Standard output.
    pub fn stdout(format: Format, color: Color, utc: bool, quiet: bool, now: Timestamp) -> Out {
        let terminal = io::stdout().is_terminal();
        let color = color.decide(terminal, |name| std::env::var(name).ok());
        let width = if terminal { Table::new().width() } else { None };
        Out { format, color, utc, now, width, quiet, writer: Box::new(io::stdout()) }
    }

    /// Whether stderr is a terminal on which something may be drawn over.
    pub fn draws(&self) -> bool {
        !self.quiet && io::stderr().is_terminal() && std::env::var("TERM").as_deref() != Ok("dumb")
    }

    /// A line of data.
    pub fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.writer, "{}", text.as_ref())?;
        self.writer.flush()
    }

    /// One value as JSON: pretty for `json`, one line for `jsonl`.
    pub fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> io::Result<()> {
        let text = match self.format {
            Format::Jsonl => serde_json::to_string(value),
            Format::Json | Format::Table => serde_json::to_string_pretty(value),
        };
        self.line(text.map_err(io::Error::other)?)
    }

    /// A listing as JSON: the whole for `json`, one item a line for `jsonl`.
    pub fn json_list<T: Serialize>(&mut self, items: &[T]) -> io::Result<()> {
        if self.format == Format::Jsonl {
            return items.iter().try_for_each(|item| self.json(item));
        }
        self.json(items)
    }

    /// A table; without rows nothing.
    pub fn table(&mut self, names: &[&str], rows: Vec<Vec<Field>>) -> io::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        match self.width {
            Some(width) => table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic),
            None => table.force_no_tty().set_content_arrangement(ContentArrangement::Disabled),
        };
        if self.color {
            table.enforce_styling();
        }
        table.set_header(names.iter().map(|name| Cell::new(name.to_uppercase()).add_attribute(Attribute::Bold)));
        for row in rows {
            table.add_row(row.into_iter().map(|field| self.cell(field)));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        self.line(table.trim_fmt())
    }

    fn cell(&self, field: Field) -> Cell {
        let cell = Cell::new_owned(field.text);
        let cell = if field.right { cell.set_alignment(comfy_table::CellAlignment::Right) } else { cell };
        match field.tone {
            Tone::Plain => cell,
            Tone::Good => cell.fg(Paint::Green),
            Tone::Bad => cell.fg(Paint::Red),
            Tone::Waiting => cell.fg(Paint::Yellow),
            Tone::Dim => cell.fg(Paint::DarkGrey),
        }
    }

    /// A word outside tables in its tone.
    pub fn paint(&self, text: &str, tone: Tone) -> String {
        let text = printable(text);
        let code = match tone {
            _ if !self.color => return text,
            Tone::Plain => return text,
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Waiting => "33",
            Tone::Dim => "90",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// A remark on stderr, unless `--quiet`.
    pub fn remark(&self, text: impl AsRef<str>) {
        if !self.quiet {
            // A closed stderr is no reason to fail.
            let _ = writeln!(io::stderr(), "{}", text.as_ref());
        }
    }

    /// Date and time with its zone.
    pub fn time(&self, Time(at): Time) -> String {
        self.written(at, "%Y-%m-%d %H:%M:%S")
    }

    /// The time of day; with the date when it is not today.
    pub fn clock(&self, Time(at): Time) -> String {
        let day = |at: Timestamp| if self.utc { at.to_utc().date_naive() } else { local(at).date_naive() };
        let pattern = if day(at) == day(self.now) { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
        if self.utc { format!("{}Z", at.to_utc().format(pattern)) } else { local(at).format(pattern).to_string() }
    }

    fn written(&self, at: Timestamp, pattern: &str) -> String {
        if self.utc {
            format!("{} UTC", at.to_utc().format(pattern))
        } else {
            format!("{}", local(at).format(&format!("{pattern} %:z")))
        }
    }

    /// `8 s ago`, `in 3 m`; `-` when there is no such moment.
    pub fn ago(&self, at: Option<Time>) -> String {
        at.map_or("-".into(), |Time(at)| human::from_now(at, self.now))
    }
}

fn local(at: Timestamp) -> DateTime<Local> {
    Local.from_utc_datetime(&DateTime::<Utc>::naive_utc(&at.to_utc()))
}

#[cfg(test)]
pub mod capture {
    //! An [`Out`] that tests can read.

    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    pub struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("no panic").clone()).expect("UTF-8")
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Times in UTC, now is 2025-11-20T09:24:07Z, no colour, no terminal.
    pub fn out(format: Format) -> (Out, Captured) {
        let captured = Captured::default();
        let now = Timestamp(1_763_630_647_000);
        let writer = Box::new(captured.clone());
        (Out { format, color: false, utc: true, now, width: None, quiet: true, writer }, captured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_decided_by_flag_then_variables_then_terminal() {
        let with = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        };
        assert!(Color::Always.decide(false, with(&[("NO_COLOR", "1")])));
        assert!(!Color::Never.decide(true, with(&[("CLICOLOR_FORCE", "1")])));
        assert!(!Color::Auto.decide(true, with(&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")])));
        assert!(Color::Auto.decide(false, with(&[("CLICOLOR_FORCE", "1")])));
        assert!(!Color::Auto.decide(false, with(&[("CLICOLOR_FORCE", "0")])));
        assert!(Color::Auto.decide(true, with(&[("NO_COLOR", "")])));
        assert!(!Color::Auto.decide(true, with(&[("TERM", "dumb")])));
        assert!(!Color::Auto.decide(false, with(&[])));
    }

    #[test]
    fn a_table_is_aligned_and_plain_outside_a_terminal() {
        let (mut out, captured) = capture::out(Format::Table);
        let rows = vec![
            vec![Field::text("core/payments"), Field::state("ok"), Field::count(1_284)],
            vec![Field::text("a"), Field::state("failing"), Field::count(7)],
        ];
        out.table(&["stream", "state", "records"], rows).expect("written");
        assert_eq!(
            captured.text(),
            "STREAM         STATE    RECORDS\ncore/payments  ok         1,284\na              failing        7\n"
        );
    }

    #[test]
    fn colours_appear_when_asked_for_and_text_from_outside_cannot_make_its_own() {
        let (mut out, captured) = capture::out(Format::Table);
        out.color = true;
        assert_eq!(out.paint("failed", Tone::Bad), "\u{1b}[31mfailed\u{1b}[0m");
        assert_eq!(out.paint("a\u{1b}[2Jb", Tone::Plain), "a\u{fffd}[2Jb");
        out.table(&["state"], vec![vec![Field::state("failing")]]).expect("written");
        assert!(captured.text().contains("\u{1b}["), "{:?}", captured.text());
    }

    #[test]
    fn a_time_of_another_day_carries_its_date() {
        let (out, _) = capture::out(Format::Table);
        assert_eq!(out.clock(Time(out.now)), "09:24:07Z");
        assert_eq!(out.clock(Time(Timestamp(out.now.0 - 86_400_000))), "2025-11-19 09:24:07Z");
        assert_eq!(out.time(Time(out.now)), "2025-11-20 09:24:07 UTC");
    }

    #[test]
    fn json_lines_are_one_item_a_line() {
        let (mut out, captured) = capture::out(Format::Jsonl);
        out.json_list(&[1, 2]).expect("written");
        assert_eq!(captured.text(), "1\n2\n");
        let (mut out, captured) = capture::out(Format::Json);
        out.json_list::<u8>(&[]).expect("written");
        assert_eq!(captured.text(), "[]\n");
    }
}

//! `ringback problem list|ack|approve|reject|retry`: what needs a person, since when, and what the person decides.

use std::io;

use clap::Subcommand;

use super::Global;
use super::exit::{Exit, Failure, Outcome};
use super::output::{Format, Out, Tone, printable};
use super::reach::{self, Reader};
use crate::admin::human;
use crate::admin::shape::{AckOrder, Done, Problem, Retried};

#[derive(Subcommand, Clone, Debug, PartialEq)]
pub enum Command {
    /// Open problems with what to do
    List,
    /// Mark a problem as seen: it stays listed and no longer makes `status` fail
    Ack {
        /// Its kind, such as auth.failed
        kind: String,
        /// What it concerns, as `problem list` names it; nothing for the daemon itself
        #[arg(default_value = "")]
        subject: String,
    },
    /// Let what a guard holds pass: the next complete run, with about as many as are held now
    Approve {
        /// Its kind: deletes.held, changes.held or list.empty
        kind: String,
        /// The stream, as `problem list` names it
        #[arg(value_name = "SOURCE/STREAM")]
        subject: String,
    },
    /// Keep what a guard holds, until a run is well again
    Reject {
        /// Its kind: deletes.held, changes.held or list.empty
        kind: String,
        /// The stream, as `problem list` names it
        #[arg(value_name = "SOURCE/STREAM")]
        subject: String,
    },
    /// Put what could not be read or decided through again, with the configuration of today
    Retry {
        /// Its kind: record.unreadable, webhook.unmatched or when.failed
        kind: String,
        /// The stream, the source or the handler, as `problem list` names it
        subject: String,
    },
}

pub async fn run(command: &Command, global: &Global, out: &mut Out) -> Outcome {
    match command {
        Command::List => {
            let problems = Reader::open(global, out).await?.problems().await?;
            match out.format {
                Format::Json | Format::Jsonl => out.json_list(&problems)?,
                Format::Table if problems.is_empty() => out.remark("no problems"),
                Format::Table => render(&problems, out)?,
            }
        }
        Command::Ack { kind, subject } => {
            let order = AckOrder { kind: kind.clone(), subject: subject.clone() };
            let done: Done = reach::daemon(global, out).await?.post("problems/ack", &order).await?;
            out.remark(done.done);
        }
        Command::Approve { kind, subject } => decide("problems/approve", kind, subject, global, out).await?,
        Command::Reject { kind, subject } => decide("problems/reject", kind, subject, global, out).await?,
        Command::Retry { kind, subject } => {
            let order = AckOrder { kind: kind.clone(), subject: subject.clone() };
            let daemon = reach::daemon(global, out).await?;
            let retried: Retried = daemon.post_within("problems/retry", &order, reach::POLL_TIMEOUT).await?;
            match out.format {
                Format::Json | Format::Jsonl => out.json(&retried)?,
                Format::Table => out.remark(&retried.done),
            }
            // What is left still needs a person.
            return Ok(if retried.left > 0 { Exit::Findings } else { Exit::Done });
        }
    }
    Ok(Exit::Done)
}

async fn decide(path: &str, kind: &str, subject: &str, global: &Global, out: &mut Out) -> Result<(), Failure> {
    let order = AckOrder { kind: kind.to_owned(), subject: subject.to_owned() };
    let done: Done = reach::daemon(global, out).await?.post(path, &order).await?;
    out.remark(done.done);
    Ok(())
}

/// What is held with it, and what was decided.
fn held(problem: &Problem, out: &Out) -> Option<String> {
    let held = problem.held?;
    let Some(decided) = &problem.decided else {
        return Some(format!(
            "{} held: `ringback problem approve {kind} {subject}` lets them pass, `reject` keeps them",
            human::counted(held, "record is", "records are"),
            kind = problem.kind,
            subject = problem.subject
        ));
    };
    let word = if decided.approved { "approved" } else { "rejected" };
    Some(format!("{word} for {} by {}, {}", human::count(decided.held), decided.by, out.time(decided.at)))
}

pub fn render(problems: &[Problem], out: &mut Out) -> io::Result<()> {
    for problem in problems {
        let (mark, tone) = if problem.acknowledged { ("-", Tone::Dim) } else { ("!", Tone::Bad) };
        out.line(format!(
            "\n{} {}   since {}, {}{}",
            out.paint(&format!("{mark} {}", problem.kind), tone),
            out.paint(&format!(" {}", problem.subject), Tone::Plain).trim_end(),
            out.time(problem.opened_at),
            human::counted(problem.count, "time", "times"),
            if problem.acknowledged { " (acknowledged)" } else { "" },
        ))?;
        for line in problem.message.lines() {
            out.line(format!("    {}", out.paint(line, Tone::Plain)))?;
        }
        if let Some(line) = held(problem, out) {
            out.line(format!("    {}", printable(&line)))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::output::capture;
    use super::super::status::samples::at;
    use super::*;
    use crate::admin::shape::HeldDecision;

    #[test]
    fn what_is_held_is_shown_with_the_command_that_decides_and_then_with_the_decision() {
        let problem = |decided: Option<HeldDecision>| Problem {
            kind: "deletes.held".into(),
            subject: "core/customers".into(),
            message: "20 of 100 records are absent".into(),
            opened_at: at(600),
            last_seen_at: at(5),
            count: 2,
            acknowledged: false,
            held: Some(20),
            decided,
        };
        let shown = |problem: Problem| {
            let (mut out, captured) = capture::out(Format::Table);
            render(&[problem], &mut out).expect("written");
            captured.text()
        };
        let open = shown(problem(None));
        assert!(open.contains("20 records are held: `ringback problem approve deletes.held core/customers`"), "{open}");
        let decided = HeldDecision { approved: false, held: 20, by: "user 0".into(), at: at(60) };
        let text = shown(problem(Some(decided)));
        assert!(text.contains("rejected for 20 by user 0, 2025-11-20 09:23:07 UTC"), "{text}");
    }
}

//! `ringback problem list|ack`: what needs a person, and since when.

use std::io;

use clap::Subcommand;

use super::Global;
use super::exit::{Exit, Outcome};
use super::output::{Format, Out, Tone};
use super::reach::{self, Reader};
use crate::admin::human;
use crate::admin::shape::{AckOrder, Done, Problem};

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
    }
    Ok(Exit::Done)
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
    }
    Ok(())
}

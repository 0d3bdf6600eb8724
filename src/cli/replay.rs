//! `ringback replay`: stored events sent again, under their old ids unless new ones are asked for by name. A replay that was started goes
//! on by itself in the daemon; it is listed, watched and cancelled here.

mod watch;

use std::io;
use std::time::Duration;

use clap::Args;

use super::Global;
use super::exit::{Exit, Failure, Outcome};
use super::filter::{Filter, spacing};
use super::output::{Field, Format, Out};
use super::reach;
use crate::admin::human;
use crate::admin::shape::{Done, ReplayJob, ReplayOrder, ReplayPlan};
use crate::admin::view::is_address;

#[derive(Args, Clone, Debug, PartialEq)]
pub struct Command {
    /// The events to send again
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    #[command(flatten)]
    pub filter: Filter,
    /// Only to this handler, even if it never had them, or to this address for once; otherwise to those that had them
    #[arg(long, value_name = "HANDLER|URL")]
    pub to: Option<String>,
    /// Whose secrets, format, headers, TLS and retries an address is sent to with; not needed where only one handler is sent to over HTTP
    #[arg(long, value_name = "HANDLER", requires = "to")]
    pub like: Option<String>,
    /// At most so many of the matching events, the oldest first
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Spread them out, such as 20/s
    #[arg(long, value_name = "N/s", value_parser = spacing)]
    pub rate: Option<Duration>,
    /// Only count what would be sent
    #[arg(long, conflicts_with = "watch")]
    pub dry_run: bool,
    /// Under new ids: handlers that drop what they have seen take the events again
    #[arg(long)]
    pub fresh_id: bool,
    /// Stay and show how far it is; leaving does not stop it
    #[arg(short, long)]
    pub watch: bool,
    /// The last replays that were asked for, and how far they are
    #[arg(long, conflicts_with_all = ["ids", "dry_run", "watch", "job", "cancel"])]
    pub jobs: bool,
    /// Show one of them; with --watch until it ends
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["ids", "dry_run", "cancel"])]
    pub job: Option<u64>,
    /// Take back what one of them has not sent yet
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["ids", "dry_run", "watch"])]
    pub cancel: Option<u64>,
}

pub async fn run(command: &Command, global: &Global, out: &mut Out) -> Outcome {
    if command.jobs {
        let jobs: Vec<ReplayJob> = reach::daemon(global, out).await?.get("replays", &[]).await?;
        return list(&jobs, out);
    }
    if let Some(job) = command.cancel {
        let done: Done = reach::daemon(global, out).await?.post(&format!("replays/{job}/cancel"), &()).await?;
        out.remark(&done.done);
        return Ok(Exit::Done);
    }
    if let Some(job) = command.job {
        let daemon = reach::daemon(global, out).await?;
        return if command.watch {
            watch::until_it_ends(&daemon, job, out).await
        } else {
            list(&[watch::look(&daemon, job).await?], out)
        };
    }
    let order = order(command, out)?;
    let daemon = reach::daemon(global, out).await?;
    let plan: ReplayPlan = daemon.post("replay", &order).await?;
    match out.format {
        Format::Json | Format::Jsonl => out.json(&plan)?,
        Format::Table => show(&plan, command.rate, out)?,
    }
    match plan.job.filter(|_| command.watch) {
        Some(job) => watch::until_it_ends(&daemon, job, out).await,
        None => Ok(if plan.deliveries == 0 { Exit::Nothing } else { Exit::Done }),
    }
}

fn list(jobs: &[ReplayJob], out: &mut Out) -> Outcome {
    if out.format != Format::Table {
        out.json_list(jobs)?;
    } else if !jobs.is_empty() {
        let row = |job: &ReplayJob| {
            vec![
                Field::text(job.id.to_string()),
                Field::state(&job.state),
                Field::text(out.time(job.started_at)),
                Field::text(&job.by),
                Field::text(job.to.as_deref().unwrap_or("those that had them")),
                Field::count(job.expected.max(job.deliveries)),
                Field::count(job.pending + job.expected.saturating_sub(job.deliveries)),
                Field::count(job.failed),
                Field::count(job.cancelled),
            ]
        };
        let rows = jobs.iter().map(row).collect();
        out.table(&["JOB", "STATE", "STARTED", "BY", "TO", "DELIVERIES", "PENDING", "FAILED", "TAKEN BACK"], rows)?;
    }
    Ok(if jobs.is_empty() { Exit::Nothing } else { Exit::Done })
}

fn order(command: &Command, out: &Out) -> Result<ReplayOrder, Failure> {
    if command.ids.is_empty() && command.filter == Filter::default() {
        return Err(Failure::usage("nothing says which events to send again")
            .help("give event ids, or a filter such as --handler audit --status failed --since 2h"));
    }
    let mut events = command.filter.query(out)?;
    events.limit = command.limit;
    let spacing_ms = command.rate.map_or(0, |spacing| u64::try_from(spacing.as_millis()).unwrap_or(u64::MAX));
    if command.like.is_some() && !command.to.as_deref().is_some_and(is_address) {
        return Err(Failure::usage("`--like` goes with an address in `--to`").help("such as --to https://host/path"));
    }
    Ok(ReplayOrder {
        ids: command.ids.clone(),
        events,
        to: command.to.clone(),
        like: command.like.clone(),
        dry_run: command.dry_run,
        spacing_ms,
        fresh_ids: command.fresh_id,
    })
}

fn show(plan: &ReplayPlan, rate: Option<Duration>, out: &mut Out) -> io::Result<()> {
    if plan.deliveries == 0 {
        out.remark(if plan.events == 0 {
            "no event matches"
        } else {
            "no handler had these events; name one with --to"
        });
        return Ok(());
    }
    let mut parts = vec![human::counted(plan.events, "event", "events")];
    if plan.deliveries != plan.events {
        parts.push(human::counted(plan.deliveries, "delivery", "deliveries"));
    }
    parts.extend(plan.oldest.map(|at| format!("oldest {}", out.time(at))));
    parts.extend(plan.newest.map(|at| format!("newest {}", out.time(at))));
    parts.push(human::bytes(plan.bytes));
    let mut line = parts.join(", ");
    if let Some(spacing) = rate {
        let whole = spacing.saturating_mul(u32::try_from(plan.deliveries).unwrap_or(u32::MAX));
        line.push_str(&format!("; about {}", human::span(whole)));
    }
    if let (Some(address), Some(like)) = (&plan.address, &plan.like) {
        line.push_str(&format!("; to {address} like `{like}`"));
    }
    line.push_str(&match plan.job {
        _ if plan.dry_run => ".   Nothing sent. Drop --dry-run to start.".to_owned(),
        Some(job) => format!(".   On their way as replay {job}: ringback replay --job {job} --watch"),
        None => ".   On their way: ringback tail -f".to_owned(),
    });
    out.line(line)
}

#[cfg(test)]
mod tests {
    use super::super::output::capture;
    use super::super::status::samples::at;
    use super::*;

    #[test]
    fn the_plan_is_one_line() {
        let plan = ReplayPlan {
            dry_run: true,
            events: 1_284,
            deliveries: 1_284,
            bytes: 2_100_000,
            oldest: Some(at(600)),
            newest: Some(at(60)),
            job: None,
            address: None,
            like: None,
            handler: None,
        };
        let (mut out, captured) = capture::out(Format::Table);
        show(&plan, Some(Duration::from_millis(50)), &mut out).expect("written");
        assert_eq!(
            captured.text(),
            "1,284 events, oldest 2025-11-20 09:14:07 UTC, newest 2025-11-20 09:23:07 UTC, 2.1 MB; about 64 s.   \
             Nothing sent. Drop --dry-run to start.\n"
        );
        let address = Some("https://repair.example/hooks?key=***".to_owned());
        let started = ReplayPlan { dry_run: false, job: Some(7), address, like: Some("billing".into()), ..plan };
        let (mut out, captured) = capture::out(Format::Table);
        show(&started, None, &mut out).expect("written");
        let want = "2.1 MB; to https://repair.example/hooks?key=*** like `billing`.   On their way as replay 7";
        assert!(captured.text().contains(want), "{}", captured.text());
    }

    #[test]
    fn everything_is_never_replayed_by_mistake() {
        let (out, _) = capture::out(Format::Table);
        let none = Command {
            ids: Vec::new(),
            filter: Filter::default(),
            to: Some("audit".into()),
            like: None,
            limit: None,
            rate: None,
            dry_run: false,
            fresh_id: false,
            watch: false,
            jobs: false,
            job: None,
            cancel: None,
        };
        let alike = Command { ids: vec!["evt_1".into()], like: Some("billing".into()), ..none.clone() };
        assert_eq!(order(&alike, &out).expect_err("refused").exit, Exit::Usage, "a handler has a manner of its own");
        let elsewhere = Command { to: Some("http://h.example/".into()), ..alike };
        assert_eq!(order(&elsewhere, &out).expect("an order").like.as_deref(), Some("billing"));
        assert_eq!(order(&none, &out).expect_err("refused").exit, Exit::Usage);
        let some = Command { ids: vec!["evt_1".into()], ..none };
        assert_eq!(order(&some, &out).expect("an order").to.as_deref(), Some("audit"));
    }
}

//! A replay that is watched: a bar where stderr is a terminal, else a line for each change.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::admin::human;
use crate::admin::shape::ReplayJob;
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::Out;
use crate::cli::reach::Daemon;

/// Between two looks at a replay that is watched.
const LOOK: Duration = Duration::from_millis(500);

pub async fn look(daemon: &Daemon, job: u64) -> Result<ReplayJob, Failure> {
    daemon.get(&format!("replays/{job}"), &[]).await
}

/// Shows a replay until it ends. Leaving leaves it alone: it is the daemon's.
pub async fn until_it_ends(daemon: &Daemon, job: u64, out: &mut Out) -> Outcome {
    let bar = out.draws().then(|| bar(ProgressDrawTarget::stderr()));
    let mut shown = String::new();
    loop {
        let now = look(daemon, job).await?;
        let line = progress(&now);
        match &bar {
            Some(bar) => draw(bar, &now, line),
            None if line != shown => {
                out.remark(&line);
                shown = line;
            }
            None => {}
        }
        if now.state == "done" || now.state == "cancelled" {
            if let Some(bar) = bar {
                bar.abandon();
            }
            return Ok(if now.failed > 0 { Exit::Failed } else { Exit::Done });
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = tokio::signal::ctrl_c() => {
                if let Some(bar) = bar {
                    bar.abandon();
                }
                out.remark(format!("it goes on; ringback replay --job {job} --watch, or --cancel {job}"));
                return Ok(Exit::Interrupted);
            }
        }
    }
}

fn bar(target: ProgressDrawTarget) -> ProgressBar {
    let style = ProgressStyle::with_template("[{bar:30}] {msg}").expect("the template is a good one");
    ProgressBar::with_draw_target(None, target).with_style(style.progress_chars("=> "))
}

fn draw(bar: &ProgressBar, job: &ReplayJob, line: String) {
    bar.set_length(whole(job));
    bar.set_position(settled(job));
    bar.set_message(line);
}

/// How many deliveries it comes to; those not made yet are among them.
fn whole(job: &ReplayJob) -> u64 {
    job.expected.max(job.deliveries)
}

fn settled(job: &ReplayJob) -> u64 {
    job.deliveries.saturating_sub(job.pending)
}

/// `replay 7: 120 of 1,284 deliveries (9 %), 3 failed`.
fn progress(job: &ReplayJob) -> String {
    let (settled, whole) = (settled(job), whole(job));
    let percent = (u128::from(settled) * 100).checked_div(u128::from(whole)).unwrap_or(100);
    let of = human::counted(whole, "delivery", "deliveries");
    let mut line = format!("replay {}: {} of {of} ({percent} %)", job.id, human::count(settled));
    if whole > job.deliveries {
        line.push_str(&format!(", {} made so far", human::count(job.deliveries)));
    }
    if job.failed > 0 {
        line.push_str(&format!(", {} failed", human::count(job.failed)));
    }
    if job.cancelled > 0 {
        line.push_str(&format!(", {} taken back", human::count(job.cancelled)));
    }
    if job.state != "running" {
        line.push_str(&format!("; {}", job.state));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::status::samples::at;

    fn job() -> ReplayJob {
        ReplayJob {
            id: 7,
            state: "running".into(),
            started_at: at(60),
            by: "user 1000".into(),
            to: None,
            fresh_ids: false,
            events: 1_284,
            deliveries: 1_284,
            expected: 1_284,
            pending: 1_164,
            delivered: 117,
            failed: 3,
            cancelled: 0,
            last_due_at: at(0),
        }
    }

    #[test]
    fn progress_is_one_line() {
        assert_eq!(progress(&job()), "replay 7: 120 of 1,284 deliveries (9 %), 3 failed");
        let early = ReplayJob { deliveries: 500, pending: 497, failed: 0, ..job() };
        assert_eq!(progress(&early), "replay 7: 3 of 1,284 deliveries (0 %), 500 made so far");
        let ended = ReplayJob { state: "cancelled".into(), pending: 0, cancelled: 1_164, ..job() };
        let want = "replay 7: 1,284 of 1,284 deliveries (100 %), 3 failed, 1,164 taken back; cancelled";
        assert_eq!(progress(&ended), want);
    }

    #[test]
    fn the_bar_is_as_far_as_the_replay() {
        let bar = bar(ProgressDrawTarget::hidden());
        draw(&bar, &job(), progress(&job()));
        assert_eq!((bar.position(), bar.length(), bar.message()), (120, Some(1_284), progress(&job())));
    }
}

//! Housekeeping by tokio-cron-scheduler, in UTC: retention in small batches, optimise, statistics. It never times a poll: it looks
//! at the clock every 500 ms only, drops runs when many are due, and is an hour off after a clock change.

use std::sync::Arc;
use std::time::Duration;

use tokio_cron_scheduler::{Job, JobScheduler};
use tracing::{info, warn};

use super::{Daemon, backlog, retention};
use crate::model::{Problem, ProblemKind};

/// A clock that was set and stayed right since is no problem any more.
const STEP_SHOWN: Duration = Duration::from_secs(24 * 60 * 60);

/// Starts the jobs.
pub async fn start(daemon: &Arc<Daemon>) -> anyhow::Result<JobScheduler> {
    let scheduler = JobScheduler::new().await?;
    let old = daemon.clone();
    // Seconds first: a quarter past each hour; at 03:40 each night; every ten seconds.
    scheduler.add(Job::new_async("0 15 * * * *", move |_, _| Box::pin(retention::prune(old.clone())))?).await?;
    let nightly = daemon.clone();
    scheduler.add(Job::new_async("0 40 3 * * *", move |_, _| Box::pin(optimise(nightly.clone())))?).await?;
    // One at a time: on a slow disk a count may last longer than the time between two.
    let (counting, turn) = (daemon.clone(), Arc::new(tokio::sync::Mutex::new(())));
    let first = turn.clone();
    let count = move |_, _| Box::pin(statistics(counting.clone(), turn.clone())) as _;
    scheduler.add(Job::new_async("*/10 * * * * *", count)?).await?;
    // A disk that is full already is found before the first ten seconds are over.
    tokio::spawn(statistics(daemon.clone(), first));
    scheduler.start().await?;
    Ok(scheduler)
}

/// Ends the jobs.
pub async fn stop(mut scheduler: JobScheduler) {
    if let Err(error) = scheduler.shutdown().await {
        warn!("housekeeping did not stop: {error}");
    }
}

async fn optimise(daemon: Arc<Daemon>) {
    match daemon.store.optimise().await {
        Ok(()) => info!("the database was optimised"),
        Err(error) => warn!("the database could not be optimised: {error}"),
    }
}

/// Counts for the metrics, and the free space.
async fn statistics(daemon: Arc<Daemon>, turn: Arc<tokio::sync::Mutex<()>>) {
    let Ok(_turn) = turn.try_lock() else { return };
    if let Err(error) = count(&daemon).await {
        warn!("the statistics could not be made: {error}");
    }
}

async fn count(daemon: &Daemon) -> crate::store::Result<()> {
    let handlers = daemon.store.handlers().await?;
    daemon.metrics.counted_handlers(handlers.iter().map(|handler| handler.name.clone()).collect());
    for handler in handlers {
        let counts = [
            ("pending", handler.pending),
            ("claimed", handler.claimed),
            ("failed", handler.failed),
            ("held", handler.held),
        ];
        for (state, count) in counts {
            daemon.metrics.deliveries(&handler.name, state, count);
        }
        daemon.metrics.oldest_pending(&handler.name, handler.oldest_pending_at);
    }
    for stream in daemon.store.streams().await? {
        daemon.metrics.score(&stream.state.name, stream.score.both, stream.score.recovered);
    }
    daemon.certificates.load().look(&*daemon.store, daemon.clock.now(), &daemon.metrics).await?;
    let problems = daemon.store.problems().await?;
    let set_long_ago = |problem: &Problem| {
        let ours = problem.kind == ProblemKind::ClockSkew && problem.subject.is_empty();
        ours && daemon.clock.now().since(problem.last_seen_at) > STEP_SHOWN
    };
    if problems.iter().any(set_long_ago) {
        daemon.store.close_problem(ProblemKind::ClockSkew, "").await?;
    }
    let told = problems.iter().any(|problem| problem.kind == ProblemKind::ClockSkew && problem.subject.is_empty());
    if daemon.clock.is_before_release() && !told {
        let message = "the clock of this machine shows a time before this release of Ringback was made. Real webhooks that it makes \
                       seem too old or too new are answered 503. Set it, and check its time synchronisation.";
        warn!("{message}");
        daemon.store.open_problem(ProblemKind::ClockSkew, "", message).await?;
    }
    for kind in ProblemKind::ALL {
        let open = problems.iter().filter(|problem| problem.kind == *kind).count();
        daemon.metrics.problems(kind.as_str(), open as u64);
    }
    daemon.poller.watch().await?;
    let stats = daemon.store.stats().await?;
    backlog::watch(daemon, &stats).await?;
    if let Some(free) = stats.free_bytes {
        daemon.metrics.disk_free(free);
        let min = daemon.config.load().min_free;
        // What is read must be written: below it nothing more is taken in. Deliveries go on, they make room.
        daemon.poller.rest(free < min);
        daemon.receiver.rest(free < min);
        if free < min {
            let message = format!(
                "{free} bytes are free where the database is, less than `min_free` ({min}): polls rest and webhooks are answered 503. \
                 Make room."
            );
            if daemon.store.open_problem(ProblemKind::DiskLow, "", &message).await? {
                warn!("{message}");
            }
        } else {
            daemon.store.close_problem(ProblemKind::DiskLow, "").await?;
        }
    }
    Ok(())
}

//! What ends the daemon, and what happens meanwhile: signals, the watchdog, a broken store, a loop that died.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use super::{Daemon, End};
use crate::model::ProblemKind;
use crate::systemd::Notifier;

/// How often the watchdog is fed and the status line renewed, where systemd asks for nothing.
const TICK: Duration = Duration::from_secs(10);

/// The signals a daemon answers. Listened to from the first moment: one that comes during the start waits until it can be answered.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    pub fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

/// Waits for the end. SIGHUP reloads; SIGTERM and Ctrl-C stop; a broken store or a dead loop ends the process with an error.
pub async fn supervise(
    daemon: &Arc<Daemon>,
    notifier: &Notifier,
    mut signals: Signals,
    tasks: &mut JoinSet<()>,
) -> End {
    let period = notifier.watchdog_interval().map_or(TICK, |interval| interval / 2).min(TICK);
    let mut tick = tokio::time::interval(period);
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return End::Stopped,
            _ = signals.interrupt.recv() => return End::Stopped,
            _ = signals.hang_up.recv() => reload(daemon, notifier).await,
            reason = daemon.store.broken() => {
                error!("the database failed, the daemon stops: {reason}");
                eprintln!("error: the database failed: {reason}");
                return End::Store;
            }
            Some(ended) = tasks.join_next() => {
                error!("a part of the daemon ended by itself, the daemon stops: {ended:?}");
                return End::Store;
            }
            _ = tick.tick() => {
                look_at_the_wall(daemon).await;
                prove(daemon, notifier).await;
            }
        }
    }
}

async fn reload(daemon: &Arc<Daemon>, notifier: &Notifier) {
    notifier.reloading();
    match daemon.reload().await {
        Ok(done) => {
            match done.changes.as_slice() {
                [] => info!("the configuration was read again; nothing changed"),
                changes => info!("the configuration was read again: {}", changes.join("; ")),
            }
            done.waits.iter().for_each(|waits| warn!("{waits}"));
        }
        Err(faults) => error!("the configuration was not taken over, the old one goes on:\n{faults}"),
    }
    notifier.ready("running");
}

/// Finds out whether somebody set the wall. Then every wait under way stays as long as it was, what nobody moved is brought within
/// what its schedule can give, and a person hears of it (RULES R8.1).
async fn look_at_the_wall(daemon: &Daemon) {
    let Some(millis) = daemon.clock.look() else { return };
    daemon.heartbeat.shift(millis);
    daemon.poller.clock_stepped(millis);
    let message = format!(
        "the clock of this machine was set by {} s while the daemon ran; due times and waits were moved along. Check its time \
         synchronisation.",
        millis / 1000
    );
    warn!("{message}");
    let moved = async {
        daemon.store.clock_stepped(millis).await?;
        daemon.poller.check_due_times().await?;
        daemon.store.open_problem(ProblemKind::ClockSkew, "", &message).await
    };
    if let Err(error) = moved.await {
        error!("due times could not be moved with the clock: {error}");
    }
}

/// Feeds the watchdog only on proof: every loop has shown life, and the writer has passed this point.
async fn prove(daemon: &Arc<Daemon>, notifier: &Notifier) {
    let now = daemon.clock.now();
    for (name, at) in daemon.heartbeat.loops() {
        daemon.metrics.loop_progress(name, at);
    }
    match (daemon.alive(), tokio::time::timeout(Duration::from_secs(5), daemon.store.ping()).await) {
        (Ok(()), Ok(Ok(()))) => {
            daemon.metrics.loop_progress("store", now);
            notifier.alive();
        }
        (Err(reason), _) => error!("the watchdog is not fed: {reason}"),
        (Ok(()), _) => error!("the watchdog is not fed: the database's writer does not answer"),
    }
}

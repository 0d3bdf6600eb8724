//! The daemon: builds the parts, spawns the loops, supervises them, stops in order. The only place that spawns.

mod again;
mod backlog;
mod certificates;
mod compared;
mod control;
mod door;
mod housekeeping;
mod listeners;
mod look;
mod parts;
mod reload;
mod replaying;
mod retention;
mod stop;
mod temporary;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::admin;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::deliver::Deliverer;
use crate::ingest::Ingest;
use crate::metrics::Metrics;
use crate::model::{ProblemKind, SourceName};
use crate::poll::Poller;
use crate::pull::{Desk, Readers};
use crate::receive::{Receiver, inbox::Inbox};
use crate::shape::{Fault, render};
use crate::source;
use crate::store::sqlite::SqliteStore;
use crate::store::{Readdressed, Registered, Store, Topic};
use crate::systemd::Notifier;
use crate::worker::{Heartbeat, run_loop};

pub use certificates::Certificates;
pub use look::{LookError, dry_run};
pub use parts::{Parts, readers, sources_and_handlers};

/// How a run of the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Asked to stop, and stopped in order.
    Stopped,
    /// The configuration is wrong: exit code 78.
    Configuration,
    /// The database cannot be used or written: exit code 75.
    Store,
}

/// How long a stop waits for polls and attempts under way.
const STOP_GRACE: Duration = Duration::from_secs(20);
/// A loop that showed no life for this long is dead: the watchdog is no longer fed.
const DEAD: Duration = Duration::from_secs(30);

/// Everything that runs, as the admin API and the loops see it.
pub struct Daemon {
    pub config: arc_swap::ArcSwap<Config>,
    pub sources: arc_swap::ArcSwap<source::Sources>,
    pub store: Arc<dyn Store>,
    pub ingest: Arc<Ingest>,
    pub poller: Poller,
    pub deliverer: Arc<Deliverer>,
    pub receiver: Arc<Receiver>,
    pub inbox: Arc<Inbox>,
    pub desk: Arc<Desk>,
    doors: listeners::Doors,
    certificates: arc_swap::ArcSwap<Certificates>,
    pub metrics: Metrics,
    pub heartbeat: Heartbeat,
    pub clock: Clock,
    /// What requests may call this daemon.
    names: Arc<arc_swap::ArcSwap<admin::Names>>,
    /// What the process began with: some of it only a restart exchanges.
    began_with: Config,
    path: std::path::PathBuf,
    /// Held by whoever changes which handlers there are: a reload must know of every temporary one.
    turn: tokio::sync::Mutex<()>,
}

/// Runs the daemon until it is told to stop. Faults of the configuration are printed whole.
pub async fn run(path: &Path, color: bool) -> anyhow::Result<End> {
    let notifier = Notifier::from_env();
    let signals = stop::Signals::listen().context("listen to signals")?;
    let (config, parts) = match read(path) {
        Ok(read) => read,
        Err(faults) => {
            eprint!("{}", render(&faults, color));
            return Ok(End::Configuration);
        }
    };
    let clock = Clock::system();
    std::fs::create_dir_all(&config.data_dir).with_context(|| format!("make {}", config.data_dir.display()))?;
    let (database, of) = (config.data_dir.join("ringback.db"), clock.clone());
    // A migration may last; it has a thread of its own, so that the manager can be told meanwhile.
    let opening = tokio::task::spawn_blocking(move || SqliteStore::open(&database, of));
    let store: Arc<dyn Store> = match notifier.ask_patience(opening).await.context("open the database")? {
        Ok(store) => Arc::new(store),
        Err(error) => {
            eprintln!("error: {error}");
            return Ok(if error.exit_code() == 78 { End::Configuration } else { End::Store });
        }
    };
    let daemon = notifier.ask_patience(Daemon::build(path, config, parts, store, clock)).await?;
    let end = daemon.serve(&notifier, signals).await?;
    Ok(end)
}

/// Reads and joins a configuration with its secrets. Warnings go to the log.
fn read(path: &Path) -> Result<(Config, Parts), Vec<Fault>> {
    let (config, warnings) = config::load(path)?;
    let (sources, more) = source::join_all(&config, true)?;
    for fault in warnings.iter().chain(&more) {
        warn!("{}:{}: {}", fault.file.path.display(), fault.line(), fault.message);
    }
    let parts = sources_and_handlers(&config, sources)?;
    Ok((config, parts))
}

impl Daemon {
    async fn build(
        path: &Path,
        config: Config,
        mut parts: Parts,
        store: Arc<dyn Store>,
        clock: Clock,
    ) -> anyhow::Result<Arc<Daemon>> {
        parts.take_up(&*store, &config).await?;
        let metrics = Metrics::new();
        let subscriptions = Arc::new(parts.subscriptions());
        // Before anything is found wrong, so that it is told.
        store.announce_to(subscriptions.clone());
        let ingest = Ingest::new(store.clone(), subscriptions, clock.clone(), metrics.clone());
        let poller = Poller::new(store.clone(), Arc::new(ingest.clone()), clock.clone(), metrics.clone());
        let handlers = parts.all_that_are_sent_to();
        let deliverer = Arc::new(Deliverer::new(store.clone(), handlers, clock.clone(), metrics.clone()));
        let (rate, max_body) = reload::bounds(&config);
        let receiver = Receiver::new(&parts.sources, store.clone(), clock.clone(), metrics.clone(), rate, max_body);
        receiver.trust(&config.receive.trusted_proxies);
        receiver.reach_out(parts.exchanges.clone());
        let readers = readers(&parts.handlers);
        receiver.show_keys(shown_keys(&config, &readers));
        let desk = Arc::new(Desk::new(store.clone(), metrics.clone(), readers));
        let inbox = Inbox::new(store.clone(), ingest.clone(), parts.sources.clone(), metrics.clone());
        register(&*store, &config, &parts).await?;
        poller.restore().await?;
        poller.load(parts.fetchers.clone());
        poller.check_due_times().await?;
        Ok(Arc::new(Daemon {
            heartbeat: Heartbeat::new(clock.clone()),
            names: Arc::new(arc_swap::ArcSwap::from_pointee(listeners::names(&config))),
            began_with: config.clone(),
            config: arc_swap::ArcSwap::from_pointee(config),
            sources: arc_swap::ArcSwap::from_pointee(parts.sources.clone()),
            store,
            ingest,
            poller,
            deliverer,
            receiver: Arc::new(receiver),
            inbox: Arc::new(inbox),
            desk,
            doors: listeners::Doors::new(),
            certificates: arc_swap::ArcSwap::new(parts.certificates),
            metrics,
            clock,
            path: path.to_owned(),
            turn: tokio::sync::Mutex::default(),
        }))
    }

    async fn serve(self: Arc<Self>, notifier: &Notifier, signals: stop::Signals) -> anyhow::Result<End> {
        let cancel = CancellationToken::new();
        let mut tasks = JoinSet::new();
        self.spawn_loops(&mut tasks, &cancel);
        self.spawn_listeners(&mut tasks, &cancel).await?;
        let scheduler = housekeeping::start(&self).await?;
        let config = self.config.load_full();
        info!("ready: {} sources, {} handlers", config.sources.len(), config.handlers.len());
        notifier.ready(&format!("{} sources, {} handlers", config.sources.len(), config.handlers.len()));
        let end = stop::supervise(&self, notifier, signals, &mut tasks).await;
        notifier.stopping();
        self.desk.stop();
        self.poller.stop();
        cancel.cancel();
        housekeeping::stop(scheduler).await;
        let loops = async { while tasks.join_next().await.is_some() {} };
        let polls = async {
            self.poller.drain(STOP_GRACE).await;
            self.poller.log_out().await;
        };
        let in_order = async { tokio::join!(polls, self.deliverer.drain(STOP_GRACE), loops) };
        let in_time = notifier.ask_patience(tokio::time::timeout(STOP_GRACE + Duration::from_secs(5), in_order));
        if end == End::Stopped && in_time.await.is_err() {
            error!("not everything ended in time; what was under way is done again after the next start");
        }
        info!("stopped");
        Ok(end)
    }

    fn spawn_loops(&self, tasks: &mut JoinSet<()>, cancel: &CancellationToken) {
        let (clock, heart) = (&self.clock, &self.heartbeat);
        let poll = self.poller.clone();
        tasks.spawn(run_loop("poll", poll, self.poller.wake(), clock.clone(), cancel.clone(), heart.clone()));
        let registrar = self.poller.registrar();
        let wake = registrar.wake();
        tasks.spawn(run_loop("subscribe", registrar, wake, clock.clone(), cancel.clone(), heart.clone()));
        let wake = self.deliverer.wake();
        tasks.spawn(run_loop("deliver", self.deliverer.clone(), wake, clock.clone(), cancel.clone(), heart.clone()));
        let replayer = replaying::Replayer::new(self.store.clone(), self.deliverer.clone(), clock.clone());
        let wake = replayer.wake();
        tasks.spawn(run_loop("replay", replayer, wake, clock.clone(), cancel.clone(), heart.clone()));
        let wake = self.store.wake(Topic::Inbounds);
        tasks.spawn(run_loop("inbox", self.inbox.clone(), wake, clock.clone(), cancel.clone(), heart.clone()));
    }

    /// Whether every loop has shown life lately: what the watchdog is fed on.
    pub fn alive(&self) -> Result<(), String> {
        let now = self.clock.now();
        match self.heartbeat.loops().into_iter().find(|(_, at)| now.since(*at) > DEAD) {
            Some((name, at)) => Err(format!("the {name} loop has shown no life for {:?}", now.since(at))),
            None => Ok(()),
        }
    }
}

/// The key document, where webhooks are received, if it is to stand there.
fn shown_keys(config: &Config, readers: &Readers) -> Option<String> {
    config.receive.webhook_keys.then(|| readers.document())
}

/// Brings the stored streams and handlers in line with the configuration.
async fn register(store: &dyn Store, config: &Config, parts: &Parts) -> anyhow::Result<()> {
    let found = store.register(parts.setup(config)).await?;
    known_sources(store, &found).await?;
    for handler in &found.orphaned_handlers {
        warn!(handler.name = %handler, "the configuration no longer names handler {handler}: its deliveries are held");
    }
    for stream in &found.redefined {
        let message = "its definition in the provider file or its settings changed: the next complete listing is remembered anew, without events.";
        store.open_problem(crate::model::ProblemKind::StreamRebaselined, &stream.to_string(), message).await?;
        warn!(stream.name = %stream, "{stream}: {message}");
    }
    Ok(())
}

/// State without a source, and state from another address than the source has now (RULES R2.4): nothing of it is removed or
/// overwritten before a person has said so.
async fn known_sources(store: &dyn Store, found: &Registered) -> anyhow::Result<()> {
    let mut open = Vec::new();
    for source in &found.orphaned_sources {
        let message = format!(
            "state of source `{source}` is stored, but the configuration no longer names it. Name it again, or give the new one \
             `renamed_from = \"{source}\"`; `ringback source reset {source}` forgets its state."
        );
        open.push((ProblemKind::SourceOrphaned, source, message));
    }
    for Readdressed { source, from, to } in &found.readdressed {
        let message = format!(
            "its `base_url` was {from} when its state was stored and is {to} now; it is not polled. If the new address shows the \
             same records: `ringback source keep {source}`. If not: `ringback source reset {source}`."
        );
        open.push((ProblemKind::AddressChanged, source, message));
    }
    for (kind, source, message) in &open {
        if store.open_problem(*kind, source.as_str(), message).await? {
            warn!(source.name = %source, "{message}");
        }
    }
    for problem in store.problems().await? {
        let of_source = matches!(problem.kind, ProblemKind::SourceOrphaned | ProblemKind::AddressChanged);
        let stays = |(kind, source, _): &(ProblemKind, &SourceName, String)| {
            *kind == problem.kind && source.as_str() == problem.subject
        };
        if of_source && !open.iter().any(stays) {
            store.close_problem(problem.kind, &problem.subject).await?;
        }
    }
    Ok(())
}

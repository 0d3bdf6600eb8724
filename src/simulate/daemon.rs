//! The daemon's real parts, put together as `app` does, over a database in memory, a simulated provider and a simulated handler. Its
//! loops live as tasks of the simulation; dropping it is a crash.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::provider::Post;
use super::shapes::Setting;
use super::world::{Api, Hook, Shared};
use crate::clock::Clock;
use crate::deliver::{Deliverer, Handler, Handlers};
use crate::ingest::Ingest;
use crate::metrics::Metrics;
use crate::model::{ProblemKind, SourceName, StreamName};
use crate::poll::{Fetch, Poller, Sink};
use crate::receive::inbox::Inbox;
use crate::receive::message_id;
use crate::source::{Source, Sources};
use crate::store::sqlite::{Memory, SqliteStore};
use crate::store::{HandlerSetup, InboundRequest, NewInbound, Phase, Setup, Store};
use crate::subscription::Subscriptions;
use crate::wake::Wake;
use crate::worker::{Progress, Step};

/// A running daemon.
pub struct Daemon {
    store: Arc<SqliteStore>,
    poller: Poller,
    deliverer: Arc<Deliverer>,
    tasks: JoinSet<()>,
    shared: Shared,
}

impl Daemon {
    /// Starts over what the memory holds.
    pub async fn start(memory: &Memory, setting: &Setting, names: &[&str], shared: &Shared) -> anyhow::Result<Daemon> {
        let clock = shared.clock.clone();
        let store = Arc::new(SqliteStore::open_memory(memory, clock.clone(), shared.stage.clone())?);
        let sources = sources(setting, names)?;
        store.register(setup(setting, &sources)).await?;
        let metrics = Metrics::new();
        let subscriptions = Arc::new(Subscriptions::new(setting.config.handlers.values()));
        let ingest = Ingest::new(store.clone(), subscriptions, clock.clone(), metrics.clone());
        let sink: Arc<dyn Sink> = Arc::new(ingest.clone());
        let poller = Poller::new(store.clone(), sink, clock.clone(), metrics.clone());
        poller.load(apis(&sources, shared));
        let by_name: Sources = sources.iter().map(|source| (source.name.clone(), source.clone())).collect();
        let inbox = Inbox::new(store.clone(), ingest, by_name, metrics.clone());
        let deliverer = Arc::new(Deliverer::new(store.clone(), handlers(setting, shared)?, clock.clone(), metrics));
        let mut tasks = JoinSet::new();
        tasks.spawn(run(poller.clone(), poller.wake(), clock.clone()));
        tasks.spawn(run(inbox, store.wake(crate::store::Topic::Inbounds), clock.clone()));
        let wake = deliverer.wake();
        tasks.spawn(run(deliverer.clone(), wake, clock));
        Ok(Daemon { store, poller, deliverer, tasks, shared: shared.clone() })
    }

    /// Whether a stream's first look has ended.
    pub async fn is_live(&self, name: &str) -> anyhow::Result<bool> {
        let state = self.store.stream(&StreamName::new(name, "items")).await?;
        Ok(state.is_some_and(|state| state.phase == Phase::Live))
    }

    /// Reads its configuration again while it works.
    pub async fn reload(&self, setting: &Setting, names: &[&str]) -> anyhow::Result<()> {
        let sources = sources(setting, names)?;
        self.store.register(setup(setting, &sources)).await?;
        self.poller.load(apis(&sources, &self.shared));
        self.deliverer.replace(handlers(setting, &self.shared)?);
        Ok(())
    }

    /// A person decides about what the guards hold. Says what.
    pub async fn decide(&self, approved: bool) -> anyhow::Result<Vec<String>> {
        let mut decided = Vec::new();
        for problem in self.store.problems().await?.iter().filter(|problem| problem.kind == ProblemKind::DeletesHeld) {
            self.store.decide_problem(problem.kind, &problem.subject, approved, "simulated").await?;
            decided.push(format!("{} {}", problem.subject, problem.held.unwrap_or_default()));
        }
        Ok(decided)
    }

    /// A real webhook arrives. It is answered with 2xx once it is stored, and sent again by its provider if it is not.
    pub fn receive(&mut self, stream: usize, source: &Arc<Source>, post: &Post) {
        let (store, shared, source, post) = (self.store.clone(), self.shared.clone(), source.clone(), post.clone());
        self.tasks.spawn(async move {
            let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
            let body: Bytes = post.body.clone();
            let request = InboundRequest { method: "POST".into(), target: "/".into(), headers, body };
            let message_id = message_id(&source, &request);
            let inbound = NewInbound { source: source.name.clone(), message_id, request: Arc::new(request) };
            if store.put_inbound(inbound).await.is_ok() {
                let now = shared.clock.now();
                let mut world = shared.world();
                let posts = &mut world.streams[stream].model.posts;
                let at =
                    posts.iter().position(|other| other.sent && other.message == post.message && other.due == post.due);
                at.map(|at| posts.remove(at));
                world.trace.say(now, format_args!("received: {}", post.message));
            }
        });
    }

    /// A task that ended by itself has panicked.
    pub fn panicked(&mut self) -> Option<String> {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended {
                return Some(format!("panic: {error}"));
            }
        }
        None
    }

    /// Dies on the spot: nobody finishes anything.
    pub async fn crash(mut self) {
        self.tasks.abort_all();
        self.poller.break_off();
        drop((self.poller, self.deliverer));
        while self.tasks.join_next().await.is_some() {}
    }
}

/// `worker::run_loop` with nothing but the manual clock to wait for.
async fn run(step: impl Step, mut wake: Wake, clock: Clock) {
    loop {
        wake.seen();
        let until = match step.step().await {
            Ok(Progress::Worked) => {
                tokio::task::yield_now().await;
                continue;
            }
            Ok(Progress::Idle { until }) => until,
            Err(_) => Some(clock.now().plus(Duration::from_secs(1))),
        };
        let due = async {
            match until {
                Some(until) => clock.sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = wake.rung() => {}
            () = due => {}
        }
    }
}

fn apis(sources: &[Arc<Source>], shared: &Shared) -> Vec<(Arc<Source>, Arc<dyn Fetch>)> {
    let api = |stream| Arc::new(Api { shared: shared.clone(), stream }) as Arc<dyn Fetch>;
    sources.iter().enumerate().map(|(n, source)| (source.clone(), api(n))).collect()
}

fn sources(setting: &Setting, names: &[&str]) -> anyhow::Result<Vec<Arc<Source>>> {
    let find = |name: &&str| setting.sources.get(&SourceName::from(*name)).cloned();
    names.iter().map(|name| find(name).ok_or_else(|| anyhow::anyhow!("there is no shape `{name}`"))).collect()
}

fn setup(setting: &Setting, sources: &[Arc<Source>]) -> Setup {
    let mut setup = Setup::default();
    for stream in sources.iter().flat_map(|source| &source.streams) {
        setup.streams.push(crate::ingest::stream_setup(stream));
    }
    for handler in setting.config.handlers.values() {
        setup.handlers.push(HandlerSetup { name: handler.name.clone(), renamed_from: None, enabled: true });
    }
    setup
}

fn handlers(setting: &Setting, shared: &Shared) -> anyhow::Result<Handlers> {
    let mut handlers = Handlers::new();
    for config in setting.config.handlers.values() {
        let secrets = setting.secrets.clone();
        let handler = Handler::new(config.clone(), Hook(shared.clone()), secrets, Default::default())
            .map_err(anyhow::Error::msg)?;
        handlers.insert(config.name.clone(), Arc::new(handler));
    }
    Ok(handlers)
}

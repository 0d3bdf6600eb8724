//! The deterministic simulator: the real poll, ingest, inbox, store and delivery on one thread, in virtual time, against a made-up
//! provider and handler that do what real ones do on a bad day. One seed is one story, always the same; an oracle says whether a
//! promise was broken in it. `ringback simulate` runs any number of seeds; the test suite runs many.
//!
//! Reading order: `shapes` and `cast` (what is simulated), `provider`, `listing`, `receiver` (the outside), `oracle` (what must hold), `stage` (who goes
//! next, and where the process dies), `daemon` (the real parts), `scene` (one seed).

mod cast;
mod daemon;
mod dice;
mod listing;
mod oracle;
mod provider;
mod receiver;
mod scene;
mod shapes;
mod stage;
mod trace;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::model::Timestamp;
use crate::planted::{self, Fault};
use crate::store::sqlite::Memory;

pub use cast::SHAPES;
pub use dice::Dice;

/// When every story begins.
const START: Timestamp = Timestamp(1_795_000_000_000);

/// Which seeds to run, and how.
#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    pub runs: u64,
    /// Turns of the active part of a story.
    pub steps: u32,
    /// Only this shape; None: whichever the seed picks.
    pub shape: Option<String>,
    /// Keep what happened as lines.
    pub lines: bool,
    pub threads: usize,
    /// A fault to plant; only a program with the feature `planted` can.
    pub planted: Option<Fault>,
    /// End at the first broken promise.
    pub stop_at_first: bool,
}

impl Options {
    pub fn new(seed: u64, runs: u64) -> Options {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Options { seed, runs, steps: 120, shape: None, lines: false, threads, planted: None, stop_at_first: true }
    }
}

/// What came of one seed.
#[derive(Clone, Debug, Default)]
pub struct Story {
    pub seed: u64,
    /// The same for the same seed.
    pub hash: u64,
    /// The promise that was broken.
    pub fault: Option<String>,
    pub asked: u64,
    pub changes: u64,
    pub events: u64,
    pub crashes: u64,
    pub lines: Vec<String>,
}

/// What came of many.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub runs: u64,
    pub asked: u64,
    pub changes: u64,
    pub events: u64,
    pub crashes: u64,
    /// Stories in which a promise was broken, lowest seed first.
    pub broken: Vec<Story>,
    /// Of the last story.
    pub hash: u64,
    pub lines: Vec<String>,
}

/// Runs the seeds from `options.seed` on.
pub fn run(options: &Options) -> anyhow::Result<Summary> {
    let setting = shapes::setting()?;
    let (next, summary) = (AtomicU64::new(0), Mutex::new(Summary::default()));
    let work = || -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let memory = Memory::new()?;
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= options.runs {
                return Ok(());
            }
            planted::plant(options.planted);
            let story = runtime.block_on(scene::play(&memory, &setting, options.seed.wrapping_add(n), options))?;
            if story.fault.is_some() && options.stop_at_first {
                next.store(options.runs, Ordering::Relaxed);
            }
            summary.lock().unwrap_or_else(PoisonError::into_inner).add(story);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..options.threads.max(1)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread of the simulation panicked")))
        })
    })?;
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.broken.sort_by_key(|story| story.seed);
    Ok(summary)
}

impl Summary {
    fn add(&mut self, story: Story) {
        self.runs += 1;
        self.asked += story.asked;
        self.changes += story.changes;
        self.events += story.events;
        self.crashes += story.crashes;
        self.hash = story.hash;
        if story.fault.is_some() {
            self.broken.push(story);
        } else {
            self.lines = story.lines;
        }
    }
}

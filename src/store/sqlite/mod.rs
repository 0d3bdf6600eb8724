//! The store in one SQLite file. One thread writes ([`writer`]), a few connections read ([`reader`]), leases live in memory
//! ([`book`]). [`use_cases`] says which use case runs where; the SQL of each lies in the module named for its step.

mod aside;
mod backlog;
mod book;
mod budget;
mod by_when;
mod chosen;
mod claim;
mod claims;
mod closed;
mod config;
mod decided;
mod deliver;
mod detail;
mod events;
mod events_in;
mod housekeeping;
mod inline;
mod kept;
mod notice;
mod open;
mod own;
mod poll;
mod problems;
mod pull;
mod query;
mod reader;
mod receive;
mod records;
mod renamed;
mod replay;
mod replay_job;
mod reset;
mod rests;
mod rows;
mod score;
mod seen;
mod stepped;
mod temporary;
mod use_cases;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rusqlite::Connection;
use tokio::sync::watch;

use super::*;
use crate::clock::Clock;
use book::{Bells, Book};
use claims::Claims;
use events::View;
use inline::Inline;
pub use inline::{Memory, Pace};
pub use open::OpenError;
use reader::Readers;
use writer::{Lane, Outcome, Writer};

/// Connections for queries; a claim of deliveries has its own.
const CONNECTIONS: usize = 2;

/// A database file, open for the daemon (one at a time) or read-only for a command.
pub struct SqliteStore {
    // Dropped first, so that the writer closes the file last and tidies its log of writes away.
    readers: Arc<Readers>,
    /// The connection on which deliveries are claimed: never behind a person's long query.
    claimer: Arc<Readers>,
    writer: Option<Writer>,
    /// In place of writer and readers, where a simulation runs the store without threads.
    inline: Option<Inline>,
    claims: Claims,
    bells: Arc<Bells>,
    herald: Arc<ArcSwap<Option<Arc<dyn Herald>>>>,
    broken: watch::Sender<Option<String>>,
    clock: Clock,
    path: PathBuf,
}

impl SqliteStore {
    /// Opens the database as its one owner; makes it when there is none.
    pub fn open(path: &Path, clock: Clock) -> std::result::Result<SqliteStore, OpenError> {
        let (conn, lock) = open::open_writer(path)?;
        let mut store = SqliteStore::new(path, clock);
        let refused = |error: &dyn std::fmt::Display| {
            OpenError::Refused(format!("the database {} cannot be used: {error}", path.display()))
        };
        let book =
            Book::open(&conn, store.clock.clone(), store.claims.clone(), store.bells.clone(), store.herald.clone())
                .map_err(|error| refused(&error))?;
        let writer = Writer::start(conn, book, lock, store.broken.clone()).map_err(|error| refused(&error))?;
        store.writer = Some(writer);
        Ok(store)
    }

    /// Opens a database in memory for a simulation: the same use cases, each in a transaction of its own on the calling thread.
    /// Opened again over the same memory it is what a restart after a crash finds.
    pub fn open_memory(
        memory: &Memory,
        clock: Clock,
        pace: Arc<dyn Pace>,
    ) -> std::result::Result<SqliteStore, OpenError> {
        let mut store = SqliteStore::new(Path::new(":memory:"), clock);
        let book = |conn: &Connection| {
            Book::open(conn, store.clock.clone(), store.claims.clone(), store.bells.clone(), store.herald.clone())
        };
        let refused = |error| OpenError::Refused(format!("the database in memory cannot be used: {error}"));
        store.inline = Some(Inline::open(memory, book, pace).map_err(refused)?);
        Ok(store)
    }

    /// Opens the database for reading alone, while no daemon runs (or beside one). Every writing method answers `Busy`.
    pub fn open_read_only(path: &Path, clock: Clock) -> std::result::Result<SqliteStore, OpenError> {
        open::check_for_reading(path)?;
        Ok(SqliteStore::new(path, clock))
    }

    fn new(path: &Path, clock: Clock) -> SqliteStore {
        let broken = watch::Sender::new(None);
        SqliteStore {
            readers: Readers::new(path.to_owned(), CONNECTIONS, broken.clone()),
            claimer: Readers::new(path.to_owned(), 1, broken.clone()),
            writer: None,
            inline: None,
            claims: Claims::new(),
            bells: Arc::new(Bells::new()),
            herald: Arc::default(),
            broken,
            clock,
            path: path.to_owned(),
        }
    }

    async fn write<T, F>(&self, lane: Lane, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &mut Book) -> Outcome<T> + Send + 'static,
    {
        match (&self.writer, &self.inline) {
            (Some(writer), _) => writer.run(lane, work).await,
            (None, Some(inline)) => inline.write(work).await,
            (None, None) => Err(StoreError::Busy("it was opened read-only; only the daemon writes".into())),
        }
    }

    async fn quick<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &mut Book) -> Outcome<T> + Send + 'static,
    {
        self.write(Lane::Quick, work).await
    }

    async fn bulk<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &mut Book) -> Outcome<T> + Send + 'static,
    {
        self.write(Lane::Bulk, work).await
    }

    async fn read<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Outcome<T> + Send + 'static,
    {
        self.read_on(&self.readers, query).await
    }

    async fn read_on<T, F>(&self, readers: &Arc<Readers>, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Outcome<T> + Send + 'static,
    {
        if let Some(reason) = &*self.broken.borrow() {
            return Err(StoreError::Broken(reason.clone()));
        }
        match &self.inline {
            Some(inline) => inline.read(query).await,
            None => readers.run(query).await,
        }
    }

    /// Makes so many batches of this replay, or of the next, from what one look chooses. False: it is whole, or all are.
    async fn make_replay(&self, job: Option<i64>, batches: usize) -> Result<bool> {
        let look = move |conn: &Connection, view: &View| {
            let Some(unmade) = replay::unmade(conn, job)? else { return Ok(None) };
            let part = replay::look(conn, view, &unmade.order, unmade.position, unmade.events)?;
            Ok(Some((unmade, part)))
        };
        let Some((unmade, part)) = self.view(look).await? else { return Ok(false) };
        let (job, mut from) = (unmade.job, unmade.position);
        for batch in part.batches().into_iter().take(batches) {
            let next = batch.next;
            if !self.bulk(move |conn, book| replay::make(conn, book, job, from, &batch)).await? {
                break;
            }
            let Some(next) = next else { break };
            from = next;
        }
        Ok(true)
    }

    async fn view<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &View) -> Outcome<T> + Send + 'static,
    {
        let claimed = self.claims.live(self.clock.now());
        self.read(move |conn| query(conn, &View::read(conn, claimed)?)).await
    }
}

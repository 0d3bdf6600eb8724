//! The store without threads, for simulations: a database in memory, every use case on the calling thread in a transaction of its
//! own, and a pause before and after each, at which a simulation decides who goes on and where the process dies.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rusqlite::Connection;

use super::book::Book;
use super::open::{self, OpenError};
use super::writer::{Fault, Outcome};
use crate::store::{Result, StoreError};

/// A database in memory. It outlives the stores that are opened over it, as a file outlives a crash.
#[derive(Clone)]
pub struct Memory(Arc<Mutex<Connection>>);

impl Memory {
    /// An empty database.
    pub fn new() -> std::result::Result<Memory, OpenError> {
        Ok(Memory(Arc::new(Mutex::new(open::open_memory()?))))
    }

    /// Empties every table: faster than a new database, since prepared statements stay.
    pub fn wipe(&self) -> std::result::Result<(), OpenError> {
        let conn = self.lock();
        let wipe = || -> rusqlite::Result<()> {
            let tables: Vec<String> = conn
                .prepare_cached("SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'sqlite_stat1'")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            conn.execute_batch("PRAGMA defer_foreign_keys = ON; BEGIN")?;
            for table in tables {
                conn.prepare_cached(&format!("DELETE FROM \"{table}\""))?.execute([])?;
            }
            conn.execute_batch("COMMIT")
        };
        wipe().map_err(|error| OpenError::Refused(format!("the database in memory cannot be emptied: {error}")))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a simulation holds a step: before a use case (a crash there loses it) and after (it is done, and nobody heard).
#[async_trait]
pub trait Pace: Send + Sync + 'static {
    async fn pause(&self);
}

/// A store's access to its [`Memory`].
pub(super) struct Inline {
    memory: Memory,
    book: Mutex<Book>,
    pace: Arc<dyn Pace>,
}

impl Inline {
    pub(super) fn open(
        memory: &Memory,
        book: impl FnOnce(&Connection) -> rusqlite::Result<Book>,
        pace: Arc<dyn Pace>,
    ) -> rusqlite::Result<Inline> {
        let book = Mutex::new(book(&memory.lock())?);
        Ok(Inline { memory: memory.clone(), book, pace })
    }

    pub(super) async fn write<T>(&self, work: impl FnOnce(&Connection, &mut Book) -> Outcome<T>) -> Result<T> {
        self.pace.pause().await;
        let answer = self.run(work);
        self.pace.pause().await;
        answer
    }

    pub(super) async fn read<T>(&self, query: impl FnOnce(&Connection) -> Outcome<T>) -> Result<T> {
        self.pace.pause().await;
        query(&self.memory.lock()).map_err(refusal)
    }

    fn run<T>(&self, work: impl FnOnce(&Connection, &mut Book) -> Outcome<T>) -> Result<T> {
        let (conn, mut book) = (self.memory.lock(), self.book.lock().unwrap_or_else(PoisonError::into_inner));
        let step = |sql: &str| conn.prepare_cached(sql)?.execute([]).map(drop);
        let transaction = || -> std::result::Result<Outcome<T>, Fault> {
            step("BEGIN IMMEDIATE")?;
            // A use case that refuses has written nothing: like the writer thread, this commits all the same.
            let done = match work(&conn, &mut book) {
                Err(Fault::Sql(error)) => return Err(error.into()),
                done => done,
            };
            book.flush(&conn)?;
            step("COMMIT")?;
            Ok(done)
        };
        match transaction() {
            Ok(done) => {
                book.ring();
                done.map_err(refusal)
            }
            Err(fault) => {
                let _ = conn.execute_batch("ROLLBACK");
                Err(refusal(fault))
            }
        }
    }
}

fn refusal(fault: Fault) -> StoreError {
    match fault {
        Fault::Refused(error) => error,
        Fault::Sql(error) => StoreError::Broken(format!("the database in memory failed: {error}")),
    }
}

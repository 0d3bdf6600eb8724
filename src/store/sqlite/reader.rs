//! The reading side: a few read-only connections, opened when first needed, each used by one query at a time on a thread of
//! the runtime's own for blocking work. A reader sees everything that was committed before it began, and holds up nobody.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{Semaphore, watch};

use super::open;
use super::writer::{Fault, Outcome};
use crate::store::{Result, StoreError};

pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
    broken: watch::Sender<Option<String>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf, connections: usize, broken: watch::Sender<Option<String>>) -> Arc<Readers> {
        let permits = Arc::new(Semaphore::new(connections));
        Arc::new(Readers { path, idle: Mutex::new(Vec::new()), permits, broken })
    }

    /// Runs a query in one read transaction.
    pub(super) async fn run<T, F>(self: &Arc<Self>, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Outcome<T> + Send + 'static,
    {
        let closed = || StoreError::Broken("the readers have ended".into());
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| closed())?;
        let readers = self.clone();
        let work = move || {
            let _permit = permit;
            readers.query(query)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(closed()))
    }

    fn query<T>(&self, query: impl FnOnce(&Connection) -> Outcome<T>) -> Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let conn = match idle {
            Some(conn) => conn,
            None => open::open_reader(&self.path).map_err(|error| StoreError::Broken(error.to_string()))?,
        };
        let answer = conn
            .execute_batch("BEGIN")
            .map_err(Fault::from)
            .and_then(|()| query(&conn))
            .and_then(|value| conn.execute_batch("COMMIT").map(|()| value).map_err(Fault::from));
        match answer {
            Ok(value) => {
                self.give_back(conn);
                Ok(value)
            }
            Err(Fault::Refused(error)) => {
                // A rollback of a read transaction has nothing to lose; a connection that cannot do it is dropped.
                if conn.execute_batch("ROLLBACK").is_ok() {
                    self.give_back(conn);
                }
                Err(error)
            }
            // The connection is dropped with whatever state it is in.
            Err(Fault::Sql(error)) => Err(self.judge(&error)),
        }
    }

    fn give_back(&self, conn: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
    }

    /// A damaged or unreadable file ends the process as a failed write does; a lock does not.
    fn judge(&self, error: &rusqlite::Error) -> StoreError {
        let text = format!("a read failed: {error}");
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy(text),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::SystemIoFailure | ErrorCode::NotADatabase) => {
                self.broken.send_replace(Some(text.clone()));
                StoreError::Broken(text)
            }
            _ => StoreError::Broken(text),
        }
    }
}

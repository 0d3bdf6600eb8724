//! Problems that ingest opens and closes by itself. What is known to be closed is not closed again, so that a run in which all is
//! well asks nothing of the store.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::ProblemKind;
use crate::store::{Result, Store};

/// The problems known to be closed. Empty at the start: a problem may be open from before.
#[derive(Default)]
pub struct Problems(Mutex<HashSet<(ProblemKind, String)>>);

impl Problems {
    pub async fn open(&self, store: &dyn Store, kind: ProblemKind, subject: &str, message: &str) -> Result<()> {
        self.closed().remove(&(kind, subject.to_owned()));
        store.open_problem(kind, subject, message).await.map(drop)
    }

    /// Opens the problem of a guard that holds so many records. True when it is new.
    pub async fn hold(
        &self,
        store: &dyn Store,
        kind: ProblemKind,
        subject: &str,
        message: &str,
        held: u64,
    ) -> Result<bool> {
        self.closed().remove(&(kind, subject.to_owned()));
        store.hold_problem(kind, subject, message, held).await
    }

    /// Whether it may be open.
    pub fn maybe_open(&self, kind: ProblemKind, subject: &str) -> bool {
        !self.closed().contains(&(kind, subject.to_owned()))
    }

    pub async fn close(&self, store: &dyn Store, kind: ProblemKind, subject: &str) -> Result<()> {
        if self.maybe_open(kind, subject) {
            store.close_problem(kind, subject).await?;
            self.closed().insert((kind, subject.to_owned()));
        }
        Ok(())
    }

    fn closed(&self) -> MutexGuard<'_, HashSet<(ProblemKind, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

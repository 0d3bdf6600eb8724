//! The problems that polling opens and closes. What is open is remembered, so that a good poll writes nothing when nothing was
//! wrong.

use std::collections::HashSet;

use tokio::sync::{Mutex, OnceCell};
use tracing::warn;

use crate::model::ProblemKind;
use crate::store::{Store, StoreError};

/// Kinds that concern one stream and end with its next good poll.
const OF_STREAM: [ProblemKind; 13] = [
    ProblemKind::AnswerUnreadable,
    ProblemKind::AnswerPathMissing,
    ProblemKind::PageLoop,
    ProblemKind::PageClamped,
    ProblemKind::HostRefused,
    ProblemKind::ProxyFailed,
    ProblemKind::QuotaExhausted,
    ProblemKind::StreamLate,
    ProblemKind::HistoryGap,
    ProblemKind::KeyMissing,
    ProblemKind::CursorFrozen,
    ProblemKind::CursorFuture,
    ProblemKind::StreamSilent,
];

/// Open problems of the kinds that polling judges, by kind and subject.
#[derive(Debug, Default)]
pub(super) struct OpenProblems {
    known: OnceCell<Mutex<HashSet<(ProblemKind, String)>>>,
}

impl OpenProblems {
    /// Opens it, or counts it up.
    pub async fn open(
        &self,
        store: &dyn Store,
        kind: ProblemKind,
        subject: &str,
        message: &str,
    ) -> Result<(), StoreError> {
        let known = self.known(store).await?;
        if store.open_problem(kind, subject, message).await? {
            warn!(problem.kind = kind.as_str(), problem.subject = subject, "{subject}: {message}");
        }
        known.lock().await.insert((kind, subject.to_owned()));
        Ok(())
    }

    /// The stream was polled well: what was wrong with it, or with its source's credential, is over. Records that ingest sets
    /// aside are ingest's own affair. `stays`: kinds that a good poll does not end.
    pub async fn over(
        &self,
        store: &dyn Store,
        stream: &str,
        source: &str,
        stays: impl Fn(ProblemKind) -> bool,
    ) -> Result<(), StoreError> {
        let of_stream = OF_STREAM.into_iter().map(|kind| (kind, stream));
        let all = of_stream.chain([(ProblemKind::AuthFailed, source), (ProblemKind::AuthFailed, stream)]);
        for (kind, subject) in all.filter(|(kind, _)| !stays(*kind)) {
            self.close(store, kind, subject).await?;
        }
        Ok(())
    }

    /// Opens it unless it is open already: for what may stay so for months, and is found by every poll.
    pub async fn open_once(
        &self,
        store: &dyn Store,
        kind: ProblemKind,
        subject: &str,
        message: &str,
    ) -> Result<(), StoreError> {
        let known = self.known(store).await?.lock().await.contains(&(kind, subject.to_owned()));
        if known { Ok(()) } else { self.open(store, kind, subject, message).await }
    }

    /// This is over; nothing is written where it was not open.
    pub async fn close(&self, store: &dyn Store, kind: ProblemKind, subject: &str) -> Result<(), StoreError> {
        if self.known(store).await?.lock().await.remove(&(kind, subject.to_owned())) {
            store.close_problem(kind, subject).await?;
        }
        Ok(())
    }

    /// Problems that an earlier process left open are read once.
    async fn known(&self, store: &dyn Store) -> Result<&Mutex<HashSet<(ProblemKind, String)>>, StoreError> {
        let read = || async {
            let open = store.problems().await?;
            Ok(Mutex::new(open.into_iter().map(|problem| (problem.kind, problem.subject)).collect()))
        };
        self.known.get_or_try_init(read).await
    }
}

//! What a commit's events say beside the handlers: counts and metrics, and the problems that a person must see.

use std::time::Duration;

use super::{Ingest, IngestError};
use crate::model::{ChangeKind, EventId, HandlerName, HoldReason, ProblemKind, SeenBy, StreamName};
use crate::store::{RecordWrite, SetAside};

/// What is in a commit, noted before it is handed over.
#[derive(Default)]
pub(super) struct News {
    pub created: u64,
    pub updated: u64,
    pub deleted: u64,
    /// The longest time between the provider's time of a change and our seeing it.
    pub lag: Option<Duration>,
    kinds: Vec<(ChangeKind, SeenBy)>,
    /// An event whose record was too large to be kept.
    cut: Option<EventId>,
    /// Deliveries that a `when` could not decide.
    undecided: Vec<(HandlerName, EventId)>,
}

impl News {
    pub fn of(writes: &[RecordWrite]) -> News {
        let mut news = News::default();
        for new in writes.iter().filter_map(|write| write.event.as_ref()) {
            let event = &new.event;
            match event.kind {
                ChangeKind::Created => news.created += 1,
                ChangeKind::Updated => news.updated += 1,
                ChangeKind::Deleted => news.deleted += 1,
            }
            news.kinds.push((event.kind, event.seen_by));
            news.lag = news.lag.max(Some(event.seen_at.since(event.time)));
            if event.data.is_none() && news.cut.is_none() {
                news.cut = Some(event.id.clone());
            }
            for delivery in new.deliveries.iter().filter(|d| d.hold == Some(HoldReason::WhenFailed)) {
                if news.undecided.iter().all(|(handler, _)| *handler != delivery.handler) {
                    news.undecided.push((delivery.handler.clone(), event.id.clone()));
                }
            }
        }
        news
    }

    /// Counts what was stored, and opens the problems it brings.
    pub async fn tell(self, ingest: &Ingest, stream: &StreamName) -> Result<(), IngestError> {
        for (kind, by) in self.kinds {
            ingest.metrics.event(kind);
            ingest.metrics.first_seen(stream, by.as_str());
        }
        let (store, problems) = (&*ingest.store, &ingest.problems);
        if let Some(id) = self.cut {
            let message = format!(
                "a record is larger than the `data_max` of its stream (1 MiB unless its provider file says otherwise): its event {id} was sent with `truncated` and without `data`. Leave parts of it out with `mask`, raise `data_max`, or have handlers fetch it."
            );
            problems.open(store, ProblemKind::RecordTooLarge, &stream.to_string(), &message).await?;
        }
        for (handler, id) in self.undecided {
            let message = format!(
                "its `when` gave neither true nor false for event {id} of {stream}: the delivery is held. Correct `when`, reload, then `ringback problem retry when.failed {handler}`."
            );
            problems.open(store, ProblemKind::WhenFailed, handler.as_str(), &message).await?;
        }
        Ok(())
    }
}

/// Records were set aside: one problem for the stream, which names the reasons.
pub(super) async fn unreadable(ingest: &Ingest, stream: &StreamName, aside: &[SetAside]) -> Result<(), IngestError> {
    ingest.metrics.records("unreadable", aside.len() as u64);
    let mut reasons: Vec<(&str, usize)> = Vec::new();
    for one in aside {
        match reasons.iter_mut().find(|(reason, _)| *reason == one.reason) {
            Some((_, count)) => *count += 1,
            None => reasons.push((&one.reason, 1)),
        }
    }
    let listed: Vec<String> = reasons.iter().take(5).map(|(reason, count)| format!("{count} × {reason}")).collect();
    let message = format!(
        "{} record(s) could not be read and were set aside: {}. The stream goes on without them and judges no deletes. Correct the provider file, then `ringback problem retry record.unreadable {stream}`.",
        aside.len(),
        listed.join("; ")
    );
    ingest.problems.open(&*ingest.store, ProblemKind::RecordUnreadable, &stream.to_string(), &message).await?;
    Ok(())
}

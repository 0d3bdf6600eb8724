//! The dead man's switch: a stream of which no poll ends, well or badly, tells nobody by itself. So somebody looks at all of them from
//! time to time, whether anything is polled or not.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::claimed::{rested, scheduled_in};
use super::run::Polled;
use super::settle::DEADLINE;
use super::{Poller, pace};
use crate::model::{ProblemKind, Timestamp};
use crate::schedule::Schedule;
use crate::store::{PollResult, StoreError, StreamStatus};

impl Poller {
    /// Opens `stream.late` for streams that had no good poll for too long. Its next good poll closes it.
    pub async fn watch(&self) -> Result<(), StoreError> {
        let shared = &self.0;
        if shared.rests.load(Ordering::SeqCst) {
            return Ok(());
        }
        let began = Timestamp(shared.began.load(Ordering::SeqCst));
        let (now, loaded) = (shared.clock.now(), shared.loaded.load_full());
        let held = shared.store.problems().await?.into_iter().filter(|problem| problem.kind.holds());
        let held: HashSet<String> = held.map(|problem| problem.subject).collect();
        for status in shared.store.streams().await? {
            let name = status.state.name.to_string();
            let Some(polled) = loaded.streams.get(&status.state.name) else { continue };
            // What is paused, rests, or waits for a person's decision is not late.
            if !status.polled || status.paused.is_some() || held.contains(&name) {
                continue;
            }
            if let Some(since) = late(polled, &status, began, now) {
                let message = format!(
                    "no good poll for {} min{}. `ringback source show {name}` says how the last one went",
                    since.as_secs() / 60,
                    status.last_error.as_ref().map(|error| format!("; the last reason: {error}")).unwrap_or_default()
                );
                shared.problems.open_once(&*shared.store, ProblemKind::StreamLate, &name, &message).await?;
            }
        }
        Ok(())
    }
}

/// For how long a good poll is missing, where that is too long. `began`: when this process did, which owes nothing from before.
fn late(polled: &Polled, status: &StreamStatus, began: Timestamp, now: Timestamp) -> Option<Duration> {
    let stream = &polled.stream;
    if stream.active.as_ref().is_some_and(|active| !active.open(now)) {
        return None;
    }
    let every = match &stream.schedule {
        Schedule::Every(every) => Some(*every),
        Schedule::Cron { .. } => None,
    };
    let (from, interval, rest) = match status.last_result {
        // It went well, and is not missed before it is due again, whenever that is.
        Some(PollResult::Ok | PollResult::NotModified | PollResult::Deferred) => {
            (status.next_poll_at?, every.unwrap_or_default(), Duration::ZERO)
        }
        Some(PollResult::Failed) | None => {
            let interval = every.unwrap_or_else(|| scheduled_in(polled, None, now));
            (status.state.last_ok_at.unwrap_or(began), interval, rested(polled, &status.state, now))
        }
    };
    let since = now.since(from.max(began)).saturating_sub(rest);
    // Where nobody says how long, a run that still goes on has its time.
    let patience = stream.late_after.unwrap_or_else(|| pace::late_after(interval).saturating_add(DEADLINE));
    (since >= patience).then_some(since)
}

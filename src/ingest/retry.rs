//! What could not be read or decided is put through again by a person's order, with the configuration of today: records set aside
//! (RULES R3.8), and deliveries that a `when` could not decide (RULES R3.7).

use std::collections::HashMap;
use std::sync::Arc;

use super::batch;
use super::decimal::Decimal;
use super::decode;
use super::identity::fingerprint;
use super::judge::{Copy, Judge, Verdict};
use super::mark::Mark;
use super::told::News;
use super::{Ingest, IngestError};
use crate::jq::{Json, Vars};
use crate::model::{HandlerName, ProblemKind, Timestamp};
use crate::provider::CursorKind;
use crate::source::SourceStream;
use crate::store::{Commit, KeptAside, SetAside, StoreError};
use crate::subscription::Match;

/// Taken up at a time.
const BATCH: usize = 500;

/// What a retry came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    /// Taken in, or let go.
    pub taken: u64,
    /// Not needed any more: the record came in readable since then, or the handler does not want the event after all.
    pub given_up: u64,
    /// As before.
    pub left: u64,
}

impl Ingest {
    /// Reads the records of a stream that were set aside again. One whose key has been read since then is given up: what came
    /// later counts more than what was kept.
    pub async fn retry_set_aside(self: &Arc<Self>, stream: &Arc<SourceStream>) -> Result<Retried, IngestError> {
        let mut retried = Retried::default();
        let mut after = None;
        loop {
            let kept = self.store.set_aside(&stream.name, after, BATCH).await?;
            let Some(last) = kept.last() else { break };
            after = Some(last.id);
            for one in kept {
                self.retry_one(stream, one, &mut retried).await?;
            }
        }
        if retried.left == 0 {
            self.problems.close(&*self.store, ProblemKind::RecordUnreadable, &stream.name.to_string()).await?;
        }
        Ok(retried)
    }

    /// The mark that a look back asks from: the text of a cursor value, or the empty text for the declared start.
    pub fn mark_from(&self, stream: &SourceStream, from: Option<&str>) -> Result<String, String> {
        let Some(cursor) = &stream.spec.cursor else {
            return Err(format!(
                "every poll of {} reads everything there is: there is nothing to look back to",
                stream.name
            ));
        };
        let Some(text) = from else { return Ok(String::new()) };
        let mark = match cursor.kind {
            CursorKind::Time => {
                let day = text.parse::<chrono::NaiveDate>().ok().and_then(|day| day.and_hms_opt(0, 0, 0));
                let time = match day {
                    Some(day) => Timestamp::from(day.and_utc()),
                    None => decode::read_time(text, &cursor.format, cursor.timezone).map_err(|error| {
                        format!("`{text}` is no time such as 2026-01-01 or 2026-01-01T08:00:00Z: {error}")
                    })?,
                };
                Mark::Time(time.0)
            }
            CursorKind::Number if Decimal::parse(text).is_some() => Mark::Number(text.to_owned()),
            CursorKind::Number => {
                return Err(format!("`{text}` is no number, and the cursor of {} is one", stream.name));
            }
            _ => Mark::Text(text.to_owned()),
        };
        Ok(mark.to_stored())
    }

    async fn retry_one(
        &self,
        stream: &Arc<SourceStream>,
        kept: KeptAside,
        retried: &mut Retried,
    ) -> Result<(), IngestError> {
        let state = self.store.stream(&stream.name).await?.ok_or(StoreError::Stale)?;
        let vars = Vars { settings: Json::from(&*stream.settings), ..Vars::default() };
        let mut commit = Commit::new(stream.name.clone(), state.definition.clone());
        commit.comparison = Some(state.comparison.clone());
        commit.retried = vec![kept.id];
        let raw_hash = fingerprint(&kept.raw);
        let read = decode::record(&stream.spec, kept.raw.clone(), raw_hash, kept.member.clone(), &vars);
        let reason = match read {
            Err(reason) => Some(reason),
            // The filter leaves it out now.
            Ok(None) => None,
            Ok(Some(record)) => {
                let deleted = decode::says_deleted(&stream.spec, &record.raw, &vars).unwrap_or(false);
                let copy = Copy::polled(record, deleted, state.change_number);
                let subscriptions = self.subscriptions();
                let judge = Judge {
                    stream,
                    state: &state,
                    source_id: &state.source_id,
                    subscriptions: &subscriptions,
                    vars: &vars,
                    now: self.clock.now(),
                    silent: false,
                };
                let mut judged = batch::judge(&*self.store, &judge, vec![copy], &HashMap::new()).await?;
                match judged.verdicts.pop() {
                    Some((_, None, Ok(Verdict::Write(write)))) => {
                        commit.writes.push(*write);
                        None
                    }
                    Some((_, _, Err(reason))) => Some(reason),
                    Some((_, _, Ok(_))) | None => None,
                }
            }
        };
        if let Some(reason) = reason {
            retried.left += 1;
            commit.retried.clear();
            commit.set_aside.push(SetAside { raw: kept.raw, member: kept.member, reason });
        } else if commit.writes.is_empty() {
            retried.given_up += 1;
        } else {
            retried.taken += 1;
        }
        let news = News::of(&commit.writes);
        self.store.commit(commit).await?;
        news.tell(self, &stream.name).await
    }

    /// Asks a handler's `when` again for the deliveries it could not decide.
    pub async fn retry_when(&self, handler: &HandlerName) -> Result<Retried, IngestError> {
        let mut retried = Retried::default();
        let mut after = None;
        loop {
            let held = self.store.held_by_when(handler, after, BATCH).await?;
            let Some((last, _)) = held.last() else { break };
            after = Some(*last);
            let subscriptions = self.subscriptions();
            let mut decided = Vec::new();
            for (id, event) in held {
                let found = subscriptions.explain(&event).into_iter().find(|(name, _)| name == handler);
                match found.map(|(_, found)| found) {
                    Some(Match::WhenFailed(_)) => retried.left += 1,
                    Some(Match::Yes) => {
                        retried.taken += 1;
                        decided.push((id, true));
                    }
                    Some(Match::OtherSource | Match::OtherType | Match::WhenFalse) | None => {
                        retried.given_up += 1;
                        decided.push((id, false));
                    }
                }
            }
            self.store.release_by_when(handler, decided).await?;
        }
        if retried.left == 0 {
            self.problems.close(&*self.store, ProblemKind::WhenFailed, handler.as_str()).await?;
        }
        Ok(retried)
    }
}

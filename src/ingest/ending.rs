//! How a run ends: with its verdict and the release of what waited for it, or as one that failed.

use super::run::{Run, Way};
use super::{IngestError, RunReport};
use crate::model::{ProblemKind, Timestamp};
use crate::planted::{self, Fault};
use crate::store::{Phase, Verdict};

impl Run {
    /// Ends a complete run: absences, guards, verdict, release.
    pub async fn finish(mut self, validators: Option<String>) -> Result<RunReport, IngestError> {
        self.flush(Vec::new()).await?;
        if self.stream.spec.cursor.as_ref().is_some_and(|cursor| cursor.answer.is_some()) && !self.tracker.found() {
            let message = "`cursor.answer` was null or missing in every page: there is no place to go on from";
            return Err(IngestError::PathMissing(message.to_owned()));
        }
        self.announce_picked().await?;
        let again = self.must_repeat();
        let ended = !again && !self.going.incomplete;
        let quiet = self.guard_run(ended).await?;
        let began = (self.state.phase, self.state.listed_once);
        let mark = self.mark().filter(|_| !again);
        self.report.again = again;
        self.report.ahead = self.report.ahead.max(self.tracker.ahead);
        // Whatever waits for another look would wait for ever behind "nothing new" (RULES R6.4).
        self.report.owed |= !quiet || !self.proven || self.ignored;
        self.report.moved |= mark.is_some() && mark != self.state.mark;
        let verdict = Verdict::Accepted {
            mark,
            validators: validators.filter(|_| ended && !self.report.owed),
            phase: if ended { Phase::Live } else { self.state.phase },
            listed_once: self.state.listed_once || (self.lists_everything() && ended),
            started_at: self.state.started_at,
        };
        self.release_after(verdict, began).await?;
        self.miss().await?;
        self.write_down().await?;
        self.close_problems().await?;
        self.ingest.remember_older(&self.stream.name, std::mem::take(&mut self.older));
        if self.overtaken {
            let rest = self.stream.spec.lag.max(super::OVERTAKEN_REST);
            self.ingest.store.poll_within(&self.stream.name, rest).await?;
        }
        Ok(self.told_report())
    }

    /// Ends a run that failed: its journal and its resume point are dropped, the mark stays. What was committed page by page stays.
    pub async fn abandon(mut self) -> Result<RunReport, IngestError> {
        // Without a page there is nothing to drop: "nothing new" (304) ends here too, and keeps its validators.
        let left = self.pages > 0 && (self.way == Way::Journal || self.state.validators.is_some());
        if left || self.going.resumed.is_some() {
            self.ingest.store.verdict(&self.lease, Verdict::Dropped).await?;
        }
        self.write_down().await?;
        if planted::is(Fault::MarkOnError) {
            let mut commit = self.commit();
            commit.mark = self.tracker.moved(None).map(|mark| mark.to_stored());
            self.ingest.store.commit(commit).await?;
        }
        Ok(self.told_report())
    }

    /// A complete run shows every record there is: only then is an unseen key later a creation.
    fn lists_everything(&self) -> bool {
        match &self.stream.spec.cursor {
            None => true,
            Some(cursor) => cursor.start == crate::provider::Start::All,
        }
    }

    pub(super) fn start_mark(&self) -> Option<Timestamp> {
        let cursor = self.stream.spec.cursor.as_ref()?;
        let from_now = cursor.start == crate::provider::Start::Now && cursor.kind == crate::provider::CursorKind::Time;
        // Ticks that are still filling at the start belong to what comes.
        if from_now { self.state.started_at.map(|at| at.minus(cursor.settle)) } else { None }
    }

    /// What was well in this run closes the problems that ingest itself opened.
    async fn close_problems(&self) -> Result<(), IngestError> {
        let (store, subject) = (&*self.ingest.store, self.stream.name.to_string());
        let problems = &self.ingest.problems;
        if !self.contradicted {
            problems.close(store, ProblemKind::KeyDuplicate, &subject).await?;
        }
        let unreadable = ProblemKind::RecordUnreadable;
        if self.report.unreadable == 0
            && problems.maybe_open(unreadable, &subject)
            && store.set_aside(&self.stream.name, None, 1).await?.is_empty()
        {
            problems.close(store, unreadable, &subject).await?;
        }
        Ok(())
    }
}

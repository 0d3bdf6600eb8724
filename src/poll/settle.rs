//! What follows from a run: when the stream is polled next, how the poll is recorded, and which problems a person must see.
//! Deciding is pure; `mod` acts on it.

use std::time::Duration;

use super::pace;
use super::run::{Outcome, Pause};
use super::verdict::{Cause, Failure};
use crate::model::{ProblemKind, Timestamp};
use crate::schedule::Schedule;
use crate::store::PollResult;

/// The longest run.
pub(super) const DEADLINE: Duration = Duration::from_secs(600);
/// A run that must be repeated is repeated so often at once; then the schedule goes on.
const REPEATS: u32 = 3;
/// What was deferred goes on after this at the latest, however rarely the stream is polled.
const DEFERRED: Duration = Duration::from_secs(60);
/// Children look so often whether their parents have been listed.
const NOT_YET: Duration = Duration::from_secs(5);
/// A long poll that comes back empty-handed at once is not asked again at once.
const LONG_POLL_REST: Duration = Duration::from_secs(1);

/// What is known of the stream when its run has ended.
#[derive(Clone, Debug)]
pub(super) struct Facts<'a> {
    pub schedule: &'a Schedule,
    /// Until the schedule's next time.
    pub scheduled_in: Duration,
    /// The answer itself is waited for: the next request starts when one came.
    pub long_poll: bool,
    /// No good poll for so long is late, where the source says it.
    pub late_after: Option<Duration>,
    /// The provider's own least interval.
    pub pace: Option<Duration>,
    /// Runs in a row that proved nothing because their pages may have shifted, this one included.
    pub repeats: u32,
    /// Failures in a row before this run.
    pub failures: u32,
    /// Since the last good poll; None: there was none.
    pub since_ok: Option<Duration>,
    pub took: Duration,
    pub records: u64,
    pub now: Timestamp,
}

/// What to store and to say.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settlement {
    pub next_in: Duration,
    pub result: PollResult,
    pub error: Option<String>,
    /// Problems to open; the credential's concern the whole source.
    pub problems: Vec<(ProblemKind, String)>,
}

/// Decides. None: the lease is somebody else's, and nothing is written.
pub(super) fn decide(outcome: &Outcome, facts: &Facts<'_>) -> Option<Settlement> {
    let settlement = match outcome {
        Outcome::Done(report) if report.again && facts.repeats <= REPEATS => at_once(good(PollResult::Ok, facts)),
        Outcome::Done(report) if report.deferred => {
            let settlement = good(PollResult::Ok, facts);
            Settlement { next_in: settlement.next_in.min(DEFERRED), ..settlement }
        }
        Outcome::Done(_) => good(PollResult::Ok, facts),
        Outcome::Partly(_, failure) => partly(failure, facts),
        Outcome::Paused(_, pause) => paused(*pause, facts),
        Outcome::NotModified => good(PollResult::NotModified, facts),
        Outcome::Failed(failure) => failed(failure, facts),
        Outcome::Waits(until) => waits(*until, facts),
        Outcome::Overdue => overdue(facts),
        Outcome::Stale => return None,
    };
    let next_in = settlement.next_in.max(facts.pace.unwrap_or_default());
    Some(Settlement { next_in, ..settlement })
}

fn at_once(settlement: Settlement) -> Settlement {
    Settlement { next_in: Duration::ZERO, ..settlement }
}

/// What was listed is stored; the rest is tried again at the next time, and is late if that goes on.
fn partly(failure: &Failure, facts: &Facts<'_>) -> Settlement {
    let settlement = failed(failure, facts);
    Settlement { next_in: facts.scheduled_in.max(asked_for(failure)), ..settlement }
}

/// What was found is kept, and the next run goes on with it.
fn paused(pause: Pause, facts: &Facts<'_>) -> Settlement {
    let error = match pause {
        Pause::Budget(until) => return waits(until, facts),
        Pause::Time => "the run had its time; the next one goes on where it stopped",
        Pause::Cap => "as many changes went out as one run may send (`max_per_run`); the rest goes with the next ones",
        Pause::NotYet => "waits for the first complete look at the stream of its parents",
    };
    let next_in = match pause {
        Pause::Time => Duration::ZERO,
        Pause::NotYet => facts.scheduled_in.min(NOT_YET),
        Pause::Cap => facts.scheduled_in.min(DEFERRED),
        Pause::Budget(_) => facts.scheduled_in,
    };
    Settlement { next_in, result: PollResult::Deferred, error: Some(error.to_owned()), problems: Vec::new() }
}

fn good(result: PollResult, facts: &Facts<'_>) -> Settlement {
    let next_in = match facts.long_poll {
        true if facts.records == 0 => LONG_POLL_REST.saturating_sub(facts.took),
        true => Duration::ZERO,
        false => facts.scheduled_in,
    };
    Settlement { next_in, result, error: None, problems: Vec::new() }
}

/// One such run may be bad luck; two in a row have brought nothing, and a person must know (RULES R1.4).
fn overdue(facts: &Facts<'_>) -> Settlement {
    let message = format!(
        "the run waited longer than {} min for one answer and was broken off; ask for smaller pages or narrow the request",
        DEADLINE.as_secs() / 60
    );
    let mut settlement = failed(&Failure::new(Cause::Passing { after: None }, message.clone()), facts);
    let told = settlement.problems.iter().any(|(kind, _)| *kind == ProblemKind::StreamLate);
    if facts.failures > 0 && !told {
        settlement.problems.push((ProblemKind::StreamLate, format!("two runs in a row made no progress: {message}")));
    }
    settlement
}

/// The interval is kept for the first failures, then grows; what the provider asked for is the least. A cron's times are kept.
fn failed(failure: &Failure, facts: &Facts<'_>) -> Settlement {
    let failures = facts.failures.saturating_add(1);
    let grown = match (failure.cause, facts.schedule) {
        (Cause::Held, _) | (_, Schedule::Cron { .. }) => facts.scheduled_in,
        (_, Schedule::Every(interval)) => {
            facts.scheduled_in.saturating_add(pace::after_failures(*interval, failures).saturating_sub(*interval))
        }
    };
    let asked = asked_for(failure);
    let mut problems: Vec<_> = failure.problem().map(|kind| (kind, failure.message.clone())).into_iter().collect();
    let late = failure.cause != Cause::Held && pace::late(interval(facts), facts.late_after, failures, facts.since_ok);
    if late {
        if let Cause::RateLimited { .. } = failure.cause {
            problems.push((ProblemKind::QuotaExhausted, failure.message.clone()));
        }
        let message = format!(
            "no good poll {}; the last of {failures} failures in a row: {}",
            facts.since_ok.map_or("yet".to_owned(), |since| format!("for {} min", since.as_secs() / 60)),
            failure.message
        );
        problems.push((ProblemKind::StreamLate, message));
    }
    Settlement { next_in: grown.max(asked), result: PollResult::Failed, error: Some(failure.message.clone()), problems }
}

fn asked_for(failure: &Failure) -> Duration {
    match failure.cause {
        Cause::Passing { after } | Cause::RateLimited { after } => after.unwrap_or_default(),
        Cause::Refused | Cause::Expired | Cause::Held | Cause::Lasting(_) => Duration::ZERO,
    }
}

/// Our own budget says later. That is as it should be, unless it makes the stream late.
fn waits(until: Timestamp, facts: &Facts<'_>) -> Settlement {
    let wait = until.since(facts.now);
    let mut problems = Vec::new();
    if pace::late(interval(facts), facts.late_after, u32::MAX, Some(wait)) {
        let message = format!(
            "the request limits allow the next request at {until}; poll less often (`every`), or correct `limits` if the provider allows more"
        );
        problems.push((ProblemKind::QuotaExhausted, message));
    }
    let error = Some(format!("waits for its request limits until {until}"));
    Settlement { next_in: wait.max(facts.scheduled_in), result: PollResult::Deferred, error, problems }
}

fn interval(facts: &Facts<'_>) -> Duration {
    match facts.schedule {
        Schedule::Every(interval) => *interval,
        Schedule::Cron { .. } => facts.scheduled_in,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::RunReport;

    const MINUTE: Duration = Duration::from_secs(60);

    fn facts(schedule: &Schedule) -> Facts<'_> {
        Facts {
            schedule,
            scheduled_in: MINUTE,
            long_poll: false,
            late_after: None,
            pace: None,
            repeats: 0,
            failures: 0,
            since_ok: Some(MINUTE),
            took: Duration::from_millis(20),
            records: 0,
            now: Timestamp(1_000_000),
        }
    }

    fn fails(cause: Cause) -> Outcome {
        Outcome::Failed(Failure::new(cause, "because"))
    }

    fn kinds(settlement: &Settlement) -> Vec<ProblemKind> {
        settlement.problems.iter().map(|(kind, _)| *kind).collect()
    }

    #[test]
    fn a_good_run_is_followed_by_the_schedule_and_a_long_poll_by_the_next() {
        let every = Schedule::Every(MINUTE);
        let done = Outcome::Done(RunReport::default());
        let plain = decide(&done, &facts(&every)).expect("settled");
        assert_eq!((plain.next_in, plain.result), (MINUTE, PollResult::Ok));
        let waited = Facts { long_poll: true, took: Duration::from_secs(30), ..facts(&every) };
        assert_eq!(decide(&Outcome::NotModified, &waited).expect("settled").next_in, Duration::ZERO);
        let at_once = Facts { long_poll: true, ..facts(&every) };
        assert_eq!(decide(&done, &at_once).expect("settled").next_in, Duration::from_millis(980));
        let found = Facts { long_poll: true, records: 1, ..facts(&every) };
        assert_eq!(decide(&done, &found).expect("settled").next_in, Duration::ZERO);
        assert_eq!(decide(&Outcome::Stale, &facts(&every)), None);
    }

    #[test]
    fn a_failing_stream_is_polled_less_often_and_never_before_the_provider_allows() {
        let every = Schedule::Every(MINUTE);
        let hour = Duration::from_secs(3600);
        for (cause, failures, want) in [
            (Cause::Passing { after: None }, 0, 60),
            (Cause::Passing { after: None }, 3, 120),
            (Cause::Passing { after: None }, 99, 480),
            (Cause::Passing { after: Some(hour) }, 0, 3600),
            (Cause::RateLimited { after: Some(hour) }, 99, 3600),
            (Cause::RateLimited { after: None }, 0, 60),
            (Cause::Held, 99, 60),
        ] {
            let facts = Facts { failures, ..facts(&every) };
            let settlement = decide(&fails(cause), &facts).expect("settled");
            assert_eq!(settlement.next_in, Duration::from_secs(want), "{cause:?} after {failures}");
            assert_eq!(settlement.result, PollResult::Failed);
        }
        let cron = Schedule::Cron { text: "0 6 * * *".into(), zone: chrono_tz::UTC };
        let facts = Facts { failures: 99, ..facts(&cron) };
        assert_eq!(decide(&fails(Cause::Refused), &facts).expect("settled").next_in, MINUTE);
    }

    #[test]
    fn what_needs_a_person_is_a_problem_at_once_and_what_passes_only_when_it_lasts() {
        let every = Schedule::Every(MINUTE);
        let long = Some(Duration::from_secs(300));
        use ProblemKind::*;
        for (cause, failures, since_ok, want) in [
            (Cause::Passing { after: None }, 0, long, vec![]),
            (Cause::Passing { after: None }, 2, long, vec![StreamLate]),
            (Cause::Passing { after: None }, 2, Some(MINUTE), vec![]),
            (Cause::RateLimited { after: None }, 2, long, vec![QuotaExhausted, StreamLate]),
            (Cause::Refused, 0, long, vec![AuthFailed]),
            (Cause::Refused, 2, None, vec![AuthFailed, StreamLate]),
            (Cause::Lasting(PageLoop), 0, long, vec![PageLoop]),
            (Cause::Held, 9, None, vec![]),
        ] {
            let facts = Facts { failures, since_ok, ..facts(&every) };
            assert_eq!(kinds(&decide(&fails(cause), &facts).expect("settled")), want, "{cause:?} {failures}");
        }
    }

    #[test]
    fn a_budget_that_is_spent_defers_the_stream_and_is_a_problem_only_when_it_makes_it_late() {
        let every = Schedule::Every(MINUTE);
        for (until, next_in, want) in
            [(1_030_000, 60, vec![]), (1_120_000, 120, vec![]), (1_300_000, 300, vec![ProblemKind::QuotaExhausted])]
        {
            let settlement = decide(&Outcome::Waits(Timestamp(until)), &facts(&every)).expect("settled");
            assert_eq!(settlement.result, PollResult::Deferred);
            assert_eq!(settlement.next_in, Duration::from_secs(next_in));
            assert_eq!(kinds(&settlement), want);
        }
    }
    #[test]
    fn r1_5_a_run_whose_pages_may_have_shifted_is_repeated_at_once_but_not_for_ever() {
        let every = Schedule::Every(MINUTE);
        let again = Outcome::Done(RunReport { again: true, ..RunReport::default() });
        for (repeats, want) in [(1, Duration::ZERO), (3, Duration::ZERO), (4, MINUTE)] {
            let facts = Facts { repeats, ..facts(&every) };
            assert_eq!(decide(&again, &facts).expect("settled").next_in, want, "{repeats}");
        }
    }

    #[test]
    fn r1_4_what_one_run_does_not_end_the_next_goes_on_with() {
        let every = Schedule::Every(MINUTE);
        for (pause, want) in [
            (Pause::Time, Duration::ZERO),
            (Pause::Cap, MINUTE),
            (Pause::NotYet, NOT_YET),
            (Pause::Budget(Timestamp(1_120_000)), MINUTE * 2),
        ] {
            let settlement = decide(&Outcome::Paused(RunReport::default(), pause), &facts(&every)).expect("settled");
            assert_eq!((settlement.result, settlement.next_in), (PollResult::Deferred, want), "{pause:?}");
            assert_eq!(kinds(&settlement), []);
        }
    }

    #[test]
    fn r1_4_two_runs_without_progress_are_a_problem() {
        let every = Schedule::Every(MINUTE);
        for (failures, want) in [(0, vec![]), (1, vec![ProblemKind::StreamLate])] {
            let facts = Facts { failures, ..facts(&every) };
            assert_eq!(kinds(&decide(&Outcome::Overdue, &facts).expect("settled")), want);
        }
    }

    #[test]
    fn the_providers_own_least_interval_is_kept() {
        let every = Schedule::Every(MINUTE);
        let facts = Facts { pace: Some(MINUTE * 5), ..facts(&every) };
        assert_eq!(decide(&Outcome::Done(RunReport::default()), &facts).expect("settled").next_in, MINUTE * 5);
    }
}

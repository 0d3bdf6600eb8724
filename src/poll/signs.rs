//! What a good poll is watched for: a cursor that stands still, a source that fell silent, clocks that part, records from the future,
//! a webhook that lets the poll rest. Each is judged from what the stream remembers of earlier runs. Pure.

use std::time::Duration;

use super::begin::whole;
use super::memory::Memory;
use super::provider_clock;
use crate::ingest::RunReport;
use crate::model::{ProblemKind, Timestamp};

/// So many runs in a row that found changes while the mark stayed are a cursor that stands still.
const UNMOVED: u32 = 5;
/// How long lost history stays a problem: no good poll can mend it.
pub(super) const GAP_SHOWN: Duration = Duration::from_secs(24 * 3600);

/// A good run, and what is known of its stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Good<'a> {
    /// None: nothing was listed (304).
    pub report: Option<&'a RunReport>,
    /// The stream's change number when the run began.
    pub began_at: u64,
    /// One mark says where it goes on, and this run had to move it if it found something.
    pub has_mark: bool,
    pub late: bool,
    /// A webhook or a person asked for the run.
    pub asked_for: bool,
    pub expect_every: Option<Duration>,
    /// `every` and `every_healthy`, where webhooks may slow the poll.
    pub interval: Option<(Duration, Duration)>,
    pub now: Timestamp,
}

/// Takes a good run into the memory; gives the problems that it shows.
pub(super) fn see(memory: &mut Memory, good: &Good<'_>) -> Vec<(ProblemKind, String)> {
    let report = good.report.cloned().unwrap_or_default();
    let changes = report.created + report.updated + report.deleted;
    let webhooks_wrote = good.began_at > memory.change_number;
    adapt(memory, good, changes, webhooks_wrote);
    if changes > 0 || webhooks_wrote || memory.changed_at.is_none() {
        memory.changed_at = Some(good.now.0);
    }
    if report.moved {
        memory.unmoved = 0;
    } else if changes > 0 && good.has_mark && !good.late && !report.again {
        memory.unmoved = memory.unmoved.saturating_add(1);
    }
    memory.repeats = if report.again { memory.repeats.saturating_add(1) } else { 0 };
    // A listing that was not asked for whole says nothing of what is owed.
    if good.report.is_some() {
        memory.unconditional = report.owed || report.again;
    }
    memory.change_number = report.change_number.max(good.began_at);
    let silent = silent(memory, good);
    [frozen(memory), future(&report), silent].into_iter().flatten().collect()
}

/// Webhooks that told everything let the poll rest longer; one change that only a poll found brings it back (DESIGN §6).
fn adapt(memory: &mut Memory, good: &Good<'_>, changes: u64, webhooks_wrote: bool) {
    let Some((every, healthy)) = good.interval else {
        memory.interval = None;
        return;
    };
    let present = memory.interval.map_or(every, Duration::from_millis).clamp(every, healthy);
    let next = match (changes > 0 && !good.asked_for, webhooks_wrote) {
        (true, _) => every,
        (false, true) => present.saturating_mul(3) / 2,
        (false, false) => present,
    };
    memory.interval = u64::try_from(next.clamp(every, healthy).as_millis()).ok();
}

fn frozen(memory: &Memory) -> Option<(ProblemKind, String)> {
    (memory.unmoved >= UNMOVED).then(|| {
        let message = format!(
            "{} polls in a row found changes while the cursor stood still: records change without `cursor.field` moving, so that \
             those which lie further back are never asked for again. Choose a field that moves with each change, or a `lookback`",
            memory.unmoved
        );
        (ProblemKind::CursorFrozen, message)
    })
}

fn future(report: &RunReport) -> Option<(ProblemKind, String)> {
    report.ahead.map(|date| {
        let message = format!(
            "a record is dated {date}, further ahead of the provider's clock than `cursor.max_future` allows; the cursor does not \
             follow it. Look at that record at the provider, or raise `cursor.max_future` if its dates lie in the future"
        );
        (ProblemKind::CursorFuture, message)
    })
}

fn silent(memory: &Memory, good: &Good<'_>) -> Option<(ProblemKind, String)> {
    let since = good.now.since(Timestamp(memory.changed_at?));
    let expected = good.expect_every.filter(|expected| since > *expected)?;
    let message = format!(
        "no change for {}, although one is expected every {} (`expect_every`); polls go well. Look whether the provider still \
         writes there, and whether the credential still sees it",
        whole(since),
        whole(expected)
    );
    Some((ProblemKind::StreamSilent, message))
}

/// The source's clock against ours.
pub(super) fn clocks(skew: Option<i64>) -> Option<(ProblemKind, String)> {
    provider_clock::problem(skew?).map(|message| (ProblemKind::ClockSkew, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn good<'a>(report: &'a RunReport, now: i64) -> Good<'a> {
        Good {
            report: Some(report),
            began_at: 0,
            has_mark: true,
            late: false,
            asked_for: false,
            expect_every: None,
            interval: None,
            now: Timestamp(now),
        }
    }

    fn kinds(problems: &[(ProblemKind, String)]) -> Vec<ProblemKind> {
        problems.iter().map(|(kind, _)| *kind).collect()
    }

    #[test]
    fn pitfall_59_a_cursor_that_stands_still_while_records_change_is_a_problem_until_it_moves() {
        let (stands, moves) = (
            RunReport { updated: 1, ..RunReport::default() },
            RunReport { updated: 1, moved: true, ..RunReport::default() },
        );
        let mut memory = Memory::default();
        for run in 1..=UNMOVED {
            let found = see(&mut memory, &good(&stands, 0));
            assert_eq!(kinds(&found), if run < UNMOVED { vec![] } else { vec![ProblemKind::CursorFrozen] }, "{run}");
        }
        let late = Good { late: true, ..good(&stands, 0) };
        let mut other = Memory { unmoved: UNMOVED - 1, ..Memory::default() };
        assert_eq!(kinds(&see(&mut other, &late)), [], "late records lie behind the mark by their nature");
        assert_eq!(kinds(&see(&mut memory, &good(&moves, 0))), []);
    }

    #[test]
    fn pitfall_59_a_source_that_fell_silent_is_a_problem_until_something_changes_by_either_way() {
        let (nothing, change) = (RunReport::default(), RunReport { created: 1, moved: true, ..RunReport::default() });
        let mut memory = Memory::default();
        let hour = 3_600_000;
        let look = |memory: &mut Memory, report: &RunReport, began_at: u64, hours: i64| {
            kinds(&see(memory, &Good { began_at, expect_every: Some(MINUTE * 60), ..good(report, hours * hour) }))
        };
        assert_eq!(look(&mut memory, &nothing, 0, 0), []);
        assert_eq!(look(&mut memory, &nothing, 0, 1), []);
        assert_eq!(look(&mut memory, &nothing, 0, 2), [ProblemKind::StreamSilent]);
        assert_eq!(look(&mut memory, &change, 0, 3), []);
        assert_eq!(look(&mut memory, &nothing, 0, 5), [ProblemKind::StreamSilent]);
        assert_eq!(look(&mut memory, &nothing, 7, 6), [], "a webhook brought a change");
    }

    #[test]
    fn webhooks_that_tell_everything_slow_the_poll_and_one_that_was_lost_brings_it_back() {
        let (nothing, found) = (RunReport::default(), RunReport { updated: 1, moved: true, ..RunReport::default() });
        let mut memory = Memory::default();
        let mut look = |report: &RunReport, began_at: u64, asked_for: bool| {
            let report = RunReport { change_number: began_at, ..report.clone() };
            let good = Good { began_at, asked_for, interval: Some((MINUTE, MINUTE * 4)), ..good(&report, 0) };
            see(&mut memory, &good);
            memory.interval.expect("it adapts") / 1000
        };
        assert_eq!(look(&nothing, 0, false), 60, "no webhook came: nothing is proven");
        assert_eq!(look(&nothing, 1, false), 90);
        assert_eq!(look(&nothing, 2, false), 135);
        assert_eq!(look(&nothing, 2, false), 135);
        assert_eq!(look(&found, 3, true), 202, "the webhook itself asked for this poll");
        assert_eq!(look(&nothing, 4, false), 240);
        assert_eq!(look(&found, 4, false), 60, "recovered by the poll");
        let report = RunReport { ..RunReport::default() };
        see(&mut memory, &good(&report, 0));
        assert_eq!(memory.interval, None, "without a webhook the interval stays");
    }

    #[test]
    fn a_record_from_the_future_is_named_and_a_whole_listing_is_asked_for_while_one_is_owed() {
        let ahead = RunReport { ahead: Some(Timestamp(1_800_000_000_000)), owed: true, ..RunReport::default() };
        let mut memory = Memory::default();
        let found = see(&mut memory, &good(&ahead, 0));
        assert!(found[0].1.contains("2027-01-15") && found[0].0 == ProblemKind::CursorFuture, "{found:?}");
        assert!(memory.unconditional);
        see(&mut memory, &Good { report: None, ..good(&ahead, 0) });
        assert!(memory.unconditional, "a 304 is no listing");
        see(&mut memory, &good(&RunReport::default(), 0));
        assert!(!memory.unconditional);
    }
}

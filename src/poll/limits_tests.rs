//! Budgets: windows that roll, over restarts and clocks that are set.

use super::*;

fn limits(rates: &[(u32, u64)]) -> Limits {
    Limits { rates: rates.iter().map(|(n, s)| (*n, Duration::from_secs(*s))).collect(), ..Limits::default() }
}

fn of(budgets: &mut Budgets, former: &Budgets, limits: &Limits) -> Arc<Budget> {
    let clock = Clock::manual(Timestamp(0));
    budgets.of(&Origin { former, stored: &HashMap::new(), clock: &clock }, "key", limits)
}

#[test]
fn windows_roll_and_all_of_them_hold() {
    let budget = Budget::new("key", &limits(&[(2, 1), (3, 60)]));
    for (now, want) in [
        (0, Ok(())),
        (400, Ok(())),
        (900, Err(1_000)),
        (1_000, Ok(())),
        (1_500, Err(60_000)),
        (59_999, Err(60_000)),
        (60_000, Ok(())),
        (60_001, Err(60_400)),
    ] {
        let want = want.map_err(|until| Exhausted { until: Timestamp(until) });
        assert_eq!(budget.spend(Timestamp(now)), want, "at {now}");
    }
}

#[test]
fn a_clock_set_back_neither_frees_a_request_nor_blocks_for_longer_than_the_window() {
    let budget = Budget::new("key", &limits(&[(1, 60)]));
    assert_eq!(budget.spend(Timestamp(3_600_000)), Ok(()));
    assert_eq!(budget.spend(Timestamp(0)), Err(Exhausted { until: Timestamp(60_000) }));
    assert_eq!(budget.spend(Timestamp(60_000)), Ok(()));
}

#[test]
fn r10_3_four_reads_a_day_are_four_reads_over_restarts_and_clocks_that_are_set() {
    let (hour, day) = (Duration::from_secs(3600), limits(&[(4, 86_400)]));
    let clock = Clock::manual(Timestamp(1_000_000_000));
    let mut stored: HashMap<String, String> = HashMap::new();
    let (mut read, mut since) = (Vec::new(), Duration::ZERO);
    for step in 0..96_u64 {
        // Every hour another process, and now and then somebody sets the wall.
        let budget =
            Budgets::default().of(&Origin { former: &Budgets::default(), stored: &stored, clock: &clock }, "key", &day);
        if budget.spend(clock.now()).is_ok() {
            read.push(since);
            stored.insert("key".into(), budget.to_store(&clock).expect("a request was counted"));
        }
        if step % 5 == 2 {
            clock.set_wall(if step % 2 == 0 { -7_200_000 } else { 90_000_000 });
            if let Some(millis) = clock.look().filter(|_| step % 3 == 0) {
                // Found while the process runs; else the next process finds it by the machine's own count.
                budget.clock_stepped(millis);
                stored.insert("key".into(), budget.to_store(&clock).expect("it was moved"));
            }
        }
        clock.advance(hour);
        since += hour;
    }
    assert_eq!(read.len(), 16, "{read:?}");
    for five in read.windows(5) {
        assert!(five[4] - five[0] >= Duration::from_secs(86_400), "{five:?}");
    }
}

#[test]
fn what_an_answer_says_is_left_is_heeded_in_the_declared_unit() {
    use crate::provider::ResetUnit::{Date, Seconds, Unix, UnixMs};
    let now = Timestamp(1_800_000_000_000);
    let answer = |left: &'static str, reset: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert("x-left", http::HeaderValue::from_static(left));
        headers.insert("x-reset", http::HeaderValue::from_static(reset));
        headers
    };
    for (left, reset, unit, want) in [
        ("1", "30", Seconds, None),
        ("0", "30", Seconds, Some(30)),
        ("0", "1800000090", Unix, Some(90)),
        ("0", "1800000090500", UnixMs, Some(91)),
        ("0", "Fri, 15 Jan 2027 08:00:40 GMT", Date, Some(40)),
        ("0", "2027-01-15T08:00:50Z", Date, Some(50)),
        ("0", "12", Unix, Some(60)),
        ("0", "soon", Seconds, Some(60)),
        ("0", "999999999", Seconds, Some(86_400)),
    ] {
        let declared =
            Limits { remaining: Some("x-left".into()), reset: Some(("x-reset".into(), unit)), ..Limits::default() };
        let budget = Budget::new("key", &declared);
        budget.heed(&declared, &answer(left, reset), now);
        let waits = budget.spend(now).err().map(|exhausted| exhausted.until.since(now).as_secs_f64().ceil() as u64);
        assert_eq!(waits, want, "{left} left, reset {reset} in {unit:?}");
        assert_eq!(budget.left(now), left.parse().ok());
        assert_eq!(budget.to_store(&Clock::manual(now)).is_some(), want.is_some(), "quiet outlives a restart");
    }
    let reserve = Limits { remaining: Some("x-left".into()), stop_below: 100, ..Limits::default() };
    let budget = Budget::new("key", &reserve);
    budget.heed(&reserve, &answer("100", ""), now);
    assert!(budget.spend(now).is_err(), "the reserve is not touched");
}

#[test]
fn quiet_asked_for_by_the_provider_holds_for_everybody_with_the_credential() {
    let mut budgets = Budgets::default();
    let one = of(&mut budgets, &Budgets::default(), &limits(&[]));
    let other = of(&mut budgets, &Budgets::default(), &limits(&[]));
    one.quiet_until(Timestamp(500));
    one.quiet_until(Timestamp(400));
    assert_eq!(other.spend(Timestamp(499)), Err(Exhausted { until: Timestamp(500) }));
    assert_eq!(other.spend(Timestamp(500)), Ok(()));
}

#[test]
fn a_reload_keeps_what_was_spent_under_changed_limits_too() {
    let mut first = Budgets::default();
    of(&mut first, &Budgets::default(), &limits(&[(1, 60)])).spend(Timestamp(0)).expect("room");
    let same = of(&mut Budgets::default(), &first, &limits(&[(1, 60)]));
    assert!(same.spend(Timestamp(1)).is_err());
    let changed = of(&mut Budgets::default(), &first, &limits(&[(2, 60)]));
    assert!(changed.spend(Timestamp(1)).is_ok());
    assert!(changed.spend(Timestamp(1)).is_err());
}

#[tokio::test]
async fn a_short_wait_is_waited_for_and_a_long_one_ends_the_run() {
    let clock = Clock::manual(Timestamp(0));
    let budget = Arc::new(Budget::new("key", &limits(&[(1, 10)])));
    let stream = Arc::new(Budget::new("key", &limits(&[(2, 86_400)])));
    let both = [stream, budget];
    enter(&both, &clock).await.expect("room");
    let second = tokio::spawn({
        let (both, clock) = (both.clone(), clock.clone());
        async move { enter(&both, &clock).await.map(|_| ()) }
    });
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    clock.advance(Duration::from_secs(10));
    assert_eq!(second.await.expect("no panic"), Ok(()));
    let third = enter(&both, &clock).await.map(|_| ());
    assert_eq!(third, Err(Exhausted { until: Timestamp(86_400_000) }));
}

#[tokio::test]
async fn a_request_that_one_budget_refuses_is_charged_to_none() {
    let clock = Clock::manual(Timestamp(0));
    let rare = Arc::new(Budget::new("key", &limits(&[(1, 86_400)])));
    let quiet = Arc::new(Budget::new("key", &limits(&[])));
    quiet.quiet_until(Timestamp(3_600_000));
    let refused = enter(&[rare.clone(), quiet], &clock).await.map(|_| ());
    assert_eq!(refused, Err(Exhausted { until: Timestamp(3_600_000) }));
    assert_eq!(rare.spend(Timestamp(1)), Ok(()));
}

#[tokio::test]
async fn no_more_requests_are_in_flight_than_allowed() {
    use futures_util::FutureExt;
    let budget = Budget::new("key", &Limits { concurrency: Some(1), ..Limits::default() });
    let permit = budget.permit().await;
    assert!(budget.permit().now_or_never().is_none());
    drop(permit);
    assert!(budget.permit().now_or_never().is_some());
}

#[test]
fn pitfall_56_only_an_answer_to_what_was_sent_after_a_refusal_ends_it() {
    let budget = Budget::new("k", &Limits::default());
    let before = budget.refusals();
    budget.refuse("401");
    budget.accept(before);
    assert_eq!(budget.refused().as_deref(), Some("401"), "its request was on its way when the refusal came");
    let after = budget.refusals();
    budget.refuse("401 again");
    budget.accept(after);
    assert_eq!(budget.refused().as_deref(), Some("401 again"));
    budget.accept(budget.refusals());
    assert_eq!(budget.refused(), None);
}

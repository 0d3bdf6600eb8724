//! Marks and clocks.

use std::time::Duration;

use super::kit::*;

const SINCE: &str = r#"
[streams.s]
path    = "/items"
query   = { since = "{{ cursor }}" }
records = ".items"
key     = ".id"
detect  = "changed"
cursor  = { field = ".at" }
"#;

async fn world(shelf: &Shelf, streams: &str) -> World {
    let shelf = shelf.clone();
    World::new(streams, move |asked| ok(list(&shelf.since(asked)))).await
}

#[tokio::test]
async fn pitfall_1_records_of_the_same_tick_are_neither_lost_nor_doubled() {
    let shelf = Shelf::of(&[("a", -5_000), ("b", -1_000)]);
    let world = world(&shelf, SINCE).await;
    world.polls().await;
    assert_eq!(world.events().await, Vec::<String>::new(), "a baseline says nothing");
    // Two more of the tick that the mark stands at, one of them a change of what is known.
    shelf.put("c", -1_000, "a");
    shelf.put("b", -1_000, "changed under the same time");
    world.clock.advance(Duration::from_secs(60));
    world.polls().await;
    world.polls().await;
    let mut events = world.events().await;
    events.sort();
    assert_eq!(events, ["s.created c", "s.updated b"]);
    assert_eq!(world.asked_for("since"), ["-", "2026-01-05T11:59:59Z", "2026-01-05T11:59:59Z"]);
}

#[tokio::test]
async fn pitfall_2_what_is_sent_is_rounded_down_to_the_precision_of_the_providers_filter() {
    let shelf = Shelf::of(&[("a", 0)]);
    let world = world(&shelf, &SINCE.replace("field = \".at\"", "field = \".at\", precision = \"1m\"")).await;
    world.clock.advance(Duration::from_secs(600));
    shelf.put("b", 59_999, "a");
    world.polls().await;
    world.polls().await;
    assert_eq!(world.asked_for("since"), ["-", "2026-01-05T12:00:00Z"]);
    assert_eq!(world.mark().await, Some(59_999), "the mark itself keeps its own precision");
}

#[tokio::test]
async fn pitfall_3_the_mark_keeps_out_of_ticks_that_are_still_filling() {
    let shelf = Shelf::of(&[("a", -60_000), ("b", -1_000)]);
    let world =
        world(&shelf, &SINCE.replace("field = \".at\"", "field = \".at\", settle = \"10s\", order = \"asc\"")).await;
    world.polls().await;
    assert_eq!(world.mark().await, Some(-10_000));
    // Written later than b, dated before it.
    shelf.put("late", -2_000, "a");
    world.clock.advance(Duration::from_secs(60));
    world.polls().await;
    assert_eq!(world.events().await, ["s.created late"]);
    assert_eq!(world.mark().await, Some(-1_000));
}

#[tokio::test]
async fn pitfall_5_the_lookback_lowers_the_query_and_never_the_mark() {
    let shelf = Shelf::of(&[("a", -600_000), ("b", -1_000)]);
    let world = world(&shelf, &SINCE.replace("field = \".at\"", "field = \".at\", lookback = \"10m\"")).await;
    world.polls().await;
    shelf.put("behind", -300_000, "a");
    world.polls().await;
    world.polls().await;
    assert_eq!(world.asked_for("since"), ["-", "2026-01-05T11:49:59Z", "2026-01-05T11:49:59Z"]);
    assert_eq!(world.mark().await, Some(-1_000));
    assert_eq!(world.events().await, ["s.created behind"], "and what is read again is known");
}

#[tokio::test]
async fn pitfall_7_a_record_from_the_future_is_announced_but_does_not_pull_the_mark_with_it() {
    let shelf = Shelf::of(&[("a", -1_000)]);
    let world = world(&shelf, SINCE).await;
    world.polls().await;
    shelf.put("tomorrow", 86_400_000, "a");
    world.polls().await;
    assert_eq!(world.events().await, ["s.created tomorrow"]);
    assert_eq!(world.mark().await, Some(0), "the provider's own clock, and no further");
    assert_eq!(world.problems().await, ["cursor.future core/s"]);
    world.clock.advance(Duration::from_secs(60));
    shelf.put("b", 30_000, "a");
    world.polls().await;
    assert_eq!(world.events().await, ["s.created tomorrow", "s.created b"], "nothing in between is skipped");
    shelf.remove("tomorrow");
    world.polls().await;
    assert_eq!(world.problems().await, Vec::<String>::new());
}

#[tokio::test]
async fn pitfall_8_the_clamp_and_the_start_go_by_the_providers_clock_and_its_skew_is_told() {
    let shelf = Shelf::of(&[("before", -1_000), ("old", 3_599_000)]);
    let streams = SINCE
        .replace("field = \".at\"", "field = \".at\", start = \"now\"")
        .replace("detect  = \"changed\"", "detect = \"new\"");
    let world = world(&shelf, &streams).await;
    // The provider's clock is an hour ahead of ours.
    world.provider_clock_is_ahead_by(3_600_000);
    world.polls().await;
    assert_eq!(world.state().await.started_at.map(|at| at.0 - START.0), Some(3_600_000));
    shelf.put("new", 3_601_000, "a");
    world.clock.advance(Duration::from_secs(60));
    world.polls().await;
    assert_eq!(world.events().await, ["s.created new"]);
    assert_eq!(world.mark().await, Some(3_601_000), "not cut down to our own clock");
    assert_eq!(world.problems().await, ["clock.skew core"]);
    let metrics = world.metrics.render();
    let line =
        metrics.lines().find(|line| line.starts_with("ringback_provider_clock_skew_seconds{")).unwrap_or_default();
    assert!(line.contains("source=\"core\"} 3600"), "{line}");
    world.provider_clock_is_ahead_by(0);
    shelf.remove("new");
    world.polls().await;
    assert_eq!(world.problems().await, Vec::<String>::new());
}

#[tokio::test]
async fn r3_6_an_empty_first_answer_still_says_when_the_stream_began() {
    let shelf = Shelf::default();
    let streams = SINCE
        .replace("field = \".at\"", "field = \".at\", start = \"now\"")
        .replace("detect  = \"changed\"", "created = \".at\"");
    let world = world(&shelf, &streams).await;
    world.polls().await;
    assert_eq!(world.mark().await, Some(0));
    world.clock.advance(Duration::from_secs(60));
    shelf.put("a", 1_000, "a");
    world.polls().await;
    assert_eq!(world.events().await, ["s.created a"]);
}

#[tokio::test]
async fn pitfall_9_times_without_a_zone_are_read_and_sent_in_the_declared_one_over_a_clock_change() {
    let streams = r#"
[streams.s]
path    = "/items"
query   = { since = "{{ cursor }}" }
records = ".items"
key     = ".id"
detect  = "changed"
cursor  = { field = ".at", format = "%d.%m.%Y %H:%M:%S", timezone = "Europe/Kyiv" }
"#;
    // 2026-03-29 04:30 in Kyiv is after the clocks went from 03:00 to 04:00: 01:30 UTC.
    let world = World::new(streams, |_| ok(r#"{"items":[{"id":"a","at":"29.03.2026 04:30:00"}]}"#)).await;
    world.clock.advance(Duration::from_secs(86_400 * 365));
    world.polls().await;
    world.polls().await;
    assert_eq!(world.asked_for("since"), ["-", "29.03.2026 04:30:00"]);
    let mark = ringback::model::Timestamp(START.0 + world.mark().await.expect("a mark")).to_string();
    assert!(mark.starts_with("2026-03-29T01:30:00"), "{mark}");
}

#[tokio::test]
async fn pitfall_10_an_error_and_an_empty_answer_leave_the_mark_where_it_was() {
    let shelf = Shelf::of(&[("a", -5_000)]);
    let world = world(&shelf, SINCE).await;
    world.polls().await;
    for answer in [r#"{"items":null}"#, "<html>", r#"{"items":[]}"#, r#"{"error":"x"}"#, ""] {
        world.answers(move |_| ok(answer));
        world.poll().await;
        assert_eq!(world.mark().await, Some(-5_000), "{answer}");
    }
    world.answers(|_| status(500));
    world.poll().await;
    assert_eq!(world.mark().await, Some(-5_000));
    assert_eq!(world.events().await, Vec::<String>::new());
}

#[tokio::test]
async fn pitfall_12_numbers_are_compared_as_numbers_however_long_and_asked_from_one_before_where_the_filter_excludes() {
    let streams = r#"
[streams.s]
path    = "/items"
query   = { after = "{{ cursor }}" }
records = ".items"
key     = ".id"
detect  = "new"
cursor  = { field = ".id", type = "number", inclusive = false }
"#;
    let world = World::new(streams, |_| ok(r#"{"items":[{"id":9},{"id":123456789012345678901},{"id":10}]}"#)).await;
    world.polls().await;
    world.polls().await;
    assert_eq!(world.asked_for("after"), ["-", "123456789012345678900"]);
}

#[tokio::test]
async fn pitfall_13_a_place_that_the_answer_names_is_kept_word_for_word_and_one_that_it_should_name_is_missed() {
    let streams = r#"
[streams.s]
path    = "/items"
query   = { delta = "{{ cursor }}" }
records = ".items"
key     = ".id"
cursor  = { answer = ".next_sync", type = "text" }
"#;
    let world = World::new(streams, |asked| {
        let next = asked.get("delta").map_or("AAA=".to_owned(), |before| format!("{before}+/B"));
        ok(format!(r#"{{"items":[],"next_sync":"{next}"}}"#))
    })
    .await;
    world.polls().await;
    world.polls().await;
    world.polls().await;
    assert_eq!(world.asked_for("delta"), ["-", "AAA=", "AAA=+/B"]);
    world.answers(|_| ok(r#"{"items":[],"next_sync":null}"#));
    let report = world.poll().await;
    assert!(report.error.is_some_and(|error| error.contains("cursor.answer")));
    assert_eq!(world.problems().await, ["answer.path-missing core/s"]);
}

#[tokio::test]
async fn pitfall_15_a_cursor_that_the_provider_no_longer_keeps_is_told_and_followed_by_a_comparing_look_and_no_flood() {
    let shelf = Shelf::of(&[("a", -9_000), ("b", -5_000)]);
    let world = world(&shelf, SINCE).await;
    world.polls().await;
    let kept = shelf.clone();
    world.answers(move |asked| if asked.get("since").is_some() { status(410) } else { ok(list(&kept.json(|_| true))) });
    shelf.put("b", -4_000, "changed meanwhile");
    shelf.put("c", -3_000, "a");
    assert!(world.poll().await.error.is_some_and(|error| error.contains("410")));
    world.polls().await;
    assert_eq!(world.asked_for("since"), ["-", "2026-01-05T11:59:55Z", "-"]);
    assert_eq!(world.events().await, ["s.updated b", "s.created c"]);
    assert_eq!(world.problems().await, ["history.gap core/s"], "a good poll does not mend what is lost");
    let after = shelf.clone();
    world.answers(move |asked| ok(list(&after.since(asked))));
    world.polls().await;
    assert_eq!(world.asked_for("since"), ["2026-01-05T11:59:57Z"], "from the mark again");
    world.clock.advance(Duration::from_secs(25 * 3600));
    world.polls().await;
    assert_eq!(world.problems().await, Vec::<String>::new(), "after a day it has been seen");
}

#[tokio::test]
async fn pitfall_16_a_stream_that_was_off_for_longer_than_the_provider_keeps_records_says_so_and_looks_at_all_of_it() {
    let shelf = Shelf::of(&[("a", -9_000), ("b", -5_000)]);
    let world = world(&shelf, &format!("{SINCE}\nhistory = \"7d\"\n")).await;
    world.polls().await;
    world.clock.advance(Duration::from_secs(6 * 86_400));
    world.polls().await;
    assert_eq!(world.problems().await, Vec::<String>::new());
    world.clock.advance(Duration::from_secs(8 * 86_400));
    world.asked();
    shelf.put("c", -2_000, "found by looking at all");
    world.polls().await;
    assert_eq!(world.asked_for("since"), ["-"]);
    assert_eq!(world.events().await, ["s.created c"]);
    assert!(world.says("history.gap").await.contains("8days"), "{}", world.says("history.gap").await);
    world.polls().await;
    assert_eq!(world.asked_for("since"), ["2026-01-05T11:59:58Z"]);
}

#[tokio::test]
async fn pitfall_11_a_listing_that_contradicts_its_declared_order_is_taken_as_unsorted() {
    let streams = SINCE.replace("field = \".at\"", "field = \".at\", order = \"asc\"")
        + "pagination = { type = \"token\", next = \".next\" }\n";
    let streams = streams.replace("since = \"{{ cursor }}\"", "since = \"{{ cursor }}\", page = \"{{ page.token }}\"");
    let page = |asked: &Asked| match asked.get("page") {
        None => ok(format!(r#"{{"items":[{{"id":"new","at":"{}"}}],"next":"2"}}"#, at(-1_000))),
        Some(_) => status(400),
    };
    let shelf = Shelf::of(&[("a", -50_000)]);
    let world = world(&shelf, &streams).await;
    world.polls().await;
    // The newest first, though "asc" was declared: had the first page moved the mark, the second one's records would be lost.
    world.answers(move |asked| match asked.get("page") {
        None => ok(format!(
            r#"{{"items":[{{"id":"n","at":"{}"}},{{"id":"o","at":"{}"}}],"next":"2"}}"#,
            at(-1_000),
            at(-2_000)
        )),
        Some(_) => page(asked),
    });
    world.poll().await;
    assert_eq!(world.mark().await, Some(-50_000));
}

#[tokio::test]
async fn pitfall_18_query_values_are_frozen_for_the_whole_run() {
    let streams = r#"
[streams.s]
path       = "/items"
query      = { since = "{{ cursor }}", until = "{{ run.start }}", page = "{{ page.token }}" }
records    = ".items"
key        = ".id"
cursor     = { field = ".at" }
pagination = { type = "token", next = ".next" }
"#;
    let clock = ringback::clock::Clock::manual(START);
    let (time, shown) = (clock.clone(), clock.clone());
    let world = World::at_clock(clock, Wish::default(), streams, move |asked| {
        time.advance(Duration::from_secs(5));
        let (page, next) = asked.number("page").map_or((1, "2"), |page| (page, if page < 3 { "3" } else { "" }));
        let at = at(shown.now().0 - START.0);
        ok(format!(r#"{{"items":[{{"id":{page},"at":"{at}"}}],"next":"{next}"}}"#))
    })
    .await;
    world.polls().await;
    assert_eq!(world.asked_for("until"), ["2026-01-05T12:00:00Z"; 3]);
    world.polls().await;
    let asked = world.asked();
    let values: Vec<_> = asked.iter().map(|asked| (asked.get("since"), asked.get("until"))).collect();
    assert!(values.len() == 3 && values.iter().all(|value| *value == values[0]), "{values:?}");
}

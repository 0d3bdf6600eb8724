//! R3: deciding a change.

use ringback::ingest::IngestError;
use ringback::model::{ChangeKind, DeliveryState, HoldReason, ProblemKind};

use super::kit::*;

const HANDLER: &str = "[handlers.h]\nurl = \"http://127.0.0.1:1\"\nsecret = { file = \"whsec\" }\n";

fn text(bytes: &Option<bytes::Bytes>) -> String {
    String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned()
}

#[tokio::test]
async fn r3_1_an_unseen_key_is_a_creation_only_where_that_can_be_known() {
    // Listed whole before: what is new was created.
    let world = World::new(SNAPSHOT).await;
    world.poll(&["[]"]).await;
    world.poll(&[r#"[{"id":"a","v":1}]"#]).await;
    assert_eq!(world.said().await, ["s.created a"]);

    // Looked at from now on: the record's own time of creation decides.
    let stream = "created = \".made\"\ncursor = { field = \".at\", start = \"now\" }";
    let world = World::new(stream).await;
    world.poll(&["[]"]).await;
    world
        .poll(&[r#"[{"id":"old","made":"2020-01-01T00:00:00Z","at":"2026-11-20T00:00:30Z"},
                   {"id":"new","made":"2026-11-20T00:00:20Z","at":"2026-11-20T00:00:31Z"}]"#])
        .await;
    assert_eq!(world.said().await, ["s.updated old", "s.created new"]);
    let events = world.events().await;
    assert!(events[0].first_sight && events[0].previous.is_none() && events[0].changed.is_none());
    assert!(!events[1].first_sight);
}

#[tokio::test]
async fn r3_2_rules_for_types_are_asked_only_where_there_is_an_old_record() {
    let types = "types = { when = [{ when = '.old.state != \"done\" and .new.state == \"done\"', type = \"s.done\" }, \
                 { when = '.new.big', type = \"s.big\", on = \"created\" }] }";
    let world = World::new(format!("{SNAPSHOT}\n{types}").as_str()).await;
    world.poll(&["[]"]).await;
    world.poll(&[r#"[{"id":"a","v":1,"state":"done","big":false},{"id":"b","v":1,"state":"open","big":true}]"#]).await;
    world.poll(&[r#"[{"id":"a","v":2,"state":"done","big":true},{"id":"b","v":2,"state":"done","big":true}]"#]).await;
    assert_eq!(world.said().await, ["s.created a", "s.big b", "s.updated a", "s.done b"]);
}

#[tokio::test]
async fn r3_2_a_document_change_is_one_event_with_the_changed_places() {
    let world = World::new("detect = \"document\"\nrecords = \".\"".replace("records = \".\"", "").as_str()).await;
    world.poll(&[r#"{"a":1,"b":{"c":2,"d":3}}"#]).await;
    world.poll(&[r#"{"a":2,"b":{"c":5,"d":3}}"#]).await;
    assert_eq!(world.said().await, ["s.updated document"]);
    let event = world.last().await;
    assert_eq!(text(&event.changed), r#"["/a","/b/c"]"#);
    assert_eq!(text(&event.previous), r#"{"a":1,"b":{"c":2}}"#);
}

#[tokio::test]
async fn r3_3_there_and_back_again_is_two_changes() {
    for stream in [SNAPSHOT, "detect = \"changed\"", "detect = \"snapshot\""] {
        let world = World::new(stream).await;
        world.poll(&[r#"[{"id":"a","v":1,"x":"A"}]"#]).await;
        world.poll(&[r#"[{"id":"a","v":1,"x":"B"}]"#]).await;
        world.poll(&[r#"[{"id":"a","v":1,"x":"A"}]"#]).await;
        assert_eq!(world.said().await, ["s.updated a", "s.updated a"], "{stream}");
    }
}

#[tokio::test]
async fn r3_3_what_is_ignored_or_only_ordered_otherwise_is_no_change() {
    let world = World::new("ignore = [\".seen\", \".l[].t\"]\nunordered = [\".tags\"]").await;
    world.poll(&[r#"[{"id":"a","seen":1,"tags":["x","y"],"l":[{"t":1,"v":1}]}]"#]).await;
    world.poll(&[r#"[{"tags":["y","x"],"seen":2,"id":"a","l":[{"t":2,"v":1}]}]"#]).await;
    assert_eq!(world.said().await, Vec::<String>::new());
    world.poll(&[r#"[{"id":"a","seen":3,"tags":["y","z"],"l":[{"t":3,"v":1}]}]"#]).await;
    assert_eq!(text(&world.last().await.changed), r#"["/tags"]"#, "and the event names no ignored place");
}

#[tokio::test]
async fn r3_4_the_short_way_is_not_taken_past_what_a_webhook_wrote() {
    let world = World::new(SNAPSHOT).await;
    let one = r#"[{"id":"a","v":1,"x":"A"}]"#;
    world.poll(&[one]).await;
    world.poll(&[one]).await;
    world.webhook(r#"{"s":{"id":"a","v":2,"x":"B"}}"#).await;
    assert!(world.row("a").await.expect("known").raw_hash.is_none());
    // The provider takes it back: the very bytes of the first poll are a change now, in the second run that shows them.
    world.poll(&[one]).await;
    world.poll(&[one]).await;
    assert_eq!(world.said().await, ["s.updated a", "s.updated a"]);
}

#[tokio::test]
async fn r3_5_an_older_copy_counts_only_when_a_second_run_shows_it_and_the_mark_waits() {
    let world = World::new(UNSORTED).await;
    world.poll(&[r#"[{"id":"a","v":5}]"#]).await;
    let before = world.mark().await;
    let stale = r#"[{"id":"a","v":3},{"id":"b","v":9}]"#;
    world.poll(&[stale]).await;
    assert_eq!(world.said().await, ["s.created b"], "one stale replica is no change");
    assert_eq!(world.mark().await, before, "the mark does not pass an ignored copy");
    world.poll(&[stale]).await;
    assert_eq!(world.said().await, ["s.created b", "s.updated a"], "shown again, it is what the provider says");
    assert!(world.mark().await.expect("a mark").contains('9'));

    // A replica that catches up in between leaves no trace.
    let world = World::new(UNSORTED).await;
    world.poll(&[r#"[{"id":"a","v":5}]"#]).await;
    for page in [r#"[{"id":"a","v":3}]"#, r#"[{"id":"a","v":5}]"#, r#"[{"id":"a","v":3}]"#] {
        world.poll(&[page]).await;
    }
    assert_eq!(world.said().await, Vec::<String>::new());
}

#[tokio::test]
async fn r3_5_versions_are_compared_parsed() {
    for (kind, older, newer) in
        [("number", "9", "10"), ("time", "\"2026-01-01T12:00:00+02:00\"", "\"2026-01-01T11:00:00Z\"")]
    {
        let world = World::new(format!("version = {{ field = \".v\", type = \"{kind}\" }}").as_str()).await;
        world.poll(&[&format!(r#"[{{"id":"a","v":{older}}}]"#)]).await;
        world.webhook(&format!(r#"{{"s":{{"id":"a","v":{newer}}}}}"#)).await;
        assert_eq!(world.said().await, ["s.updated a"], "{kind}: {newer} comes after {older}");
    }
}

#[tokio::test]
async fn r3_6_a_start_from_now_is_the_providers_time_and_kept_when_the_answer_is_empty() {
    let world = World::new("created = \".made\"\ncursor = { field = \".at\", start = \"now\" }").await;
    let mut polling = world.begin().await;
    // The provider's clock is an hour behind ours.
    polling.date = ringback::model::Timestamp(START - 3_600_000);
    polling.page("[]").await.expect("a page");
    polling.finish().await.expect("ends");
    assert_eq!(world.state().await.started_at, Some(ringback::model::Timestamp(START - 3_600_000)));
    assert_eq!(world.mark().await, Some(format!("{{\"time\":{}}}", START - 3_600_000)));
}

#[tokio::test]
async fn r3_7_digits_go_out_as_they_came_in() {
    let world = World::new("").await;
    world.poll(&["[]"]).await;
    let record = r#"{"id":"a","n":12345678901234567890123.4500,"e":1E5,"one":1.0}"#;
    world.poll(&[&format!("[{record}]")]).await;
    assert_eq!(text(&world.last().await.data), record);
    world.poll(&[&format!("[{}]", record.replace("1.0", "1"))]).await;
    assert_eq!(
        text(&world.last().await.previous),
        r#"{"one":1.0}"#,
        "1.0 and 1 differ, unless the file says otherwise"
    );

    // A record that jq builds keeps them as well.
    let world = World::new("key = \".id\"\nfilter = \".n > 0\"".to_string().as_str()).await;
    world.poll(&["[]"]).await;
    world.poll(&[&format!("[{record}]")]).await;
    assert_eq!(text(&world.last().await.data), record);
}

#[tokio::test]
async fn r3_7_a_when_that_gives_neither_true_nor_false_holds_the_delivery() {
    let config = format!("{HANDLER}when = \".data.amount\"\n");
    let world = World::new(Wish::from("").config(&config)).await;
    world.poll(&["[]"]).await;
    world.poll(&[r#"[{"id":"a","amount":"500"},{"id":"b","amount":true}]"#]).await;
    let mut held = Vec::new();
    for id in world.ids().await {
        let detail = world.store.event(&id).await.expect("reads").expect("stored");
        held.push(detail.deliveries.iter().map(|d| (d.state, d.hold)).collect::<Vec<_>>());
    }
    assert_eq!(held[0], [(DeliveryState::Held, Some(HoldReason::WhenFailed))]);
    assert_eq!(held[1], [(DeliveryState::Pending, None)]);
    assert!(world.problem(ProblemKind::WhenFailed).await.is_some_and(|problem| problem.subject == "h"));
}

#[tokio::test]
async fn r3_8_a_page_that_cannot_be_read_fails_the_run() {
    let world = World::new(SNAPSHOT).await;
    world.poll(&[r#"[{"id":"a","v":1}]"#]).await;
    for (page, want) in [("null", "null"), ("{\"error\":1}", "list"), ("<html>", "JSON")] {
        let error = world.try_poll(&[page]).await.expect_err(page);
        assert!(!matches!(error, IngestError::Store(_)), "{page}: {error} {want}");
    }
    assert_eq!(world.said().await, Vec::<String>::new());
}

#[tokio::test]
async fn r3_8_a_record_that_cannot_be_read_is_set_aside_and_the_mark_passes_it() {
    let world = World::new(UNSORTED).await;
    world.poll(&["[]"]).await;
    let good: Vec<String> = (1..12).map(|n| format!(r#"{{"id":"k{n:02}","v":{n}}}"#)).collect();
    let page = format!(r#"[{},{{"no":"id","v":99}}]"#, good.join(","));
    let report = world.poll(&[&page]).await;
    assert_eq!((report.created, report.unreadable), (11, 1));
    assert!(world.mark().await.expect("a mark").contains("11"));
    let problem = world.problem(ProblemKind::RecordUnreadable).await.expect("a person is told");
    assert!(problem.message.contains("key `.id`"), "{}", problem.message);
    // It is shown again by every poll, and kept once.
    world.poll(&[&page]).await;
    assert_eq!(world.status().await.set_aside, 1);
}

#[tokio::test]
async fn r3_8_a_listing_with_a_record_set_aside_judges_no_deletes() {
    let world = World::new("detect = \"snapshot\"\ndeletes = { confirm_after = 1 }").await;
    let page = |last: &str| {
        let good: Vec<String> = (1..12).map(|n| format!(r#"{{"id":"k{n:02}"}}"#)).collect();
        format!("[{},{last}]", good.join(","))
    };
    world.poll(&[&page(r#"{"id":"z"}"#)]).await;
    world.poll(&[&page(r#"{"id":null}"#)]).await;
    assert_eq!(world.said().await, Vec::<String>::new(), "the unreadable one may well be z");
}

#[tokio::test]
async fn r3_8_more_than_a_tenth_unreadable_fails_the_run() {
    for stream in ["", UNSORTED] {
        let world = World::new(stream).await;
        world.poll(&["[]"]).await;
        // Without key, or with a key and without the cursor's field: the provider has renamed it.
        let records: Vec<String> = (0..10)
            .map(|n| {
                if n < 2 {
                    if stream.is_empty() { "{\"x\":1}".into() } else { format!(r#"{{"id":"q{n}"}}"#) }
                } else {
                    format!(r#"{{"id":"k{n}","v":{n}}}"#)
                }
            })
            .collect();
        let error = world.try_poll(&[&format!("[{}]", records.join(","))]).await.expect_err(stream);
        assert!(matches!(error, IngestError::Records(_)), "{error}");
        assert_eq!(world.said().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn r3_8_a_record_over_the_cap_moves_state_and_says_that_it_is_cut() {
    let world = World::new(SNAPSHOT).await;
    world.poll(&["[]"]).await;
    let big = format!(r#"[{{"id":"a","v":1,"x":"{}"}}]"#, "x".repeat(1 << 20));
    world.poll(&[&big]).await;
    world.poll(&[&big]).await;
    assert_eq!(world.said().await, ["s.created a"]);
    let event = world.last().await;
    assert_eq!((event.kind, event.data.is_none()), (ChangeKind::Created, true));
    let body = String::from_utf8(ringback::event_body::standard(&event)).expect("text");
    assert!(body.contains("\"truncated\":true") && !body.contains("\"data\""), "{body}");
    assert!(world.problem(ProblemKind::RecordTooLarge).await.is_some());
}

#[tokio::test]
async fn a_stream_may_say_that_its_events_hold_larger_records() {
    let world = World::new(&*format!("{SNAPSHOT}\ndata_max = \"2MiB\"")).await;
    world.poll(&["[]"]).await;
    world.poll(&[&format!(r#"[{{"id":"a","v":1,"x":"{}"}}]"#, "x".repeat(1 << 20))]).await;
    assert!(world.last().await.data.is_some_and(|data| data.len() > 1 << 20));
    assert!(world.problem(ProblemKind::RecordTooLarge).await.is_none());
}

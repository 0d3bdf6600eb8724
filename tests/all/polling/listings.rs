//! Whole listings: conditional requests, records that went away, and second looks for indexes that fill late.

use std::time::Duration;

use ringback::store::PollResult;

use super::kit::*;

const SNAPSHOT: &str = r#"
[streams.s]
path    = "/items"
records = ".items"
key     = ".id"
detect  = "snapshot"
"#;

/// A provider that knows by an ETag whether anything changed.
fn tagged(shelf: &Shelf) -> impl Fn(&Asked) -> Answer + Send + Sync + 'static + use<> {
    let shelf = shelf.clone();
    move |asked| {
        let body = list(&shelf.json(|_| true));
        let tag = format!("\"{:x}\"", body.len() * 31 + body.bytes().map(usize::from).sum::<usize>());
        let known = asked.headers.get("if-none-match").is_some_and(|sent| sent.as_bytes() == tag.as_bytes());
        if known { status(304) } else { ok(body) }.with("etag", tag)
    }
}

fn conditions(world: &World) -> Vec<bool> {
    world.asked().iter().map(|asked| asked.headers.contains_key("if-none-match")).collect()
}

#[tokio::test]
async fn r6_4_no_validator_is_sent_while_a_record_waits_for_its_absence_to_be_confirmed() {
    let shelf = Shelf::of(&[("a", 0), ("b", 0)]);
    let streams = format!("{SNAPSHOT}conditional = true\ndeletes = {{ confirm_after = 2 }}\n");
    let world = World::new(&streams, tagged(&shelf)).await;
    world.polls().await;
    assert_eq!(world.poll().await.result, PollResult::NotModified);
    shelf.remove("b");
    world.polls().await;
    // The list did not change since; a 304 would leave b waiting for ever.
    world.polls().await;
    assert_eq!(conditions(&world), [false, true, true, false]);
    assert_eq!(world.events().await, ["s.deleted b"]);
    assert_eq!(world.poll().await.result, PollResult::NotModified, "now they are sent again");
}

#[tokio::test]
async fn r6_4_no_validator_is_sent_after_a_run_that_failed_or_was_held() {
    let shelf = Shelf::of(&[("a", 0), ("b", 0)]);
    let world = World::new(&format!("{SNAPSHOT}conditional = true\n"), tagged(&shelf)).await;
    world.polls().await;
    world.answers(|_| status(500));
    world.poll().await;
    world.answers(tagged(&shelf));
    world.asked();
    world.polls().await;
    assert_eq!(conditions(&world), [false], "pitfall 60: what failed may have been a change");
    let empty = Shelf::default();
    world.answers(tagged(&empty));
    assert_eq!(world.poll().await.result, PollResult::Failed, "zero after many");
    world.asked();
    world.poll().await;
    assert_eq!(conditions(&world), [false]);
    assert_eq!(world.events().await, Vec::<String>::new());
}

#[tokio::test]
async fn r6_4_over_several_pages_the_first_pages_validators_stand_for_all_only_where_the_file_says_so() {
    let streams = format!(
        "{SNAPSHOT}query = {{ token = \"{{{{ page.token }}}}\" }}\npagination = {{ type = \"token\", next = \".next\" }}\nconditional = \"list\"\n"
    );
    let world = World::new(&streams, |asked| {
        if asked.headers.get("if-none-match").is_some_and(|tag| tag == "\"list\"") {
            return status(304);
        }
        match asked.get("token") {
            None => ok(r#"{"items":[{"id":1}],"next":"2"}"#).with("etag", "\"list\""),
            Some(_) => ok(r#"{"items":[{"id":2}]}"#).with("etag", "\"page\""),
        }
    })
    .await;
    world.polls().await;
    assert_eq!(world.poll().await.result, PollResult::NotModified);
    assert_eq!(conditions(&world), [false, false, true]);
    // The second page breaks off: nothing stands for a list that was not read.
    world.answers(|asked| match asked.get("token") {
        None => ok(r#"{"items":[{"id":1}],"next":"2"}"#).with("etag", "\"new\""),
        Some(_) => status(400),
    });
    world.poll().await;
    world.asked();
    world.poll().await;
    assert_eq!(conditions(&world), [false, false]);
}

#[tokio::test]
async fn pitfall_30_a_record_that_is_absent_is_asked_for_before_that_is_believed() {
    let shelf = Shelf::of(&[("a", 0), ("b", 0), ("c", 0), ("d", 0), ("e", 0)]);
    let streams = format!(
        "{SNAPSHOT}deletes = {{ confirm_after = 1, max_percent = 100, confirm = {{ path = \"/items/{{{{ record.id }}}}\", query = {{ key = \"{{{{ key }}}}\" }} }} }}\n"
    );
    let shown = shelf.clone();
    let world = World::new(&streams, move |asked| match asked.path.as_str() {
        "/items" => ok(list(&shown.json(|_| true))),
        "/items/b" => status(404),
        "/items/c" => status(403),
        "/items/d" => status(500),
        "/items/e" => ok(r#"{"id":"e"}"#),
        other => panic!("{other}"),
    })
    .await;
    world.polls().await;
    ["b", "c", "d", "e"].iter().for_each(|id| shelf.remove(id));
    world.asked();
    world.polls().await;
    assert_eq!(world.events().await, ["s.deleted b"], "403 is not 404, and trouble says nothing");
    assert_eq!(world.asked_for("key"), ["-", "b", "c", "d", "e"]);
    let shown = shelf.clone();
    world.answers(move |asked| if asked.path == "/items" { ok(list(&shown.json(|_| true))) } else { status(410) });
    world.polls().await;
    assert_eq!(world.events().await.len(), 4, "asked again by the next listing");
}

#[tokio::test]
async fn a_flag_or_a_tombstone_in_a_listing_means_deleted_at_once_in_every_mode() {
    for detect in ["changed", "snapshot", "new"] {
        let streams = format!(
            "[streams.s]\npath = \"/items\"\nrecords = \".items\"\nkey = \".id\"\ndetect = \"{detect}\"\n\
             deletes = {{ when = '.removed == true' }}\nfirst_run = \"send-all\"\n"
        );
        let world = World::new(&streams, |_| ok(r#"{"items":[{"id":"a"},{"id":"b"}]}"#)).await;
        world.polls().await;
        world.answers(|_| ok(r#"{"items":[{"id":"a"},{"id":"b","removed":true}]}"#));
        world.polls().await;
        world.polls().await;
        let gone: Vec<String> =
            world.events().await.into_iter().filter(|event| event.starts_with("s.deleted")).collect();
        assert_eq!(gone, ["s.deleted b"], "{detect}");
    }
}

const LATE: &str = r#"
[streams.s]
path    = "/items"
query   = { since = "{{ cursor }}" }
records = ".items"
key     = ".id"
detect  = "new"
cursor  = { field = ".at" }
late    = { lag = "1h", window = "10m", every = "30m" }
"#;

#[tokio::test]
async fn pitfall_4_a_second_look_finds_what_the_index_showed_late_and_repeats_are_known() {
    let shelf = Shelf::of(&[("a", -60_000)]);
    let shown = shelf.clone();
    let world = World::new(LATE, move |asked| ok(list(&shown.since(asked)))).await;
    world.polls().await;
    let minute = |n: i64| n * 60_000;
    for n in 1..=29 {
        world.clock.advance(Duration::from_secs(60));
        shelf.put(&format!("n{n}"), minute(n), "a");
        world.polls().await;
    }
    // Dated ten minutes in, shown only now.
    shelf.put("late", minute(10) + 500, "a");
    world.asked();
    world.clock.advance(Duration::from_secs(61));
    let world = world.restart().await;
    world.polls().await;
    assert_eq!(world.asked_for("since"), ["2026-01-05T10:50:00Z"], "the last second look less lag and window");
    assert_eq!(world.events().await.last().map(String::as_str), Some("s.created late"));
    assert_eq!(world.events().await.len(), 30);
    assert_eq!(world.mark().await, Some(minute(29)), "the mark is not lowered by it");
    world.clock.advance(Duration::from_secs(60));
    world.polls().await;
    assert_eq!(world.asked_for("since"), ["2026-01-05T12:29:00Z"]);
}

#[tokio::test]
async fn pitfall_4_a_second_look_that_failed_is_made_again() {
    let shelf = Shelf::of(&[("a", -60_000)]);
    let shown = shelf.clone();
    let world = World::new(LATE, move |asked| ok(list(&shown.since(asked)))).await;
    world.polls().await;
    world.clock.advance(Duration::from_secs(1_860));
    world.answers(|_| status(503));
    world.poll().await;
    let shown = shelf.clone();
    world.answers(move |asked| ok(list(&shown.since(asked))));
    world.polls().await;
    assert_eq!(world.asked_for("since"), ["-", "2026-01-05T10:50:00Z", "2026-01-05T10:50:00Z"]);
}

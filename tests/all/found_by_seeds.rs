//! Stories that the simulator found first, told once more by hand. Each bears the rule that it broke.

use ringback::ingest::CursorValue;
use ringback::model::{ChangeKind, Timestamp};

use super::properties::kit::{Bench, Told};

const HOOKED: &str = r#"
    detect = "changed"
    version = { field = ".rev", type = "number" }
    ignore = [".rev"]
    deletes = { when = ".gone" }
"#;

fn record(rev: u32, content: &str) -> String {
    format!(r#"{{"id":"k","rev":{rev},"content":"{content}"}}"#)
}

/// What a listing says of the record beyond its webhooks.
fn listed(rev: u32, content: &str) -> Vec<String> {
    vec![format!(r#"[{{"id":"k","rev":{rev},"content":"{content}","gone":false,"more":true}}]"#)]
}

fn kinds(told: &[Told]) -> Vec<ChangeKind> {
    told.iter().map(|event| event.kind).collect()
}

#[tokio::test]
async fn r1_1_what_changes_behind_a_page_is_asked_for_again() {
    let bench = Bench::new(
        "detect = \"changed\"\nquery = { since = \"{{ cursor }}\" }\ncursor = { field = \".at\", format = \"unix_ms\" }",
    )
    .await;
    let at = |id: &str, time: i64| format!(r#"{{"id":"{id}","at":{time}}}"#);
    bench.poll(|_| vec![format!("[{}]", at("a", bench.now().0 - 60_000))]).await;
    let begun = bench.now().0;
    // `a` changes half a second after the page that showed it; the next page shows a change that is later still.
    let changed = begun + 500;
    bench.poll(|_| vec![format!("[{}]", at("a", begun - 60_000)), format!("[{}]", at("b", begun + 1_000))]).await;
    let mut asked = None;
    let told = bench
        .poll(|from| {
            asked = from;
            vec![format!("[{},{}]", at("a", changed), at("b", begun + 1_000))]
        })
        .await;
    let Some(CursorValue::Time(Timestamp(asked))) = asked else { panic!("asked from {asked:?}") };
    assert!(asked <= changed, "asked from {asked}, after the change at {changed}");
    assert_eq!(kinds(&told), [ChangeKind::Updated]);
}

#[tokio::test]
async fn r4_1_what_a_webhook_told_during_the_first_look_is_told_on() {
    let bench = Bench::new(HOOKED).await;
    assert_eq!(bench.webhook(&record(2, "new"), false).await.len(), 1);
    let told = bench.poll(|_| listed(3, "newer")).await;
    assert_eq!(kinds(&told), [ChangeKind::Updated], "the handlers would stay at `new`");
}

#[tokio::test]
async fn r4_1_what_a_webhook_told_during_the_first_look_is_told_on_also_after_its_polled_twin() {
    let bench = Bench::new(HOOKED).await;
    assert_eq!(bench.webhook(&record(2, "new"), false).await.len(), 1);
    assert!(bench.poll_in_part(|_| listed(2, "new")).await.is_empty(), "the twin of what was told");
    let told = bench.poll(|_| listed(3, "newer")).await;
    assert_eq!(kinds(&told), [ChangeKind::Updated], "the handlers would stay at `new`");
}

#[tokio::test]
async fn r5_2_a_page_after_a_webhook_of_the_same_version_tells_nothing() {
    let bench = Bench::new(HOOKED).await;
    bench.poll(|_| listed(1, "old")).await;
    assert_eq!(bench.webhook(&record(2, "new"), false).await.len(), 1);
    assert!(bench.poll(|_| listed(2, "new")).await.is_empty(), "one change, one event");
    assert!(bench.poll(|_| listed(2, "new")).await.is_empty());
}

#[tokio::test]
async fn r5_2_a_late_webhook_of_a_version_in_between_tells_nothing() {
    let bench = Bench::new(HOOKED).await;
    bench.poll(|_| listed(1, "one")).await;
    // Between two polls it became `two` and then `one` again.
    assert!(bench.poll(|_| listed(3, "one")).await.is_empty());
    assert!(bench.webhook(&record(2, "two"), false).await.is_empty(), "no listing would ever put this right");
}

#[tokio::test]
async fn r5_5_a_late_webhook_of_a_deletion_deletes_nothing_that_has_come_back() {
    let bench = Bench::new(HOOKED).await;
    bench.poll(|_| listed(1, "one")).await;
    // Deleted as version 2, there again as version 3.
    assert_eq!(kinds(&bench.poll(|_| listed(3, "again")).await), [ChangeKind::Updated]);
    assert!(bench.webhook(&record(2, "one"), true).await.is_empty());
    assert_eq!(kinds(&bench.webhook(&record(4, "again"), true).await), [ChangeKind::Deleted], "this one is later");
}

#[tokio::test]
async fn r5_5_a_tombstone_that_changes_stays_a_tombstone() {
    let bench = Bench::new(HOOKED).await;
    bench.poll(|_| listed(1, "one")).await;
    let gone =
        |rev: u32, content: &str| vec![format!(r#"[{{"id":"k","rev":{rev},"content":"{content}","gone":true}}]"#)];
    assert_eq!(kinds(&bench.poll(|_| gone(2, "one")).await), [ChangeKind::Deleted]);
    // It came back and went again between two polls.
    assert!(bench.poll(|_| gone(4, "two")).await.is_empty());
    assert_eq!(kinds(&bench.poll(|_| listed(5, "three")).await), [ChangeKind::Created]);
}

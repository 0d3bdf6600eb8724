//! What takes part in a comparison, which differences are none, and what never reaches the disk.

use ringback::model::ProblemKind;

use super::kit::*;

async fn events_of(stream: &str, first: &str, second: &str) -> Vec<String> {
    let world = World::new(stream).await;
    world.poll(&[first]).await;
    world.poll(&[second]).await;
    world.said().await
}

#[tokio::test]
async fn with_only_no_other_place_takes_part() {
    let stream = "only = [\".state\", \".card.no\"]";
    let first = r#"[{"id":"a","state":"open","card":{"no":1,"seen":1},"t":1}]"#;
    assert!(events_of(stream, first, r#"[{"id":"a","state":"open","card":{"no":1,"seen":2},"t":2}]"#).await.is_empty());
    let world = World::new(stream).await;
    world.poll(&[first]).await;
    world.poll(&[r#"[{"id":"a","state":"done","card":{"no":1,"seen":2},"t":2}]"#]).await;
    assert_eq!(world.last().await.changed.as_deref(), Some(&br#"["/state"]"#[..]), "and no other place is named");
}

#[tokio::test]
async fn differences_of_a_kind_that_is_declared_equal_are_none() {
    for (kind, first, second) in [
        ("numbers", "10.50", "10.5"),
        ("numbers", "1e2", "100"),
        ("times", r#""2026-01-01T12:00:00+02:00""#, r#""2026-01-01T10:00:00Z""#),
        ("space", r#"" a  b""#, r#""a b""#),
        ("case", r#""Open""#, r#""open""#),
    ] {
        let page = |value: &str| format!(r#"[{{"id":"a","x":{value}}}]"#);
        let said = events_of(&format!("equal = [\"{kind}\"]"), &page(first), &page(second)).await;
        assert!(said.is_empty(), "{kind}: {first} {second}");
        let said = events_of("", &page(first), &page(second)).await;
        assert_eq!(said, ["s.updated a"], "{kind}: not unless the file says so");
        let said = events_of(&format!("equal = [\"{kind}\"]"), &page(first), &page("\"z\"")).await;
        assert_eq!(said, ["s.updated a"], "{kind}: another value is still another");
    }
}

#[tokio::test]
async fn twins_are_compared_by_the_same_rules() {
    let stream = format!("{SNAPSHOT}\nequal = [\"numbers\"]\nignore = [\".t\"]");
    let world = World::new(stream.as_str()).await;
    world.poll(&["[]"]).await;
    world.webhook(r#"{"s":{"id":"a","v":1,"sum":10.50,"t":1}}"#).await;
    world.poll(&[r#"[{"id":"a","v":1,"sum":10.5,"t":2,"more":1}]"#]).await;
    assert_eq!(world.said().await, ["s.created a"]);
}

#[tokio::test]
async fn r5_2_twins_agree_on_the_places_in_same_or_by_version_alone_where_the_file_says_so() {
    let twin = |version: &str| {
        let stream = format!("detect = \"snapshot\"\nversion = {version}");
        async move {
            let world = World::new(stream.as_str()).await;
            world.poll(&["[]"]).await;
            world.webhook(r#"{"s":{"id":"a","v":1,"total":5,"note":"from the hook"}}"#).await;
            world.poll(&[r#"[{"id":"a","v":1,"total":5,"note":"from the list"}]"#]).await;
            world.said().await.len()
        }
    };
    assert_eq!(twin("{ field = \".v\", type = \"number\" }").await, 2, "they disagree on a place that both have");
    assert_eq!(twin("{ field = \".v\", type = \"number\", same = [\".total\"] }").await, 1);
    assert_eq!(twin("{ field = \".v\", type = \"number\", same = [\".note\"] }").await, 2);
    assert_eq!(twin("{ field = \".v\", type = \"number\", each_change = true }").await, 1);
}

#[tokio::test]
async fn r4_2_a_changed_equality_rule_compares_anew_and_takes_no_baseline() {
    let world = World::new("detect = \"snapshot\"").await;
    world.poll(&[r#"[{"id":"a","x":1.0},{"id":"b","x":1.0}]"#]).await;
    let world = world.restart("detect = \"snapshot\"\nequal = [\"numbers\"]").await;
    world.poll(&[r#"[{"id":"a","x":1},{"id":"b","x":2}]"#]).await;
    assert_eq!(world.said().await, ["s.updated b"]);
    assert!(world.problem(ProblemKind::StreamRebaselined).await.is_none());
}

#[tokio::test]
async fn what_is_masked_never_reaches_the_disk_by_any_way() {
    let secret = "4111111111111111";
    for stream in [
        format!("{SNAPSHOT}\nmask = [\".card.no\"]"),
        format!("{SORTED}\nmask = [\".card.no\"]"),
        format!("{UNSORTED}\nmask = [\".card.no\"]\ndeletes = {{ when = \".gone == true\" }}"),
    ] {
        let world = World::new(stream.as_str()).await;
        let record = |id: &str, v: u32| format!(r#"{{"id":"{id}","v":{v},"card":{{"no":"{secret}","kind":"visa"}}}}"#);
        world.poll(&[&format!("[{}]", record("a", 1))]).await;
        world.poll(&[&format!("[{},{}]", record("a", 2), record("b", 3))]).await;
        world.webhook(&format!(r#"{{"s":{}}}"#, record("c", 4))).await;
        // A record that cannot be read is kept, too.
        let good: Vec<String> = (0..12).map(|n| record(&format!("k{n:02}"), 5)).collect();
        let odd = format!(r#"{{"v":6,"card":{{"no":"{secret}"}}}}"#);
        world.poll(&[&format!("[{},{odd}]", good.join(","))]).await;
        assert!(world.status().await.set_aside == 1 && world.said().await.len() > 10);
        let disk = world.on_disk();
        assert!(disk.windows(4).any(|bytes| bytes == b"visa"), "{stream}: the search finds what is there");
        assert!(!disk.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()), "{stream}");
        let event = world.last().await;
        assert!(!String::from_utf8_lossy(event.data.as_deref().unwrap_or_default()).contains(secret));
    }
}

#[tokio::test]
async fn a_new_mask_takes_what_it_hides_out_of_what_is_stored() {
    let world = World::new(SNAPSHOT).await;
    let page = r#"[{"id":"a","v":1,"pin":"tops3cret"}]"#;
    world.poll(&[page]).await;
    let world = world.restart(format!("{SNAPSHOT}\nmask = [\".pin\"]").as_str()).await;
    world.poll(&[page]).await;
    let bodies =
        world.store.bodies(world.name(), vec!["a".into()], ringback::model::SeenBy::Poll).await.expect("reads");
    assert_eq!(bodies, [Some(r#"{"id":"a","v":1}"#.into())]);
    assert!(world.said().await.is_empty());
}

//! The diff against a plain map: after every poll, what was told is the difference between two maps and nothing else.

use std::collections::{BTreeMap, HashMap, HashSet};

use ringback::model::{ChangeKind, EventId};
use ringback::simulate::Dice;

use super::kit::Bench;

/// Changes at the provider in all; a poll comes after one of them or after thousands.
const OPERATIONS: u32 = 1_000_000;
const KEYS: usize = 100;
const SEED: u64 = 3;

const FILE: &str = r#"
    detect = "snapshot"
    deletes = { confirm_after = 1, max_percent = 100, max_count = 1000000 }
    ignore = [".noise"]
    unordered = [".tags"]
"#;

type Map = BTreeMap<usize, u64>;

fn operate(map: &mut Map, dice: &mut Dice) {
    let key = dice.below(KEYS);
    // Key 0 stays: a listing that loses all it had is held for a person.
    match dice.below(10) {
        0..3 if key != 0 => drop(map.remove(&key)),
        // Few contents, so that records often become what they were.
        _ => drop(map.insert(key, dice.number() % 5)),
    }
}

fn listing(map: &Map, dice: &mut Dice) -> String {
    let record = |(key, content): (&usize, &u64)| {
        let tags = if dice.chance(500) { r#"["a","b"]"# } else { r#"["b","a"]"# };
        let noise = dice.below(3);
        if dice.chance(500) {
            format!(r#"{{"id":{key},"content":{content},"tags":{tags},"noise":{noise}}}"#)
        } else {
            format!(r#"{{"noise":{noise},"tags":{tags},"content":{content},"id":{key}}}"#)
        }
    };
    let records: Vec<String> = map.iter().map(record).collect();
    format!("[{}]", records.join(","))
}

fn difference(before: &Map, now: &Map) -> BTreeMap<String, (ChangeKind, Option<u64>)> {
    let mut changes = BTreeMap::new();
    for (key, content) in now {
        let kind = match before.get(key) {
            Some(old) if old == content => continue,
            Some(_) => ChangeKind::Updated,
            None => ChangeKind::Created,
        };
        changes.insert(key.to_string(), (kind, Some(*content)));
    }
    for key in before.keys().filter(|key| !now.contains_key(key)) {
        changes.insert(key.to_string(), (ChangeKind::Deleted, None));
    }
    changes
}

fn content(data: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(data).ok()?.get("content")?.as_u64()
}

#[tokio::test]
async fn what_is_told_is_the_difference_between_two_maps_over_a_million_operations() {
    let (bench, mut dice) = (Bench::new(FILE).await, Dice::new(SEED));
    let mut map: Map = (0..KEYS / 2).map(|key| (key, 0)).collect();
    assert!(bench.poll(|_| vec![listing(&map, &mut dice)]).await.is_empty(), "the first look is silent");
    let (mut done, mut polls, mut before) = (0, 0, map.clone());
    let (mut ids, mut revisions): (HashSet<EventId>, HashMap<String, u64>) = Default::default();
    while done < OPERATIONS {
        let operations = 1 << dice.below(13);
        (0..operations).for_each(|_| operate(&mut map, &mut dice));
        let told = bench.poll(|_| vec![listing(&map, &mut dice)]).await;
        let place = format!("seed {SEED}, poll {polls}");
        let mut found = BTreeMap::new();
        for event in told {
            assert!(ids.insert(event.id), "{place}: an id came twice, for {}", event.key);
            let before = revisions.insert(event.key.clone(), event.revision);
            assert!(before.is_none_or(|before| before < event.revision), "{place}: {} went back", event.key);
            let now = if event.kind == ChangeKind::Deleted { None } else { content(&event.data) };
            assert!(found.insert(event.key.clone(), (event.kind, now)).is_none(), "{place}: {} twice", event.key);
        }
        assert_eq!(found, difference(&before, &map), "{place}");
        before.clone_from(&map);
        (done, polls) = (done + operations, polls + 1);
    }
    assert!(polls > 500 && ids.len() > 10_000, "{polls} polls, {} events", ids.len());
}

//! Ties of a cursor: many records with one value, written while it stands and after it was read. Each is told, and once.

use std::collections::BTreeMap;

use ringback::ingest::CursorValue;
use ringback::simulate::Dice;

use super::kit::Bench;

const SEEDS: u64 = 60;
const POLLS: usize = 40;

const FILE: &str = r#"
    detect = "changed"
    query = { since = "{{ cursor }}" }
    cursor = { field = ".at", type = "number", order = "asc" }
"#;

/// Key to (cursor value, content).
type Records = BTreeMap<usize, (u64, u64)>;

/// What the provider lists from a value on, by (value, key), in pages.
fn pages(records: &Records, from: Option<CursorValue>, size: usize) -> Vec<String> {
    let from = match from {
        Some(CursorValue::Number(text)) => text.parse().expect("digits"),
        _ => 0,
    };
    let mut listed: Vec<_> =
        records.iter().filter(|(_, (at, _))| *at >= from).map(|(key, (at, c))| (at, key, c)).collect();
    listed.sort();
    let page = |part: &[(&u64, &usize, &u64)]| {
        let texts: Vec<_> =
            part.iter().map(|(at, key, c)| format!(r#"{{"id":{key},"at":{at},"content":{c}}}"#)).collect();
        format!("[{}]", texts.join(","))
    };
    if listed.is_empty() { vec!["[]".to_owned()] } else { listed.chunks(size).map(page).collect() }
}

#[tokio::test]
async fn records_of_one_cursor_value_are_all_told_and_none_twice() {
    for seed in 0..SEEDS {
        let (bench, mut dice) = (Bench::new(FILE).await, Dice::new(seed));
        let (mut records, mut now, mut contents): (Records, u64, u64) =
            ((0..3).map(|key| (key, (1, 0))).collect(), 1, 0);
        assert!(bench.poll(|from| pages(&records, from, 2)).await.is_empty(), "the first look is silent");
        for poll in 0..POLLS {
            let mut changed = BTreeMap::new();
            for _ in 0..dice.below(6) {
                // Mostly the value stands still: what comes now ties with what was read already.
                now += u64::from(dice.chance(200));
                contents += 1;
                let key = dice.below(12);
                records.insert(key, (now, contents));
                changed.insert(key.to_string(), contents);
            }
            let size = 1 + dice.below(4);
            let mut found = BTreeMap::new();
            for event in bench.poll(|from| pages(&records, from, size)).await {
                let data: serde_json::Value = serde_json::from_str(&event.data).expect("JSON");
                let twice = found.insert(event.key.clone(), data["content"].as_u64().expect("a number"));
                assert_eq!(twice, None, "seed {seed}, poll {poll}: {} was told twice", event.key);
            }
            assert_eq!(found, changed, "seed {seed}, poll {poll}");
        }
    }
}

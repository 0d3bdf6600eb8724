//! Detection beside a plain map: random changes of a provider's records, polled, and every event compared with what the map says.

use std::collections::BTreeMap;

use super::kit::*;

/// A small generator; the seed is in the message of every failure.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What a listing shows of the map, two pages long, in another order each time.
fn pages(map: &BTreeMap<u64, (u64, u64)>, dice: &mut Dice) -> [String; 2] {
    let mut records: Vec<String> = map
        .iter()
        .map(|(key, (version, content))| {
            format!(r#"{{"id":{key},"v":{version},"c":{content},"noise":{}}}"#, dice.0 % 7)
        })
        .collect();
    let turn = dice.roll(records.len().max(1) as u64) as usize;
    records.rotate_left(turn);
    let half = records.len() / 2;
    [format!("[{}]", records[..half].join(",")), format!("[{}]", records[half..].join(","))]
}

/// The events that lead from one map to the other. Versions stay or rise; content may change under the same version.
fn difference(before: &BTreeMap<u64, (u64, u64)>, after: &BTreeMap<u64, (u64, u64)>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (key, now) in after {
        match before.get(key) {
            None => lines.push(format!("s.created {key}")),
            Some(was) if was != now => lines.push(format!("s.updated {key}")),
            Some(_) => {}
        }
    }
    lines.extend(before.keys().filter(|key| !after.contains_key(key)).map(|key| format!("s.deleted {key}")));
    lines.sort();
    lines
}

async fn play(seed: u64, stream: &str, rounds: usize, size: u64) -> u64 {
    let mut dice = Dice(seed | 1);
    let mut map: BTreeMap<u64, (u64, u64)> = (0..size).map(|key| (key, (1, 0))).collect();
    let world = World::new(stream).await;
    let [one, two] = pages(&map, &mut dice);
    world.poll(&[&one, &two]).await;
    let (mut told, mut looked) = (0, 0);
    for round in 0..rounds {
        let before = map.clone();
        for _ in 0..dice.roll(12) {
            let key = dice.roll(size + 20);
            match dice.roll(5) {
                0 => drop(map.remove(&key)),
                1 => drop(map.entry(key).and_modify(|at| at.1 = dice.roll(3)).or_insert((1, 0))),
                2 => drop(map.entry(key).and_modify(|at| *at = (at.0, 0)).or_insert((1, 0))),
                _ => drop(map.entry(key).and_modify(|at| *at = (at.0 + 1, dice.roll(3))).or_insert((9, 0))),
            }
        }
        let [one, two] = pages(&map, &mut dice);
        world.poll(&[&one, &two]).await;
        looked += map.len() as u64;
        let mut new: Vec<String> = world.said_after(&mut told).await;
        new.sort();
        assert_eq!(new, difference(&before, &map), "seed {seed}, round {round}, {stream}");
    }
    looked
}

#[tokio::test]
async fn every_event_is_what_a_plain_map_says_and_nothing_else() {
    let deletes = "deletes = { confirm_after = 1, max_percent = 100, max_count = 100000 }\nignore = [\".noise\"]";
    let mut looked = 0;
    for seed in 1..4 {
        looked += play(seed * 7919, &format!("{SNAPSHOT}\n{deletes}"), 40, 300).await;
        looked += play(seed * 104_729, &format!("detect = \"snapshot\"\n{deletes}"), 40, 300).await;
    }
    assert!(looked > 50_000, "only {looked} records were compared");
}

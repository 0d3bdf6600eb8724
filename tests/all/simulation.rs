//! The simulator: the real parts in virtual time against a made-up provider and handler. A broken promise is told with its seed,
//! and the seed tells the whole story again.

use ringback::simulate::{self, Options, Summary};

/// Seeds in every test run; `RINGBACK_SEEDS` sets another number. `tests/run` plays many more with optimised code.
const SEEDS: u64 = 300;

fn play(options: &Options) -> Summary {
    simulate::run(options).expect("the simulation runs")
}

#[test]
fn no_seed_loses_doubles_or_invents_a_change() {
    let runs = std::env::var("RINGBACK_SEEDS").map_or(SEEDS, |text| text.parse().expect("RINGBACK_SEEDS is a number"));
    let summary = play(&Options::new(0, runs));
    if let Some(story) = summary.broken.first() {
        let (seed, fault) = (story.seed, story.fault.as_deref().unwrap_or_default());
        panic!("seed {seed}: {fault}\nthe whole story: ringback simulate --seed {seed}");
    }
    assert_eq!(summary.runs, runs);
    // A simulator in which nothing happens would find nothing either.
    assert!(summary.changes > runs && summary.events > runs && summary.crashes > runs / 2, "{summary:?}");
}

#[test]
fn a_seed_tells_the_same_story_every_time() {
    let told = |seed| {
        let options = Options { lines: true, ..Options::new(seed, 1) };
        let Summary { hash, lines, .. } = play(&options);
        (hash, lines)
    };
    for seed in 0..20 {
        let (first, again) = (told(seed), told(seed));
        assert_eq!(first.1, again.1, "seed {seed}");
        assert_eq!(first.0, again.0, "seed {seed}");
        assert_ne!(first.0, told(seed + 1).0, "two seeds are two stories");
    }
}

#[test]
fn every_shape_is_played_whole() {
    for shape in &simulate::SHAPES {
        let summary = play(&Options { shape: Some(shape.name.to_owned()), ..Options::new(7, 10) });
        assert!(summary.broken.is_empty(), "{}: {:?}", shape.name, summary.broken);
        assert!(summary.events > 10, "{}: hardly anything was told", shape.name);
    }
}

//! Faults planted in the program, each found by the simulator. Apart from the other tests, because only this one is built with
//! the feature `planted`: it is a small program, and the optimised build that it asks for plays the ten thousand seeds as well.

use ringback::planted::{FAULTS, Fault};
use ringback::simulate::{self, Options};

/// The simulator can fail: each fault is found, in the streams where it bites, and by what it does.
#[test]
fn every_planted_fault_is_found() {
    for (name, fault) in FAULTS {
        let (shape, said) = match fault {
            Fault::StrictBoundary => ("rising", "lost"),
            Fault::MarkOnError => ("falling", "lost"),
            Fault::LookbackLowersMark => ("lagging", "the mark went back"),
            Fault::PartialDeletes => ("snapshot-paged", "None"),
            Fault::SeenSet => ("rising-fine", "lost"),
            Fault::SplitTransaction => ("rising", "lost"),
            // Skipped for good, or told as new later when the first look skipped it.
            Fault::ClampUnnoticed => ("offset", ""),
            Fault::OlderCopy => ("hooked", ""),
            Fault::StalePage => ("hooked-snapshot", ""),
            Fault::IdReused => ("snapshot", ""),
            Fault::NewestFirstStraight => ("falling", "lost"),
        };
        let options = Options { planted: Some(fault), shape: Some(shape.to_owned()), ..Options::new(0, 2_000) };
        let summary = simulate::run(&options).expect("the simulation runs");
        let story =
            summary.broken.first().unwrap_or_else(|| panic!("{name}: 2,000 seeds of `{shape}` did not find it"));
        let found = story.fault.as_deref().unwrap_or_default();
        println!("{name}: seed {} after {} seeds: {found}", story.seed, summary.runs);
        assert!(found.contains(said), "{name}: seed {} broke another promise: {found}", story.seed);
        let without = Options { planted: None, runs: 1, seed: story.seed, ..options };
        let without = simulate::run(&without).expect("the simulation runs");
        assert!(without.broken.is_empty(), "{name}: seed {} fails without it, too", story.seed);
    }
}

//! The only reader of wall time. Everything that decides takes `now` as an argument; what must ask, asks a [`Clock`].
//!
//! The wall is read once; from there on time is counted by the machine's boot time, which nobody sets. Where the two part, somebody
//! set the wall: [`Clock::look`] finds it, says by how much, and only then shows the new time (RULES R8.1). So no wait under way
//! is cut short or drawn out by surprise: whoever looks also moves what is due.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

use crate::model::Timestamp;

/// The wall and the machine's own count part by this much by themselves (slewing, leap seconds); it is followed without a word.
const STEP_MIN: i64 = 2_000;

/// 2026-11-01T00:00:00Z, before which this release was not made: no right clock shows an earlier time. Written down and moved with
/// each release (a test holds it to CHANGELOG.md), as a time taken while building would make two builds of one source differ.
const RELEASED: Timestamp = Timestamp(1_793_491_200_000);

/// For so long after a step was noticed nobody knows yet whether the time before or the one after it was right.
const STEP_DOUBTED: i64 = 10 * 60 * 1000;

/// Wall time: the machine's, or one that a test moves by hand. Cheap to clone; clones share the time.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    System(Arc<System>),
    Manual(Arc<Manual>),
}

#[derive(Debug)]
struct System {
    /// Wall time at boot: what is added to the boot time.
    offset: AtomicI64,
    /// When a step was noticed last, by the machine's own count.
    noticed: AtomicI64,
    /// Names this run of the machine. Empty: unknown.
    boot: String,
}

#[derive(Debug)]
struct Manual {
    now: AtomicI64,
    boot: AtomicI64,
    /// Steps of the wall that nobody has looked at yet.
    stepped: AtomicI64,
    noticed: AtomicI64,
    released: AtomicI64,
    moved: watch::Sender<()>,
}

/// A moment by the machine's own count: comparable only within one run of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootTime {
    pub boot: String,
    pub millis: i64,
}

impl Clock {
    pub fn system() -> Clock {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let offset = AtomicI64::new(wall() - boot_millis());
        let noticed = AtomicI64::new(i64::MIN);
        Clock(Kind::System(Arc::new(System { offset, noticed, boot: boot.trim().to_owned() })))
    }

    /// A clock that stands at `start` until [`Clock::advance`] moves it.
    pub fn manual(start: Timestamp) -> Clock {
        Clock(Kind::Manual(Arc::new(Manual {
            now: AtomicI64::new(start.0),
            boot: AtomicI64::new(0),
            stepped: AtomicI64::new(0),
            noticed: AtomicI64::new(i64::MIN),
            released: AtomicI64::new(i64::MIN),
            moved: watch::Sender::new(()),
        })))
    }

    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Kind::System(system) => Timestamp(boot_millis() + system.offset.load(Ordering::SeqCst)),
            Kind::Manual(manual) => Timestamp(manual.now.load(Ordering::SeqCst)),
        }
    }

    /// This moment by the machine's own count.
    pub fn boot(&self) -> BootTime {
        match &self.0 {
            Kind::System(system) => BootTime { boot: system.boot.clone(), millis: boot_millis() },
            Kind::Manual(manual) => BootTime { boot: "manual".into(), millis: manual.boot.load(Ordering::SeqCst) },
        }
    }

    /// Compares with the wall and takes its time over. Some: it was set by so many milliseconds, and what is due must move too.
    pub fn look(&self) -> Option<i64> {
        match &self.0 {
            Kind::System(system) => {
                let step = wall() - self.now().0;
                system.offset.fetch_add(step, Ordering::SeqCst);
                if step.abs() > STEP_MIN {
                    system.noticed.store(boot_millis(), Ordering::SeqCst);
                }
                (step.abs() > STEP_MIN).then_some(step)
            }
            Kind::Manual(manual) => {
                let step = manual.stepped.swap(0, Ordering::SeqCst);
                manual.now.fetch_add(step, Ordering::SeqCst);
                if step.abs() > STEP_MIN {
                    manual.noticed.store(manual.boot.load(Ordering::SeqCst), Ordering::SeqCst);
                }
                manual.moved.send_replace(());
                (step.abs() > STEP_MIN).then_some(step)
            }
        }
    }

    /// Whether this clock is plainly wrong, or may be for all that is known: it shows a time before this release was made, the wall
    /// was set and nobody has looked yet, or that was noticed only just now (RULES R8.3).
    pub fn is_doubtful(&self) -> bool {
        let (parted, noticed, boot) = match &self.0 {
            Kind::System(system) => (wall() - self.now().0, &system.noticed, boot_millis()),
            Kind::Manual(manual) => {
                (manual.stepped.load(Ordering::SeqCst), &manual.noticed, manual.boot.load(Ordering::SeqCst))
            }
        };
        let lately = boot.saturating_sub(noticed.load(Ordering::SeqCst)) < STEP_DOUBTED;
        self.is_before_release() || parted.abs() > STEP_MIN || lately
    }

    /// Whether it shows a time before this release was made.
    pub fn is_before_release(&self) -> bool {
        let released = match &self.0 {
            Kind::System(_) => RELEASED,
            Kind::Manual(manual) => Timestamp(manual.released.load(Ordering::SeqCst)),
        };
        self.now() < released
    }

    /// Makes the release, for a manual clock, one of this moment. Has no effect on the system's clock.
    pub fn set_released(&self, at: Timestamp) {
        if let Kind::Manual(manual) = &self.0 {
            manual.released.store(at.0, Ordering::SeqCst);
        }
    }

    /// Moves a manual clock on and wakes those who sleep on it. Has no effect on the system's clock.
    pub fn advance(&self, by: Duration) {
        if let Kind::Manual(manual) = &self.0 {
            let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
            manual.now.fetch_add(millis, Ordering::SeqCst);
            manual.boot.fetch_add(millis, Ordering::SeqCst);
            manual.moved.send_replace(());
        }
    }

    /// Sets the wall behind a manual clock, as a person or a time server would: [`Clock::look`] finds it.
    pub fn set_wall(&self, by_millis: i64) {
        if let Kind::Manual(manual) = &self.0 {
            manual.stepped.fetch_add(by_millis, Ordering::SeqCst);
        }
    }

    /// Waits a moment for others to join in; not at all on a manual clock, by which no time passes meanwhile.
    pub async fn linger(&self, moment: Duration) {
        if matches!(self.0, Kind::System(_)) {
            tokio::time::sleep(moment).await;
        }
    }

    /// Returns once this clock shows `until` or later. A step is seen within a minute.
    pub async fn sleep_until(&self, until: Timestamp) {
        match &self.0 {
            Kind::System(_) => loop {
                let left = until.since(self.now());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(Duration::from_secs(60))).await;
            },
            Kind::Manual(manual) => {
                let mut moved = manual.moved.subscribe();
                while self.now() < until {
                    if moved.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

fn wall() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Counts on while the machine sleeps, too.
fn boot_millis() -> i64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_clock_shows_the_wall_and_finds_no_step_where_there_is_none() {
        let clock = Clock::system();
        assert!((clock.now().0 - wall()).abs() < 1_000);
        assert_eq!(clock.look(), None);
    }

    #[test]
    fn r8_1_a_step_of_the_wall_shows_only_once_somebody_has_looked() {
        let clock = Clock::manual(Timestamp(10_000));
        clock.set_wall(-7_000);
        assert_eq!(clock.now(), Timestamp(10_000));
        assert_eq!((clock.look(), clock.now(), clock.look()), (Some(-7_000), Timestamp(3_000), None));
        clock.set_wall(900);
        assert_eq!((clock.look(), clock.now()), (None, Timestamp(3_900)), "slewing is followed without a word");
        assert_eq!(clock.boot().millis, 0, "the machine's own count knows nothing of it");
    }

    #[test]
    fn r8_3_a_clock_is_doubted_before_the_release_while_a_step_is_unnoticed_and_for_ten_minutes_after() {
        let clock = Clock::manual(Timestamp(10_000));
        assert!(!clock.is_doubtful());
        clock.set_released(Timestamp(10_001));
        assert!(clock.is_doubtful());
        clock.advance(Duration::from_millis(1));
        assert!(!clock.is_doubtful());
        clock.set_wall(1_000);
        assert!(!clock.is_doubtful(), "slewing is no step");
        clock.set_wall(86_400_000);
        assert!(clock.is_doubtful(), "nobody has looked yet");
        assert!(clock.look().is_some() && clock.is_doubtful());
        clock.advance(Duration::from_secs(599));
        assert!(clock.is_doubtful());
        clock.advance(Duration::from_secs(1));
        assert!(!clock.is_doubtful());
    }

    #[test]
    fn r8_3_the_date_of_the_release_is_not_older_than_the_newest_one_in_the_changelog() {
        assert_eq!(RELEASED.to_string(), "2026-11-01T00:00:00Z");
        let dates =
            include_str!("../CHANGELOG.md").lines().filter_map(|line| line.strip_prefix("## [")?.split_once("] - "));
        let newest = dates.map(|(_, date)| date.trim()).max().unwrap_or_default();
        assert!(newest <= &RELEASED.to_string()[..10], "move RELEASED to {newest} with the release");
    }

    #[tokio::test]
    async fn a_sleeper_on_a_manual_clock_wakes_when_its_time_has_come() {
        let clock = Clock::manual(Timestamp(1_000));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(Timestamp(3_000)).await }
        });
        clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(1));
        sleeper.await.expect("the sleeper ends");
        assert_eq!(clock.now(), Timestamp(3_000));
    }
}

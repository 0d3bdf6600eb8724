//! One loop around different steps: look for work, do it, idle until there may be more. The only code that idles and backs
//! off; a step never sleeps to wait for work, so a test calls `step()` and needs no timing.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::model::Timestamp;
use crate::wake::Wake;

/// First wait after a step failed; it doubles with each failure in a row, up to [`BACK_OFF_MAX`].
const BACK_OFF: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// An idle loop says this often that it is alive.
const BEAT: Duration = Duration::from_secs(5);

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There may be more: call again at once.
    Worked,
    /// Nothing to do before a wake-up, or before `until`.
    Idle { until: Option<Timestamp> },
}

/// Why a step could not do its work; it is tried again. A sentence for a person.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct StepError(pub String);

impl StepError {
    pub fn new(error: impl std::fmt::Display) -> StepError {
        StepError(error.to_string())
    }
}

/// A piece of work that does one thing and says so.
pub trait Step: Send + Sync {
    fn step(&self) -> impl Future<Output = Result<Progress, StepError>> + Send;
}

impl<S: Step> Step for Arc<S> {
    fn step(&self) -> impl Future<Output = Result<Progress, StepError>> + Send {
        self.as_ref().step()
    }
}

/// When each loop last showed that it lives: what the watchdog and `loop_last_progress_timestamp_seconds` are fed from.
/// A loop that hangs inside a step falls silent here. Clones share the record.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    clock: Clock,
    beats: Arc<Mutex<BTreeMap<&'static str, Timestamp>>>,
}

impl Heartbeat {
    pub fn new(clock: Clock) -> Heartbeat {
        Heartbeat { clock, beats: Arc::default() }
    }

    /// This loop is alive now.
    pub fn beat(&self, name: &'static str) {
        let now = self.clock.now();
        self.beats.lock().unwrap_or_else(PoisonError::into_inner).insert(name, now);
    }

    /// The wall was set by so much: what beat a moment ago still did.
    pub fn shift(&self, millis: i64) {
        let mut beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        beats.values_mut().for_each(|at| at.0 = at.0.saturating_add(millis));
    }

    /// A loop that has ended on purpose is no longer expected to beat.
    pub fn ended(&self, name: &'static str) {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Every running loop with its last sign of life, by name.
    pub fn loops(&self) -> Vec<(&'static str, Timestamp)> {
        let beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        beats.iter().map(|(name, at)| (*name, *at)).collect()
    }
}

/// Calls `step` for as long as it works, idles until there may be more, and backs off while it fails. Returns when cancelled;
/// a step in progress is finished first.
pub async fn run_loop<S: Step>(
    name: &'static str,
    step: S,
    mut wake: Wake,
    clock: Clock,
    cancel: CancellationToken,
    heartbeat: Heartbeat,
) {
    let mut trouble = Trouble::default();
    while !cancel.is_cancelled() {
        heartbeat.beat(name);
        // Ask to be woken before looking, so that a commit in between is not missed.
        wake.seen();
        match step.step().await {
            Ok(progress) => {
                trouble.over(name);
                match progress {
                    // A busy loop must let others run on its thread.
                    Progress::Worked => tokio::task::yield_now().await,
                    Progress::Idle { until } => {
                        let due = async {
                            match until {
                                Some(until) => clock.sleep_until(until).await,
                                None => std::future::pending().await,
                            }
                        };
                        let rung = async {
                            tokio::select! {
                                () = wake.rung() => {}
                                () = due => {}
                            }
                        };
                        alive_until(rung, name, &cancel, &heartbeat).await;
                    }
                }
            }
            Err(error) => {
                let wait = trouble.after(name, error);
                // Rings are not heard meanwhile: whatever rings cannot be done while the step fails.
                alive_until(tokio::time::sleep(wait), name, &cancel, &heartbeat).await;
            }
        }
    }
    heartbeat.ended(name);
}

/// Waits for `end` or the cancel, and says meanwhile that the loop is alive. The beat counts on with the machine's own clock: a
/// step of the wall must not look like a dead loop.
async fn alive_until(end: impl Future<Output = ()>, name: &'static str, cancel: &CancellationToken, heart: &Heartbeat) {
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return,
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(BEAT) => heart.beat(name),
        }
    }
}

/// Failures in a row, each different one said once.
#[derive(Default)]
struct Trouble {
    failures: u32,
    said: Option<StepError>,
}

impl Trouble {
    fn after(&mut self, name: &str, error: StepError) -> Duration {
        if self.said.as_ref() != Some(&error) {
            warn!(loop.name = name, "the {name} loop could not work and tries again: {error}");
            self.said = Some(error);
        }
        let wait = BACK_OFF.saturating_mul(2u32.saturating_pow(self.failures)).min(BACK_OFF_MAX);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    fn over(&mut self, name: &str) {
        if self.said.take().is_some() {
            info!(loop.name = name, "the {name} loop works again after {} failures", self.failures);
        }
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use tokio::sync::{mpsc, watch};

    type Answer = Result<Progress, StepError>;

    /// Gives the planned answers, then idles without end; says each time that it was called.
    struct Planned {
        answers: Mutex<VecDeque<Answer>>,
        called: mpsc::UnboundedSender<()>,
    }

    impl Step for Planned {
        async fn step(&self) -> Answer {
            let _ = self.called.send(());
            let next = self.answers.lock().expect("no panic inside").pop_front();
            next.unwrap_or(Ok(Progress::Idle { until: None }))
        }
    }

    struct Running {
        calls: mpsc::UnboundedReceiver<()>,
        bell: watch::Sender<u64>,
        clock: Clock,
        cancel: CancellationToken,
        heartbeat: Heartbeat,
        task: tokio::task::JoinHandle<()>,
    }

    fn run(answers: Vec<Answer>) -> Running {
        let (called, calls) = mpsc::unbounded_channel();
        let bell = watch::Sender::new(0);
        let clock = Clock::manual(Timestamp(1_000_000));
        let cancel = CancellationToken::new();
        let heartbeat = Heartbeat::new(clock.clone());
        let step = Planned { answers: Mutex::new(answers.into()), called };
        let wake = Wake::new(bell.subscribe());
        let task = tokio::spawn(run_loop("poll", step, wake, clock.clone(), cancel.clone(), heartbeat.clone()));
        Running { calls, bell, clock, cancel, heartbeat, task }
    }

    impl Running {
        async fn called(&mut self) {
            self.calls.recv().await.expect("the loop runs");
        }

        async fn rests(&mut self) {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            assert!(self.calls.try_recv().is_err(), "the loop should be idle");
        }
    }

    #[tokio::test]
    async fn a_step_that_worked_is_called_again_at_once_and_an_idle_one_when_rung() {
        let mut running = run(vec![Ok(Progress::Worked), Ok(Progress::Worked)]);
        for _ in 0..3 {
            running.called().await;
        }
        running.rests().await;
        running.bell.send_modify(|rings| *rings += 1);
        running.called().await;
        running.rests().await;
    }

    #[tokio::test]
    async fn an_idle_step_is_called_when_its_time_has_come() {
        let until = Some(Timestamp(1_060_000));
        let mut running = run(vec![Ok(Progress::Idle { until })]);
        running.called().await;
        running.clock.advance(Duration::from_secs(59));
        running.rests().await;
        running.clock.advance(Duration::from_secs(1));
        running.called().await;
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_wait_longer_and_a_success_forgets_them() {
        let fails = || Err(StepError::new("the database is busy"));
        let mut answers: Vec<Answer> = (0..7).map(|_| fails()).collect();
        answers.extend([Ok(Progress::Worked), fails(), Ok(Progress::Worked)]);
        let mut running = run(answers);
        running.called().await;
        for wait in [1, 2, 4, 8, 16, 30, 30, 0, 1, 0] {
            let before = tokio::time::Instant::now();
            running.called().await;
            assert_eq!(before.elapsed().as_secs(), wait);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_loop_keeps_beating_and_a_cancelled_one_ends() {
        let mut running = run(vec![]);
        running.called().await;
        running.clock.advance(Duration::from_secs(100));
        tokio::time::sleep(BEAT + Duration::from_millis(1)).await;
        assert_eq!(running.heartbeat.loops(), [("poll", Timestamp(1_100_000))]);
        running.cancel.cancel();
        running.task.await.expect("the loop ends");
        assert_eq!(running.heartbeat.loops(), []);
    }
}

//! Makes the deliveries of replays and takes back those of cancelled ones, a few at a time.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::store::{ReplayStep, Store, Topic};
use crate::wake::Wake;
use crate::worker::{Progress, Step, StepError};

/// Between two pieces there is room for others.
const PAUSE: Duration = Duration::from_millis(20);
/// Attempts of a cancelled replay end by themselves, which nothing rings for.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The loop behind every replay.
pub struct Replayer {
    store: Arc<dyn Store>,
    clock: Clock,
}

impl Replayer {
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Replayer {
        Replayer { store, clock }
    }

    pub fn wake(&self) -> Wake {
        self.store.wake(Topic::Replays)
    }
}

impl Step for Replayer {
    async fn step(&self) -> Result<Progress, StepError> {
        Ok(match self.store.replay_step().await.map_err(StepError::new)? {
            ReplayStep::Worked => {
                tokio::time::sleep(PAUSE).await;
                Progress::Worked
            }
            ReplayStep::Waits => Progress::Idle { until: Some(self.clock.now().plus(LOOK_AGAIN)) },
            ReplayStep::Nothing => Progress::Idle { until: None },
        })
    }
}

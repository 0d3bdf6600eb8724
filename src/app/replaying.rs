//! Makes the deliveries of replays and takes back those of cancelled ones, a few at a time; lets handlers go that came with a replay and
//! are at their end.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::deliver::Deliverer;
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
    deliverer: Arc<Deliverer>,
    clock: Clock,
}

impl Replayer {
    pub fn new(store: Arc<dyn Store>, deliverer: Arc<Deliverer>, clock: Clock) -> Replayer {
        Replayer { store, deliverer, clock }
    }

    pub fn wake(&self) -> Wake {
        self.store.wake(Topic::Replays)
    }

    async fn forget_ended(&self) -> Result<(), StepError> {
        // In this order: whichever is added in between is not looked for.
        let mut gone = self.deliverer.temporaries();
        if !gone.is_empty() {
            let lasting = self.store.temporaries().await.map_err(StepError::new)?;
            gone.retain(|name| lasting.iter().all(|temporary| temporary.name != *name));
            self.deliverer.forget(&gone);
        }
        Ok(())
    }
}

impl Step for Replayer {
    async fn step(&self) -> Result<Progress, StepError> {
        let step = self.store.replay_step().await.map_err(StepError::new)?;
        self.forget_ended().await?;
        Ok(match step {
            ReplayStep::Worked => {
                tokio::time::sleep(PAUSE).await;
                Progress::Worked
            }
            ReplayStep::Waits => Progress::Idle { until: Some(self.clock.now().plus(LOOK_AGAIN)) },
            ReplayStep::Nothing => Progress::Idle { until: None },
        })
    }
}

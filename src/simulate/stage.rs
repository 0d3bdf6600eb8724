//! Where the daemon's tasks wait for their turn. Every use case of the store and every exchange passes here, so that the seed
//! decides who goes on, in which order, and between which two steps the process dies.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio::task::Id;

use crate::store::sqlite::Pace;

/// The tasks that wait, each for its turn.
#[derive(Default)]
pub struct Stage(Mutex<Vec<(Id, oneshot::Sender<()>)>>);

impl Stage {
    /// Waits for a turn. The driver itself, which is no task, never waits.
    pub async fn pass(&self) {
        let Some(task) = tokio::task::try_id() else { return };
        let (turn, taken) = oneshot::channel();
        self.waiting().push((task, turn));
        // When the stage is gone, so is the simulation.
        let _ = taken.await;
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        let mut waiting = self.waiting();
        waiting.retain(|(_, turn)| !turn.is_closed());
        waiting.len()
    }

    /// Lets one of those that wait go on: the `choice`th in the order in which their tasks were made. Tasks wake in no certain
    /// order, so the order in which they came here means nothing.
    pub fn open(&self, choice: usize) {
        let mut waiting = self.waiting();
        waiting.sort_by_key(|(task, _)| *task);
        if choice < waiting.len() {
            let _ = waiting.remove(choice).1.send(());
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(Id, oneshot::Sender<()>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Pace for Stage {
    async fn pause(&self) {
        self.pass().await;
    }
}

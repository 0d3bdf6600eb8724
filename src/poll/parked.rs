//! Long polls at a stop: an answer that the provider holds back until something happens is not waited for. Nothing of it was taken, so
//! the next process asks for it again.

use std::future::Future;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Where requests are left that nobody waits for any more.
#[derive(Default)]
pub struct Parking {
    stopping: CancellationToken,
    parked: watch::Sender<usize>,
}

impl Parking {
    /// From now on nobody waits for them.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// How many were left; changes when another is.
    pub fn parked(&self) -> watch::Receiver<usize> {
        self.parked.subscribe()
    }

    /// Waits for an answer; at a stop for ever, until its run is broken off.
    pub async fn wait<T>(&self, answer: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            answer = answer => answer,
            () = self.stopping.cancelled() => {
                self.parked.send_modify(|parked| *parked += 1);
                std::future::pending().await
            }
        }
    }
}

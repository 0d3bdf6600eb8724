//! How a loop learns that there may be work: a ring that is not lost when nobody waits for it yet. The store rings at each
//! commit that may give work; a step may ring for itself.

use futures_util::future::select_all;
use tokio::sync::watch;

/// Wakes one waiter. Take it (or call [`Wake::seen`]) before looking for work.
#[derive(Clone, Debug)]
pub struct Wake(Vec<watch::Receiver<u64>>);

impl Wake {
    pub fn new(receiver: watch::Receiver<u64>) -> Wake {
        Wake(vec![receiver])
    }

    /// Rung when either is rung.
    pub fn or(mut self, other: Wake) -> Wake {
        self.0.extend(other.0);
        self
    }

    /// Forgets rings up to now.
    pub fn seen(&mut self) {
        for bell in &mut self.0 {
            bell.mark_unchanged();
        }
    }

    /// Completes at the first ring since [`Wake::seen`]; never when the store is closed.
    pub async fn rung(&mut self) {
        // Losing the other bells' futures is harmless: a ring stays unseen until it is looked at.
        let rings = self.0.iter_mut().map(|bell| Box::pin(rung(bell)));
        select_all(rings).await;
    }
}

async fn rung(bell: &mut watch::Receiver<u64>) {
    if bell.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_ring_between_looking_and_waiting_is_not_missed() {
        let (store, own) = (watch::Sender::new(0u64), watch::Sender::new(0u64));
        let mut wake = Wake::new(store.subscribe()).or(Wake::new(own.subscribe()));
        for bell in [&store, &own] {
            wake.seen();
            assert!(wake.rung().now_or_never().is_none());
            bell.send_modify(|rings| *rings += 1);
            assert!(wake.rung().now_or_never().is_some());
        }
    }

    #[tokio::test]
    async fn a_closed_bell_does_not_silence_the_other() {
        let (store, own) = (watch::Sender::new(0u64), watch::Sender::new(0u64));
        let mut wake = Wake::new(store.subscribe()).or(Wake::new(own.subscribe()));
        drop(store);
        assert!(wake.rung().now_or_never().is_none());
        own.send_modify(|rings| *rings += 1);
        assert!(wake.rung().now_or_never().is_some());
    }
}

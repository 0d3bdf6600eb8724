//! What servers showed at the handshake: the last certificate of each, after the library had judged it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Term;
use crate::model::Timestamp;

/// More servers than this are not remembered: what is called may come from a page's links.
const SERVERS: usize = 1_000;

/// Certificates of servers, by host and port. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Presented(Arc<Mutex<HashMap<String, Shown>>>);

#[derive(Debug)]
struct Shown {
    der: Vec<u8>,
    term: Term,
    /// Since the last look.
    again: bool,
    at: Timestamp,
}

impl Presented {
    /// This server showed this certificate. Cheap where it is the one that it showed before, as for each answer over one connection.
    pub fn note(&self, place: &str, der: &[u8]) {
        let mut known = self.lock();
        if let Some(shown) = known.get_mut(place).filter(|shown| shown.der == der) {
            shown.again = true;
            return;
        }
        if known.len() < SERVERS || known.contains_key(place) {
            let Some(term) = Term::of(der) else { return };
            known.insert(place.to_owned(), Shown { der: der.to_vec(), term, again: true, at: Timestamp::default() });
        }
    }

    /// What each server showed last. Those that showed nothing for so long are forgotten first.
    pub fn look(&self, now: Timestamp, forget_after: Duration) -> Vec<(String, Term)> {
        let mut known = self.lock();
        known.retain(|_, shown| {
            if std::mem::take(&mut shown.again) {
                shown.at = now;
            }
            now.since(shown.at) <= forget_after
        });
        known.iter().map(|(place, shown)| (place.clone(), shown.term.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Shown>> {
        // Plain values are whole after any panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! How often a provider is asked for what verifying needs: a stranger's requests must not make us hammer it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::model::{SourceName, Timestamp};

/// What is known is asked for again at most so often.
pub const FLOOR: Duration = Duration::from_secs(60);
/// Fetches of one source in the time of the floor.
const FETCHES: usize = 6;

/// When each source was asked.
#[derive(Default)]
pub struct Floor(HashMap<SourceName, VecDeque<Timestamp>>);

impl Floor {
    /// Whether a source may be asked now; if so, it counts as asked.
    pub fn may_ask(&mut self, source: &SourceName, now: Timestamp) -> bool {
        let asked = self.0.entry(source.clone()).or_default();
        asked.retain(|at| now.since(*at) < FLOOR && *at <= now);
        if asked.len() >= FETCHES {
            return false;
        }
        asked.push_back(now);
        true
    }
}

//! How a handler stands, as its attempts tell it: which problems are opened and closed, at the change only.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::model::{AttemptResult, ErrorClass, ProblemKind};

/// So many failures in a row are a problem.
const FAILING: u32 = 5;
/// What an attempt may open; each is over with the first that gets past it.
const KINDS: [ProblemKind; 3] = [ProblemKind::HandlerFailing, ProblemKind::HostRefused, ProblemKind::ProxyFailed];

/// What this process knows of a handler's problems.
#[derive(Default)]
pub struct Standing(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Failures in a row.
    failures: u32,
    open: HashSet<ProblemKind>,
    /// A success was seen: until then an earlier process may have left anything open.
    sure: bool,
}

/// What to do with a problem of the handler.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// With what a person is told.
    Open(ProblemKind, String),
    Close(ProblemKind),
}

impl Standing {
    /// Takes the end of an attempt. `error`: why it failed.
    pub fn ended(&self, result: AttemptResult, class: Option<ErrorClass>, error: &str) -> Vec<Change> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if result == AttemptResult::Delivered {
            let sure = std::mem::replace(&mut known.sure, true);
            known.failures = 0;
            let open = std::mem::take(&mut known.open);
            return KINDS.into_iter().filter(|kind| !sure || open.contains(kind)).map(Change::Close).collect();
        }
        match class {
            Some(ErrorClass::HostRefused) => known.bar(ProblemKind::HostRefused, error),
            Some(ErrorClass::Proxy) => known.bar(ProblemKind::ProxyFailed, error),
            _ => known.fail(result, error),
        }
    }
}

impl Known {
    /// The way to the handler is barred, which says nothing of the handler.
    fn bar(&mut self, kind: ProblemKind, error: &str) -> Vec<Change> {
        let new = self.open.insert(kind);
        new.then(|| Change::Open(kind, format!("{error}. Its events wait and are tried again."))).into_iter().collect()
    }

    fn fail(&mut self, result: AttemptResult, error: &str) -> Vec<Change> {
        self.failures = self.failures.saturating_add(1);
        // What was sent has passed every bar.
        let passed = |kind: &ProblemKind| result != AttemptResult::NotSent && *kind != ProblemKind::HandlerFailing;
        let mut changes: Vec<_> = self.open.extract_if(|kind| passed(kind)).map(Change::Close).collect();
        if self.failures.is_multiple_of(FAILING) {
            self.open.insert(ProblemKind::HandlerFailing);
            let message = format!("its deliveries fail; the last reason: {error}. They wait and are tried again.");
            changes.push(Change::Open(ProblemKind::HandlerFailing, message));
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AttemptResult::{Delivered, NotSent, Refused};
    use ProblemKind::{HandlerFailing, HostRefused, ProxyFailed};

    fn kinds(changes: &[Change]) -> Vec<(bool, ProblemKind)> {
        let kind = |change: &Change| match change {
            Change::Open(kind, _) => (true, *kind),
            Change::Close(kind) => (false, *kind),
        };
        changes.iter().map(kind).collect()
    }

    #[test]
    fn each_problem_is_opened_once_and_closed_by_what_gets_past_it() {
        let standing = Standing::default();
        let ended = |result, class| kinds(&standing.ended(result, class, "why"));
        assert_eq!(
            ended(Delivered, None),
            [(false, HandlerFailing), (false, HostRefused), (false, ProxyFailed)],
            "an earlier process may have left any of them"
        );
        assert!(ended(Delivered, None).is_empty());
        assert_eq!(ended(NotSent, Some(ErrorClass::HostRefused)), [(true, HostRefused)]);
        assert!(ended(NotSent, Some(ErrorClass::HostRefused)).is_empty(), "told once");
        assert_eq!(ended(NotSent, Some(ErrorClass::Proxy)), [(true, ProxyFailed)]);
        assert!(ended(NotSent, Some(ErrorClass::Unsendable)).is_empty(), "it never set out");
        let mut closed = ended(Refused, Some(ErrorClass::Status));
        closed.sort_by_key(|(_, kind)| kind.as_str());
        assert_eq!(closed, [(false, HostRefused), (false, ProxyFailed)]);
        for _ in 0..2 {
            assert!(ended(Refused, Some(ErrorClass::Status)).is_empty());
        }
        assert_eq!(ended(Refused, Some(ErrorClass::Status)), [(true, HandlerFailing)], "the fifth in a row");
        assert_eq!(ended(Delivered, None), [(false, HandlerFailing)]);
    }
}

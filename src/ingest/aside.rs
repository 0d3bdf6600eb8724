//! Records that cannot be read: kept apart with their reason, and a fault of the whole page when there are too many (RULES R3.8).

use bytes::Bytes;

use super::IngestError;
use crate::store::SetAside;

/// Bytes that are kept of a record that cannot be read.
const KEPT_MAX: usize = 1 << 20;

/// A record as it is kept, up to the cap.
pub(super) fn set_aside(raw: &Bytes, member: Option<String>, reason: String) -> SetAside {
    SetAside { raw: raw.slice(..raw.len().min(KEPT_MAX)), member, reason }
}

/// More than a tenth of a page unreadable says that the page is read in a wrong way.
pub(super) fn check(unreadable: &[SetAside], total: usize) -> Result<(), IngestError> {
    match unreadable.first() {
        Some(first) if unreadable.len() * 10 > total => {
            let counts = format!("{} of {total} records cannot be read", unreadable.len());
            Err(IngestError::Records(format!("{counts}; the first: {}", first.reason)))
        }
        _ => Ok(()),
    }
}

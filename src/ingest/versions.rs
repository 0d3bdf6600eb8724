//! Versions of records: read, compared, and counted, so that no event's id ever comes again (RULES R2.1, R3.5).

use std::cmp::Ordering;

use super::decimal::Decimal;
use super::judge::{Copy, Judge};
use crate::model::Timestamp;
use crate::provider::VersionKind;
use crate::store::Row;
use crate::template::{TimeFormat, outline};

/// Marks a count of changes under one version that goes on with the revision, because the version came back: counted from 0
/// again it would give an id that another change had (RULES R2.1, R2.2).
const CAME_BACK: u32 = 1 << 31;

/// A record's version: as sent, and in order where its kind has one.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    pub text: String,
    order: Option<VersionOrder>,
}

#[derive(Clone, Debug, PartialEq)]
enum VersionOrder {
    Time(Timestamp),
    Number(Decimal),
}

impl Version {
    /// Reads a version as `kind`; an error when it is not of that kind.
    pub fn read(
        text: &str,
        kind: VersionKind,
        format: &TimeFormat,
        zone: Option<chrono_tz::Tz>,
    ) -> Result<Version, String> {
        let order = match kind {
            VersionKind::Text => None,
            VersionKind::Time => Some(VersionOrder::Time(read_time(text, format, zone)?)),
            VersionKind::Number => {
                let number = Decimal::parse(text).ok_or_else(|| format!("`{}` is no number", outline(text)));
                Some(VersionOrder::Number(number?))
            }
        };
        Ok(Version { text: text.to_owned(), order })
    }

    /// How this version stands to another; None when they have no order and differ.
    pub fn compare(&self, other: &Version) -> Option<Ordering> {
        match (&self.order, &other.order) {
            (Some(VersionOrder::Time(a)), Some(VersionOrder::Time(b))) => Some(a.cmp(b)),
            (Some(VersionOrder::Number(a)), Some(VersionOrder::Number(b))) => Some(a.cmp(b)),
            _ => (self.text == other.text).then_some(Ordering::Equal),
        }
    }
}

/// Reads a time in the declared format; RFC 3339 is understood everywhere.
pub fn read_time(text: &str, format: &TimeFormat, zone: Option<chrono_tz::Tz>) -> Result<Timestamp, String> {
    format.read(text, zone).or_else(|error| TimeFormat::Rfc3339.read(text, zone).map_err(|_| error))
}

impl Judge<'_> {
    /// A copy's version; an error when it cannot be read.
    pub(super) fn version(&self, copy: &Copy, record: &str) -> Result<Option<Version>, String> {
        let Some(spec) = &self.stream.spec.version else { return Ok(None) };
        let text = match copy.route.as_ref().and_then(|r| r.version.clone()) {
            Some(text) => Some(text),
            None => spec.field.scalar(record, self.vars).map_err(|error| format!("`version`: {error}"))?,
        };
        let read = |text: String| {
            Version::read(&text, spec.kind, &self.stream.spec.time_format, self.stream.spec.timezone)
                .map_err(|e| format!("`version`: {e}"))
        };
        text.map(read).transpose()
    }

    /// A copy's version, where the stream has versions and this one can be read.
    pub fn version_of(&self, copy: &Copy) -> Option<Version> {
        let text = std::str::from_utf8(copy.raw.as_ref()?).ok()?;
        self.version(copy, text).ok()?
    }

    /// The version of a row.
    pub(super) fn stored_version(&self, row: &Row) -> Option<Version> {
        self.read_version(row.version.as_ref()?)
    }

    /// A version as it was stored.
    pub fn read_version(&self, text: &str) -> Option<Version> {
        let spec = self.stream.spec.version.as_ref()?;
        Version::read(text, spec.kind, &self.stream.spec.time_format, self.stream.spec.timezone).ok()
    }

    /// Changes under the version of this one so far, from 0. A version that came back, or may have been there before what is
    /// stored, goes on with the revision instead.
    pub(super) fn version_changes(
        &self,
        row: Option<&Row>,
        version: Option<&Version>,
        gone: bool,
        silent: bool,
        revision: u64,
    ) -> u32 {
        let came_back = CAME_BACK | (u32::try_from(revision).unwrap_or(u32::MAX) & !CAME_BACK);
        let Some(row) = row else {
            return if self.state.base_revision > 0 { came_back } else { 0 };
        };
        if row.version_changes & CAME_BACK != 0 {
            return came_back;
        }
        let same = match (version, &row.version) {
            (Some(new), Some(old)) => new.text == *old,
            (None, None) => true,
            (None, Some(_)) => gone,
            (Some(_), None) => false,
        };
        let greater = version
            .zip(self.stored_version(row).as_ref())
            .is_some_and(|(new, old)| new.compare(old) == Some(Ordering::Greater));
        match (same, greater) {
            (true, _) => row.version_changes + u32::from(!silent),
            (false, true) => 0,
            // Without any announced change before there is no id that could come again.
            (false, false) if row.revision == 0 => 0,
            (false, false) => came_back,
        }
    }
}

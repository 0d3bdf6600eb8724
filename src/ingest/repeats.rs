//! A key that one run meets twice: judged once; a second, different copy counts only with a greater version (RULES R1.7). What the
//! run took in first is looked up where it lies: in the open batch, in the journal, or in its row.

use std::cmp::Ordering;
use std::collections::HashMap;

use bytes::Bytes;

use super::IngestError;
use super::batch::Judged;
use super::judge::Copy;
use super::run::{Run, Way};
use super::settle::hash;
use crate::model::{Key, ProblemKind, SeenBy};
use crate::provider::Detect;
use crate::store::{Decided, Row};

/// How a second copy of a key within one run stands to the first.
pub(super) enum Second {
    Same,
    Later,
    Earlier,
    Contradicts,
}

impl Run {
    /// A second, different copy of a key in one page: the later version counts; without order it is a problem (RULES R1.7).
    pub(super) async fn second_copy(&mut self, first: &mut Copy, second: Copy) -> Result<(), IngestError> {
        let judge = self.judge();
        let form = |copy: &Copy| copy.raw.as_ref().and_then(|raw| judge.form_of(raw).ok());
        if self.stream.spec.detect == Detect::New || (form(first).is_some() && form(first) == form(&second)) {
            return Ok(());
        }
        match (judge.version_of(first), judge.version_of(&second)) {
            (Some(one), Some(two)) if two.compare(&one) == Some(Ordering::Greater) => {
                *first = second;
                Ok(())
            }
            (Some(one), Some(two)) if one.compare(&two) == Some(Ordering::Greater) => Ok(()),
            _ => self.contradicts(&second.key).await,
        }
    }

    /// Neither copy can be believed more: the first was taken, the mark waits for the other to come again.
    pub(super) async fn contradicts(&mut self, key: &Key) -> Result<(), IngestError> {
        (self.proven, self.contradicted, self.ignored) = (false, true, true);
        self.tracker.freeze();
        let message = format!(
            "one listing showed key `{key}` twice with different content; the first copy was taken. Check `key` in the provider file, or name a `version`."
        );
        let subject = self.stream.name.to_string();
        self.ingest.problems.open(&*self.ingest.store, ProblemKind::KeyDuplicate, &subject, &message).await?;
        self.decide(key.clone(), Decided::Contradicted, "");
        Ok(())
    }

    /// What the journal holds of keys that this run has met before.
    pub(super) async fn journaled_before(&self, judged: &Judged) -> Result<HashMap<Key, Bytes>, IngestError> {
        if self.way != Way::Journal && self.fresh.is_empty() {
            return Ok(HashMap::new());
        }
        let met = |(copy, row): &(&Copy, &Option<Row>)| match row {
            Some(row) => self.seen.has(row.number),
            None => self.fresh.contains(&hash(&copy.key)),
        };
        let copies = judged.verdicts.iter().map(|(copy, row, _)| (copy, row));
        let keys: Vec<Key> = copies.filter(met).map(|(copy, _)| copy.key.clone()).collect();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        self.journaled(keys).await
    }

    /// How a copy stands to one of the same key that this run took in before; None: it is the first.
    pub(super) fn second(&self, copy: &Copy, row: Option<&Row>, journaled: &HashMap<Key, Bytes>) -> Option<Second> {
        let raw = copy.raw.as_ref()?;
        let judge = self.judge();
        let (form, version) = match (self.waiting(&copy.key), journaled.get(&copy.key)) {
            (Some(write), _) => (write.fingerprint, write.version.clone()),
            (None, Some(first)) => {
                let first_copy = Copy { raw: Some(first.clone()), ..copy.clone() };
                (judge.form_of(first).ok()?, judge.version_of(&first_copy).map(|version| version.text))
            }
            (None, None) => {
                // Written by this run, as nobody else writes polled copies; or seen by it, and as it was stored.
                let written = |row: &&Row| row.change_number > self.began_at && row.by == SeenBy::Poll;
                let row = row.filter(|row| written(row) || self.seen.has(row.number))?;
                (row.fingerprint, row.version.clone())
            }
        };
        if self.stream.spec.detect == Detect::New || judge.form_of(raw).ok() == Some(form) {
            return Some(Second::Same);
        }
        let first = version.and_then(|text| judge.read_version(&text));
        let order = judge.version_of(copy).zip(first).and_then(|(second, first)| second.compare(&first));
        Some(match order {
            Some(Ordering::Greater) => Second::Later,
            Some(Ordering::Less) => Second::Earlier,
            Some(Ordering::Equal) | None => Second::Contradicts,
        })
    }
}

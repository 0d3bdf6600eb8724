//! Runs of more than one part: those that stop and go on later, and those over several parents, each with a mark of its own.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::decode::Record;
use super::mark::{Mark, Tracker};
use super::run::{Run, Way};
use super::{IngestError, RunReport};
use crate::jq::{Json, Vars};
use crate::model::{Key, SeenBy, Timestamp};
use crate::provider::Batch;
use crate::source::SourceStream;
use crate::store::StreamState;

/// How far a run has come: what its caps are judged by (RULES R1.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunProgress {
    /// Its pages are committed as they come, the mark with them.
    pub straight: bool,
    /// The mark has moved in this run.
    pub moved: bool,
    pub events: u64,
    /// What an earlier run found is still going out.
    pub releasing: bool,
}

/// What a run keeps beside its pages.
#[derive(Debug, Default)]
pub(super) struct GoingOn {
    /// What an earlier part of this run left.
    pub resumed: Option<Stopped>,
    /// A journal is still being released: nothing is listed meanwhile.
    pub releasing: bool,
    /// Some parents were not listed.
    pub incomplete: bool,
    /// Records that seemed to be gone and are not, or nobody could tell.
    pub spared: HashSet<Key>,
    parents: Option<Parents>,
}

/// A run that was stopped, as stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Stopped {
    /// Where to ask on: text of the poller's own making.
    point: String,
    /// The furthest place seen so far.
    mark: Option<Mark>,
    /// Its numbered pages may have shifted, and it found something.
    again: bool,
}

/// One mark for each parent.
#[derive(Debug, Default)]
struct Parents {
    marks: BTreeMap<String, Mark>,
    /// Several are listed with one request.
    batch: Option<Batch>,
    /// Whose pages are coming in.
    present: Vec<Whose>,
    /// What was handed down where each parent of this run was listed, by the first part of its children's keys.
    values: HashMap<String, Json>,
    /// First parts of keys of parents that were listed whole.
    listed: HashSet<String>,
    /// All that there are now.
    ids: HashSet<String>,
}

/// One parent whose pages come in.
#[derive(Clone, Debug)]
pub struct Whose {
    pub id: String,
    /// What it hands down.
    pub values: Json,
}

#[derive(Default, Serialize, Deserialize)]
struct StoredMarks {
    parents: BTreeMap<String, Mark>,
}

impl GoingOn {
    pub fn of(stream: &SourceStream, state: &StreamState) -> GoingOn {
        let stored = || state.mark.as_deref().and_then(|text| serde_json::from_str::<StoredMarks>(text).ok());
        let parents = stream.spec.parent.as_ref().map(|parent| Parents {
            marks: stored().unwrap_or_default().parents,
            batch: parent.batch.clone(),
            ..Parents::default()
        });
        let resumed = state.resume.as_deref().and_then(|text| serde_json::from_str(text).ok());
        GoingOn { resumed, parents, ..GoingOn::default() }
    }

    /// The mark of the parents whose pages are coming in: that of the one furthest behind, as the others lose nothing by it. None:
    /// the stream has no parents.
    pub fn parent_mark(&self) -> Option<Option<Mark>> {
        let parents = self.parents.as_ref()?;
        let mut marks = parents.present.iter().map(|parent| parents.marks.get(&parent.id));
        let mut least = marks.next().flatten();
        for mark in marks {
            least = match (least, mark) {
                (Some(least), Some(mark)) => Some(if mark.before(least) { mark } else { least }),
                _ => None,
            };
        }
        Some(least.cloned())
    }

    /// Whether an earlier run listed this parent whole, so that there is a place to go on from.
    pub fn is_marked(&self, parent: &str) -> bool {
        self.parents.as_ref().is_some_and(|parents| parents.marks.contains_key(parent))
    }

    /// Keys are unique within their parent. The error is a sentence: the record does not say whose it is.
    pub fn key(&self, record: &Record, vars: &Vars) -> Result<Key, String> {
        let key = &record.key;
        let Some(parents) = self.parents.as_ref().filter(|parents| !parents.present.is_empty()) else {
            return Ok(key.clone());
        };
        let first = match (&parents.batch, parents.present.as_slice()) {
            (Some(Batch { owner: None, .. }), _) => return Ok(key.clone()),
            (Some(Batch { owner: Some((name, owner)), .. }), present) => {
                let named =
                    owner.scalar(record.text(), vars).map_err(|error| format!("`parent.owner.{name}`: {error}"))?;
                let Some(named) = named else { return Err(format!("`parent.owner.{name}` is null or missing")) };
                let whose = present.iter().find(|parent| parent.hands_down(name, &named));
                whose.ok_or_else(|| format!("`parent.owner.{name}` names no parent that was asked for"))?
            }
            (None, [one, ..]) => one,
            (None, []) => return Ok(key.clone()),
        };
        Ok(Key::from(format!("{}/{key}", first_part(&first.id))))
    }

    /// Pages from here on are those of these parents. Gives their mark; None: the stream has no parents.
    pub fn enter(&mut self, whose: &[Whose]) -> Option<Option<Mark>> {
        self.parents.as_mut()?.present = whose.to_vec();
        self.parent_mark()
    }

    /// What the parent of a child handed down in this run, as JSON. None: the stream has no parents.
    pub fn handed_down(&self, key: &Key) -> Option<String> {
        let parents = self.parents.as_ref()?;
        let values = key.as_str().split_once('/').and_then(|(first, _)| parents.values.get(first));
        values.map(Json::to_text)
    }

    /// Whether the run listed where this key lies.
    pub fn lists(&self, key: &Key) -> bool {
        self.parents
            .as_ref()
            .is_none_or(|parents| key.as_str().split_once('/').is_some_and(|(first, _)| parents.listed.contains(first)))
    }
}

impl Whose {
    /// Whether this is what it hands down under a name.
    fn hands_down(&self, name: &str, text: &str) -> bool {
        let members = self.values.members().unwrap_or_default();
        members.iter().any(|(known, value)| known == name && value.scalar() == Ok(Some(text.to_owned())))
    }
}

/// A parent's id as the first part of its children's keys: no other id can begin like it.
pub fn first_part(id: &str) -> String {
    id.replace('%', "%25").replace('/', "%2F")
}

impl Run {
    /// The parents that there are now. One that is gone begins anew should it come back: what is known of its children is compared.
    pub fn parents(&mut self, ids: &[&str]) {
        if let Some(parents) = &mut self.going.parents {
            parents.ids = ids.iter().map(|id| (*id).to_owned()).collect();
        }
    }

    /// Pages from here on are those of one parent, or of several that one request names; their own mark says where they begin.
    pub fn enter(&mut self, whose: &[Whose], values: &Json) {
        let Some(mark) = self.going.enter(whose) else { return };
        self.vars.parent = values.clone();
        if let Some(parents) = &mut self.going.parents {
            parents.values.extend(whose.iter().map(|one| (first_part(&one.id), values.clone())));
        }
        self.tracker = Tracker::at(mark);
    }

    /// Whether an earlier run listed this parent whole.
    pub fn is_marked(&self, parent: &str) -> bool {
        self.going.is_marked(parent)
    }

    /// The pages of these parents have ended. Only where all of them were read does a mark move, and may children be missed.
    pub fn leave(&mut self, listed: bool) {
        let started = self.start_mark();
        self.report.ahead = self.report.ahead.max(self.tracker.ahead);
        let Some(parents) = &mut self.going.parents else { return };
        let present = std::mem::take(&mut parents.present);
        if !listed {
            return;
        }
        let moved = self.tracker.moved(started);
        for Whose { id, .. } in present {
            parents.listed.insert(first_part(&id));
            // Of several, one may have been further on than the place that all were asked from.
            if let Some(mark) = moved.as_ref().filter(|mark| parents.marks.get(&id).is_none_or(|own| own.before(mark)))
            {
                self.report.moved = true;
                parents.marks.insert(id, mark.clone());
            }
        }
    }

    /// Some parents were not listed: the run ends no baseline.
    pub fn incomplete(&mut self) {
        self.going.incomplete = true;
    }

    /// The listing has ended, and does not show that it was all of it: it judges no deletes.
    pub fn unproven(&mut self) {
        self.proven = false;
        self.report.owed = true;
    }

    /// Everything up to this moment was listed, and nothing is written there any more.
    pub fn passed(&mut self, until: Timestamp) {
        self.tracker.passed(until);
    }

    pub fn progress(&self) -> RunProgress {
        RunProgress {
            straight: self.way == Way::Straight,
            moved: self.report.moved,
            events: self.report.events,
            releasing: self.going.releasing,
        }
    }

    /// Where an earlier part of this run stopped.
    pub fn resume(&self) -> Option<String> {
        self.going.resumed.as_ref().map(|stopped| stopped.point.clone())
    }

    /// Takes over what the earlier part saw. It proves nothing of what is absent (RULES R1.4).
    pub(super) fn resume_at(&mut self) {
        if let Some(stopped) = &self.going.resumed {
            self.tracker.resume(stopped.mark.clone());
            self.proven = false;
        }
    }

    /// Stops here: journal and resume point are kept, and the next run goes on.
    pub async fn pause(mut self, point: String) -> Result<RunReport, IngestError> {
        self.flush(Vec::new()).await?;
        self.spill().await?;
        self.write_down().await?;
        let stopped = Stopped { point, mark: self.tracker.best().cloned(), again: self.must_repeat() };
        let mut commit = self.commit();
        commit.started_at = self.state.started_at;
        commit.resume = Some(Some(serde_json::to_string(&stopped).expect("texts and a mark are JSON")));
        self.ingest.store.commit(commit).await?;
        Ok(self.told_report())
    }

    /// Leaves journal and resume point as they are: what broke off may go well the next time.
    pub async fn put_off(self) -> Result<RunReport, IngestError> {
        Ok(self.told_report())
    }

    pub(super) fn told_report(self) -> RunReport {
        RunReport { change_number: self.state.change_number, ..self.report }
    }

    /// Whether its numbered pages may have shifted, so that it must be made again (RULES R1.5).
    pub(super) fn must_repeat(&self) -> bool {
        let before = self.going.resumed.as_ref().is_some_and(|stopped| stopped.again);
        before || (self.drifts && self.found > 0)
    }

    /// The mark to store at the end of the run.
    pub(super) fn mark(&mut self) -> Option<String> {
        let started = self.start_mark();
        let Some(parents) = &mut self.going.parents else {
            return self.tracker.moved(started).map(|mark| mark.to_stored());
        };
        parents.marks.retain(|id, _| parents.ids.contains(id));
        let stored = StoredMarks { parents: std::mem::take(&mut parents.marks) };
        Some(serde_json::to_string(&stored).expect("marks are JSON"))
    }

    /// Records that this run would report as deleted, with their bodies: to be asked for before that is believed.
    pub async fn absent(&mut self) -> Result<Vec<(Key, Option<Bytes>)>, IngestError> {
        self.flush(Vec::new()).await?;
        let keys = self.gone().await?;
        let bodies = self.ingest.store.bodies(&self.stream.name, keys.clone(), SeenBy::Poll).await?;
        Ok(keys.into_iter().zip(bodies).collect())
    }

    /// This one is not gone, or nobody could tell.
    pub fn spare(&mut self, key: &Key) {
        self.going.spared.insert(key.clone());
    }
}

//! The listings of a stream with parents: one for each of them, or for several that one request names (`batch`). A parent that fails
//! takes nothing from the others.

use std::collections::VecDeque;

use super::listing::Listed;
use super::parents::{self, NoParents, ParentRecord};
use super::run::{Run, Stop};
use super::sink::SinkRun;
use super::verdict::{Cause, Failure};
use crate::ingest::{Whose, first_part};
use crate::jq::Json;
use crate::model::ProblemKind;
use crate::provider::Parent;

/// A parent in its turn.
struct InTurn {
    parent: ParentRecord,
    /// Never listed whole, so that its listing begins at the start.
    is_new: bool,
}

impl InTurn {
    /// Its record holds what is handed down.
    fn is_well(&self) -> bool {
        self.parent.values.is_ok()
    }
}

impl Run<'_> {
    /// The listings of all parents, beginning after the one that an earlier run ended with. Where one fails, its children stay as
    /// they are.
    pub(super) async fn list_parents(&mut self, parent: &Parent, sink: &mut dyn SinkRun) -> Result<Listed, Stop> {
        let parents = match parents::read(self.store, self.polled, parent).await {
            Ok(parents) => parents,
            Err(NoParents::Store(error)) => return Err(crate::ingest::IngestError::Store(error).into()),
            Err(NoParents::Failed(failure)) => return Err(failure.into()),
            Err(NoParents::NotYet) => return Err(Stop::NotYet),
        };
        sink.parents(&parents.iter().map(|parent| parent.id.as_str()).collect::<Vec<_>>());
        let (count, mut waiting) = (parents.len(), VecDeque::new());
        let in_order = self.in_order(parents, sink);
        let begins = self.begins(&in_order);
        self.resumed = begins > 0;
        self.round_failed &= self.resumed;
        for group in in_order[begins..].chunk_by(|a, b| a.is_new == b.is_new && a.is_well() && b.is_well()) {
            waiting.extend(group.chunks(self.batch_size()));
        }
        let mut listed = Listed::default();
        let (mut failures, mut done) = (Failures::default(), 0);
        while let Some(batch) = waiting.pop_front() {
            match self.list_batch(batch, sink).await {
                // One of them is gone, and the answer does not say which.
                Err(Stop::Gone) if batch.len() > 1 => {
                    let (first, second) = batch.split_at(batch.len() / 2);
                    waiting.push_front(second);
                    waiting.push_front(first);
                    continue;
                }
                Ok(()) | Err(Stop::Gone) => done += batch.len(),
                Err(Stop::Failed(failure)) if concerns_one(&failure) => {
                    self.round_failed = true;
                    failures.add(batch, failure);
                }
                Err(stop) if done == 0 => return Err(stop),
                Err(stop) => {
                    listed.stopped = Some(stop);
                    break;
                }
            }
            if !waiting.is_empty() {
                self.after_parent = batch.last().map(|one| one.parent.id.clone());
                self.among_new = batch.last().is_some_and(|one| one.is_new);
                if self.overdue() {
                    listed.stopped = Some(Stop::Paused);
                    break;
                }
            }
        }
        if listed.stopped.is_none() {
            (self.after_parent, self.among_new) = (None, false);
        }
        match failures.sentence(count) {
            Some(failure) if done == 0 => Err(failure.into()),
            failed => Ok(Listed { failed, ..listed }),
        }
    }

    /// The parents by their ids. Where one request names several, those that were never listed whole come behind the others: asked
    /// for together, all that the others ever had would come once more.
    fn in_order(&self, parents: Vec<ParentRecord>, sink: &dyn SinkRun) -> Vec<InTurn> {
        let spec = &self.polled.stream.spec;
        let apart = spec.cursor.is_some() && spec.parent.as_ref().is_some_and(|parent| parent.batch.is_some());
        let in_turn = |parent: ParentRecord| InTurn { is_new: apart && !sink.is_marked(&parent.id), parent };
        let mut in_order: Vec<InTurn> = parents.into_iter().map(in_turn).collect();
        in_order.sort_by_key(|one| one.is_new);
        in_order
    }

    /// The first that this run lists. What an earlier part of the round listed may have ceased to be new by that.
    fn begins(&mut self, in_order: &[InTurn]) -> usize {
        let Some(after) = self.after_parent.take() else { return 0 };
        let among_new = std::mem::take(&mut self.among_new);
        let done = |one: &InTurn| (one.is_new, &one.parent.id) <= (among_new, &after);
        // Past the last one: those after it are gone, and the round begins anew.
        Some(in_order.partition_point(done)).filter(|begins| *begins < in_order.len()).unwrap_or(0)
    }

    fn batch_size(&self) -> usize {
        let parent = self.polled.stream.spec.parent.as_ref();
        parent.and_then(|parent| parent.batch.as_ref()).map_or(1, |batch| batch.size.max(1))
    }

    async fn list_batch(&mut self, batch: &[InTurn], sink: &mut dyn SinkRun) -> Result<(), Stop> {
        let mut whose = Vec::with_capacity(batch.len());
        for InTurn { parent: ParentRecord { id, values }, .. } in batch {
            let values = values.as_ref().map_err(|reason| {
                Failure::new(Cause::Lasting(ProblemKind::KeyMissing), format!("{reason}; correct `parent.carry`"))
            })?;
            whose.push(Whose { id: id.clone(), values: values.clone() });
        }
        let spec = &self.polled.stream.spec;
        let together = spec.parent.as_ref().is_some_and(|parent| parent.batch.is_some());
        let values =
            if together { in_lists(&whose) } else { whose.first().map(|one| one.values.clone()).unwrap_or_default() };
        if spec.confirm.is_some() {
            self.parents.extend(whose.iter().map(|one| (first_part(&one.id), one.values.clone())));
        }
        sink.enter(&whose, &values);
        self.frozen.parent = Some(values);
        self.frozen.cursor = self.asks_from(sink.cursor());
        let mut listed = self.list_slices(sink, None).await;
        if let (Err(Stop::Failed(failure)), true) = (&listed, self.frozen.cursor.is_some())
            && failure.cause == Cause::Expired
        {
            // Its cursor alone is too old: what the provider still has of it is listed and compared.
            self.gap = Some(format!("of {}: {}", named(batch), failure.message));
            self.frozen.cursor = self.asks_from_the_start();
            listed = self.list_slices(sink, None).await;
        }
        sink.leave(listed.is_ok());
        listed.map(drop)
    }
}

/// What several parents hand down: under each name the list of theirs, all in the same order.
fn in_lists(whose: &[Whose]) -> Json {
    let names = whose.first().and_then(|one| one.values.members()).unwrap_or_default();
    let of = |name: &str, one: &Whose| {
        let members = one.values.members().unwrap_or_default();
        members.into_iter().find(|(known, _)| known == name).map(|(_, value)| value).unwrap_or_default()
    };
    Json::object(names.into_iter().map(|(name, _)| {
        let values: Vec<Json> = whose.iter().map(|one| of(&name, one)).collect();
        (name, Json::list(values))
    }))
}

fn named(batch: &[InTurn]) -> String {
    match batch {
        [] => "no parent".to_owned(),
        [one] => format!("parent `{}`", one.parent.id),
        [first, .., last] => format!("parents `{}` to `{}`", first.parent.id, last.parent.id),
    }
}

/// Whether a failure says something of one parent alone, so that the others are asked all the same.
fn concerns_one(failure: &Failure) -> bool {
    match failure.cause {
        Cause::Passing { .. } | Cause::Lasting(_) | Cause::Expired => true,
        Cause::RateLimited { .. } | Cause::Refused | Cause::Held => false,
    }
}

/// Parents that could not be listed.
#[derive(Default)]
struct Failures {
    count: usize,
    first: Option<(String, Failure)>,
}

impl Failures {
    fn add(&mut self, batch: &[InTurn], failure: Failure) {
        self.count += batch.len();
        self.first.get_or_insert_with(|| (named(batch), failure));
    }

    /// One sentence for all of them.
    fn sentence(self, of: usize) -> Option<Failure> {
        let (named, first) = self.first?;
        let message = format!(
            "{} of {of} parents could not be listed, their records stay as they are; the first, {named}: {}",
            self.count, first.message
        );
        Some(Failure::new(first.cause, message))
    }
}

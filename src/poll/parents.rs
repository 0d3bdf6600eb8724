//! The parents of a stream: for each of them the stream is listed once. They are the live records of another stream, or values of
//! the configuration.

use bytes::Bytes;

use super::request::{RequestFault, param_texts, set_own};
use super::run::Polled;
use super::verdict::{Cause, Failure};
use crate::jq::{Json, Vars};
use crate::model::{ProblemKind, SeenBy, StreamName};
use crate::provider::{Parent, ParentOf};
use crate::store::{Store, StoreError};
use crate::template::Context;

/// Records read at a time.
const PAGE: usize = 1_000;

/// One parent.
#[derive(Clone, Debug)]
pub(super) struct ParentRecord {
    /// Its key, or the value itself: the first part of its children's keys.
    pub id: String,
    /// `{{ parent.… }}` and `$parent`; Err: its record does not hold what is handed down.
    pub values: Result<Json, String>,
}

/// Why there are no parents to list for.
pub(super) enum NoParents {
    Store(StoreError),
    Failed(Failure),
    /// Their stream has not been looked at yet: children wait for it.
    NotYet,
}

impl From<StoreError> for NoParents {
    fn from(error: StoreError) -> NoParents {
        NoParents::Store(error)
    }
}

/// All parents, in the order of their ids.
pub(super) async fn read(store: &dyn Store, polled: &Polled, parent: &Parent) -> Result<Vec<ParentRecord>, NoParents> {
    match &parent.of {
        ParentOf::Values(param) => values(polled, param),
        ParentOf::Stream(name) => records(store, polled, parent, name).await,
    }
}

fn values(polled: &Polled, param: &crate::provider::Param) -> Result<Vec<ParentRecord>, NoParents> {
    let mut context = Context::new();
    set_own(&mut context, &polled.source);
    let fault = |reason| failed(RequestFault::new("parent.values", reason).to_string());
    let mut texts = param_texts(param, &context).map_err(fault)?;
    texts.sort();
    texts.dedup();
    let record = |text: String| {
        let values = Json::object([("value".to_owned(), Json::from(text.as_str()))]);
        ParentRecord { id: text, values: Ok(values) }
    };
    Ok(texts.into_iter().map(record).collect())
}

async fn records(
    store: &dyn Store,
    polled: &Polled,
    parent: &Parent,
    name: &str,
) -> Result<Vec<ParentRecord>, NoParents> {
    let stream = StreamName::new(polled.source.name.clone(), name);
    // Before its first complete look nobody knows which parents there are: to list for some would end the baseline without the rest.
    let known = store.stream(&stream).await?;
    if known.is_none_or(|state| state.phase == crate::store::Phase::Baseline) {
        return Err(NoParents::NotYet);
    }
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let rows = store.rows_after(&stream, after.take(), PAGE).await?;
        let Some((last, _)) = rows.last() else { return Ok(found) };
        after = Some(last.clone());
        let keys: Vec<_> = rows.into_iter().filter(|(_, row)| !row.deleted).map(|(key, _)| key).collect();
        let mut bodies = store.bodies(&stream, keys.clone(), SeenBy::Poll).await?;
        if bodies.iter().any(Option::is_none) {
            let by_webhook = store.bodies(&stream, keys.clone(), SeenBy::Webhook).await?;
            bodies = bodies.into_iter().zip(by_webhook).map(|(polled, told)| polled.or(told)).collect();
        }
        for (key, body) in keys.into_iter().zip(bodies) {
            let Some(body) = body else { continue };
            if let Some(values) = carried(polled, parent, &body).transpose() {
                found.push(ParentRecord { id: key.to_string(), values });
            }
        }
    }
}

/// What a parent's record hands down. None: `when` leaves it out.
fn carried(polled: &Polled, parent: &Parent, body: &Bytes) -> Result<Option<Json>, String> {
    let vars = Vars { settings: Json::from(&*polled.stream.settings), ..Vars::default() };
    if let Some(when) = &parent.when {
        let json = Json::parse(body)?;
        if !when.truth(&json, &vars).map_err(|error| format!("`parent.when`: {error}"))? {
            return Ok(None);
        }
    }
    let json = Json::parse(body)?;
    let mut members = Vec::with_capacity(parent.carry.len());
    for (name, jq) in &parent.carry {
        let value = jq.first(&json, &vars).map_err(|error| format!("`parent.carry.{name}`: {error}"))?;
        members.push((
            name.clone(),
            value
                .filter(|value| !value.is_null())
                .ok_or_else(|| format!("`parent.carry.{name}` is null or missing in a parent's record"))?,
        ));
    }
    Ok(Some(Json::object(members)))
}

fn failed(reason: impl Into<String>) -> NoParents {
    NoParents::Failed(Failure::new(Cause::Lasting(ProblemKind::KeyMissing), reason))
}

//! A filter of events as SQL. Names become numbers first, so that what was asked for under a name stays the same when it is renamed.

use rusqlite::types::Value;
use serde::{Deserialize, Serialize};

use super::events::{View, of_event};
use super::rows::Code;
use crate::model::DeliveryState;
use crate::store::EventFilter;

/// Which events, by the numbers of streams and handlers. Kept with a replay until all its deliveries are made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Wanted {
    ids: Vec<String>,
    /// None: every stream.
    streams: Option<Vec<i64>>,
    event_type: Option<String>,
    key: Option<String>,
    /// With a delivery to this one; -1 when nobody is called so.
    handler: Option<i64>,
    state: Option<i64>,
    since: Option<i64>,
    until: Option<i64>,
}

impl Wanted {
    pub(super) fn of(filter: &EventFilter, view: &View) -> Wanted {
        let (source, stream) = (filter.source.as_ref(), filter.stream.as_deref());
        let narrowed = source.is_some() || stream.is_some();
        Wanted {
            ids: filter.ids.iter().map(ToString::to_string).collect(),
            streams: narrowed.then(|| view.streams_of(source, stream)),
            event_type: filter.event_type.clone(),
            key: filter.key.as_ref().map(ToString::to_string),
            handler: filter.handler.as_ref().map(|name| view.handler_of(name).unwrap_or(-1)),
            state: filter.state.map(Code::code),
            since: filter.since.map(|at| at.0),
            until: filter.until.map(|at| at.0),
        }
    }
}

/// Which events, as SQL on `e`, with its parameters.
pub(super) struct Chosen {
    pub(super) sql: String,
    pub(super) values: Vec<Value>,
    /// The part about deliveries, as SQL on `d` that begins with AND; empty when every delivery will do.
    pub(super) deliveries: String,
}

pub(super) fn choose(wanted: &Wanted, view: &View) -> Chosen {
    let mut parts = vec!["1".to_string()];
    let mut values: Vec<Value> = Vec::new();
    if !wanted.ids.is_empty() {
        parts.push(format!("e.id IN ({})", vec!["?"; wanted.ids.len()].join(",")));
        values.extend(wanted.ids.iter().map(|id| Value::from(id.clone())));
    }
    if let Some(streams) = &wanted.streams {
        let ids: Vec<String> = streams.iter().map(ToString::to_string).collect();
        parts.push(format!("e.stream_id IN ({})", ids.join(",")));
    }
    if let Some(wanted) = &wanted.event_type {
        match wanted.strip_suffix('*') {
            Some(start) => {
                parts.push("substr(e.event_type, 1, length(?)) = ?".into());
                values.extend([Value::from(start.to_string()), Value::from(start.to_string())]);
            }
            None => {
                parts.push("e.event_type = ?".into());
                values.push(Value::from(wanted.clone()));
            }
        }
    }
    let mut one = |sql: &str, value: Option<Value>| {
        if let Some(value) = value {
            parts.push(sql.into());
            values.push(value);
        }
    };
    one("e.key = ?", wanted.key.clone().map(Value::from));
    one("e.seen_at >= ?", wanted.since.map(Value::from));
    one("e.seen_at < ?", wanted.until.map(Value::from));
    let deliveries = choose_deliveries(wanted, view);
    if !deliveries.is_empty() {
        parts.push(format!("EXISTS ({})", of_event("1", &deliveries)));
    }
    if wanted.state == Some(DeliveryState::Failed.code()) {
        // Few of many, as a rule, and in an index of their own.
        parts.push("e.seq IN (SELECT event_seq FROM delivery WHERE state = 4)".into());
    }
    Chosen { sql: parts.join(" AND "), values, deliveries }
}

fn choose_deliveries(wanted: &Wanted, view: &View) -> String {
    let mut sql = String::new();
    if let Some(handler) = wanted.handler {
        sql.push_str(&format!(" AND d.handler_id = {handler}"));
    }
    if let Some(state) = wanted.state.and_then(DeliveryState::from_code) {
        sql.push_str(&format!(" AND {}", view.condition(state)));
    }
    sql
}

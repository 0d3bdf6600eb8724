//! What must be so, whatever happened: the oracle lays what a handler got beside what the provider did.
//!
//! What may legally collapse, and nothing else:
//! 1. States that followed each other between two looks: only the last of them must be told. Equal states in a row are one.
//! 2. A record that came and went between two looks: nothing need be told.
//! 3. What was so before a stream's first complete look ended and was shown by a page until then: it is remembered silently.
//!    Where the first look is to be told, too, nothing is.
//! 4. In `detect = "new"`, whatever happens to a record after it was told.
//!
//! Hence, at a moment when the provider and the handler have been calm for some looks:
//! - the events of a key, in the order of acceptance, are some of its states in their order, none twice (0 phantoms, 0 doubles,
//!   0 order breaks, 0 false deletes);
//! - the last of them is what the record is now; where there is none, rule 2 or 3 says why (0 lost).

use super::provider::{Model, State};
use super::receiver::{Arrival, Kind};
use super::shapes::Order;

/// Judges one key. `live`: when the first complete look ended.
pub fn judge(model: &Model, key: &str, arrived: &[Arrival], live: i64) -> Result<(), String> {
    let states = &model.records[key];
    phantom(states, arrived)?;
    let now = states.last().expect("every record has a state");
    if model.shape.order == Order::Log {
        return log(now, arrived, live);
    }
    let live = if model.shape.sends_all { i64::MIN } else { live };
    match arrived.last() {
        Some(last) if last.content == now.content && model.shape.sends_all => Ok(()),
        Some(last) if last.content == now.content => untouched(states, arrived),
        Some(last) => Err(format!("lost: the last event says {:?}, and it is {:?}", last.content, now.content)),
        None => silent(states, now, live),
    }
}

/// The events are some of the states, in their order.
fn phantom(states: &[State], arrived: &[Arrival]) -> Result<(), String> {
    let mut distinct = states.iter();
    let mut before: Option<Option<u64>> = None;
    for event in arrived {
        let found = distinct.by_ref().find(|state| {
            // Equal states in a row are one.
            let new = before != Some(state.content);
            before = Some(state.content);
            new && state.content == event.content && (event.content.is_none() == (event.kind == Kind::Deleted))
        });
        if found.is_none() {
            let told: Vec<_> = arrived.iter().map(|event| (event.content, &event.id)).collect();
            let were: Vec<_> = states.iter().map(|state| state.content).collect();
            return Err(format!("phantom or double: told {told:?}, but the record was {were:?}"));
        }
    }
    Ok(())
}

/// What was never touched after it was first there is no news (no flood at the start).
fn untouched(states: &[State], arrived: &[Arrival]) -> Result<(), String> {
    let first = &states[0];
    if states.len() == 1 && first.at < super::START.0 && !arrived.is_empty() {
        return Err("flood: a record that was there before the first look and never changed was told".into());
    }
    Ok(())
}

fn silent(states: &[State], now: &State, live: i64) -> Result<(), String> {
    let shown = |state: &&State| state.served.is_some_and(|served| served <= live);
    match now.content {
        // The very state, or one like it, was shown before the first look ended.
        Some(_) if states.iter().rfind(|state| state.content == now.content && shown(state)).is_some() => Ok(()),
        Some(content) => Err(format!("lost: nobody was told that it is {content}")),
        None => {
            let before = states.iter().rfind(|state| state.content.is_some());
            // It was known, and went after the first look.
            match before.filter(|before| before.served.is_some() && before.at < super::START.0 && now.at > live) {
                Some(_) if states.len() == 2 => Err("lost: nobody was told that it was deleted".into()),
                _ => Ok(()),
            }
        }
    }
}

fn log(now: &State, arrived: &[Arrival], live: i64) -> Result<(), String> {
    match arrived.len() {
        0 if now.served.is_some_and(|served| served <= live) => Ok(()),
        0 => Err("lost: an entry of the log was never told".into()),
        1 if now.at < super::START.0 => Err("flood: an entry from before the first look was told".into()),
        1 => Ok(()),
        n => Err(format!("double: an entry of the log was told {n} times")),
    }
}

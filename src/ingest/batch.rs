//! A batch of copies through look-up and judgement to record writes. Shared by polled pages, journals and real webhooks.

use std::collections::HashMap;

use bytes::Bytes;

use super::judge::{Copy, Glance, Judge, Verdict};
use crate::model::{Fingerprint, Key, SeenBy};
use crate::store::{Result as StoreResult, Row, Store};

/// What a batch of copies came to, in the order given.
#[derive(Debug, Default)]
pub struct Judged {
    pub verdicts: Vec<(Copy, std::result::Result<Verdict, String>)>,
    /// Places of the stored rows in a run's bitmap, where there are rows.
    pub known: Vec<Option<u32>>,
}

/// Looks up and judges copies of distinct keys.
pub async fn judge(
    store: &dyn Store,
    judge: &Judge<'_>,
    copies: Vec<Copy>,
    older: &HashMap<Key, Fingerprint>,
) -> StoreResult<Judged> {
    let rows = rows_of(store, judge, &copies).await?;
    let mut glances: Vec<Result<Glance, String>> = Vec::with_capacity(copies.len());
    for (copy, row) in copies.iter().zip(&rows) {
        glances.push(judge.glance(copy, row.as_ref(), older.get(&copy.key).copied()));
    }
    let wanted: Vec<(Key, SeenBy)> = copies
        .iter()
        .zip(&rows)
        .zip(&glances)
        .filter_map(|((copy, row), glance)| match (row, glance) {
            // A twin is compared with what the row now is, whichever way that came; anything else with the last copy of its own way.
            (Some(row), Ok(Glance::Closer(near))) if !row.deleted => {
                Some((copy.key.clone(), if near.perhaps_twin() { row.by } else { copy.by }))
            }
            _ => None,
        })
        .collect();
    let mut bodies = bodies_of(store, judge, wanted).await?;
    let mut judged = Judged::default();
    for ((copy, row), glance) in copies.into_iter().zip(rows).zip(glances) {
        let verdict = match glance {
            Ok(Glance::Settled(verdict)) => Ok(verdict),
            Ok(Glance::Closer(near)) => {
                let body = bodies.remove(&copy.key).map(|(body, from)| (body, from == copy.by));
                judge.decide(&copy, row.as_ref(), near, body)
            }
            Err(reason) => Err(reason),
        };
        judged.known.push(row.map(|row| row.number));
        judged.verdicts.push((copy, verdict));
    }
    Ok(judged)
}

/// Asks for the rows with sorted keys, which is three times faster, and puts them back in the order given.
async fn rows_of(store: &dyn Store, judge: &Judge<'_>, copies: &[Copy]) -> StoreResult<Vec<Option<Row>>> {
    let mut order: Vec<usize> = (0..copies.len()).collect();
    order.sort_unstable_by(|a, b| copies[*a].key.cmp(&copies[*b].key));
    let keys = order.iter().map(|n| copies[*n].key.clone()).collect();
    let found = store.rows(&judge.stream.name, keys).await?;
    let mut rows = vec![None; copies.len()];
    for (place, row) in order.into_iter().zip(found) {
        rows[place] = row;
    }
    Ok(rows)
}

/// The stored bodies: of the way wanted where there is one, else of the other. Each with its way.
async fn bodies_of(
    store: &dyn Store,
    judge: &Judge<'_>,
    wanted: Vec<(Key, SeenBy)>,
) -> StoreResult<HashMap<Key, (Bytes, SeenBy)>> {
    let mut bodies = HashMap::new();
    for way in [SeenBy::Poll, SeenBy::Webhook] {
        let other = if way == SeenBy::Poll { SeenBy::Webhook } else { SeenBy::Poll };
        let mut keys: Vec<Key> = wanted.iter().filter(|(_, by)| *by == way).map(|(key, _)| key.clone()).collect();
        for from in [way, other] {
            if keys.is_empty() {
                break;
            }
            keys.sort_unstable();
            let found = store.bodies(&judge.stream.name, keys.clone(), from).await?;
            let mut missing = Vec::new();
            for (key, body) in keys.into_iter().zip(found) {
                match body {
                    Some(body) => drop(bodies.insert(key, (body, from))),
                    None => missing.push(key),
                }
            }
            keys = missing;
        }
    }
    Ok(bodies)
}

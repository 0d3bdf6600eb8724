//! A batch of copies through look-up and judgement to record writes. Shared by polled pages, journals and real webhooks.

use std::collections::HashMap;

use bytes::Bytes;

use super::judge::{Copy, Glance, Judge, Verdict};
use crate::model::{Fingerprint, Key, SeenBy};
use crate::store::{Result as StoreResult, Row, Store};

/// What a batch of copies came to, in the order given.
#[derive(Debug, Default)]
pub struct Judged {
    pub verdicts: Vec<(Copy, Option<Row>, std::result::Result<Verdict, String>)>,
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
    let twins = twin_bodies(store, judge, &copies, &rows, &glances).await?;
    let wanted: Vec<(Key, SeenBy)> = copies
        .iter()
        .zip(&rows)
        .zip(&glances)
        .filter(|((_, row), glance)| {
            row.as_ref().is_some_and(|r| !r.deleted) && matches!(glance, Ok(Glance::Closer(_)))
        })
        .map(|((copy, _), _)| (copy.key.clone(), copy.by))
        .collect();
    let mut bodies = bodies_of(store, judge, wanted).await?;
    let mut judged = Judged { verdicts: Vec::with_capacity(copies.len()) };
    for ((copy, row), glance) in copies.into_iter().zip(rows).zip(glances) {
        let verdict = match glance {
            Ok(Glance::Settled(verdict)) => Ok(verdict),
            Ok(Glance::Closer(near)) => {
                judge.decide(&copy, row.as_ref(), near, bodies.remove(&copy.key), twins.get(&copy.key))
            }
            Err(reason) => Err(reason),
        };
        judged.verdicts.push((copy, row, verdict));
    }
    Ok(judged)
}

/// The copies that the other way brought, where a copy may be the twin of one: the two are compared with each other, and not
/// with what their own ways brought before.
async fn twin_bodies(
    store: &dyn Store,
    judge: &Judge<'_>,
    copies: &[Copy],
    rows: &[Option<Row>],
    glances: &[Result<Glance, String>],
) -> StoreResult<HashMap<Key, Bytes>> {
    let mut bodies = HashMap::new();
    for way in [SeenBy::Poll, SeenBy::Webhook] {
        let candidate = |((copy, row), glance): &((&Copy, &Option<Row>), &Result<Glance, String>)| {
            let other = row.as_ref().is_some_and(|row| row.by == way && copy.by != way && !row.deleted);
            other && matches!(glance, Ok(Glance::Closer(near)) if near.twin)
        };
        let found = copies.iter().zip(rows).zip(glances).filter(candidate);
        let mut keys: Vec<Key> = found.map(|((copy, _), _)| copy.key.clone()).collect();
        if keys.is_empty() {
            continue;
        }
        keys.sort_unstable();
        let found = store.bodies(&judge.stream.name, keys.clone(), way).await?;
        bodies.extend(keys.into_iter().zip(found).filter_map(|(key, body)| Some((key, body?))));
    }
    Ok(bodies)
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

/// The stored bodies: of the copy's own way where there is one, else of the other (then the flag is false).
async fn bodies_of(
    store: &dyn Store,
    judge: &Judge<'_>,
    wanted: Vec<(Key, SeenBy)>,
) -> StoreResult<HashMap<Key, (Bytes, bool)>> {
    let mut bodies = HashMap::new();
    for way in [SeenBy::Poll, SeenBy::Webhook] {
        let other = if way == SeenBy::Poll { SeenBy::Webhook } else { SeenBy::Poll };
        let mut keys: Vec<Key> = wanted.iter().filter(|(_, by)| *by == way).map(|(key, _)| key.clone()).collect();
        for (from, same_way) in [(way, true), (other, false)] {
            if keys.is_empty() {
                break;
            }
            keys.sort_unstable();
            let found = store.bodies(&judge.stream.name, keys.clone(), from).await?;
            let mut missing = Vec::new();
            for (key, body) in keys.into_iter().zip(found) {
                match body {
                    Some(body) => drop(bodies.insert(key, (body, same_way))),
                    None => missing.push(key),
                }
            }
            keys = missing;
        }
    }
    Ok(bodies)
}

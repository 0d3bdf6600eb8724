//! New comparison rules: the stored records are fingerprinted anew from the copies that were kept, so that the next look compares
//! as ever (RULES R4.2). No change is lost, and none is invented.

use super::identity::fingerprint;
use super::{Ingest, IngestError};
use crate::canonical::canonical;
use crate::model::{Fingerprint, Key, SeenBy};
use crate::provider::Detect;
use crate::source::SourceStream;
use crate::store::{Commit, RecordWrite, Row, StoreError, StreamLease, StreamState};

/// Rows fingerprinted in one transaction.
const BATCH: usize = 1_000;

/// The stream's state, once every record has its fingerprint under the present rules.
pub(super) async fn fresh_state(
    ingest: &Ingest,
    stream: &SourceStream,
    state: StreamState,
    lease: Option<&StreamLease>,
) -> Result<StreamState, IngestError> {
    if !state.detection.recompare || state.comparison != stream.comparison {
        return Ok(state);
    }
    let mut after = None;
    loop {
        let rows = ingest.store.rows_after(&stream.name, after.clone(), BATCH).await?;
        let last = rows.last().map(|(key, _)| key.clone());
        let mut commit = Commit::new(stream.name.clone(), state.definition.clone());
        commit.comparison = Some(state.comparison.clone());
        commit.lease = lease.cloned();
        commit.recompared = last.is_none();
        if stream.spec.detect != Detect::New {
            commit.writes = anew(ingest, stream, rows).await?;
        }
        match ingest.store.commit(commit).await {
            Ok(_) => {}
            // Somebody wrote one of the rows: they are read again.
            Err(StoreError::Conflict) if still(ingest, stream, &state).await? => continue,
            Err(error) => return Err(error.into()),
        }
        match last {
            Some(_) => after = last,
            None => return ingest.store.stream(&stream.name).await?.ok_or(StoreError::Stale.into()),
        }
    }
}

async fn still(ingest: &Ingest, stream: &SourceStream, state: &StreamState) -> Result<bool, IngestError> {
    let now = ingest.store.stream(&stream.name).await?;
    Ok(now.is_some_and(|now| now.definition == state.definition && now.comparison == state.comparison))
}

/// The rows whose fingerprints differ under the present rules.
async fn anew(ingest: &Ingest, stream: &SourceStream, rows: Vec<(Key, Row)>) -> Result<Vec<RecordWrite>, IngestError> {
    let keys: Vec<Key> = rows.iter().map(|(key, _)| key.clone()).collect();
    let polled = ingest.store.bodies(&stream.name, keys.clone(), SeenBy::Poll).await?;
    let told = ingest.store.bodies(&stream.name, keys, SeenBy::Webhook).await?;
    let mut writes = Vec::new();
    for (((key, row), polled), told) in rows.into_iter().zip(polled).zip(told) {
        let form = |body: &Option<bytes::Bytes>| -> Option<Fingerprint> {
            let text = std::str::from_utf8(body.as_ref()?).ok()?;
            canonical(text, &stream.comparing).ok().map(|form| fingerprint(&form))
        };
        let own = if row.by == SeenBy::Poll { form(&polled) } else { form(&told) };
        let webhook_form = row.webhook_form.and_then(|former| form(&told).or(Some(former)));
        let own = own.unwrap_or(row.fingerprint);
        if own != row.fingerprint || webhook_form != row.webhook_form {
            // The bytes of the polled copy are the same, and so is their hash.
            let stored = super::deletes::as_stored(&key, &row);
            writes.push(RecordWrite { fingerprint: own, webhook_form, ..stored });
        }
    }
    Ok(writes)
}

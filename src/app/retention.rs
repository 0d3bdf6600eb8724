//! How long things are kept, and their removal in small batches (RULES R5.6, R9).

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::Daemon;
use crate::ingest::forgettable;
use crate::model::Timestamp;
use crate::source::{Source, Sources};
use crate::store::{Prune, StoreError};

/// Rows removed in one transaction.
const BATCH: usize = 500;
/// A deleted record is remembered at least so long: a provider may send an old copy of it again.
const TOMBSTONES: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Between two batches there is room for others.
const PAUSE: Duration = Duration::from_millis(50);

/// Removes what is older than it is kept.
pub async fn prune(daemon: Arc<Daemon>) {
    let sources = daemon.sources.load_full();
    let what = kept(daemon.clock.now(), daemon.config.load().keep, &sources);
    let done = async {
        while daemon.store.prune(what.clone()).await? {
            tokio::time::sleep(PAUSE).await;
        }
        forget_seen(&daemon, &sources).await
    };
    if let Err(error) = done.await {
        warn!("what is old could not be removed: {error}");
    }
}

/// Until when things are kept. The provider that sends again the longest decides for the ids of all messages.
fn kept(now: Timestamp, keep: Duration, sources: &Sources) -> Prune {
    let redelivers = sources.values().map(|source| redelivers(source)).max().unwrap_or_default();
    let own = sources.values().filter_map(|source| Some((source.name.clone(), now.minus(source.config.keep?))));
    // An inbound without its id would be taken for a new one.
    let keep_ids = sources.values().filter_map(|source| source.config.keep).chain([keep, redelivers]).max();
    let keep_ids = keep_ids.unwrap_or(keep);
    Prune {
        events_before: now.minus(keep),
        inbounds_before: now.minus(keep),
        of_sources: own.collect(),
        message_ids_before: now.minus(keep_ids),
        tombstones_before: now.minus(keep_ids.max(TOMBSTONES)),
        limit: BATCH,
    }
}

/// How long a provider may send a message again.
fn redelivers(source: &Source) -> Duration {
    source.provider.webhook.as_ref().map(|webhook| webhook.redelivers).unwrap_or_default()
}

async fn forget_seen(daemon: &Daemon, sources: &Sources) -> Result<(), StoreError> {
    for source in sources.values() {
        for stream in &source.streams {
            let Some(state) = daemon.store.stream(&stream.name).await? else { continue };
            let Some(seen) = forgettable(stream, &state, redelivers(source), daemon.clock.now()) else { continue };
            while daemon.store.prune_seen(&stream.name, seen.clone()).await? {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const DAY: Duration = Duration::from_secs(86_400);

    /// A source whose provider may send its messages again for so long.
    fn sources(redelivers: &str) -> (tempfile::TempDir, Sources) {
        let folder = tempfile::tempdir().expect("a folder");
        let provider = format!(
            "schema = 1\nbase_url = \"http://127.0.0.1:1\"\n[streams.s]\npath = \"/s\"\nkey = \".id\"\n[webhook]\nredelivers = \"{redelivers}\"\n\
             [[webhook.signature]]\ntype = \"token\"\nheader = \"X-Token\"\n[[webhook.messages]]\non_webhook = \"poll\"\n"
        );
        let config = "schema = 1\n[sources.core]\nprovider = \"./provider.toml\"\n";
        for (name, text) in [("provider.toml", provider.as_str()), ("config.toml", config)] {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let shown = |faults: Vec<_>| crate::shape::render(&faults, false);
        let (config, _) = config::load(&folder.path().join("config.toml")).map_err(shown).expect("a configuration");
        let (sources, _) = crate::source::join_all(&config, false).map_err(shown).expect("sources");
        (folder, sources)
    }

    #[test]
    fn a_source_with_a_time_of_its_own_is_kept_for_it() {
        let (_folder, mut known) = sources("7d");
        let now = Timestamp(1_800_000_000_000);
        assert!(kept(now, DAY * 30, &known).of_sources.is_empty());
        for source in known.values_mut() {
            let changed = Arc::get_mut(source).expect("nobody else has it");
            changed.config.keep = Some(DAY * 100);
        }
        let what = kept(now, DAY * 30, &known);
        assert_eq!(what.of_sources, [("core".into(), now.minus(DAY * 100))]);
        assert_eq!(what.message_ids_before, now.minus(DAY * 100), "what is kept must not be taken in a second time");
    }

    #[test]
    fn r5_6_message_ids_outlive_bodies_for_as_long_as_the_provider_sends_again() {
        let now = Timestamp(1_800_000_000_000);
        for (redelivers, keep, ids, tombstones) in
            [("7d", 30, 30, 90), ("60d", 30, 60, 90), ("120d", 30, 120, 120), ("7d", 400, 400, 400)]
        {
            let (_folder, sources) = sources(redelivers);
            let what = kept(now, DAY * keep, &sources);
            assert_eq!(what.inbounds_before, now.minus(DAY * keep), "{redelivers} {keep}");
            assert_eq!(what.message_ids_before, now.minus(DAY * ids), "{redelivers} {keep}");
            assert_eq!(what.tombstones_before, now.minus(DAY * tombstones), "{redelivers} {keep}");
        }
    }
}

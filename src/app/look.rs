//! A dry run without a daemon: `ringback poll --dry-run` against the stored state if there is one, else against none.

use std::path::Path;
use std::sync::Arc;

use super::{Parts, read, register};
use crate::admin::{ControlError, shape};
use crate::clock::Clock;
use crate::config::Config;
use crate::ingest::Ingest;
use crate::metrics::Metrics;
use crate::model::StreamName;
use crate::poll::{Mode, Poller};
use crate::shape::Fault;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;

/// Why there was no look.
pub enum LookError {
    Configuration(Vec<Fault>),
    Other(ControlError),
}

/// Asks and compares as a poll does, stores and sends nothing. `stream` without a name stands for all polled ones of the source.
pub async fn dry_run(path: &Path, source: &str, stream: Option<&str>) -> Result<Vec<shape::PollReport>, LookError> {
    let (config, parts) = read(path).map_err(LookError::Configuration)?;
    let failed = |error: String| LookError::Other(ControlError::Failed(error));
    let (store, _folder) = store(&config, &parts).await.map_err(failed)?;
    let clock = Clock::system();
    let ingest = Ingest::new(store.clone(), Arc::new(parts.subscriptions()), clock.clone(), Metrics::new());
    let poller = Poller::new(store, Arc::new(ingest), clock, Metrics::new());
    // A look spends what the daemon would: quotas are the provider's.
    poller.restore().await.map_err(|error| failed(error.to_string()))?;
    poller.load(parts.fetchers.clone());
    let streams = parts.sources.get(source).map(|source| source.streams.as_slice()).unwrap_or_default();
    let wanted = streams.iter().filter(|s| stream.map_or(s.polled, |name| *s.name.stream == *name));
    let names: Vec<StreamName> = wanted.map(|stream| stream.name.clone()).collect();
    if names.is_empty() {
        let message = format!("there is no stream `{source}/{}` that is polled", stream.unwrap_or("…"));
        return Err(LookError::Other(ControlError::Unknown(message)));
    }
    let mut reports = Vec::new();
    for name in names {
        reports.push(super::control::poll(&poller, &name, Mode::DryRun).await.map_err(LookError::Other)?);
    }
    Ok(reports)
}

/// A folder that goes with the look.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The stored state, read-only, if it knows every stream; else an empty one in a folder of its own.
async fn store(config: &Config, parts: &Parts) -> Result<(Arc<dyn Store>, Option<Folder>), String> {
    let database = config.data_dir.join("ringback.db");
    if database.exists() {
        let stored: Arc<dyn Store> =
            Arc::new(SqliteStore::open_read_only(&database, Clock::system()).map_err(|error| error.to_string())?);
        let mut known = true;
        for stream in parts.sources.values().flat_map(|source| &source.streams) {
            known &= stored.stream(&stream.name).await.map_err(|error| error.to_string())?.is_some();
        }
        if known {
            return Ok((stored, None));
        }
    }
    let folder = Folder(std::env::temp_dir().join(format!("ringback-look-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0).map_err(|error| error.to_string())?;
    let empty = SqliteStore::open(&folder.0.join("ringback.db"), Clock::system()).map_err(|error| error.to_string())?;
    let empty: Arc<dyn Store> = Arc::new(empty);
    register(&*empty, config, parts).await.map_err(|error| format!("{error:#}"))?;
    Ok((empty, Some(folder)))
}

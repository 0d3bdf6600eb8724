//! A handler that takes nothing must not fill the disk (RULES R9.1): at 80 % of its `max_backlog` a person hears of it, at 100 % nothing
//! more is taken in for it. Polls of what it hears rest with their marks where they are, and senders of real webhooks are asked to
//! come again; what waits already is never removed.

use std::collections::{HashMap, HashSet};

use tracing::warn;

use super::Daemon;
use crate::config::{From, Handler};
use crate::model::{HandlerName, ProblemKind, SourceName, StreamName};
use crate::source::Sources;
use crate::store::{HandlerStatus, Result, StoreStats};

/// Of the disk, where the configuration names no size.
const SHARE: u64 = 10;
/// Percent at which a person hears of it.
const WARN_AT: u64 = 80;
/// What a delivery takes beside the bodies of its event: rows and their places in indexes.
const ROWS: u64 = 512;

/// Looks at the backlog of every handler, and lets rest what fills those that are full.
pub async fn watch(daemon: &Daemon, stats: &StoreStats) -> Result<()> {
    let (config, sources) = (daemon.config.load_full(), daemon.sources.load_full());
    let mut resting: HashMap<StreamName, String> = HashMap::new();
    let open = daemon.store.problems().await?.into_iter().filter(|problem| problem.kind == ProblemKind::HandlerBacklog);
    let mut open: HashSet<String> = open.map(|problem| problem.subject).collect();
    for status in daemon.store.handlers().await? {
        let Some(handler) = config.handlers.get(&status.name) else { continue };
        let Some(max) = handler.max_backlog.or(stats.disk_bytes.map(|bytes| bytes / SHARE)) else { continue };
        let bytes = match enough_to_count(&status, stats, max) {
            true => daemon.store.backlog(&status.name).await? + unsettled(&status) * ROWS,
            false => 0,
        };
        if bytes.saturating_mul(100) >= max.saturating_mul(WARN_AT) {
            open.remove(status.name.as_str());
            tell(daemon, &status.name, bytes, max).await?;
        }
        if bytes >= max {
            let reason = format!("handler `{}` has {bytes} bytes waiting, its `max_backlog` is {max}", status.name);
            for stream in heard(handler, &sources) {
                resting.entry(stream).or_insert_with(|| reason.clone());
            }
        }
    }
    for over in open {
        daemon.store.close_problem(ProblemKind::HandlerBacklog, &over).await?;
    }
    let of_sources: HashMap<SourceName, String> =
        resting.iter().map(|(stream, reason)| (stream.source.clone(), reason.clone())).collect();
    daemon.receiver.rest_sources(of_sources);
    daemon.store.rest_streams(resting.into_iter().collect()).await
}

fn unsettled(status: &HandlerStatus) -> u64 {
    status.pending + status.claimed + status.held
}

/// What waits cannot be more than what is stored.
fn enough_to_count(status: &HandlerStatus, stats: &StoreStats, max: u64) -> bool {
    let stored = stats.bytes.saturating_add(unsettled(status) * ROWS);
    unsettled(status) > 0 && stored.saturating_mul(100) >= max.saturating_mul(WARN_AT)
}

async fn tell(daemon: &Daemon, handler: &HandlerName, bytes: u64, max: u64) -> Result<()> {
    let what = if bytes < max { "From 100 % on" } else { "Until there is room" };
    let message = format!(
        "{bytes} bytes wait for it, {} % of its `max_backlog` ({max}). {what} the streams that it hears are not polled, and their real \
         webhooks are answered 503. Mend the handler, or raise `max_backlog`.",
        bytes.saturating_mul(100) / max.max(1)
    );
    if daemon.store.open_problem(ProblemKind::HandlerBacklog, handler.as_str(), &message).await? {
        warn!(handler.name = %handler, "{message}");
    }
    Ok(())
}

/// The streams that a handler hears.
fn heard(handler: &Handler, sources: &Sources) -> Vec<StreamName> {
    let hears = |name: &StreamName| {
        handler.from.is_empty()
            || handler.from.iter().any(|from| match from {
                From::Source(source) => *source == name.source,
                From::Stream(source, stream) => *source == name.source && **stream == *name.stream,
                From::AnySource(stream) => **stream == *name.stream,
                From::Ringback => false,
            })
    };
    let streams = sources.values().flat_map(|source| &source.streams);
    streams.map(|stream| stream.name.clone()).filter(|name| hears(name)).collect()
}

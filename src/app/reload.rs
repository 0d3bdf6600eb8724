//! The configuration read again while the daemon runs: taken over whole, or not at all. What only a restart takes over is named.

use std::sync::Arc;

use super::{Daemon, compared, listeners, read, readers, register, shown_keys};
use crate::config::{Config, Rate};
use crate::shape::render;

/// What a reload did.
#[derive(Debug, Default)]
pub struct Reloaded {
    /// What is another from now on.
    pub changes: Vec<String>,
    /// What stays as it was until a restart.
    pub waits: Vec<String>,
}

impl Daemon {
    /// Reads the configuration again: whole, or not at all. The error is what a person must read.
    pub async fn reload(&self) -> Result<Reloaded, String> {
        let _turn = self.turn.lock().await;
        let (config, mut parts) = read(&self.path).map_err(|faults| render(&faults, false))?;
        if config.data_dir != self.config.load().data_dir {
            return Err("`data_dir` cannot change while the daemon runs; restart it".into());
        }
        // What cannot be opened is found before anything is taken over.
        let changes = self.doors.plan(&config).await?;
        parts.take_up(&*self.store, &config).await.map_err(|error| error.to_string())?;
        let subscriptions = Arc::new(parts.subscriptions());
        self.store.announce_to(subscriptions.clone());
        register(&*self.store, &config, &parts).await.map_err(|error| format!("{error:#}"))?;
        self.ingest.subscribe(subscriptions);
        self.poller.load(parts.fetchers.clone());
        // A stream that is polled more often from now on does not wait for the time that its former interval gave.
        self.poller.check_due_times().await.map_err(|error| error.to_string())?;
        self.deliverer.replace(parts.all_that_are_sent_to());
        let readers = readers(&parts.handlers);
        self.receiver.show_keys(shown_keys(&config, &readers));
        self.desk.replace(readers);
        let (rate, max_body) = bounds(&config);
        self.receiver.bound(rate, max_body);
        self.receiver.replace(&parts.sources);
        self.receiver.trust(&config.receive.trusted_proxies);
        self.receiver.reach_out(parts.exchanges.clone());
        self.inbox.replace(parts.sources.clone());
        self.names.store(Arc::new(listeners::names(&config)));
        self.doors.carry_out(changes);
        self.metrics.forget_certificates();
        self.certificates.store(parts.certificates.clone());
        let (was, knew) = (self.config.load_full(), self.sources.load_full());
        let before = compared::Side { config: &was, sources: &knew };
        let changes = compared::changes(&before, &compared::Side { config: &config, sources: &parts.sources });
        let waits = waits(&self.began_with, &config);
        self.sources.store(Arc::new(parts.sources.clone()));
        self.config.store(Arc::new(config));
        Ok(Reloaded { changes, waits })
    }
}

/// The bounds of the listener for real webhooks.
pub fn bounds(config: &Config) -> (Rate, usize) {
    (config.receive.rate, usize::try_from(config.receive.max_body).unwrap_or(usize::MAX))
}

/// What is another than the process began with, and stays so.
fn waits(began_with: &Config, config: &Config) -> Vec<String> {
    let keys = [
        ("admin.socket", began_with.admin.socket != config.admin.socket),
        ("log.level", began_with.log.level != config.log.level),
        ("log.format", began_with.log.format != config.log.format),
    ];
    let changed = keys.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(key, _)| format!("needs a restart: `{key}`; until then it stays as it was")).collect()
}

//! Where the daemon listens: for real webhooks, for handlers that ask, for people, scrapers and commands.

use std::sync::Arc;

use anyhow::anyhow;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Daemon;
use super::door::{Change, Door, bind};
use crate::admin;
use crate::config::{Config, Listen, Transport};
use crate::listener::{Clients, serve_router};
use crate::pull;
use crate::receive::{self, Limits};

/// The listeners that come, go and move with the configuration.
pub struct Doors {
    receive: Door,
    pull: Door,
    admin: Door,
    metrics: Door,
}

/// What a new configuration changes at them; everything that can fail is done.
pub struct Changes {
    receive: Change,
    pull: Change,
    admin: Change,
    metrics: Change,
}

impl Doors {
    pub fn new() -> Doors {
        Doors {
            receive: Door::new("receive", "webhooks are received", Clients::MustShow),
            // Who has no certificate may have the handler's secret.
            pull: Door::new("pull", "handlers may ask", Clients::MayShow),
            admin: Door::new("admin", "the dashboard stands", Clients::MustShow),
            metrics: Door::new("metrics", "metrics alone stand", Clients::MustShow),
        }
    }

    pub async fn plan(&self, config: &Config) -> Result<Changes, String> {
        let receive = &config.receive;
        let received = receive.webhook_keys || config.sources.values().any(|source| source.webhook.is_some());
        let asked =
            |handler: &crate::config::Handler| handler.enabled && matches!(handler.transport, Transport::Pull { .. });
        let pulled = config.handlers.values().any(asked);
        let receive = received.then_some((&receive.listen, receive.tls.as_ref()));
        let pull = pulled.then_some((&config.pull.listen, config.pull.tls.as_ref()));
        let admin = config.admin.listen.as_ref().map(|listen| (listen, config.admin.tls.as_ref()));
        let metrics = config.metrics_listen.map(Listen::Tcp);
        Ok(Changes {
            receive: self.receive.plan(receive).await?,
            pull: self.pull.plan(pull).await?,
            admin: self.admin.plan(admin).await?,
            metrics: self.metrics.plan(metrics.as_ref().map(|listen| (listen, None))).await?,
        })
    }

    pub fn carry_out(&self, changes: Changes) {
        self.receive.carry_out(changes.receive);
        self.pull.carry_out(changes.pull);
        self.admin.carry_out(changes.admin);
        self.metrics.carry_out(changes.metrics);
    }
}

impl Daemon {
    pub(super) async fn spawn_listeners(
        self: &Arc<Self>,
        tasks: &mut JoinSet<()>,
        cancel: &CancellationToken,
    ) -> anyhow::Result<()> {
        let config = self.config.load_full();
        self.doors.carry_out(self.doors.plan(&config).await.map_err(|error| anyhow!(error))?);
        let (daemon, stop) = (self.clone(), cancel.clone());
        tasks.spawn(async move {
            let receiver = daemon.receiver.clone();
            let serve = |socket, cancel| receive::serve(receiver.clone(), socket, Limits::default(), cancel);
            daemon.doors.receive.keep(stop, serve).await;
        });
        let (daemon, stop) = (self.clone(), cancel.clone());
        tasks.spawn(async move {
            let router = pull::router(daemon.desk.clone());
            let serve = |socket, cancel| serve_router(socket, router.clone(), cancel);
            daemon.doors.pull.keep(stop, serve).await;
        });
        self.spawn_admin(&config, tasks, cancel).await.map_err(|error| anyhow!(error))
    }

    /// The daemon's own listeners: the control socket always, the others as the configuration says.
    async fn spawn_admin(
        self: &Arc<Self>,
        config: &Config,
        tasks: &mut JoinSet<()>,
        cancel: &CancellationToken,
    ) -> Result<(), String> {
        let parts = Arc::new(admin::Parts {
            store: self.store.clone(),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            heartbeat: self.heartbeat.clone(),
            control: self.clone(),
            names: self.names.clone(),
        });
        let router = admin::router(parts.clone()).merge(pull::keys(self.desk.clone()));
        let control = bind("admin", "socket", &Listen::Unix(config.admin.socket.clone())).await?;
        tasks.spawn(serve_router(control, router.clone(), cancel.clone()));
        let (daemon, stop) = (self.clone(), cancel.clone());
        tasks.spawn(async move {
            let serve = |socket, cancel| serve_router(socket, router.clone(), cancel);
            daemon.doors.admin.keep(stop, serve).await;
        });
        let (daemon, stop, router) = (self.clone(), cancel.clone(), admin::metrics_router(parts));
        tasks.spawn(async move {
            let serve = |socket, cancel| serve_router(socket, router.clone(), cancel);
            daemon.doors.metrics.keep(stop, serve).await;
        });
        Ok(())
    }
}

/// What requests over TCP may call the daemon of this configuration.
pub fn names(config: &Config) -> admin::Names {
    let listen = match &config.admin.listen {
        Some(Listen::Tcp(address)) => Some(address.ip()),
        Some(Listen::Unix(_)) | None => None,
    };
    admin::Names { hosts: config.admin.hosts.clone(), listen }
}

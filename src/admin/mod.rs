//! The daemon's own listeners: dashboard, JSON API, metrics, health; over TCP for people and scrapers, over a Unix socket for
//! the commands. Never the listener that takes real webhooks.
//!
//! It reads and writes through the store, and asks the daemon itself through [`Control`]. The shapes in [`shape`] are a
//! contract; [`view`] makes them and serves the commands as well when no daemon runs.

mod api;
mod control;
mod detection;
mod guard;
mod health;
pub mod human;
mod order;
mod page;
pub mod shape;
pub mod view;
pub mod why;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::worker::Heartbeat;
pub use control::{Control, ControlError};

/// What the listeners need.
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub metrics: Metrics,
    pub clock: Clock,
    pub heartbeat: Heartbeat,
    pub control: Arc<dyn Control>,
    /// A reload exchanges them.
    pub names: Arc<ArcSwap<Names>>,
}

/// What requests over TCP may call this daemon, besides loopback names.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// `admin.hosts`.
    pub hosts: Vec<String>,
    /// The address that the TCP listener was told.
    pub listen: Option<IpAddr>,
}

type Admin = Arc<Parts>;

/// Dashboard, API, metrics and health.
pub fn router(parts: Arc<Parts>) -> Router {
    let guarded = Router::new()
        .route("/", get(page::overview))
        .route("/style.css", get(page::style))
        .route("/metrics", get(health::metrics))
        .nest("/api/v1", api::router())
        .fallback(order::not_found)
        .method_not_allowed_fallback(order::wrong_method)
        .layer(from_fn_with_state(parts.clone(), guard::check));
    // A load balancer asks for health by address and has no name of ours; the answers hold nothing to protect.
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .merge(guarded)
        .with_state(parts)
}

/// Metrics and health alone, for `metrics.listen`: no names are checked, for there is nothing to act on.
pub fn metrics_router(parts: Arc<Parts>) -> Router {
    Router::new()
        .route("/metrics", get(health::metrics))
        .route("/healthz", get(health::healthz))
        .fallback(order::not_found)
        .method_not_allowed_fallback(order::wrong_method)
        .with_state(parts)
}

#[cfg(test)]
mod tests;

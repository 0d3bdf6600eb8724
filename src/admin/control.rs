//! What the listeners ask of the daemon itself, beyond its store: poll now, read the configuration again. `app` implements it.

use async_trait::async_trait;

use super::shape;
use crate::model::{ProblemKind, StreamName};

/// The daemon's side of the acting requests.
#[async_trait]
pub trait Control: Send + Sync + 'static {
    /// Polls one stream now and reports what it came to. A dry run stores and sends nothing.
    async fn poll(&self, stream: &StreamName, dry_run: bool) -> Result<shape::PollReport, ControlError>;

    /// Puts what could not be read or decided through again: records set aside, inbounds, deliveries.
    async fn retry(&self, kind: ProblemKind, subject: &str) -> Result<shape::Retried, ControlError>;

    /// Has a stream look back, without touching its mark. A dry run only says what it would find.
    async fn backfill(
        &self,
        stream: &StreamName,
        order: shape::BackfillOrder,
    ) -> Result<shape::Backfilled, ControlError>;

    /// Makes an event up and sends it to whoever subscribes, marked as a test.
    async fn trigger(&self, stream: &StreamName, order: shape::TriggerOrder) -> Result<shape::Triggered, ControlError>;

    /// Sends stored events to the address in `to`, in the manner of a handler: a temporary one is made, and ends with the replay.
    async fn replay_to_address(&self, order: shape::ReplayOrder, by: &str) -> Result<shape::ReplayPlan, ControlError>;

    /// Reads the configuration again and applies it whole, or not at all.
    async fn reload(&self) -> Result<shape::Reloaded, ControlError>;
}

/// Why the daemon did not do what it was asked. Each is a sentence for a person.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ControlError {
    /// The configuration has no such thing.
    #[error("{0}")]
    Unknown(String),
    /// What was asked for cannot be, as it stands.
    #[error("{0}")]
    Wrong(String),
    /// Not now: it is being done already, or the database is busy.
    #[error("{0}")]
    Busy(String),
    /// The configuration is wrong: all its faults, as `check` shows them. The old one stays in force.
    #[error("{0}")]
    Configuration(String),
    #[error("{0}")]
    Failed(String),
}

//! What goes through the [`super::Store`] seam on the way to and from the working steps.

mod commit;
mod decision;
mod delivery;
mod inbound;
mod prune;
mod pull;
mod replay;
mod run;
mod setup;
mod stream;

pub use crate::wake::Wake;
pub use commit::*;
pub use decision::*;
pub use delivery::*;
pub use inbound::*;
pub use prune::*;
pub use pull::*;
pub use replay::*;
pub use run::*;
pub use setup::*;
pub use stream::*;

/// What a working step waits for: each has a [`Wake`] of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A stream is due.
    Polls,
    Inbounds,
    Deliveries,
    /// A new line for `tail`.
    Attempts,
    /// A replay has deliveries to make or to take back.
    Replays,
}

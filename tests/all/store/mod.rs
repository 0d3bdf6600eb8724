//! What every store owes its callers, told against `Arc<dyn Store>`: a second database runs the same stories by adding a
//! [`Place`]. What only SQLite can get wrong is in [`sqlite`].

mod closed;
mod delivering;
mod kit;
mod looking;
mod own;
mod polling;
mod pulling;
mod receiving;
mod renames;
mod replays;
mod rests;
mod retention;
mod sqlite;
mod temporaries;

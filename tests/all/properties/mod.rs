//! What holds for any input: the diff against a plain map, ties of a cursor, the canonical form. Seeds are printed; the same seed is
//! the same story.

mod canonical;
mod diff;
pub mod kit;
mod ties;

//! The step that polls.
mod link;

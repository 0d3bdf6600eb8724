//! Polls against a made-up provider: where they begin and end, what they may ask, what they must never lose, double or make up.
//! Each story is named after the rule or the pitfall of polling that it guards.

mod authentication;
mod batches;
mod budgets;
mod counting_links;
mod cursors;
mod daemon;
mod deadman;
mod files;
mod formats;
mod handed_down;
mod kit;
mod listings;
mod long_polls;
mod pages;
mod parents;
mod refusals;
mod registrations;
mod schedules;

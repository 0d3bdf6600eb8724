//! How changes are found, told over the real store: each test is named after the rule that it guards and replays the trace that
//! breaks a daemon without it.

mod kit;

mod aside;
mod comparing;
mod model;
mod pitfalls;
mod resets;
mod score;
mod why;

mod r1_runs;
mod r2_identity;
mod r3_deciding;
mod r4_baseline;
mod r5_two_ways;
mod r6_deletes;
mod r9_retention;

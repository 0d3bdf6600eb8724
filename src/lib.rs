//! Ringback turns any API into webhooks: it polls, compares, and sends signed events; real webhooks join the same stream.
//!
//! ```text
//!  providers/*.toml ─▶ provider ─▶ source
//!                                    ▼
//!  API  ──────────────▶ poll ───────▶ ingest ──▶ store ══ outbox ══▶ deliver ──▶ handler
//!  real webhook ─▶ receive ─▶ inbox ──▲  decode → judge    (one transaction)
//! ```
//!
//! What always holds: what was read is on disk before the cursor passes it; a change's fingerprint, event and deliveries commit
//! together; an event's id is computed from what changed; a 2xx to a provider means stored; restart is the ordinary path.
//!
//! The modules stand in reading order, lowest row first. A module imports only rows below its own (`tests/all/house.rs` checks).

// Row 0: words and small languages. They import nothing above.
pub mod answer;
pub mod canonical;
pub mod certificate;
pub mod clock;
pub mod fresh;
pub mod glob;
pub mod jq;
pub mod metrics;
pub mod model;
pub mod path;
pub mod planted;
pub mod recorded;
pub mod request;
pub mod schedule;
pub mod seal;
pub mod secret;
pub mod settings;
pub mod shape;
pub mod systemd;
pub mod template;
pub mod wake;

// Row 1: what files say, how signatures are made, how loops run.
pub mod config;
pub mod provider;
pub mod signature;
pub mod worker;

// Row 2: the database, outgoing HTTP, our own listeners, sources as they work, who hears what.
pub mod client;
pub mod event_body;
pub mod listener;
pub mod source;
pub mod store;
pub mod subscription;

// Row 3: in and out.
pub mod deliver;
pub mod ingest;
pub mod pull;

// Row 4: the two ways in.
pub mod poll;
pub mod receive;

// Row 5: what people and scrapers see.
pub mod admin;

// Row 6: the whole.
pub mod app;
pub mod demo;
pub mod provider_test;
pub mod simulate;
pub mod skeleton;

// Row 7: the command line.
pub mod cli;

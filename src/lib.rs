//! map
pub mod canonical;
pub mod client;
pub mod clock;
pub mod config;
pub mod ingest;
pub mod jq;
pub mod model;
pub mod path;
pub mod provider;
pub mod schedule;
pub mod secret;
pub mod settings;
pub mod shape;
pub mod signature;
pub mod source;
pub mod store;
pub mod template;

//! The one integration binary. Each module is a story about one part of the daemon, told against the real parts.
mod broken_config;
mod broken_providers;
mod commands;
mod house;
mod providers;
mod signatures;
mod store;

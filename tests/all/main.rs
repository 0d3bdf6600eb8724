//! The one integration binary. Each module is a story about one part of the daemon, told against the real parts.
mod broken_config;
mod broken_providers;
mod changes;
mod commands;
mod crash;
mod delivery;
mod found_by_seeds;
mod house;
mod polling;
mod properties;
mod providers;
mod receiving;
mod rig;
mod signatures;
mod simulation;
mod stopping;
mod store;

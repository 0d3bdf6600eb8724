//! The way to a broker: names to addresses that may be called, whoever told of them.

use std::net::IpAddr;

use super::message::Failure;
use crate::client::{LookUp, SendError, permitted, system};
use crate::config::Network;
use crate::model::ErrorClass;

/// Resolves the names of brokers and keeps the allow-list: also for those that a cluster tells of.
pub struct Way {
    network: Network,
    look_up: LookUp,
}

impl Way {
    pub fn new(network: &Network) -> Way {
        Way { network: network.clone(), look_up: system() }
    }

    /// The addresses of a host that may be called: at least one.
    pub async fn to(&self, host: &str) -> Result<Vec<IpAddr>, Failure> {
        permitted(&self.network, &self.look_up, host).await.map_err(|error| match error {
            SendError::HostRefused(error) => Failure::own(ErrorClass::HostRefused, error),
            other => Failure::unreachable(ErrorClass::Dns, other.to_string()),
        })
    }
}

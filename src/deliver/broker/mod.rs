//! Message brokers as handlers: an event is published, and the broker's acknowledgement is the verdict. Its id goes with it as the id of
//! the message.
//!
//! Both are cargo features. A configuration that asks for one which this build lacks was refused when it was read.

#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "kafka")]
mod leaders;
#[cfg(any(feature = "nats", feature = "kafka"))]
mod message;
#[cfg(feature = "nats")]
mod named;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "kafka")]
mod scram;
#[cfg(any(feature = "nats", feature = "kafka"))]
mod way;
#[cfg(feature = "kafka")]
mod wire;

use async_trait::async_trait;

use super::Handler;
use super::transport::Carried;
use crate::certificate::Presented;
use crate::config::{self, Network};
use crate::model::Timestamp;
use crate::store::ClaimedDelivery;

/// A broker that one handler's events are published to. Its connections are kept, and made anew when they are lost.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Makes one attempt.
    async fn publish(&self, handler: &Handler, delivery: &ClaimedDelivery, now: Timestamp) -> Carried;
}

/// Puts together what the handler's configuration names; nothing is called yet. `presented`: where certificates of servers are
/// noted. The error is a sentence that names the file or key at fault.
pub fn open(handler: &config::Handler, network: &Network, presented: &Presented) -> Result<Box<dyn Broker>, String> {
    match &handler.transport {
        #[cfg(feature = "nats")]
        config::Transport::Nats(nats) => Ok(Box::new(nats::NatsBroker::new(nats, &handler.tls, network, presented)?)),
        #[cfg(feature = "kafka")]
        config::Transport::Kafka(kafka) => {
            Ok(Box::new(kafka::KafkaBroker::new(kafka, &handler.tls, network, presented)?))
        }
        _ => {
            let _ = (network, presented);
            Err("this build publishes to no such broker".into())
        }
    }
}

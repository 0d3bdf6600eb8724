//! Outgoing HTTP, for polls and deliveries alike: one client per source or handler with its own proxy, CA, client certificate,
//! host allow-list, timeouts and size caps. Redirects are never followed.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use url::Url;

/// A request to send.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Bounds of one exchange.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// For the whole exchange, body included.
    pub timeout: Duration,
    /// Bytes of the answer after decompression.
    pub body_max: usize,
    /// What a longer answer is: an error, or cut off.
    pub over: Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Error,
    Cut,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is no answer. Each message is a sentence for a person and holds no secret.
#[derive(Debug, Clone, thiserror::Error, PartialEq)]
pub enum SendError {
    /// Not on the allow-list, or an address that is always refused.
    #[error("{0}")]
    HostRefused(String),
    /// DNS, connect or TLS failed: nothing was sent.
    #[error("{0}")]
    Unreachable(String),
    /// The proxy's fault, not the host's.
    #[error("{0}")]
    Proxy(String),
    #[error("{0}")]
    Timeout(String),
    /// The connection broke before the answer was whole.
    #[error("{0}")]
    Broken(String),
    #[error("{0}")]
    TooLarge(String),
}

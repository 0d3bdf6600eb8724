//! One try of a delivery: what it came to, what was sent, and where its time went.

use std::time::Duration;

use bytes::Bytes;

use super::Timestamp;

/// What one try of a delivery came to, from a closed set: log field, metric label and `event show` alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttemptResult {
    /// 2xx.
    Delivered,
    /// An answer that is not 2xx.
    Refused,
    /// No answer within the time limit.
    Timeout,
    /// The connection could not be made (DNS, refused, TLS).
    Unreachable,
    /// The connection broke before an answer came.
    Broken,
    /// Nothing was sent: our own trouble (secret unreadable, template fault, host not allowed).
    NotSent,
}

impl AttemptResult {
    pub fn as_str(self) -> &'static str {
        match self {
            AttemptResult::Delivered => "delivered",
            AttemptResult::Refused => "refused",
            AttemptResult::Timeout => "timeout",
            AttemptResult::Unreachable => "unreachable",
            AttemptResult::Broken => "broken",
            AttemptResult::NotSent => "not_sent",
        }
    }
}

/// One try of a delivery, as recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    pub started_at: Timestamp,
    pub duration: Duration,
    pub result: AttemptResult,
    /// HTTP status of the answer, when there was one.
    pub status: Option<u16>,
    /// A plain sentence when it did not succeed; never a secret.
    pub error: Option<String>,
    /// The start of the answer's body, capped (4 KiB by default).
    pub answer: Bytes,
    pub detail: AttemptDetail,
}

/// What was sent, why then, and where the time went.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct AttemptDetail {
    /// The address, with secrets masked; for other transports what stands for it (`exec:/usr/bin/book`).
    pub target: String,
    /// As sent, with secrets and signatures masked.
    pub headers: Vec<(String, String)>,
    /// None: it succeeded.
    pub class: Option<ErrorClass>,
    pub trigger: Trigger,
    pub timings: Timings,
}

/// Where an attempt's time went, as far as it is known. A connection that was open already has none of the first three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Timings {
    pub dns: Option<Duration>,
    /// TCP, and what a proxy takes to reach the host.
    pub connect: Option<Duration>,
    pub tls: Option<Duration>,
    /// From the connection to the head of the answer.
    pub first_byte: Option<Duration>,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$inner])* $variant),* }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),* }
            }

            pub fn find(text: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|one| one.as_str() == text)
            }
        }
    };
}

words! {
    /// Why an attempt did not succeed, from a closed set.
    ErrorClass {
        /// The name has no address, or nobody could be asked.
        Dns = "dns",
        /// No connection: refused, unreachable, not in time.
        Connect = "connect",
        /// The certificate or the handshake.
        Tls = "tls",
        Proxy = "proxy",
        /// An address that is never called, or is not on the list.
        HostRefused = "host_refused",
        /// No whole answer in time.
        Timeout = "timeout",
        /// The connection broke.
        Broken = "broken",
        /// An answer that is not 2xx.
        Status = "status",
        Redirect = "redirect",
        /// A command that ended otherwise than with 0, or could not be started.
        Command = "command",
        File = "file",
        /// What the mail server said.
        Mail = "mail",
        /// The request could not be made: a secret, a template, a missing source.
        Unsendable = "unsendable",
    }
}

words! {
    /// What made an attempt happen when it did.
    #[derive(Default)]
    Trigger {
        /// The event itself, or its turn in the order.
        #[default]
        First = "first",
        /// The schedule, after an attempt that failed.
        Retry = "retry",
        /// The one attempt that an open circuit breaker allows.
        Probe = "probe",
        /// A person asked for it again.
        Replay = "replay",
        /// The handler asked for its events.
        Pull = "pull",
    }
}

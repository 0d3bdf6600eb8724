//! `config.toml` as a valid [`Config`]: file shape in, every fault at once out. No network and no secret values are needed.
//!
//! The keys are those of the reference (docs/config.md); this file holds the types that the rest of the daemon sees.

mod ad_hoc;
mod address;
mod brokers;
mod custom;
mod handlers;
mod parts;
mod read;
mod retry;
mod sources;
mod transport;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::jq::Jq;
use crate::model::{HandlerName, SourceName};
use crate::schedule::StreamSettings;
use crate::secret::SecretRef;
use crate::shape::Tolerance;
use crate::template::Template;

pub use ad_hoc::{ad_hoc, like, query_masked};
pub use address::{in_network, never_called};
pub use brokers::{BrokerAddress, Kafka, KafkaLogin, Mechanism, Nats, NatsLogin};
pub use custom::Custom;
pub use read::{load, shut_out};
pub use transport::{FileTarget, Mail, MailSecurity, MailServer, Transport};

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    pub path: PathBuf,
    pub data_dir: PathBuf,
    /// Bytes; below it polls rest and real webhooks get 503.
    pub min_free: u64,
    pub keep: Duration,
    /// May handlers start commands.
    pub allow_exec: bool,
    /// Seals tokens that providers gave, in the database.
    pub state_key: Option<SecretRef>,
    pub log: Log,
    pub receive: Receive,
    pub admin: Admin,
    /// Where handlers ask that have `pull`.
    pub pull: PullListen,
    /// Serves /metrics and /healthz alone, without a token.
    pub metrics_listen: Option<SocketAddr>,
    pub network: Network,
    /// `[defaults.stream]`: weaker than a provider file.
    pub stream_defaults: StreamSettings,
    pub sources: BTreeMap<SourceName, Source>,
    pub handlers: BTreeMap<HandlerName, Handler>,
    /// `[defaults.handler]` over the built-in defaults.
    pub handler_defaults: HandlerDefaults,
}

/// What a handler has where it says nothing of its own.
#[derive(Clone, Debug)]
pub struct HandlerDefaults {
    pub format: Format,
    pub scheme: Option<String>,
    pub timeout: Duration,
    pub concurrency: usize,
    pub rate: Option<Rate>,
    pub order: Order,
    pub after_failure: AfterFailure,
    pub retry: Retry,
    /// Bytes that may wait for it; None: a tenth of the disk.
    pub max_backlog: Option<u64>,
    pub tls: Tls,
    pub proxy: Proxy,
}

#[derive(Clone, Debug)]
pub struct Log {
    /// A filter such as `info` or `info,ringback::poll=debug`.
    pub level: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// journald when the journal is connected, text on a terminal, else JSON.
    Auto,
    Text,
    Json,
    Journald,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// The certificate that a listener shows, and whom it asks for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenTls {
    pub cert: PathBuf,
    pub key: SecretRef,
    /// Empty: nobody is asked for a certificate.
    pub client_ca: Vec<PathBuf>,
}

#[derive(Clone, Debug)]
pub struct PullListen {
    pub listen: Listen,
    pub tls: Option<ListenTls>,
}

/// Addresses that begin with the first so many bits of this one.
pub type Cidr = (IpAddr, u8);

#[derive(Clone, Debug)]
pub struct Receive {
    pub listen: Listen,
    pub tls: Option<ListenTls>,
    /// Whether the public keys of handlers are shown here too.
    pub webhook_keys: bool,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Cidr>,
    pub public_url: Option<Url>,
    pub max_body: u64,
    pub rate: Rate,
}

#[derive(Clone, Debug)]
pub struct Admin {
    /// None: `"off"`.
    pub listen: Option<Listen>,
    pub tls: Option<ListenTls>,
    /// The control socket that commands use.
    pub socket: PathBuf,
    /// Host names accepted in requests, besides loopback ones and the listen address.
    pub hosts: Vec<String>,
}

/// So many in so long: `"100/s"`, `"4/24h"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub count: u32,
    pub per: Duration,
}

#[derive(Clone, Debug, Default)]
pub struct Network {
    pub proxy: Proxy,
    pub ca_files: Vec<PathBuf>,
    /// None: every host. Some: every other host is refused.
    pub allow: Option<Vec<HostRule>>,
    /// In place of DNS.
    pub hosts: BTreeMap<String, IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostRule {
    /// Exactly this name, in lower case.
    Name(String),
    /// `*.bank.example`: every name below `bank.example`, not itself.
    Suffix(String),
    /// A network: first address and prefix length. A single address is a full-length prefix.
    Network(IpAddr, u8),
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Proxy {
    #[default]
    None,
    /// HTTPS_PROXY, HTTP_PROXY, NO_PROXY of the environment.
    Environment,
    Url {
        url: Url,
        user: Option<String>,
        password: Option<SecretRef>,
        no_proxy: Vec<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Tls {
    pub ca_files: Vec<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<SecretRef>,
    /// Name checked in the certificate and sent as SNI, instead of the URL's host.
    pub server_name: Option<String>,
    pub min_version: Option<TlsVersion>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

/// A `[sources.N]` table.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: SourceName,
    pub provider: ProviderRef,
    pub base_url: Option<Url>,
    pub secrets: BTreeMap<String, SecretRef>,
    pub settings: BTreeMap<String, serde_json::Value>,
    /// None: all that the provider enables.
    pub only: Option<Vec<String>>,
    pub enabled: bool,
    pub proxy: Proxy,
    pub tls: Tls,
    pub keep: Option<Duration>,
    pub renamed_from: Option<SourceName>,
    pub webhook: Option<SourceWebhook>,
    pub streams: BTreeMap<String, StreamSettings>,
    /// Where the table stands, for faults that only show once the provider is known.
    pub place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderRef {
    /// One of the built-in catalogue.
    BuiltIn(String),
    File(PathBuf),
}

/// Where a public key is: it is no secret, so it may stand in the file itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKeyRef {
    Text(String),
    Place(SecretRef),
}

/// A source's `webhook` table: its presence opens `POST /webhooks/<source>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceWebhook {
    /// Several during rotation. Empty: the scheme needs none.
    pub secrets: Vec<SecretRef>,
    /// For asymmetric schemes; several during rotation.
    pub public_keys: Vec<PublicKeyRef>,
    pub scheme: Option<String>,
    /// The address that the provider was told, when it is not `receive.public_url` + `/webhooks/N`.
    pub url: Option<Url>,
    /// How far from now a signed time may lie, in place of what the provider file says.
    pub tolerance: Option<Tolerance>,
    /// Registered and renewed by ourselves.
    pub subscribe: bool,
}

/// A `[handlers.N]` table.
#[derive(Clone, Debug)]
pub struct Handler {
    pub name: HandlerName,
    pub transport: Transport,
    /// For HTTP the address; elsewhere only what a signature over an address takes.
    pub url: Url,
    /// All of them sign.
    pub secrets: Vec<SecretRef>,
    pub from: Vec<From>,
    /// Empty: all. `payment.*` matches below `payment.`.
    pub types: Vec<String>,
    pub when: Option<Jq>,
    pub format: Format,
    pub scheme: Option<String>,
    pub signed_url: Option<Url>,
    /// Sent with every request; names in lower case.
    pub headers: Vec<(String, Template)>,
    /// For `format = "custom"`.
    pub custom: Option<Custom>,
    /// `{{ secrets.N }}` of its templates.
    pub named_secrets: BTreeMap<String, SecretRef>,
    pub timeout: Duration,
    pub concurrency: usize,
    pub rate: Option<Rate>,
    pub order: Order,
    pub after_failure: AfterFailure,
    pub retry: Retry,
    /// Bytes that may wait for it; None: a tenth of the disk.
    pub max_backlog: Option<u64>,
    pub tls: Tls,
    pub proxy: Proxy,
    pub enabled: bool,
    pub renamed_from: Option<HandlerName>,
    pub place: Place,
}

/// What a handler listens to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// `"pay"`.
    Source(SourceName),
    /// `"core/payments"`.
    Stream(SourceName, String),
    /// `"*/payments"`.
    AnySource(String),
    /// `"ringback"`: Ringback's own events.
    Ringback,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Standard,
    /// CloudEvents 1.0 as one JSON document.
    CloudEvents,
    /// CloudEvents 1.0 with its attributes as headers and the record as body.
    CloudEventsBinary,
    Native,
    /// What the handler's own templates say.
    Custom,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Key,
    None,
    Strict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    Skip,
    Hold,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Waits before the second, third, … counted attempt; its length plus one is the number of counted attempts.
    pub schedule: Vec<Duration>,
    pub max_age: Duration,
}

/// Where something stands in a file: for faults found after reading.
#[derive(Clone, Debug)]
pub struct Place {
    pub file: std::sync::Arc<crate::shape::SourceFile>,
    pub span: std::ops::Range<usize>,
}

//! A source as it works: a provider file joined with what `config.toml` says of it. What `poll`, `ingest`, `receive` and
//! `deliver` are given. Joining finds the faults that only show once both are known.

use std::collections::BTreeMap;
use std::sync::Arc;

use url::Url;

use crate::config;
use crate::model::{SourceName, StreamName};
use crate::path::Path;
use crate::provider::{self, Provider};
use crate::schedule::{FirstRun, Schedule};
use crate::secret::Secret;
use crate::signature::Scheme;

/// A source, ready to work.
#[derive(Debug)]
pub struct Source {
    pub name: SourceName,
    pub provider: Arc<Provider>,
    /// Rendered and checked; no trailing slash.
    pub base_url: Option<Url>,
    /// Given values over the provider's defaults.
    pub settings: serde_json::Map<String, serde_json::Value>,
    pub secrets: BTreeMap<String, Secret>,
    /// The first of the provider's whose secrets are all given.
    pub auth: provider::Auth,
    pub config: config::Source,
    pub streams: Vec<Arc<SourceStream>>,
    pub webhook: Option<SourceWebhook>,
}

/// A stream of a source with every setting decided.
#[derive(Debug)]
pub struct SourceStream {
    pub name: StreamName,
    pub spec: provider::Stream,
    /// False: webhooks alone feed it, or it is switched off.
    pub polled: bool,
    pub schedule: Schedule,
    pub first_run: FirstRun,
    /// The provider's and the source's.
    pub ignore: Vec<Path>,
    pub limits: provider::Limits,
    /// Hash over what makes a record the same: detect, records, key, version, filter and the request with settings (RULES R4.2).
    pub definition: String,
    /// Hash over the comparison rules alone.
    pub comparison: String,
    /// The source's settings as `$settings` of jq.
    pub settings: Arc<serde_json::Map<String, serde_json::Value>>,
}

/// The way in for real webhooks of a source.
#[derive(Debug)]
pub struct SourceWebhook {
    pub scheme: Option<Arc<Scheme>>,
    pub secrets: Vec<Secret>,
    /// The address that the provider was told; None when the scheme needs none.
    pub url: Option<Url>,
}

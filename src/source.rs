//! A source as it works: a provider file joined with what `config.toml` says of it. What `poll`, `ingest`, `receive` and
//! `deliver` are given. Joining finds the faults that only show once both are known.

mod definition;
mod joining;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::canonical::Comparing;
use crate::config::{self, Config, Place, ProviderRef};
use crate::glob::FileGlob;
use crate::model::{SourceName, StreamName};
use crate::provider::{self, Provider};
use crate::schedule::{Active, FirstRun, MassChange, Schedule};
use crate::seal::Sealer;
use crate::secret::Secret;
use crate::shape::{Fault, Level, nearest};
use crate::signature::Scheme;

use joining::Joining;

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
    /// Seals what is got for it (`state_key`). None: nothing of that is kept over a restart.
    pub sealer: Option<Sealer>,
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
    /// What takes part in comparing two copies of a record: the provider's rules and the source's.
    pub comparing: Comparing,
    pub mass_change: MassChange,
    /// Real webhooks announce its changes, so that a change which only a poll finds was recovered by it.
    pub announced: bool,
    /// Outside of it the stream rests. None: always.
    pub active: Option<Active>,
    /// How far real webhooks that prove healthy may slow the poll. None: the interval stays.
    pub every_healthy: Option<Duration>,
    /// So many changes go out of one run; the rest goes with the next ones.
    pub max_per_run: u64,
    /// No change for so long is a problem.
    pub expect_every: Option<Duration>,
    /// No good poll for so long is a problem. None: three intervals, at least five minutes.
    pub late_after: Option<Duration>,
    pub limits: provider::Limits,
    /// Hash over what makes a record the same: detect, records, key, version, filter and the request with settings (RULES R4.2).
    pub definition: String,
    /// Hash over the comparison rules alone.
    pub comparison: String,
    /// The source's settings as `$settings` of jq.
    pub settings: Arc<serde_json::Map<String, serde_json::Value>>,
    /// The files that are read in place of an API.
    pub files: Option<FileGlob>,
}

/// The way in for real webhooks of a source.
#[derive(Debug)]
pub struct SourceWebhook {
    pub scheme: Option<Arc<Scheme>>,
    pub secrets: Vec<Secret>,
    /// What an asymmetric scheme is verified with.
    pub public_keys: Vec<Secret>,
    /// The address that the provider was told; None when the scheme needs none.
    pub url: Option<Url>,
    /// Registered and renewed by ourselves.
    pub subscribe: bool,
}

/// How often a stream is polled where nobody says.
const EVERY: Duration = Duration::from_secs(60);

/// Changes that go out of one run where nobody says.
const MAX_PER_RUN: u64 = 10_000;
/// How far a healthy webhook slows the poll where nobody says: so many intervals.
const HEALTHY: u32 = 4;

/// All sources of a configuration, by name, with the providers they share.
pub type Sources = BTreeMap<SourceName, Arc<Source>>;

/// Joins every source with its provider. `with_secrets` also reads the secrets' values, which `check` does not need.
pub fn join_all(config: &Config, with_secrets: bool) -> Result<(Sources, Vec<Fault>), Vec<Fault>> {
    let (mut sources, mut faults) = (Sources::new(), Vec::new());
    let mut providers: BTreeMap<String, Option<Arc<Provider>>> = BTreeMap::new();
    for source in config.sources.values() {
        let id = format!("{:?}", source.provider);
        let provider = providers.entry(id).or_insert_with(|| load(source, &mut faults)).clone();
        if let Some(provider) = provider {
            let mut joining = Joining { config, source, provider: &provider, faults: &mut faults };
            if let Some(joined) = joining.join(with_secrets) {
                sources.insert(source.name.clone(), Arc::new(joined));
            }
        }
    }
    for handler in config.handlers.values() {
        native_is_possible(handler, config, &sources, &mut faults);
    }
    if faults.iter().any(|fault| fault.level == Level::Error) { Err(faults) } else { Ok((sources, faults)) }
}

fn load(source: &config::Source, faults: &mut Vec<Fault>) -> Option<Arc<Provider>> {
    let read = match &source.provider {
        ProviderRef::File(path) => provider::load(path),
        ProviderRef::BuiltIn(name) => match provider::built_in(name) {
            Some(file) => provider::read(file),
            None if name.is_empty() => return None,
            None => {
                let names = provider::built_in_names();
                let near =
                    nearest(name, names.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
                let help = near.unwrap_or_else(|| {
                    "`ringback provider list` shows them; your own file is given by its path".into()
                });
                let message = format!("source `{}`: there is no built-in provider `{name}`", source.name);
                faults.push(fault(&source.place, message, Some(help)));
                return None;
            }
        },
    };
    match read {
        Ok((provider, warnings)) => {
            faults.extend(warnings);
            Some(Arc::new(provider))
        }
        Err(found) => {
            faults.extend(found);
            None
        }
    }
}

fn fault(place: &Place, message: String, help: Option<String>) -> Fault {
    Fault { level: Level::Error, file: place.file.clone(), span: place.span.clone(), message, help }
}

impl SourceWebhook {
    /// What its scheme verifies with.
    pub fn keys(&self) -> &[Secret] {
        match &self.scheme {
            Some(scheme) if scheme.is_asymmetric() => &self.public_keys,
            _ => &self.secrets,
        }
    }
}

/// `format = "native"` wants sources of one provider that can be emitted.
fn native_is_possible(handler: &config::Handler, config: &Config, sources: &Sources, faults: &mut Vec<Fault>) {
    if handler.format != config::Format::Native {
        return;
    }
    let heard = native_sources(handler, config, sources);
    let own = handler.from.contains(&config::From::Ringback);
    let mut wrong =
        |message: String| faults.push(fault(&handler.place, format!("handler `{}`: {message}", handler.name), None));
    if own {
        wrong("`format = \"native\"` is a provider's own form, and no provider sends Ringback's own events: give `\"ringback\"` to another handler".into());
    }
    let Some(first) = heard.first() else { return };
    if heard.iter().any(|source| source.provider.name != first.provider.name) {
        wrong("`format = \"native\"` needs `from` to name sources of one provider only".into());
    }
    if let Some(sentence) = first.provider.native.as_ref().and_then(|native| native.impossible.clone()) {
        wrong(format!("`format = \"native\"` is impossible: {sentence}"));
    }
    if first.provider.webhook.as_ref().is_none_or(|webhook| webhook.schemes.is_empty()) {
        wrong(format!(
            "provider `{}` says no signature, so nothing can be emitted in its own format",
            first.provider.name
        ));
    }
}

/// The sources that a handler hears, as far as they could be joined.
pub fn native_sources<'a>(handler: &config::Handler, config: &Config, sources: &'a Sources) -> Vec<&'a Arc<Source>> {
    let hears = |name: &SourceName| {
        handler.from.is_empty()
            || handler.from.iter().any(|from| match from {
                config::From::Source(source) | config::From::Stream(source, _) => source == name,
                config::From::AnySource(_) => true,
                config::From::Ringback => false,
            })
    };
    config.sources.keys().filter(|name| hears(name)).filter_map(|name| sources.get(name)).collect()
}

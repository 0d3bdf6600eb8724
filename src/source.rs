//! A source as it works: a provider file joined with what `config.toml` says of it. What `poll`, `ingest`, `receive` and
//! `deliver` are given. Joining finds the faults that only show once both are known.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use url::Url;

use crate::canonical::{CANONICAL_VERSION, Comparing};
use crate::config::{self, Config, Place, ProviderRef, PublicKeyRef, shut_out};
use crate::glob::FileGlob;
use crate::model::{SourceName, StreamName};
use crate::path::Path;
use crate::provider::{self, Auth, OnWebhook, Param, ParentOf, Provider};
use crate::schedule::{Active, FirstRun, MassChange, Schedule, StreamSettings};
use crate::seal::Sealer;
use crate::secret::{Secret, SecretRef};
use crate::shape::{Fault, Level, nearest};
use crate::signature::{Scheme, SchemeKind};
use crate::template::{Context, Template};

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

struct Joining<'a> {
    config: &'a Config,
    source: &'a config::Source,
    provider: &'a Arc<Provider>,
    faults: &'a mut Vec<Fault>,
}

impl Joining<'_> {
    fn join(&mut self, with_secrets: bool) -> Option<Source> {
        let settings = self.settings();
        let base_url = self.base_url(&settings);
        self.secret_names();
        let secrets = if with_secrets { self.secrets() } else { BTreeMap::new() };
        let settings_shared = Arc::new(settings.clone());
        let streams = self.streams(&settings_shared);
        let webhook = self.source.webhook.as_ref().and_then(|given| self.webhook(given, with_secrets));
        let auth = self.auth();
        let sealer = self.sealer(&auth, with_secrets);
        if self.faults.iter().any(|fault| fault.level == Level::Error) {
            return None;
        }
        Some(Source {
            name: self.source.name.clone(),
            provider: self.provider.clone(),
            base_url,
            settings,
            secrets,
            auth,
            sealer,
            config: self.source.clone(),
            streams,
            webhook,
        })
    }

    fn fault(&mut self, message: String, help: Option<String>) {
        let message = format!("source `{}`: {message}", self.source.name);
        self.faults.push(fault(&self.source.place, message, help));
    }

    /// Given values over the provider's defaults.
    fn settings(&mut self) -> serde_json::Map<String, serde_json::Value> {
        let mut settings = serde_json::Map::new();
        for spec in &self.provider.settings {
            match (self.source.settings.get(&spec.name), &spec.default) {
                (Some(given), _) => {
                    if !spec.choices.is_empty() && !spec.choices.contains(given) {
                        self.fault(format!("setting `{}` must be one of {:?}", spec.name, spec.choices), None);
                    }
                    settings.insert(spec.name.clone(), given.clone());
                }
                (None, Some(default)) => {
                    settings.insert(spec.name.clone(), default.clone());
                }
                (None, None) => self.fault(
                    format!("setting `{}` is missing: {}", spec.name, spec.help),
                    Some(format!("settings = {{ {} = … }}", spec.name)),
                ),
            }
        }
        let known: Vec<&str> = self.provider.settings.iter().map(|spec| spec.name.as_str()).collect();
        for name in self.source.settings.keys().filter(|name| !known.contains(&name.as_str())) {
            let help = nearest(name, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            self.fault(format!("the provider has no setting `{name}`"), help);
        }
        settings
    }

    fn base_url(&mut self, settings: &serde_json::Map<String, serde_json::Value>) -> Option<Url> {
        let url = match (&self.source.base_url, &self.provider.base_url) {
            (Some(url), _) => url.clone(),
            (None, None) => return None,
            (None, Some(template)) => {
                let mut context = Context::new();
                for (name, value) in settings {
                    context.set_value(&format!("settings.{name}"), value);
                }
                let text = match template.text(&context) {
                    Ok(text) => text,
                    Err(error) => {
                        self.fault(format!("`base_url`: {error}"), None);
                        return None;
                    }
                };
                match Url::parse(&text) {
                    Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
                    _ => {
                        self.fault(format!("`base_url` is `{text}`, which is no http or https address"), None);
                        return None;
                    }
                }
            }
        };
        if let Some(refused) = shut_out(&self.config.network, &url) {
            self.fault(refused, Some("add it to `network.allow`".into()));
        }
        Some(url)
    }

    fn secret_names(&mut self) {
        let known: Vec<&str> = self.provider.secrets.iter().map(|spec| spec.name.as_str()).collect();
        for spec in self.provider.secrets.iter().filter(|spec| !spec.optional) {
            if !self.source.secrets.contains_key(&spec.name) {
                let help = format!("secrets = {{ {} = {{ file = \"…\" }} }}", spec.name);
                self.fault(format!("secret `{}` is missing: {}", spec.name, spec.help), Some(help));
            }
        }
        for name in self.source.secrets.keys().filter(|name| !known.contains(&name.as_str())) {
            let help = nearest(name, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            self.fault(format!("the provider has no secret `{name}`"), help);
        }
    }

    fn secrets(&mut self) -> BTreeMap<String, Secret> {
        let mut secrets = BTreeMap::new();
        for (name, place) in &self.source.secrets {
            match place.load() {
                Ok(secret) => drop(secrets.insert(name.clone(), secret)),
                Err(error) => self.fault(format!("secret `{name}`: {error}"), None),
            }
        }
        secrets
    }

    /// The first way of authentication whose secrets are all given.
    fn usable_auth(&self) -> Option<&Auth> {
        let given = |template: &Template| {
            let names = template.names();
            let mut named = names.iter().filter_map(|name| name.strip_prefix("secrets."));
            named.all(|name| self.source.secrets.contains_key(name.split('.').next().unwrap_or_default()))
        };
        self.provider.auth.iter().find(|auth| auth.templates().into_iter().all(given))
    }

    /// Where webhooks come and no credential was given to ask with, nothing is asked.
    fn may_ask(&self) -> bool {
        self.source.webhook.is_none() || self.provider.auth.is_empty() || self.usable_auth().is_some()
    }

    fn auth(&mut self) -> Auth {
        let auth = self.usable_auth().cloned().unwrap_or(Auth::None);
        if auth.rotates() && self.config.state_key.is_none() {
            let help = "add state_key = { file = \"state.key\" } at the top (`openssl rand -hex 32 > state.key`)";
            self.fault(
                "the provider changes its refresh token with every use, and nothing seals what must be kept: `state_key` is missing"
                    .into(),
                Some(help.into()),
            );
        }
        auth
    }

    /// What seals the tokens of this source; read only where a token can come.
    fn sealer(&mut self, auth: &Auth, with_secrets: bool) -> Option<Sealer> {
        let place = self.config.state_key.as_ref().filter(|_| with_secrets)?;
        if !matches!(auth, Auth::OAuth2(_) | Auth::Session(_)) {
            return None;
        }
        match place.load().map_err(|error| error.to_string()).and_then(|secret| Sealer::of(&secret)) {
            Ok(sealer) => Some(sealer),
            Err(error) => {
                self.fault(format!("`state_key`: {error}"), None);
                None
            }
        }
    }

    fn streams(&mut self, settings: &Arc<serde_json::Map<String, serde_json::Value>>) -> Vec<Arc<SourceStream>> {
        let known: Vec<&str> = self.provider.streams.iter().map(|stream| stream.name.as_str()).collect();
        let named = self.source.streams.keys().chain(self.source.only.iter().flatten());
        for name in named.filter(|name| !known.contains(&name.as_str())) {
            let help = nearest(name, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            self.fault(format!("the provider has no stream `{name}`"), help);
        }
        let mut streams = Vec::new();
        for spec in &self.provider.streams {
            let files = self.files(spec, settings);
            streams.push(Arc::new(SourceStream { files, ..self.stream(spec, settings) }));
        }
        self.parents_are_polled(&streams);
        streams
    }

    /// Children are listed for the known records of another stream: somebody must come to know them.
    fn parents_are_polled(&mut self, streams: &[Arc<SourceStream>]) {
        for child in streams.iter().filter(|stream| stream.polled) {
            let Some(ParentOf::Stream(parent)) = child.spec.parent.as_ref().map(|parent| &parent.of) else { continue };
            if !streams.iter().any(|stream| stream.polled && stream.spec.name == *parent) {
                let message = format!(
                    "stream `{}` is listed for each record of `{parent}`, which is not polled",
                    child.spec.name
                );
                self.fault(
                    message,
                    Some(format!("poll `{parent}` too (`only`, `enabled`), or leave `{}` out", child.spec.name)),
                );
            }
        }
    }

    /// The pattern of its files, with the settings in their places. Of a stream that is not polled it need not be good.
    fn files(
        &mut self,
        spec: &provider::Stream,
        settings: &serde_json::Map<String, serde_json::Value>,
    ) -> Option<FileGlob> {
        let template = spec.files.as_ref()?;
        let mut context = Context::new();
        for (name, value) in settings {
            context.set_value(&format!("settings.{name}"), value);
        }
        let text = template.text(&context).map_err(|error| error.to_string());
        match text.and_then(|text| provider::files_of(&text, spec.detect)) {
            Ok(glob) => Some(glob),
            Err(_) if !self.is_polled(spec) => None,
            Err(reason) => {
                self.fault(format!("`files` of stream `{}`: {reason}", spec.name), None);
                None
            }
        }
    }

    fn is_polled(&self, spec: &provider::Stream) -> bool {
        let named = self.source.only.as_ref().is_none_or(|only| only.contains(&spec.name));
        let own = self.source.streams.get(&spec.name).and_then(|own| own.enabled);
        let asked = own == Some(true) || self.may_ask();
        self.source.enabled && named && own.unwrap_or(spec.enabled) && spec.is_polled() && asked
    }

    fn stream(
        &self,
        spec: &provider::Stream,
        settings: &Arc<serde_json::Map<String, serde_json::Value>>,
    ) -> SourceStream {
        let own = self.source.streams.get(&spec.name).cloned().unwrap_or_default();
        let defaults = &self.config.stream_defaults;
        let mut spec = spec.clone();
        overlay_deletes(&mut spec.deletes, &own);
        let polled = self.is_polled(&spec);
        let pick =
            |f: fn(&StreamSettings) -> Option<Schedule>| f(&own).or_else(|| f(&spec.settings)).or_else(|| f(defaults));
        let schedule = pick(|s| s.schedule.clone()).unwrap_or(Schedule::Every(EVERY));
        let first_run =
            own.first_run.clone().or_else(|| spec.settings.first_run.clone()).or_else(|| defaults.first_run.clone());
        let ignore: Vec<Path> = spec
            .ignore
            .iter()
            .chain(&spec.settings.ignore)
            .chain(&own.ignore)
            .chain(&defaults.ignore)
            .cloned()
            .collect();
        let advised = [&own, &spec.settings, defaults];
        let every_healthy = match &schedule {
            Schedule::Every(every) if self.source.webhook.is_some() && routes_to(self.provider, &spec.name) => {
                let given = advised.iter().find_map(|settings| settings.every_healthy);
                Some(given.unwrap_or_else(|| every.saturating_mul(HEALTHY)).max(*every))
            }
            Schedule::Every(_) | Schedule::Cron { .. } => None,
        };
        let exclusive = self.source.webhook.is_some() && self.provider.webhook.as_ref().is_some_and(|w| w.exclusive);
        let mass_change = own.mass_change.or(spec.settings.mass_change).or(defaults.mass_change);
        let comparing =
            Comparing { only: spec.only.clone(), ignore, unordered: spec.unordered.clone(), equal: spec.equal };
        SourceStream {
            name: StreamName::new(self.source.name.clone(), &spec.name),
            polled: polled && !exclusive,
            schedule,
            first_run: first_run.unwrap_or(FirstRun::Baseline),
            active: advised.iter().find_map(|settings| settings.active.clone()),
            every_healthy,
            max_per_run: advised.iter().find_map(|settings| settings.max_per_run).unwrap_or(MAX_PER_RUN),
            expect_every: advised.iter().find_map(|settings| settings.expect_every),
            late_after: advised.iter().find_map(|settings| settings.late_after),
            limits: spec.limits.clone().unwrap_or_else(|| self.provider.limits.clone()),
            definition: definition(&spec, &self.provider.request, settings),
            comparison: comparison(&comparing),
            comparing,
            mass_change: mass_change.unwrap_or_default(),
            announced: self.announced(&spec),
            settings: settings.clone(),
            files: None,
            spec,
        }
    }

    /// Whether a message of the provider's real webhooks belongs to the stream, and the source accepts them.
    fn announced(&self, spec: &provider::Stream) -> bool {
        let messages = self.provider.webhook.as_ref().map(|webhook| webhook.messages.as_slice()).unwrap_or_default();
        let belongs = |message: &provider::Message| {
            *message.stream == *spec.name && message.on_webhook != provider::OnWebhook::Ignore
        };
        self.source.webhook.is_some() && spec.is_polled() && messages.iter().any(belongs)
    }

    fn webhook(&mut self, given: &config::SourceWebhook, with_secrets: bool) -> Option<SourceWebhook> {
        let Some(webhook) = self.provider.webhook.clone() else {
            self.fault("`webhook` is given, but the provider has no real webhooks".into(), Some("remove it".into()));
            return None;
        };
        let scheme = match &given.scheme {
            None => webhook.schemes.first().cloned(),
            Some(name) => {
                let found = webhook.schemes.iter().find(|scheme| scheme.name == *name).cloned();
                if found.is_none() {
                    let known: Vec<&str> = webhook.schemes.iter().map(|scheme| scheme.name.as_str()).collect();
                    self.fault(
                        format!("there is no signature scheme `{name}`"),
                        Some(format!("known: {}", known.join(", "))),
                    );
                }
                found
            }
        };
        if given.secrets.is_empty() && scheme.as_ref().is_some_and(|scheme| needs_secret(scheme)) {
            self.fault(
                "`webhook.secret` is missing: without it anybody could post".into(),
                Some("webhook = { secret = { file = \"…\" } }".into()),
            );
        }
        self.public_keys_are_there(given, scheme.as_deref());
        let mut load = |name: &str, place: &SecretRef| match place.load() {
            Ok(secret) => Some(secret),
            Err(error) => {
                self.fault(format!("`webhook.{name}`: {error}"), None);
                None
            }
        };
        let (mut secrets, mut public_keys) = (Vec::new(), Vec::new());
        if with_secrets {
            secrets.extend(given.secrets.iter().filter_map(|place| load("secret", place)));
            public_keys.extend(given.public_keys.iter().filter_map(|key| match key {
                PublicKeyRef::Text(text) => Some(Secret::new(text.clone())),
                PublicKeyRef::Place(place) => load("public_key", place),
            }));
        }
        let public = self.config.receive.public_url.as_ref();
        let url = given.url.clone().or_else(|| {
            let base = public?.as_str().trim_end_matches('/');
            Url::parse(&format!("{base}/webhooks/{}", self.source.name)).ok()
        });
        if url.is_none() && scheme.as_ref().is_some_and(|scheme| scheme.needs_url()) {
            self.fault(
                "its webhooks are signed with the address they are sent to, which is not known".into(),
                Some("set `receive.public_url`, or `webhook = { url = \"…\" }`: what the provider was told".into()),
            );
        }
        self.may_be_registered(given, &webhook, url.is_some());
        Some(SourceWebhook { scheme, secrets, public_keys, url, subscribe: given.subscribe })
    }

    /// `webhook.subscribe` needs a request to make and an address to tell.
    fn may_be_registered(&mut self, given: &config::SourceWebhook, webhook: &provider::Webhook, has_url: bool) {
        if !given.subscribe {
            return;
        }
        if webhook.subscribe.is_none() {
            let setup = webhook.setup.clone().unwrap_or_else(|| "register the address at the provider by hand".into());
            self.fault(
                "`webhook.subscribe`: the provider file does not say how to register".into(),
                Some(format!("remove it; {setup}")),
            );
        } else if !has_url {
            self.fault(
                "`webhook.subscribe`: the address to register is not known".into(),
                Some("set `receive.public_url`, or `webhook = { url = \"…\" }`".into()),
            );
        }
    }

    /// A scheme with public keys needs one, unless the request names a certificate.
    fn public_keys_are_there(&mut self, given: &config::SourceWebhook, scheme: Option<&Scheme>) {
        let Some(scheme) = scheme else { return };
        let found = scheme.certificate.is_some() || scheme.fetched.is_some();
        if scheme.is_asymmetric() && !found && given.public_keys.is_empty() {
            self.fault(
                "`webhook.public_key` is missing: without it nothing can be verified".into(),
                Some("webhook = { public_key = \"provider.pem\" }: a file, or the key itself".into()),
            );
        }
        if !scheme.is_asymmetric() && !given.public_keys.is_empty() {
            self.fault(
                format!("`webhook.public_key`: scheme `{}` is verified with a shared secret", scheme.name),
                Some("give `webhook.secret` instead".into()),
            );
        }
    }
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

/// Whether real webhooks bring records of this stream, or notices of them.
fn routes_to(provider: &Provider, stream: &str) -> bool {
    provider.webhook.as_ref().is_some_and(|webhook| {
        webhook.messages.iter().any(|message| message.stream == stream && message.on_webhook != OnWebhook::Ignore)
    })
}

fn needs_secret(scheme: &Scheme) -> bool {
    match scheme.kind {
        SchemeKind::Hmac | SchemeKind::Digest | SchemeKind::Token | SchemeKind::Basic => true,
        SchemeKind::Ed25519 | SchemeKind::Ecdsa | SchemeKind::Rsa | SchemeKind::Jwt => false,
    }
}

fn overlay_deletes(deletes: &mut provider::Deletes, own: &StreamSettings) {
    deletes.confirm_after = own.confirm_after.unwrap_or(deletes.confirm_after);
    deletes.max_percent = own.max_percent.unwrap_or(deletes.max_percent);
    deletes.max_count = own.max_count.unwrap_or(deletes.max_count);
}

/// What makes a record of this stream the same: a change here takes a new baseline (RULES R4.2).
fn definition(
    spec: &provider::Stream,
    all: &provider::Request,
    settings: &serde_json::Map<String, serde_json::Value>,
) -> String {
    let request = spec.request.as_ref();
    let params = |request: &provider::Request| -> Vec<String> {
        // Paging says nothing of what is listed.
        let paging =
            |param: &Param| matches!(param, Param::Template(t) if t.variables().iter().any(|v| v.starts_with("page")));
        let query =
            request.query.iter().filter(|(_, param)| !paging(param)).map(|(name, param)| format!("{name}={param:?}"));
        query.chain([format!("{:?} {:?} {:?}", request.method, request.target, request.body)]).collect()
    };
    let version = spec.version.as_ref().map(|v| (v.field.text().to_owned(), v.kind));
    let parts = format!(
        "{:?}|{:?}|{:?}|{:?}|{:?}|{:?}|{:?}|{:?}{}",
        spec.detect,
        spec.records,
        spec.records_as,
        spec.key,
        version,
        spec.filter,
        request.map(params),
        params(all),
        // Whose children they are is part of their keys; of whether all parents are listed a baseline says nothing.
        spec.parent.as_ref().map(|parent| format!("|{:?}|{:?}", parent.of, parent.carry)).unwrap_or_default(),
    );
    // Only the settings that are named in there: another one says nothing of these records. `$settings` may name any.
    let any = parts.replace("$settings.", "").contains("$settings");
    let named = settings.iter().filter(|(name, _)| any || parts.contains(&format!("settings.{name}")));
    let named: serde_json::Map<_, _> = named.map(|(name, value)| (name.clone(), value.clone())).collect();
    let mut parts = format!("{parts}|{}", serde_json::Value::Object(named));
    // What there was before these keys were read has the digest it always had.
    if spec.answer != crate::answer::AnswerFormat::default() {
        parts.push_str(&format!("|{:?}", spec.answer));
    }
    if let Some(files) = &spec.files {
        parts.push_str(&format!("|{}", files.text_source()));
    }
    if spec.mask.is_empty() {
        return digest(&parts);
    }
    // A new mask takes every record anew, so that what is stored of them loses what it hides.
    let masked: Vec<&str> = spec.mask.iter().map(|path| path.text.as_str()).collect();
    digest(&format!("{parts}|{masked:?}"))
}

fn comparison(comparing: &Comparing) -> String {
    let texts = |paths: &[Path]| paths.iter().map(|path| path.text.clone()).collect::<Vec<_>>();
    let Comparing { only, ignore, unordered, equal } = comparing;
    // What was there before these keys were read has the digest it always had, so that nothing is compared anew.
    let mut parts = format!("{CANONICAL_VERSION}|{:?}|{:?}", texts(ignore), texts(unordered));
    if !only.is_empty() || *equal != crate::canonical::Equal::default() {
        parts.push_str(&format!("|{:?}|{equal:?}", texts(only)));
    }
    digest(&parts)
}

fn digest(text: &str) -> String {
    hex::encode(&Sha256::digest(text.as_bytes())[..16])
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

//! One source of the configuration joined with its provider: settings, secrets, address, streams, webhook.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use url::Url;

use super::definition::{comparison, definition};
use super::{EVERY, HEALTHY, MAX_PER_RUN, Source, SourceStream, SourceWebhook, fault};
use crate::canonical::Comparing;
use crate::config::{self, Config, PublicKeyRef, shut_out};
use crate::glob::FileGlob;
use crate::model::StreamName;
use crate::path::Path;
use crate::provider::{self, Auth, OnWebhook, ParentOf, Provider};
use crate::schedule::{FirstRun, Schedule, StreamSettings};
use crate::seal::Sealer;
use crate::secret::{Secret, SecretRef};
use crate::shape::{Fault, Level, nearest};
use crate::signature::{Scheme, SchemeKind};
use crate::template::{Context, Template};

pub(super) struct Joining<'a> {
    pub config: &'a Config,
    pub source: &'a config::Source,
    pub provider: &'a Arc<Provider>,
    pub faults: &'a mut Vec<Fault>,
}

impl Joining<'_> {
    pub fn join(&mut self, with_secrets: bool) -> Option<Source> {
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
        let scheme = scheme.map(|scheme| self.within(given, scheme));
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

    /// The time window that the source says, in place of the provider's.
    fn within(&mut self, given: &config::SourceWebhook, scheme: Arc<Scheme>) -> Arc<Scheme> {
        let Some(window) = given.tolerance else { return scheme };
        match scheme.within(window) {
            Some(scheme) => Arc::new(scheme),
            None => {
                let message = format!("`webhook.tolerance`: signatures of scheme `{}` bear no time", scheme.name);
                self.fault(message, Some("remove it".into()));
                scheme
            }
        }
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

    /// Public keys that are fetched may need a secret that is optional elsewhere.
    fn keys_can_be_asked_for(&mut self, scheme: &Scheme) {
        let Some(webhook) = self.provider.webhook.clone() else { return };
        let Some((_, keys)) = webhook.keys.iter().find(|(name, _)| *name == scheme.name) else { return };
        let named: BTreeSet<String> = provider::templates(&keys.request).iter().flat_map(|t| t.names()).collect();
        let needed = named.iter().filter_map(|name| name.strip_prefix("secrets."));
        let missing: Vec<&str> = needed.filter(|name| !self.source.secrets.contains_key(*name)).collect();
        if let Some(name) = missing.first() {
            self.fault(
                format!(
                    "`webhook`: the provider's public keys are asked for with `secrets.{name}`, which is not given"
                ),
                Some(format!("add secrets.{name}, or webhook = {{ public_key = \"…\" }} with the keys themselves")),
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
        if given.public_keys.is_empty() {
            self.keys_can_be_asked_for(scheme);
        }
        if !scheme.is_asymmetric() && !given.public_keys.is_empty() {
            self.fault(
                format!("`webhook.public_key`: scheme `{}` is verified with a shared secret", scheme.name),
                Some("give `webhook.secret` instead".into()),
            );
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

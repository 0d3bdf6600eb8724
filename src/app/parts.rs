//! A configuration as working parts: sources with their clients, handlers with their keys, subscriptions, and what the store must know.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Certificates;
use crate::certificate::Presented;
use crate::client::{Client, ClientOptions};
use crate::config::{self, Config, Proxy};
use crate::deliver::{Handler, Handlers, Mailer, Transport, open_broker};
use crate::poll::Fetch;
use crate::pull::Readers;
use crate::secret::{Secret, SecretRef};
use crate::shape::{Fault, Level};
use crate::source::{Source, Sources, native_sources};
use crate::store::{HandlerSetup, Setup, SourceSetup, StreamSetup, Temporary};
use crate::subscription::Subscriptions;

const CONNECT: Duration = Duration::from_secs(5);

/// The working parts of one configuration.
pub struct Parts {
    pub sources: Sources,
    pub fetchers: Vec<(Arc<Source>, Arc<dyn Fetch>)>,
    /// By which receiving fetches what a provider file lets it fetch.
    pub exchanges: crate::receive::Clients,
    pub handlers: Handlers,
    /// What is known of how long certificates hold.
    pub certificates: Arc<Certificates>,
    /// Handlers that replays to addresses made, as the store has them, and those of them that can be sent to.
    pub(super) temporaries: Vec<Temporary>,
    pub(super) temporary_handlers: Handlers,
    all_handlers: Vec<config::Handler>,
}

/// Who may ask for events, and which public keys handlers are signed for with.
pub fn readers(handlers: &Handlers) -> Readers {
    let mut readers = Readers::default();
    for (name, handler) in handlers {
        if let config::Transport::Pull { clients } = &handler.config.transport {
            readers.admit(name, handler.secrets.clone(), clients.clone());
        } else {
            readers.publish(name, &handler.secrets);
        }
    }
    readers
}

impl Parts {
    pub fn subscriptions(&self) -> Subscriptions {
        Subscriptions::new(&self.all_handlers)
    }

    /// All that something may be sent to.
    pub(super) fn all_that_are_sent_to(&self) -> Handlers {
        self.handlers
            .iter()
            .chain(&self.temporary_handlers)
            .map(|(name, handler)| (name.clone(), handler.clone()))
            .collect()
    }

    /// What the store must know of the configuration.
    pub fn setup(&self, config: &Config) -> Setup {
        let mut setup = Setup { temporaries: self.temporaries.clone(), ..Setup::default() };
        for source in self.sources.values() {
            // Streams that only files or webhooks feed are asked nowhere.
            if let Some(address) = &source.base_url {
                setup.sources.push(SourceSetup { name: source.name.clone(), address: address.to_string() });
            }
            for stream in &source.streams {
                setup.streams.push(StreamSetup {
                    renamed_from: source.config.renamed_from.clone(),
                    ..crate::ingest::stream_setup(stream)
                });
            }
        }
        for handler in config.handlers.values() {
            setup.handlers.push(HandlerSetup {
                name: handler.name.clone(),
                renamed_from: handler.renamed_from.clone(),
                enabled: handler.enabled,
            });
        }
        setup
    }
}

/// Builds clients and handlers; every fault is found.
pub fn sources_and_handlers(config: &Config, sources: Sources) -> Result<Parts, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut clients = Clients::new(config);
    let mut fetchers: Vec<(Arc<Source>, Arc<dyn Fetch>)> = Vec::new();
    let mut exchanges = crate::receive::Clients::new();
    for source in sources.values() {
        let given = &source.config;
        match clients.of_source(source) {
            Ok(client) => {
                exchanges.insert(source.name.clone(), Arc::new(client.clone()));
                fetchers.push((source.clone(), Arc::new(client)));
            }
            Err(error) => faults.push(fault(&given.place, format!("source `{}`: {error}", source.name))),
        }
    }
    let mut handlers = Handlers::new();
    for given in config.handlers.values().filter(|handler| handler.enabled) {
        match handler(config, given, &sources, &mut clients) {
            Ok(handler) => drop(handlers.insert(given.name.clone(), Arc::new(handler))),
            Err(error) => faults.push(fault(&given.place, error)),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let certificates = Arc::new(Certificates::new(config, clients.presented));
    let all_handlers = config.handlers.values().cloned().collect();
    let (temporaries, temporary_handlers) = (Vec::new(), Handlers::new());
    Ok(Parts { sources, fetchers, exchanges, handlers, certificates, temporaries, temporary_handlers, all_handlers })
}

/// A handler that no table of the configuration names, with a client of its own.
pub(super) fn one_handler(config: &Config, given: &config::Handler, sources: &Sources) -> Result<Handler, String> {
    handler(config, given, sources, &mut Clients::new(config))
}

fn handler(
    config: &Config,
    given: &config::Handler,
    sources: &Sources,
    clients: &mut Clients,
) -> Result<Handler, String> {
    let name = &given.name;
    let secrets: Vec<Secret> =
        load_all(&given.secrets).map_err(|error| format!("handler `{name}`: secret: {error}"))?;
    let heard = native_sources(given, config, sources).into_iter();
    let heard = heard.map(|source| (source.name.clone(), source.clone())).collect();
    let named = |error| format!("handler `{name}`: {error}");
    if let config::Transport::Mail(mail) = &given.transport {
        let load =
            |place: &Option<SecretRef>| place.as_ref().map(SecretRef::load).transpose().map_err(|e| e.to_string());
        let password = load(&mail.password).map_err(named)?;
        let mailer = Mailer::new(mail, &given.tls, &config.network, password).map_err(named)?;
        return Handler::over(given.clone(), Transport::Mail(Box::new(mailer)), secrets, heard);
    }
    if matches!(given.transport, config::Transport::Nats(_) | config::Transport::Kafka(_)) {
        let transport = Transport::Broker(open_broker(given, &config.network, &clients.presented).map_err(named)?);
        return Ok(Handler::over(given.clone(), transport, secrets, heard)?.with_named(named_secrets(given)?));
    }
    let client = clients.of_handler(given).map_err(named)?;
    Ok(Handler::new(given.clone(), client, secrets, heard)?.with_named(named_secrets(given)?))
}

fn named_secrets(given: &config::Handler) -> Result<BTreeMap<String, Secret>, String> {
    let load = |(name, place): (&String, &SecretRef)| match place.load() {
        Ok(secret) => Ok((name.clone(), secret)),
        Err(error) => Err(format!("handler `{}`: secrets.{name}: {error}", given.name)),
    };
    given.named_secrets.iter().map(load).collect()
}

fn load_all(places: &[SecretRef]) -> Result<Vec<Secret>, String> {
    places.iter().map(|place| place.load().map_err(|error| error.to_string())).collect()
}

/// One client for all that go out in the same way: each holds the system's certificates, and reading them takes milliseconds.
struct Clients<'a> {
    config: &'a Config,
    made: Vec<Made>,
    presented: Presented,
}

impl<'a> Clients<'a> {
    fn new(config: &'a Config) -> Clients<'a> {
        Clients { config, made: Vec::new(), presented: Presented::default() }
    }

    fn get(&mut self, proxy: &Proxy, tls: &config::Tls) -> Result<Client, String> {
        if let Some(made) = self.made.iter().find(|made| made.proxy == *proxy && made.tls == *tls) {
            return Ok(made.client.clone());
        }
        let client = Client::new(&self.options(proxy, tls, None)?)?;
        self.made.push(Made { proxy: proxy.clone(), tls: tls.clone(), client: client.clone() });
        Ok(client)
    }

    /// The client of a source: one of its own where its address goes by another name.
    fn of_source(&mut self, source: &Source) -> Result<Client, String> {
        let given = &source.config;
        let client = match (&given.tls.server_name, source.base_url.as_ref().and_then(|url| url.host_str())) {
            (None, _) => self.get(&given.proxy, &given.tls),
            (Some(_), Some(host)) => Client::naming(&self.options(&given.proxy, &given.tls, None)?, host),
            (Some(_), None) => Err("`tls.server_name` names the host of `base_url`, and there is none".into()),
        };
        client.map(|client| client.noting(&self.presented))
    }

    /// The client of a handler: one of its own where every connection goes to one place, whatever the address says.
    fn of_handler(&mut self, given: &config::Handler) -> Result<Client, String> {
        let client = match &given.transport {
            config::Transport::Unix(socket) => {
                Client::new(&self.options(&Proxy::None, &given.tls, Some(socket.clone()))?)
            }
            _ if given.tls.server_name.is_some() => Client::new(&self.options(&given.proxy, &given.tls, None)?),
            _ => self.get(&given.proxy, &given.tls),
        };
        client.map(|client| client.noting(&self.presented))
    }

    fn options(&self, proxy: &Proxy, tls: &config::Tls, unix_socket: Option<PathBuf>) -> Result<ClientOptions, String> {
        let load = |place: &Option<SecretRef>| {
            place.as_ref().map(SecretRef::load).transpose().map_err(|error| error.to_string())
        };
        let password = match proxy {
            Proxy::Url { password, .. } => load(password)?,
            Proxy::None | Proxy::Environment => None,
        };
        let concurrency = self.config.handlers.values().map(|handler| handler.concurrency).max();
        Ok(ClientOptions {
            network: self.config.network.clone(),
            proxy: proxy.clone(),
            proxy_password: password,
            tls: tls.clone(),
            connect_timeout: CONNECT,
            pool_idle_max: concurrency.unwrap_or(0).max(2),
            unix_socket,
        })
    }
}

struct Made {
    proxy: Proxy,
    tls: config::Tls,
    client: Client,
}

fn fault(place: &config::Place, message: String) -> Fault {
    Fault { level: Level::Error, file: place.file.clone(), span: place.span.clone(), message, help: None }
}

//! The top of `config.toml` and the files of `conf.d`: everything but sources and handlers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::schedule::StreamSettings;
use crate::settings::read_stream_settings;
use crate::shape::{Fault, Level, Reading, SourceFile, Table};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What one file contributes.
#[derive(Default)]
struct Part {
    sources: Vec<Source>,
    handlers: Vec<Handler>,
}

/// Reads a configuration with its `conf.d`. Ok: with its warnings. Err: every fault of every file.
pub fn load(path: &Path) -> Result<(Config, Vec<Fault>), Vec<Fault>> {
    let file = SourceFile::read(path).map_err(|message| vec![unreadable(path, message)])?;
    let base = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let reading = Reading::new(file.clone());
    let mut config = root(&reading, path, &base);
    let mut faults = reading.into_faults();
    for extra in conf_d(&base, &mut faults) {
        let part = match SourceFile::read(&extra) {
            Ok(file) => part_of(file, &config, &mut faults),
            Err(message) => {
                faults.push(unreadable(&extra, message));
                continue;
            }
        };
        join(&mut config, part, &mut faults);
    }
    check(&config, &mut faults);
    if faults.iter().any(|fault| fault.level == Level::Error) { Err(faults) } else { Ok((config, faults)) }
}

fn unreadable(path: &Path, message: String) -> Fault {
    let help = Some("give another file with -c FILE, or write one: see README.md".to_owned());
    Fault { level: Level::Error, file: SourceFile::new(path, ""), span: 0..0, message, help }
}

/// The files of `conf.d` in the order of their names.
fn conf_d(base: &Path, faults: &mut Vec<Fault>) -> Vec<PathBuf> {
    let folder = base.join("conf.d");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            faults.push(unreadable(&folder, format!("{}: cannot be read: {error}", folder.display())));
            return Vec::new();
        }
    };
    let mut paths: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "toml")).collect();
    paths.sort();
    paths
}

fn part_of(file: Arc<SourceFile>, config: &Config, faults: &mut Vec<Fault>) -> Part {
    let base = file.path.parent().map(Path::to_path_buf).unwrap_or_default();
    let reading = Reading::new(file);
    let mut part = Part::default();
    {
        let parsed = reading.parse();
        let table = Table::root(&reading, &parsed);
        part.sources = sources::read_all(&table, &base, &config.network);
        part.handlers = handlers::read_all(&table, &base, &config.handler_defaults);
        table.finish();
    }
    faults.extend(reading.into_faults());
    part
}

fn join(config: &mut Config, part: Part, faults: &mut Vec<Fault>) {
    for source in part.sources {
        if let Some(first) = config.sources.get(&source.name) {
            faults.push(twice("source", source.name.as_str(), &source.place, &first.place));
        } else {
            config.sources.insert(source.name.clone(), source);
        }
    }
    for handler in part.handlers {
        if let Some(first) = config.handlers.get(&handler.name) {
            faults.push(twice("handler", handler.name.as_str(), &handler.place, &first.place));
        } else {
            config.handlers.insert(handler.name.clone(), handler);
        }
    }
}

fn twice(what: &str, name: &str, second: &Place, first: &Place) -> Fault {
    Fault {
        level: Level::Error,
        file: second.file.clone(),
        span: second.span.clone(),
        message: format!("{what} `{name}` is given twice: here and in {}", first.file.path.display()),
        help: Some("rename or remove one of them".into()),
    }
}

fn root(reading: &Reading, path: &Path, base: &Path) -> Config {
    let parsed = reading.parse();
    let table = Table::root(reading, &parsed);
    if let Some(schema) = table.require("schema", "add `schema = 1` at the top") {
        schema.integer(1..=1);
    }
    let data_dir = table.take("data_dir").and_then(|v| parts::path(&v, base)).unwrap_or_else(|| default_data_dir(base));
    let network = table.take("network").and_then(|v| v.table()).map(|t| network(t, base)).unwrap_or_default();
    let (stream_defaults, handler_defaults) = defaults(&table, base);
    let mut config = Config {
        path: path.to_owned(),
        min_free: table.take("min_free").and_then(|v| v.size()).unwrap_or(256 << 20),
        keep: table.take("keep").and_then(|v| v.duration()).unwrap_or(30 * DAY),
        allow_exec: table.take("allow_exec").and_then(|v| v.boolean()).unwrap_or(false),
        log: log(&table),
        receive: receive(&table, base),
        admin: admin(&table, base, &data_dir),
        pull: pull(&table, base),
        metrics_listen: metrics(&table),
        data_dir,
        stream_defaults,
        sources: BTreeMap::new(),
        handlers: BTreeMap::new(),
        handler_defaults,
        network,
        state_key: table.take("state_key").and_then(|v| parts::secret(&v, base)),
    };
    let sources = sources::read_all(&table, base, &config.network);
    let handlers = handlers::read_all(&table, base, &config.handler_defaults);
    config.sources = sources.into_iter().map(|source| (source.name.clone(), source)).collect();
    config.handlers = handlers.into_iter().map(|handler| (handler.name.clone(), handler)).collect();
    table.finish();
    config
}

/// `$STATE_DIRECTORY` under systemd (its first entry), else `data` beside the file.
fn default_data_dir(base: &Path) -> PathBuf {
    match std::env::var("STATE_DIRECTORY") {
        Ok(folders) if !folders.is_empty() => PathBuf::from(folders.split(':').next().unwrap_or_default()),
        _ => base.join("data"),
    }
}

fn defaults(table: &Table<'_, '_>, base: &Path) -> (StreamSettings, HandlerDefaults) {
    let Some(defaults) = table.take("defaults").and_then(|v| v.table()) else { return Default::default() };
    let stream = defaults.take("stream").and_then(|v| v.table()).map(|t| {
        let settings = read_stream_settings(&t);
        t.finish();
        settings
    });
    let handler = defaults.take("handler").and_then(|v| v.table()).map(|t| {
        let given = handlers::read_defaults(&t, base, &HandlerDefaults::default());
        t.finish();
        given
    });
    defaults.finish();
    (stream.unwrap_or_default(), handler.unwrap_or_default())
}

fn network(table: Table<'_, '_>, base: &Path) -> Network {
    let mut hosts = BTreeMap::new();
    if let Some(table) = table.take("hosts").and_then(|v| v.table()) {
        for (name, value) in table.entries() {
            match value.text().map(|text| text.parse()) {
                Some(Ok(ip)) => drop(hosts.insert(name.to_ascii_lowercase(), ip)),
                Some(Err(_)) => value.fault(format!("`{}` must be an IP address", value.name), None),
                None => {}
            }
        }
    }
    let network = Network {
        proxy: table.take("proxy").and_then(|v| parts::proxy(&v, base)).unwrap_or(Proxy::None),
        ca_files: table.take("ca_file").map(|v| parts::paths(v, base)).unwrap_or_default(),
        allow: table.take("allow").and_then(|v| parts::host_rules(&v)),
        hosts,
    };
    table.finish();
    network
}

fn log(table: &Table<'_, '_>) -> Log {
    let mut log = Log { level: "info".into(), format: LogFormat::Auto };
    if let Some(table) = table.take("log").and_then(|v| v.table()) {
        if let Some(level) = table.take("level").and_then(|v| v.filled_text()) {
            log.level = level;
        }
        let formats = [
            ("auto", LogFormat::Auto),
            ("text", LogFormat::Text),
            ("json", LogFormat::Json),
            ("journald", LogFormat::Journald),
        ];
        log.format = table.take("format").and_then(|v| v.choice(&formats)).unwrap_or(LogFormat::Auto);
        table.finish();
    }
    log
}

fn receive(table: &Table<'_, '_>, base: &Path) -> Receive {
    let mut receive = Receive {
        listen: Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 8421))),
        tls: None,
        webhook_keys: false,
        trusted_proxies: Vec::new(),
        public_url: None,
        max_body: 1 << 20,
        rate: Rate { count: 100, per: Duration::from_secs(1) },
    };
    if let Some(table) = table.take("receive").and_then(|v| v.table()) {
        if let Some(listen) = table.take("listen").and_then(|v| parts::listen(&v, base)) {
            receive.listen = listen;
        }
        receive.tls = table.take("tls").and_then(|v| parts::listen_tls(&v, base, Some(&receive.listen)));
        receive.webhook_keys = table.take("webhook_keys").and_then(|v| v.boolean()).unwrap_or(false);
        receive.trusted_proxies = table.take("trusted_proxies").map(|v| parts::networks(&v)).unwrap_or_default();
        receive.public_url = table.take("public_url").and_then(|v| parts::url(&v));
        if let Some(size) = table.take("max_body").and_then(|v| v.size()) {
            receive.max_body = size;
        }
        if let Some(rate) = table.take("rate").and_then(|v| parts::rate(&v)) {
            receive.rate = rate;
        }
        table.finish();
    }
    receive
}

fn admin(table: &Table<'_, '_>, base: &Path, data_dir: &Path) -> Admin {
    let socket = match std::env::var("RUNTIME_DIRECTORY") {
        Ok(folders) if !folders.is_empty() => {
            PathBuf::from(folders.split(':').next().unwrap_or_default()).join("ringback.sock")
        }
        _ => data_dir.join("ringback.sock"),
    };
    let listen = Some(Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 8420))));
    let mut admin = Admin { listen, tls: None, socket, hosts: Vec::new() };
    if let Some(table) = table.take("admin").and_then(|v| v.table()) {
        table.not_yet("tokens");
        let tls = table.take("tls");
        if let Some(value) = table.take("listen") {
            if value.is_text() && value.text().as_deref() == Some("off") {
                admin.listen = None;
            } else if let Some(listen) = parts::listen(&value, base) {
                let known = tls.as_ref().is_some_and(|v| v.table().is_some_and(|tls| tls.has("client_ca")));
                if matches!(&listen, Listen::Tcp(address) if !address.ip().is_loopback()) && !known {
                    let help = "listen on 127.0.0.1, give `admin.tls` a `client_ca`, or listen on a Unix socket behind your own reverse proxy";
                    value.fault("the admin listener knows nobody, so it must stay on a loopback address", Some(help));
                }
                admin.listen = Some(listen);
            }
        }
        admin.tls = tls.and_then(|v| parts::listen_tls(&v, base, admin.listen.as_ref()));
        if let Some(socket) = table.take("socket").and_then(|v| parts::path(&v, base)) {
            admin.socket = socket;
        }
        admin.hosts = table.take("hosts").and_then(|v| v.texts()).unwrap_or_default();
        table.finish();
    }
    admin
}

fn pull(table: &Table<'_, '_>, base: &Path) -> PullListen {
    let mut pull = PullListen { listen: Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 8422))), tls: None };
    let Some(table) = table.take("pull").and_then(|v| v.table()) else { return pull };
    let value = table.take("listen");
    if let Some(listen) = value.as_ref().and_then(|v| parts::listen(v, base)) {
        pull.listen = listen;
    }
    let tls = table.take("tls");
    pull.tls = tls.as_ref().and_then(|v| parts::listen_tls(v, base, Some(&pull.listen)));
    if let (Listen::Tcp(address), Some(value), None) = (&pull.listen, &value, &tls)
        && !address.ip().is_loopback()
    {
        let message = "events and the secrets of those who ask cross the network in clear text";
        let help = "give `pull.tls` a certificate, or put a TLS reverse proxy of this machine in front".to_owned();
        value.reading.warning(value.span.clone(), message, Some(help));
    }
    table.finish();
    pull
}

fn metrics(table: &Table<'_, '_>) -> Option<SocketAddr> {
    let table = table.take("metrics").and_then(|v| v.table())?;
    let listen = table.take("listen").and_then(|v| parts::socket(&v));
    table.finish();
    listen
}

/// What only shows once all files are read.
fn check(config: &Config, faults: &mut Vec<Fault>) {
    let fault = |place: &Place, message: String, help: Option<String>| Fault {
        level: Level::Error,
        file: place.file.clone(),
        span: place.span.clone(),
        message,
        help,
    };
    for handler in config.handlers.values() {
        for from in &handler.from {
            let (From::Source(source) | From::Stream(source, _)) = from else { continue };
            if !config.sources.contains_key(source) {
                let near = crate::shape::nearest(source.as_str(), config.sources.keys().map(SourceName::as_str));
                let help = near.map(|near| format!("did you mean `{near}`?"));
                faults.push(fault(
                    &handler.place,
                    format!("handler `{}` is `from` a source that is not there: `{source}`", handler.name),
                    help,
                ));
            }
        }
        let called = matches!(handler.transport, Transport::Http);
        if let Some(refused) = called.then(|| shut_out(&config.network, &handler.url)).flatten() {
            faults.push(fault(
                &handler.place,
                format!("handler `{}`: {refused}", handler.name),
                Some("add it to `network.allow`".into()),
            ));
        }
    }
    for (handler, message, help) in transport::check(config) {
        faults.push(fault(&handler.place, message, Some(help.into())));
    }
    let sources = config.sources.values().map(|of| ("source", of.name.as_str(), &of.tls, &of.proxy, &of.place));
    let handlers = config.handlers.values().map(|of| ("handler", of.name.as_str(), &of.tls, &of.proxy, &of.place));
    for (what, name, tls, proxy, place) in sources.chain(handlers) {
        if tls.server_name.is_some() && *proxy != Proxy::None {
            let message = format!("{what} `{name}`: `tls.server_name` and a proxy exclude each other");
            let help = "the proxy is told the name in the address; write proxy = \"none\" if it is called straight";
            faults.push(fault(place, message, Some(help.into())));
        }
    }
    for source in config.sources.values() {
        if let Some(refused) = source.base_url.as_ref().and_then(|url| shut_out(&config.network, url)) {
            faults.push(fault(
                &source.place,
                format!("source `{}`: {refused}", source.name),
                Some("add it to `network.allow`".into()),
            ));
        }
    }
}

/// Why the configuration itself shuts a host out; None when it does not, or when only its address can tell.
pub fn shut_out(network: &Network, url: &Url) -> Option<String> {
    let (name, ip) = match url.host()? {
        url::Host::Domain(name) => (Some(name), network.hosts.get(name).copied()),
        url::Host::Ipv4(ip) => (None, Some(IpAddr::V4(ip))),
        url::Host::Ipv6(ip) => (None, Some(IpAddr::V6(ip))),
    };
    let host = url.host_str().unwrap_or_default();
    let networks_decide = name.is_some()
        && ip.is_none()
        && network.allow.as_ref().is_some_and(|rules| rules.iter().any(|r| matches!(r, HostRule::Network(..))));
    (!network.allows(name, ip) && !networks_decide).then(|| format!("`network.allow` shuts out `{host}`"))
}

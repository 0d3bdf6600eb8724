//! Message brokers that events are published to: `nats` and `kafka`.
//!
//! Both are read by every build, so that `check` finds what is wrong with them; a build without the feature says that it cannot carry
//! them out.

use std::net::IpAddr;
use std::path::Path;

use url::Url;

use super::{Config, Handler, Proxy, Transport, custom, never_called, parts, shut_out};
use crate::secret::SecretRef;
use crate::shape::{Table, Value};
use crate::template::Template;

const NATS_HELP: &str = "nats://HOST[:4222], or tls://HOST[:4222]; a list of them for a cluster";
const KAFKA_HELP: &str = "HOST:9092, or tls://HOST:9093; several in a list";
const SECRET_HELP: &str = "write tls:// before the host, or use a server on this machine";

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BrokerAddress {
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
}

impl std::fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// A subject of NATS JetStream.
#[derive(Clone, Debug, PartialEq)]
pub struct Nats {
    /// Tried in this order. Servers that they tell of are not called.
    pub servers: Vec<BrokerAddress>,
    pub tls: bool,
    pub subject: Template,
    pub login: NatsLogin,
}

/// How a NATS server knows us. A client certificate goes with any of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NatsLogin {
    None,
    User {
        user: String,
        password: SecretRef,
    },
    Token(SecretRef),
    /// The text of a `.creds` file: a JWT and the seed that answers for it.
    Credentials(SecretRef),
}

/// A topic of Kafka.
#[derive(Clone, Debug, PartialEq)]
pub struct Kafka {
    /// Asked in this order which broker leads what.
    pub brokers: Vec<BrokerAddress>,
    pub tls: bool,
    pub topic: Template,
    /// Decides the partition: events with one key stay in order.
    pub key: Template,
    pub login: Option<KafkaLogin>,
}

/// SASL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaLogin {
    pub user: String,
    pub password: SecretRef,
    pub mechanism: Mechanism,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

pub fn nats(value: &Value<'_, '_>, base: &Path) -> Option<Nats> {
    built(value, "NATS", "nats", cfg!(feature = "nats"));
    let table = value.table()?;
    let servers = table
        .require("url", "such as \"tls://nats.bank.example\"")
        .and_then(|v| addresses(v, Some("nats"), 4222, NATS_HELP));
    let subject = table.require("subject", "such as \"ringback.{{ event.source }}.{{ event.stream }}\"");
    let subject = subject.and_then(|v| subject_of(&v));
    let login = nats_login(&table, value, base);
    table.finish();
    let (servers, tls) = servers?;
    let clear = matches!(login, NatsLogin::User { .. } | NatsLogin::Token(_));
    guard(value, clear && !tls, &servers);
    Some(Nats { servers, tls, subject: subject?, login })
}

fn nats_login(table: &Table<'_, '_>, value: &Value<'_, '_>, base: &Path) -> NatsLogin {
    let user = table.take("user").and_then(|v| v.filled_text());
    let secret = |key| table.take(key).and_then(|v| parts::secret(&v, base));
    match (user, secret("password"), secret("token"), secret("credentials")) {
        (None, None, None, None) => NatsLogin::None,
        (Some(user), Some(password), None, None) => NatsLogin::User { user, password },
        (None, None, Some(token), None) => NatsLogin::Token(token),
        (None, None, None, Some(text)) => NatsLogin::Credentials(text),
        _ => {
            let message =
                format!("`{}` needs `user` and `password` together, or `token`, or `credentials`", value.name);
            value.fault(message, None);
            NatsLogin::None
        }
    }
}

/// Whatever the event holds, what is published to is one subject; so the template's own text must hold no wildcard.
fn subject_of(value: &Value<'_, '_>) -> Option<Template> {
    let text = value.filled_text()?;
    let fixed = custom::hidden(&text).replace("***", "x");
    let bad = |token: &str| token.is_empty() || token.contains(['*', '>']) || token.contains(char::is_whitespace);
    if fixed.split('.').any(bad) {
        let help = "tokens with a dot between them, without spaces and without the wildcards * and >";
        value.fault(format!("`{}` is no subject that can be published to", value.name), Some(help));
        return None;
    }
    custom::of_event(value)
}

pub fn kafka(value: &Value<'_, '_>, base: &Path) -> Option<Kafka> {
    built(value, "Kafka", "kafka", cfg!(feature = "kafka"));
    let table = value.table()?;
    let brokers = table
        .require("brokers", "such as [\"tls://kafka1.bank.example:9093\"]")
        .and_then(|v| addresses(v, None, 9092, KAFKA_HELP));
    let topic = table.require("topic", "such as \"payments\"").and_then(|v| topic_of(&v));
    let key = table.take("key").and_then(|v| custom::of_event(&v));
    let login = kafka_login(&table, value, base);
    table.finish();
    let (brokers, tls) = brokers?;
    let clear = login.as_ref().is_some_and(|login| login.mechanism == Mechanism::Plain);
    guard(value, clear && !tls, &brokers);
    let key = key.unwrap_or_else(|| Template::parse("{{ event.key }}").expect("it was read by a test"));
    Some(Kafka { brokers, tls, topic: topic?, key, login })
}

fn kafka_login(table: &Table<'_, '_>, value: &Value<'_, '_>, base: &Path) -> Option<KafkaLogin> {
    let mechanisms = [
        ("plain", Mechanism::Plain),
        ("scram-sha-256", Mechanism::ScramSha256),
        ("scram-sha-512", Mechanism::ScramSha512),
    ];
    let user = table.take("user").and_then(|v| v.filled_text());
    let password = table.take("password").and_then(|v| parts::secret(&v, base));
    let mechanism = table.take("mechanism").and_then(|v| v.choice(&mechanisms));
    match (user, password) {
        (Some(user), Some(password)) => {
            Some(KafkaLogin { user, password, mechanism: mechanism.unwrap_or(Mechanism::ScramSha512) })
        }
        (None, None) if mechanism.is_none() => None,
        _ => {
            value.fault(format!("`{}` needs `user` and `password` together", value.name), None);
            None
        }
    }
}

fn topic_of(value: &Value<'_, '_>) -> Option<Template> {
    let text = value.filled_text()?;
    let fixed = custom::hidden(&text).replace("***", "x");
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if fixed.len() > 249 || matches!(fixed.as_str(), "." | "..") || !fixed.chars().all(good) {
        let message = format!("`{}` is no topic", value.name);
        value.fault(message, Some("letters, digits, dots, `_` and `-`, at most 249 of them"));
        return None;
    }
    custom::of_event(value)
}

fn built(value: &Value<'_, '_>, what: &str, feature: &str, is: bool) {
    if !is {
        let message = format!("this ringback was built without {what}");
        let help = format!("build it with `cargo build --release --features {feature}`");
        value.reading.fault(value.key_span.clone(), message, Some(help));
    }
}

/// The addresses, and whether they are called with TLS: all of them or none. `plain`: the scheme for none, which may else be left out.
fn addresses(value: Value<'_, '_>, plain: Option<&str>, port: u16, help: &str) -> Option<(Vec<BrokerAddress>, bool)> {
    if value.is_list() && value.list()?.is_empty() {
        value.fault(format!("`{}` holds no address", value.name), Some(help));
    }
    let mut found: Vec<(BrokerAddress, bool)> = Vec::new();
    for value in value.one_or_list() {
        let text = value.filled_text()?;
        let Some(one) = address(&text, plain, port) else {
            value.fault(format!("`{text}` is no address of a server"), Some(help));
            return None;
        };
        if let Some(reason) = one.0.host.parse::<IpAddr>().ok().and_then(never_called) {
            value.fault(format!("`{text}` is {reason}: never called"), None);
            return None;
        }
        if found.first().is_some_and(|first| first.1 != one.1) {
            value.fault("some with TLS and some without", Some("write tls:// before all of them or none"));
            return None;
        }
        found.push(one);
    }
    let tls = found.first()?.1;
    Some((found.into_iter().map(|(address, _)| address).collect(), tls))
}

fn address(text: &str, plain: Option<&str>, port: u16) -> Option<(BrokerAddress, bool)> {
    let (tls, rest) = match (text.split_once("://"), plain) {
        (Some(("tls", rest)), _) => (true, rest),
        (Some((scheme, rest)), Some(plain)) if scheme == plain => (false, rest),
        (None, None) => (false, text),
        _ => return None,
    };
    // An address of the web has the same host and port, and lets nothing else by.
    let url = Url::parse(&format!("http://{rest}")).ok()?;
    let bare = url.path() == "/" && url.username().is_empty() && url.password().is_none();
    let host = url.host_str().filter(|_| bare && url.query().is_none() && url.fragment().is_none())?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    // The port of the web would not be told from none.
    let port = if rest.ends_with(":80") { 80 } else { url.port().unwrap_or(port) };
    Some((BrokerAddress { host, port }, tls))
}

/// Nobody between here and the broker may read a password.
fn guard(value: &Value<'_, '_>, clear: bool, servers: &[BrokerAddress]) {
    let here = |host: &str| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if clear && !servers.iter().all(|server| here(&server.host)) {
        value.fault("a password or token is not sent without TLS", Some(SECRET_HELP));
    }
}

/// What only shows once all of the file is read.
pub fn check<'c>(config: &Config, handler: &'c Handler, found: &mut Vec<(&'c Handler, String, &'static str)>) {
    let servers = match &handler.transport {
        Transport::Nats(nats) => &nats.servers,
        Transport::Kafka(kafka) => &kafka.brokers,
        _ => return,
    };
    let name = &handler.name;
    if handler.proxy != Proxy::None {
        let message = format!("handler `{name}`: a broker is not called through a proxy");
        found.push((handler, message, "write proxy = \"none\" in this handler"));
    }
    for server in servers {
        let url = Url::parse(&format!("http://{server}/")).ok();
        if let Some(refused) = url.and_then(|url| shut_out(&config.network, &url)) {
            found.push((handler, format!("handler `{name}`: {refused}"), "add it to `network.allow`"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{Reading, SourceFile};

    fn faults<T>(text: &str, read: impl Fn(&Value<'_, '_>, &Path) -> Option<T>) -> (Option<T>, Vec<String>) {
        let text = format!("x = {text}");
        let reading = Reading::new(SourceFile::new("t.toml", text.as_str()));
        let parsed = reading.parse();
        let found = {
            let table = Table::root(&reading, &parsed);
            read(&table.take("x").expect("given"), Path::new("/etc/ringback"))
        };
        drop(parsed);
        let told = reading.into_faults().into_iter();
        let told = told.map(|f| format!("{} {}", f.message, f.help.unwrap_or_default()));
        // Which of them a build can carry out is not the matter here.
        (found, told.filter(|text| !text.contains("was built without")).collect())
    }

    fn at(host: &str, port: u16) -> BrokerAddress {
        BrokerAddress { host: host.into(), port }
    }

    #[test]
    fn servers_logins_and_templates_are_read() {
        let text = "{ url = [\"tls://n1.bank.example\", \"tls://[fd00::1]:4333\"], subject = \"bank.{{ event.key }}.x\", credentials = { file = \"n.creds\" } }";
        let (found, told) = faults(text, nats);
        let found = found.unwrap_or_else(|| panic!("{told:?}"));
        assert_eq!((found.servers, found.tls), (vec![at("n1.bank.example", 4222), at("fd00::1", 4333)], true));
        assert_eq!(found.login, NatsLogin::Credentials(SecretRef::File("/etc/ringback/n.creds".into())));
        assert_eq!(at("fd00::1", 4333).to_string(), "[fd00::1]:4333");
        let text = "{ brokers = \"127.0.0.1:80\", topic = \"pay.{{ event.stream }}\", user = \"u\", password = { env = \"P\" }, mechanism = \"plain\" }";
        let (found, told) = faults(text, kafka);
        let found = found.unwrap_or_else(|| panic!("{told:?}"));
        assert_eq!((found.brokers, found.tls), (vec![at("127.0.0.1", 80)], false));
        assert_eq!(found.key.text_source(), "{{ event.key }}");
        assert_eq!(found.login.map(|login| login.mechanism), Some(Mechanism::Plain));
        let (found, _) = faults("{ brokers = [\"k1\", \"k2:9192\"], topic = \"t\" }", kafka);
        assert_eq!(found.map(|found| found.brokers), Some(vec![at("k1", 9092), at("k2", 9192)]));
    }

    #[test]
    fn faults_say_what_to_do() {
        for (text, want) in [
            ("{ subject = \"a\" }", "`url` is missing in `x`"),
            ("{ url = \"nats://a\" }", "`subject` is missing in `x`"),
            ("{ url = \"a:4222\", subject = \"a\" }", "nats://HOST"),
            ("{ url = \"http://a\", subject = \"a\" }", "nats://HOST"),
            ("{ url = \"nats://u:p@a\", subject = \"a\" }", "nats://HOST"),
            ("{ url = [], subject = \"a\" }", "nats://HOST"),
            ("{ url = \"nats://169.254.169.254\", subject = \"a\" }", "never called"),
            ("{ url = [\"nats://a\", \"tls://b\"], subject = \"a\" }", "all of them or none"),
            ("{ url = \"nats://a\", subject = \"a..b\" }", "no subject"),
            ("{ url = \"nats://a\", subject = \"a.*\" }", "wildcards"),
            ("{ url = \"nats://a\", subject = \"a.{{ record.x\" }", "template"),
            ("{ url = \"nats://a\", subject = \"a.{{ secrets.x }}\" }", "secrets"),
            ("{ url = \"tls://a\", subject = \"a\", user = \"u\" }", "together"),
            ("{ url = \"tls://a\", subject = \"a\", token = { env = \"T\" }, user = \"u\" }", "together"),
            ("{ url = \"nats://a\", subject = \"a\", token = { env = \"T\" } }", "not sent without TLS"),
            ("{ url = \"nats://a\", subject = \"a\", stream = \"S\" }", "stream"),
        ] {
            let (_, told) = faults(text, nats);
            assert!(told.len() == 1 && told[0].contains(want), "{text}: {told:?}");
        }
        for (text, want) in [
            ("{ brokers = \"a\" }", "`topic` is missing in `x`"),
            ("{ topic = \"t\" }", "`brokers` is missing in `x`"),
            ("{ brokers = \"kafka://a\", topic = \"t\" }", "tls://HOST"),
            ("{ brokers = \"a/b\", topic = \"t\" }", "tls://HOST"),
            ("{ brokers = \"a\", topic = \"a b\" }", "no topic"),
            ("{ brokers = \"a\", topic = \"t\", mechanism = \"gssapi\" }", "must be one of plain"),
            ("{ brokers = \"a\", topic = \"t\", password = { env = \"P\" } }", "together"),
            (
                "{ brokers = \"a\", topic = \"t\", user = \"u\", password = { env = \"P\" }, mechanism = \"plain\" }",
                "not sent without TLS",
            ),
        ] {
            let (_, told) = faults(text, kafka);
            assert!(told.len() == 1 && told[0].contains(want), "{text}: {told:?}");
        }
    }
}

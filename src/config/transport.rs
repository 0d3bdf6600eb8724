//! By what way a handler's events go: `url`, `exec`, `file`, `mail` or `pull`, exactly one of them.

use std::path::{Path, PathBuf};

use url::Url;

use super::{Config, Format, Handler, custom, parts};
use crate::secret::SecretRef;
use crate::shape::{Table, Value};
use crate::template::Template;

/// The keys that name a transport.
const KEYS: [&str; 5] = ["url", "exec", "file", "mail", "pull"];
const URL_HELP: &str = "the address of your service, such as \"http://127.0.0.1:9000/hooks\"";
const FILE_SIZE: u64 = 64 << 20;
const FILE_SIZE_MIN: u64 = 4 << 10;

/// By what way a handler's events go.
#[derive(Clone, Debug, PartialEq)]
pub enum Transport {
    Http,
    /// HTTP over the Unix socket with this path.
    Unix(PathBuf),
    Exec(Vec<String>),
    File(FileTarget),
    Mail(Box<Mail>),
    /// The handler asks for its events itself: with its secret, or with a certificate that bears one of these names.
    Pull {
        clients: Vec<String>,
    },
}

impl Transport {
    /// Whether nothing is sent without a secret that signs, or that the caller shows.
    pub fn needs_secret(&self) -> bool {
        match self {
            Transport::Http | Transport::Unix(_) => true,
            Transport::Pull { clients } => clients.is_empty(),
            Transport::Exec(_) | Transport::File(_) | Transport::Mail(_) => false,
        }
    }
}

/// A file that events are appended to, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileTarget {
    pub path: PathBuf,
    /// Bytes; a larger one is set aside under a name with the time, and a new one begun.
    pub max_size: u64,
    /// How many of those that were set aside stay; None: all.
    pub keep: Option<usize>,
}

/// Messages to people.
#[derive(Clone, Debug, PartialEq)]
pub struct Mail {
    pub server: MailServer,
    pub user: Option<String>,
    pub password: Option<SecretRef>,
    pub from: String,
    pub to: Vec<String>,
    pub subject: Template,
    /// None: the event as indented JSON.
    pub body: Option<Template>,
}

/// Where messages are handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailServer {
    pub host: String,
    pub port: u16,
    pub security: MailSecurity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailSecurity {
    /// `smtps://`: TLS from the first byte.
    Tls,
    /// `smtp://`: plain until STARTTLS, which must succeed.
    StartTls,
    /// `smtp+plain://`: none; for a relay on this machine.
    None,
}

/// Reads the transport and the address that goes with it (for signatures and for HTTP itself).
pub fn read(table: &Table<'_, '_>, base: &Path) -> Option<(Transport, Url)> {
    let mut given: Vec<Value<'_, '_>> = KEYS.iter().filter_map(|key| table.take(key)).collect();
    if let Some(second) = given.get(1) {
        let message = format!("`{}` is a second way for the same events", second.name);
        second.fault(message, Some("a handler has one of `url`, `exec`, `file`, `mail`, `pull`; make two handlers"));
        return None;
    }
    let Some(value) = given.pop() else {
        table.require("url", URL_HELP);
        return None;
    };
    let nowhere = Url::parse("http://localhost/").expect("it is an address");
    let transport = match value.name.rsplit('.').next().unwrap_or_default() {
        "exec" => Transport::Exec(command(&value)?),
        "file" => Transport::File(file(&value, base)?),
        "mail" => Transport::Mail(Box::new(mail(&value, base)?)),
        "pull" => pull(&value)?,
        _ => return address(&value, base),
    };
    Some((transport, nowhere))
}

/// `http://…`, `https://…`, or `unix:PATH:/path`.
fn address(value: &Value<'_, '_>, base: &Path) -> Option<(Transport, Url)> {
    let text = value.text()?;
    if let Some(rest) = text.strip_prefix("unix:") {
        const HELP: &str = "write \"unix:/run/shop.sock:/hooks\": the socket, a colon, the path of the request";
        let parsed = rest.split_once(":/").filter(|(socket, _)| !socket.is_empty());
        let parsed = parsed.and_then(|(socket, path)| {
            Some((socket, Url::parse("http://localhost/").ok()?.join(&format!("/{path}")).ok()?))
        });
        let Some((socket, url)) = parsed.filter(|(_, url)| url.host_str() == Some("localhost")) else {
            value.fault(format!("`{}` names no socket and path", value.name), Some(HELP));
            return None;
        };
        return Some((Transport::Unix(base.join(socket)), url));
    }
    let url = parts::url_of(value, &custom::hidden(&text))?;
    let ip = match url.host() {
        Some(url::Host::Ipv4(ip)) => Some(ip.into()),
        Some(url::Host::Ipv6(ip)) => Some(ip.into()),
        _ => None,
    };
    if ip.is_some_and(|ip| super::never_called(ip).is_some()) {
        value.fault(
            "this address is never called: link-local, a cloud's metadata service, or no address of one machine",
            None,
        );
        return None;
    }
    Some((Transport::Http, url))
}

fn command(value: &Value<'_, '_>) -> Option<Vec<String>> {
    const HELP: &str = "write [\"/usr/local/bin/book\", \"--from\", \"ringback\"]: no shell reads it";
    let words = if value.is_list() { value.texts()? } else { Vec::new() };
    let good =
        words.first().is_some_and(|program| !program.is_empty()) && !words.iter().any(|word| word.contains('\0'));
    if !good {
        value.fault(format!("`{}` must be a list: a program and its arguments", value.name), Some(HELP));
    }
    good.then_some(words)
}

fn file(value: &Value<'_, '_>, base: &Path) -> Option<FileTarget> {
    if value.is_text() {
        return Some(FileTarget { path: parts::path(value, base)?, max_size: FILE_SIZE, keep: None });
    }
    let table = value.table()?;
    let path = table.require("path", "the file that events are appended to").and_then(|v| parts::path(&v, base));
    let max_size = table.take("max_size").and_then(|v| {
        let size = v.size()?;
        if size < FILE_SIZE_MIN {
            v.fault(format!("`{}` must be at least 4KiB", v.name), None);
        }
        Some(size)
    });
    let keep = table.take("keep").and_then(|v| v.integer(0..=1_000_000)).map(|n| n as usize);
    table.finish();
    Some(FileTarget { path: path?, max_size: max_size.unwrap_or(FILE_SIZE), keep })
}

fn pull(value: &Value<'_, '_>) -> Option<Transport> {
    if value.is_table() {
        let table = value.table()?;
        let clients = table.require("client", "the name in the client's certificate, or several of them");
        let clients: Vec<String> =
            clients.map(Value::one_or_list).unwrap_or_default().iter().filter_map(client).collect();
        table.finish();
        return (!clients.is_empty()).then_some(Transport::Pull { clients });
    }
    if value.boolean()? {
        return Some(Transport::Pull { clients: Vec::new() });
    }
    value.fault(format!("`{}` can only be true; a handler that is sent to has `url`", value.name), None);
    None
}

/// A name as certificates bear it, in lower case.
fn client(value: &Value<'_, '_>) -> Option<String> {
    let text = value.filled_text()?;
    if text.contains('*') || text.chars().any(char::is_control) {
        let message = format!("`{}` must be the whole name in a certificate", value.name);
        value.fault(message, Some("such as \"core.bank.example\"; a `*` stands for nothing here"));
        return None;
    }
    Some(text.to_ascii_lowercase())
}

fn mail(value: &Value<'_, '_>, base: &Path) -> Option<Mail> {
    let table = value.table()?;
    let server = table
        .require("server", "such as \"smtps://mail.bank.example\" or \"smtp://mail.bank.example:587\"")
        .and_then(|v| server(&v));
    let user = table.take("user").and_then(|v| v.filled_text());
    let password = table.take("password").and_then(|v| parts::secret(&v, base));
    let from = table.require("from", "the sender's address").and_then(|v| mailbox(&v));
    let to = table.require("to", "an address, or a list of them").map(|v| v.one_or_list());
    let to: Vec<String> = to.unwrap_or_default().iter().filter_map(mailbox).collect();
    let subject = table.take("subject").and_then(|v| template(&v));
    let body = table.take("body").and_then(|v| template(&v));
    table.finish();
    if user.is_some() != password.is_some() {
        value.fault(format!("`{}` needs `user` and `password` together", value.name), None);
    }
    let server = server?;
    if user.is_some() && server.security == MailSecurity::None {
        value.fault("a password is not sent without TLS", Some("write smtps:// or smtp:// (STARTTLS)"));
    }
    let subject =
        subject.unwrap_or_else(|| Template::parse("{{ event.type }} {{ event.key }}").expect("it was read by a test"));
    Some(Mail { server, user, password, from: from?, to, subject, body })
}

fn server(value: &Value<'_, '_>) -> Option<MailServer> {
    let text = value.filled_text()?;
    let parsed = Url::parse(&text).ok().and_then(|url| {
        let (security, port) = match url.scheme() {
            "smtps" => (MailSecurity::Tls, 465),
            "smtp" => (MailSecurity::StartTls, 587),
            "smtp+plain" => (MailSecurity::None, 25),
            _ => return None,
        };
        let bare = matches!(url.path(), "" | "/") && url.username().is_empty() && url.query().is_none();
        let host = url.host_str().filter(|_| bare)?.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(MailServer { host, port: url.port().unwrap_or(port), security })
    });
    if parsed.is_none() {
        let message = format!("`{}` must be the address of a mail server", value.name);
        value.fault(message, Some("smtps://HOST[:465], smtp://HOST[:587] (STARTTLS), or smtp+plain://HOST[:25]"));
    }
    parsed
}

fn mailbox(value: &Value<'_, '_>) -> Option<String> {
    let text = value.filled_text()?;
    if let Err(error) = text.parse::<lettre::message::Mailbox>() {
        value.fault(
            format!("`{text}` is no mail address: {error}"),
            Some("write ops@bank.example or Ops <ops@bank.example>"),
        );
        return None;
    }
    Some(text)
}

fn template(value: &Value<'_, '_>) -> Option<Template> {
    let text = value.filled_text()?;
    Template::parse(&text).map_err(|error| value.fault(format!("`{}` is no template: {error}", value.name), None)).ok()
}

/// What only shows once all handlers are read, as sentences about them.
pub fn check(config: &Config) -> Vec<(&Handler, String, &'static str)> {
    let mut found = Vec::new();
    let mut files = std::collections::BTreeMap::new();
    for handler in config.handlers.values() {
        let name = &handler.name;
        if matches!(handler.transport, Transport::Exec(_)) && !config.allow_exec {
            let message = format!("handler `{name}` starts a command, which this daemon may not");
            found.push((
                handler,
                message,
                "write `allow_exec = true` at the top of config.toml, if commands are meant",
            ));
        }
        if let Transport::File(file) = &handler.transport
            && let Some(first) = files.insert(&file.path, name)
        {
            let message = format!("handlers `{first}` and `{name}` write the same file");
            found.push((handler, message, "give each a file of its own"));
        }
        if let Transport::Pull { clients } = &handler.transport
            && !clients.is_empty()
            && config.pull.tls.as_ref().is_none_or(|tls| tls.client_ca.is_empty())
        {
            let message = format!("handler `{name}` is known by its certificate, which nobody is asked for");
            found.push((
                handler,
                message,
                "give `pull.tls` a `client_ca`, the authority that such certificates are from",
            ));
        }
        let fits = match handler.transport {
            Transport::Http | Transport::Unix(_) | Transport::Exec(_) => true,
            Transport::File(_) => matches!(handler.format, Format::Standard | Format::CloudEvents),
            Transport::Pull { .. } => handler.format == Format::Standard,
            // A message has no format: its templates say what stands in it.
            Transport::Mail(_) => true,
        };
        if !fits {
            let message = format!("handler `{name}`: this format cannot go this way");
            found.push((handler, message, "`file` takes \"standard\" and \"cloudevents\", `pull` takes \"standard\""));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{Reading, SourceFile};

    fn read_text(text: &str) -> (Option<(Transport, Url)>, Vec<String>) {
        let reading = Reading::new(SourceFile::new("t.toml", text));
        let parsed = reading.parse();
        let table = Table::root(&reading, &parsed);
        let found = read(&table, Path::new("/etc/ringback"));
        table.finish();
        drop(parsed);
        (
            found,
            reading
                .into_faults()
                .into_iter()
                .map(|f| format!("{} {}", f.message, f.help.unwrap_or_default()))
                .collect(),
        )
    }

    #[test]
    fn each_way_is_read() {
        let (found, faults) = read_text("url = \"unix:run/x.sock:/hooks/a?b=c\"");
        let (transport, url) = found.unwrap_or_else(|| panic!("{faults:?}"));
        assert_eq!(transport, Transport::Unix("/etc/ringback/run/x.sock".into()));
        assert_eq!(url.as_str(), "http://localhost/hooks/a?b=c");
        let (found, _) = read_text("exec = [\"/bin/cat\", \"-u\"]");
        assert_eq!(found.map(|(t, _)| t), Some(Transport::Exec(vec!["/bin/cat".into(), "-u".into()])));
        let (found, _) = read_text("file = { path = \"out.jsonl\", max_size = \"1MiB\", keep = 3 }");
        let target = FileTarget { path: "/etc/ringback/out.jsonl".into(), max_size: 1 << 20, keep: Some(3) };
        assert_eq!(found.map(|(t, _)| t), Some(Transport::File(target)));
        let text = "mail = { server = \"smtp://mail.example\", from = \"a@b.example\", to = \"Ops <o@b.example>\", body = \"{{ event.id }}\" }";
        let (found, faults) = read_text(text);
        let Some((Transport::Mail(mail), _)) = found else { panic!("{faults:?}") };
        assert_eq!((mail.server.port, mail.server.security), (587, MailSecurity::StartTls));
        assert_eq!(read_text("pull = true").0.map(|(t, _)| t), Some(Transport::Pull { clients: Vec::new() }));
        let (found, _) = read_text("pull = { client = \"Core.bank.example\" }");
        assert_eq!(found.map(|(t, _)| t), Some(Transport::Pull { clients: vec!["core.bank.example".into()] }));
        assert_eq!(read_text("url = \"http://127.0.0.1:9/\"").0.map(|(t, _)| t), Some(Transport::Http));
    }

    #[test]
    fn faults_say_what_to_do() {
        for (text, want) in [
            ("", "`url` is missing"),
            ("url = \"http://127.0.0.1/\"\nexec = [\"a\"]", "one of `url`"),
            ("url = \"unix:/run/x.sock\"", "names no socket and path"),
            ("url = \"unix::/x\"", "names no socket and path"),
            ("url = \"http://169.254.169.254/\"", "never called"),
            ("url = \"ftp://a/\"", "must be an address"),
            ("exec = \"cat\"", "must be a list"),
            ("exec = []", "must be a list"),
            ("exec = [\"\"]", "must be a list"),
            ("file = { path = \"a\", max_size = \"1B\" }", "at least 4KiB"),
            ("file = { max_size = \"1MiB\" }", "`path` is missing"),
            ("pull = false", "can only be true"),
            ("pull = { client = \"*.bank.example\" }", "the whole name"),
            ("pull = {}", "`client` is missing"),
            ("mail = { server = \"mail.example\", from = \"a@b.example\", to = \"a@b.example\" }", "smtps://"),
            ("mail = { server = \"smtps://m.example\", from = \"nobody\", to = \"a@b.example\" }", "no mail address"),
            (
                "mail = { server = \"smtps://m.example\", from = \"a@b.example\", to = \"a@b.example\", user = \"u\" }",
                "together",
            ),
            (
                "mail = { server = \"smtp+plain://m.example\", from = \"a@b.example\", to = \"a@b.example\", user = \"u\", password = { env = \"P\" } }",
                "without TLS",
            ),
            (
                "mail = { server = \"smtps://m.example\", from = \"a@b.example\", to = \"a@b.example\", subject = \"{{ x\" }",
                "no template",
            ),
        ] {
            let (_, faults) = read_text(text);
            assert!(faults.len() == 1 && faults[0].contains(want), "{text}: {faults:?}");
        }
    }
}

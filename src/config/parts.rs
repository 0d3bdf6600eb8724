//! Values that several tables of the configuration hold: secrets, addresses, rates, proxies, TLS.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::{Cidr, HostRule, Listen, ListenTls, Proxy, Rate, Tls, TlsVersion};
use crate::secret::SecretRef;
use crate::shape::Value;

/// A relative path starts at the file that holds it.
pub fn path(value: &Value<'_, '_>, base: &Path) -> Option<PathBuf> {
    Some(base.join(value.filled_text()?))
}

pub fn paths(value: Value<'_, '_>, base: &Path) -> Vec<PathBuf> {
    value.one_or_list().iter().filter_map(|v| path(v, base)).collect()
}

/// `{ credential = "n" }`, `{ file = "p" }` or `{ env = "N" }`; a literal is refused.
pub fn secret(value: &Value<'_, '_>, base: &Path) -> Option<SecretRef> {
    const HELP: &str = "write { credential = \"name\" }, { file = \"path\" } or { env = \"NAME\" }";
    if !value.is_table() {
        value.fault(format!("`{}` must say where the secret is kept, not hold it", value.name), Some(HELP));
        return None;
    }
    let table = value.table()?;
    let credential = table.take("credential").and_then(|v| v.filled_text()).map(SecretRef::Credential);
    let file = table.take("file").and_then(|v| path(&v, base)).map(SecretRef::File);
    let env = table.take("env").and_then(|v| v.filled_text()).map(SecretRef::Env);
    table.finish();
    let mut given = [credential, file, env].into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(one), None) => Some(one),
        _ => {
            value.fault(format!("`{}` needs exactly one place", value.name), Some(HELP));
            None
        }
    }
}

pub fn secrets(value: Value<'_, '_>, base: &Path) -> Vec<SecretRef> {
    value.one_or_list().iter().filter_map(|v| secret(v, base)).collect()
}

pub fn url(value: &Value<'_, '_>) -> Option<Url> {
    url_of(value, &value.filled_text()?)
}

/// The address that a text made from the value is.
pub fn url_of(value: &Value<'_, '_>, text: &str) -> Option<Url> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(url),
        _ => {
            value.fault(format!("`{}` must be an address such as \"https://host:8443/path\"", value.name), None);
            None
        }
    }
}

pub fn socket(value: &Value<'_, '_>) -> Option<SocketAddr> {
    let text = value.filled_text()?;
    let parsed = text.parse().ok();
    if parsed.is_none() {
        value.fault(format!("`{}` must be an address and port such as \"127.0.0.1:8421\"", value.name), None);
    }
    parsed
}

pub fn listen(value: &Value<'_, '_>, base: &Path) -> Option<Listen> {
    let text = value.filled_text()?;
    match text.strip_prefix("unix:") {
        Some(path) => Some(Listen::Unix(base.join(path))),
        None => socket(value).map(Listen::Tcp),
    }
}

/// The TLS of a listener at this place.
pub fn listen_tls(value: &Value<'_, '_>, base: &Path, listen: Option<&Listen>) -> Option<ListenTls> {
    let table = value.table()?;
    let cert = table.require("cert", "the file with the certificate and its chain").and_then(|v| path(&v, base));
    let key = table.require("key", "where its private key is kept: { credential = \"name\" } or { file = \"path\" }");
    let key = key.and_then(|v| secret(&v, base));
    let client_ca = table.take("client_ca").map(|v| paths(v, base)).unwrap_or_default();
    table.finish();
    if matches!(listen, Some(Listen::Unix(_))) {
        let help = "listen on an address and port, or let the reverse proxy behind the socket speak TLS";
        value.fault(format!("`{}` has no use on a Unix socket", value.name), Some(help));
        return None;
    }
    Some(ListenTls { cert: cert?, key: key?, client_ca })
}

/// Networks such as `10.20.0.0/16`; a single address is one of its own.
pub fn networks(value: &Value<'_, '_>) -> Vec<Cidr> {
    let mut found = Vec::new();
    for item in value.list().unwrap_or_default() {
        let Some(text) = item.filled_text() else { continue };
        match host_rule(&text) {
            Some(HostRule::Network(first, prefix)) => found.push((first, prefix)),
            _ => item.fault(format!("`{text}` is no network"), Some("write 10.20.0.0/16, or one address")),
        }
    }
    found
}

/// `"100/s"`, `"4/24h"`, `"10/m"`.
pub fn rate(value: &Value<'_, '_>) -> Option<Rate> {
    let text = value.filled_text()?;
    let parsed = text.split_once('/').and_then(|(count, per)| {
        let per = per.trim();
        let per = if per.starts_with(|c: char| c.is_ascii_digit()) { per.to_owned() } else { format!("1{per}") };
        let per = humantime::parse_duration(&per).ok().filter(|d| *d >= Duration::from_millis(1))?;
        Some(Rate { count: count.trim().parse().ok().filter(|n| *n > 0)?, per })
    });
    if parsed.is_none() {
        value.fault(format!("`{}` must be a rate such as \"5/s\" or \"4/24h\"", value.name), None);
    }
    parsed
}

pub fn host_rules(value: &Value<'_, '_>) -> Option<Vec<HostRule>> {
    let mut rules = Vec::new();
    for item in value.list()? {
        let Some(text) = item.filled_text() else { continue };
        match host_rule(&text) {
            Some(rule) => rules.push(rule),
            None => item.fault(
                format!("`{text}` is neither a host name, nor `*.suffix`, nor a network such as 10.20.0.0/16"),
                None,
            ),
        }
    }
    Some(rules)
}

fn host_rule(text: &str) -> Option<HostRule> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(HostRule::Network(ip, if ip.is_ipv4() { 32 } else { 128 }));
    }
    if let Some((ip, prefix)) = text.split_once('/') {
        let (ip, prefix) = (ip.parse::<IpAddr>().ok()?, prefix.parse::<u8>().ok()?);
        return (prefix <= if ip.is_ipv4() { 32 } else { 128 }).then_some(HostRule::Network(ip, prefix));
    }
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
    };
    match text.strip_prefix("*.") {
        Some(suffix) => is_name(suffix).then(|| HostRule::Suffix(suffix.to_ascii_lowercase())),
        None => is_name(text).then(|| HostRule::Name(text.to_ascii_lowercase())),
    }
}

pub fn proxy(value: &Value<'_, '_>, base: &Path) -> Option<Proxy> {
    if value.is_text() {
        return match value.text()?.as_str() {
            "none" => Some(Proxy::None),
            "environment" => Some(Proxy::Environment),
            _ => Some(Proxy::Url { url: proxy_url(value)?, user: None, password: None, no_proxy: Vec::new() }),
        };
    }
    let table = value.table()?;
    let address = table.require("url", "the proxy's address, such as \"http://proxy.bank.example:3128\"");
    let user = table.take("user").and_then(|v| v.filled_text());
    let password = table.take("password").and_then(|v| secret(&v, base));
    let no_proxy = table.take("no_proxy").and_then(|v| v.texts()).unwrap_or_default();
    table.finish();
    if user.is_some() != password.is_some() {
        value.fault(format!("`{}` needs `user` and `password` together", value.name), None);
    }
    Some(Proxy::Url { url: proxy_url(&address?)?, user, password, no_proxy })
}

fn proxy_url(value: &Value<'_, '_>) -> Option<Url> {
    let text = value.filled_text()?;
    let found = Url::parse(&text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h") && url.has_host() && url.username().is_empty()
    });
    if found.is_none() {
        let message =
            format!("`{}` must be an address such as \"http://proxy:3128\" or \"socks5h://proxy:1080\"", value.name);
        value.fault(message, Some("user and password go into keys of their own"));
    }
    found
}

pub fn tls(value: &Value<'_, '_>, base: &Path) -> Option<Tls> {
    let table = value.table()?;
    let tls = Tls {
        ca_files: table.take("ca_file").map(|v| paths(v, base)).unwrap_or_default(),
        cert: table.take("cert").and_then(|v| path(&v, base)),
        key: table.take("key").and_then(|v| secret(&v, base)),
        server_name: table.take("server_name").and_then(|v| {
            let name = v.filled_text()?;
            let good = matches!(url::Host::parse(&name), Ok(url::Host::Domain(_)));
            if !good {
                v.fault(format!("`{}` must be a host name, such as \"ledger.bank.example\"", v.name), None);
            }
            good.then_some(name)
        }),
        min_version: table
            .take("min_version")
            .and_then(|v| v.choice(&[("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)])),
    };
    table.finish();
    if tls.cert.is_some() != tls.key.is_some() {
        value.fault(format!("`{}` needs `cert` and `key` together", value.name), None);
    }
    Some(tls)
}

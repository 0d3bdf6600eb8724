//! The way through a proxy: which requests take it, and whose fault it is when they fail.

use std::net::IpAddr;

use url::{Host, Url};

use super::ClientOptions;
use crate::config::{Proxy, in_network};

/// Proxies and what goes round them.
pub struct Proxies {
    pub proxies: Vec<reqwest::Proxy>,
    pub via: Via,
    /// The proxies' own hosts, in small letters.
    pub hosts: Vec<String>,
}

/// What is known of the way through a proxy after it is built.
#[derive(Clone, Debug)]
pub struct Via {
    /// Scheme of the request, and the proxy's host and port for messages.
    places: Vec<(&'static str, String)>,
    bypass: Bypass,
}

impl Via {
    /// The proxy that a request goes through, for messages. None: it goes straight to its host.
    pub fn place(&self, url: &Url) -> Option<&str> {
        let (_, place) = self.places.iter().find(|(scheme, _)| *scheme == url.scheme())?;
        (!self.bypass.has(url)).then_some(place)
    }

    /// Whether nothing goes straight to its host.
    pub fn takes_all(&self) -> bool {
        self.places.len() == 2 && self.bypass.0.is_empty()
    }
}

/// Reads what the options say of proxies; None when there are none.
pub fn proxies(options: &ClientOptions) -> Result<Option<Proxies>, String> {
    match &options.proxy {
        Proxy::None => Ok(None),
        Proxy::Environment => from_environment(|name| std::env::var(name).ok()),
        Proxy::Url { url, user, no_proxy, .. } => {
            let mut proxy =
                reqwest::Proxy::all(url.as_str()).map_err(|_| format!("`{url}` is not the address of a proxy"))?;
            if let (Some(user), Some(password)) = (user, &options.proxy_password) {
                proxy = proxy.basic_auth(user, password.expose());
            }
            let place = super::place(url);
            let places = vec![("http", place.clone()), ("https", place)];
            let via = Via { places, bypass: Bypass::parse(no_proxy.iter().map(String::as_str))? };
            Ok(Some(Proxies { proxies: vec![proxy], via, hosts: vec![host(url)] }))
        }
    }
}

fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_ascii_lowercase()
}

/// The variables that many programs read, in capitals or not: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY.
fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Proxies>, String> {
    let read = |name: &str| {
        let found = variable(name).or_else(|| variable(&name.to_lowercase()));
        found.filter(|text| !text.is_empty())
    };
    let (mut proxies, mut places, mut hosts) = (Vec::new(), Vec::new(), Vec::new());
    for (name, scheme) in [("HTTPS_PROXY", "https"), ("HTTP_PROXY", "http")] {
        let Some(text) = read(name).or_else(|| read("ALL_PROXY")) else { continue };
        let wrong = || format!("the environment's {name} is not the address of a proxy");
        let text = if text.contains("://") { text } else { format!("http://{text}") };
        let url = Url::parse(&text).map_err(|_| wrong())?;
        places.push((scheme, super::place(&url)));
        hosts.push(host(&url));
        let proxy = if scheme == "https" { reqwest::Proxy::https(url) } else { reqwest::Proxy::http(url) };
        proxies.push(proxy.map_err(|_| wrong())?);
    }
    let list = read("NO_PROXY").unwrap_or_default();
    let via = Via { places, bypass: Bypass::parse(list.split(','))? };
    Ok((!proxies.is_empty()).then_some(Proxies { proxies, via, hosts }))
}

/// Hosts that are called without the proxy.
#[derive(Clone, Debug, Default)]
struct Bypass(Vec<(Rule, Option<u16>)>);

#[derive(Clone, Debug, PartialEq)]
enum Rule {
    All,
    /// This name, and every name below it.
    Name(String),
    /// Every name below it alone.
    Below(String),
    Network(IpAddr, u8),
}

impl Bypass {
    fn parse<'a>(list: impl Iterator<Item = &'a str>) -> Result<Bypass, String> {
        let rules = list.map(str::trim).filter(|text| !text.is_empty());
        let rule = |text: &str| {
            rule(text).ok_or_else(|| format!("`no_proxy` holds `{text}`, which is no name, address or network"))
        };
        rules.map(rule).collect::<Result<_, _>>().map(Bypass)
    }

    fn has(&self, url: &Url) -> bool {
        let port = url.port_or_known_default();
        let Some(host) = url.host() else { return false };
        self.0.iter().any(|(rule, of_port)| (of_port.is_none() || *of_port == port) && rule.matches(&host))
    }
}

impl Rule {
    fn matches(&self, host: &Host<&str>) -> bool {
        let ip = match host {
            Host::Domain(_) => None,
            Host::Ipv4(ip) => Some(IpAddr::V4(*ip)),
            Host::Ipv6(ip) => Some(IpAddr::V6(*ip)),
        };
        let below =
            |name: &str, of: &str| name.strip_suffix(of).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'));
        match (self, host) {
            (Rule::All, _) => true,
            (Rule::Name(of), Host::Domain(name)) => *name == of || below(name, of),
            (Rule::Below(of), Host::Domain(name)) => below(name, of),
            (Rule::Network(first, prefix), _) => ip.is_some_and(|ip| in_network(ip, *first, *prefix)),
            _ => false,
        }
    }
}

/// `*`, `host`, `.suffix`, `*.suffix`, an address or a network, each but the last with a port if one follows a colon.
fn rule(text: &str) -> Option<(Rule, Option<u16>)> {
    if text == "*" {
        return Some((Rule::All, None));
    }
    if let Some((first, prefix)) = text.split_once('/') {
        let (first, prefix): (IpAddr, u8) = (first.parse().ok()?, prefix.parse().ok()?);
        return (prefix <= if first.is_ipv4() { 32 } else { 128 }).then_some((Rule::Network(first, prefix), None));
    }
    if let Some(network) = address(text) {
        return Some((network, None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (text, None),
    };
    if let Some(network) = address(host) {
        return Some((network, port));
    }
    let host = host.to_ascii_lowercase();
    let (name, make): (&str, fn(String) -> Rule) = match host.strip_prefix("*.").or_else(|| host.strip_prefix('.')) {
        Some(name) => (name, Rule::Below),
        None => (&host, Rule::Name),
    };
    let good = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    good.then(|| (make(name.to_owned()), port))
}

fn address(text: &str) -> Option<Rule> {
    let ip: IpAddr = text.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    Some(Rule::Network(ip, if ip.is_ipv4() { 32 } else { 128 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goes_round(list: &str, url: &str) -> bool {
        let bypass = Bypass::parse(list.split(',')).unwrap_or_else(|error| panic!("{error}"));
        bypass.has(&Url::parse(url).expect("an address"))
    }

    #[test]
    fn names_suffixes_networks_and_ports_go_round_the_proxy() {
        let list = "core.bank.example, *.in.bank.example, .dmz, 10.20.0.0/16, fd00::/8, 192.0.2.7, [2001:db8::1]:8443, ledger:9000";
        for url in [
            "https://core.bank.example/",
            "https://v2.core.bank.example/",
            "https://a.in.bank.example:8443/",
            "http://x.dmz/",
            "http://10.20.3.7:8080/",
            "http://0x0a140307/",
            "http://[fd12::1]/",
            "http://192.0.2.7/",
            "https://[2001:db8::1]:8443/",
            "http://ledger:9000/",
            "http://LEDGER:9000/",
        ] {
            assert!(goes_round(list, url), "{url}");
        }
        for url in [
            "https://xcore.bank.example/",
            "https://core.bank.example.evil.example/",
            "https://in.bank.example/",
            "http://10.21.0.1/",
            "https://[2001:db8::1]/",
            "http://ledger/",
            "http://192.0.2.70/",
        ] {
            assert!(!goes_round(list, url), "{url}");
        }
        assert!(goes_round("*", "http://anything/"));
        assert!(!goes_round("", "http://anything/"));
        for wrong in ["10.0.0.0/33", "a b", "host:port", "*."] {
            assert!(Bypass::parse([wrong].into_iter()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_environment_names_a_proxy_for_each_scheme() {
        let read = |pairs: &'static [(&str, &str)]| {
            let found = from_environment(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()));
            found.map(|proxies| proxies.map(|proxies| proxies.via))
        };
        let place = |via: &Via, url: &str| via.place(&Url::parse(url).expect("an address")).map(str::to_owned);
        let via =
            read(&[("https_proxy", "proxy.example:3128"), ("NO_PROXY", "in.example")]).expect("good").expect("one");
        assert_eq!(place(&via, "https://out.example/"), Some("proxy.example:3128".into()));
        assert_eq!((place(&via, "https://in.example/"), place(&via, "http://out.example/")), (None, None));
        let all = read(&[("ALL_PROXY", "socks5h://p:1080"), ("HTTP_PROXY", "http://q:1")]).expect("good").expect("one");
        assert_eq!(place(&all, "https://out.example/"), Some("p:1080".into()));
        assert_eq!(place(&all, "http://out.example/"), Some("q:1".into()));
        assert!(all.takes_all() && !via.takes_all());
        assert!(read(&[]).expect("good").is_none() && read(&[("HTTP_PROXY", "")]).expect("good").is_none());
        assert!(read(&[("HTTP_PROXY", "http://")]).is_err());
    }
}

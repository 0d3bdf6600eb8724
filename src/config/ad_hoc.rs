//! An address that a person names for once, and the handler in whose manner it is sent to. Whatever is known of it beforehand is checked
//! here; what only shows at the call is checked by the client, as ever.

use std::net::IpAddr;

use url::{Host, Url};

use super::{Config, Handler, Network, Transport, never_called, shut_out};
use crate::model::HandlerName;
use crate::shape::nearest;

/// The address that a text names, if it may be called; the error is a sentence that repeats no secret.
pub fn ad_hoc(text: &str, network: &Network) -> Result<Url, String> {
    const FORM: &str = "write it out, as https://host:8443/path";
    if text.contains("{{") {
        return Err(format!("`{{{{ }}}}` stands for nothing in an address that is named for once: {FORM}"));
    }
    let url = Url::parse(text).map_err(|error| format!("this is no address ({error}): {FORM}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(format!("only http:// and https:// can be sent to: {FORM}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let error = "the address holds a user or a password, which would stand in logs and listings: give a handler such a header instead";
        return Err(error.into());
    }
    if url.fragment().is_some() {
        return Err("what stands behind `#` is never sent: leave it out".into());
    }
    let ip = match url.host() {
        Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        Some(Host::Domain(name)) => network.hosts.get(name).copied(),
        None => None,
    };
    if let Some(reason) = ip.and_then(never_called) {
        return Err(format!("this address is never called: {reason}"));
    }
    match shut_out(network, &url) {
        Some(refused) => Err(format!("{refused}; add it there and reload, if it may be called")),
        None => Ok(url),
    }
}

/// The handler in whose manner such an address is sent to: the one named, else the only one there is.
pub fn like<'c>(config: &'c Config, named: Option<&str>) -> Result<&'c Handler, String> {
    let fits = |handler: &&Handler| matches!(handler.transport, Transport::Http | Transport::Unix(_));
    let fitting: Vec<&Handler> = config.handlers.values().filter(fits).collect();
    let names = || fitting.iter().map(|handler| handler.name.as_str());
    let list = || names().collect::<Vec<_>>().join(", ");
    match (named, fitting.as_slice()) {
        (Some(name), _) => match config.handlers.get(name) {
            Some(handler) if fits(&handler) => Ok(handler),
            Some(_) => Err(format!("handler `{name}` is not sent to over HTTP; those that are: {}", or_none(list()))),
            None => Err(match nearest(name, names()) {
                Some(near) => format!("the configuration has no handler `{name}`; did you mean `{near}`?"),
                None => {
                    format!("the configuration has no handler `{name}`; those sent to over HTTP: {}", or_none(list()))
                }
            }),
        },
        (None, [only]) => Ok(only),
        (None, []) => Err("no handler of the configuration is sent to over HTTP: there is no manner to send in".into()),
        (None, _) => Err(format!("say in whose manner it is sent, with --like: {}", list())),
    }
}

fn or_none(list: String) -> String {
    if list.is_empty() { "none".into() } else { list }
}

/// The query of an address as people are shown it: which parameters it has, and not their values, which may be keys.
pub fn query_masked(url: &Url) -> String {
    let pairs = url.query_pairs().enumerate();
    pairs.map(|(n, (name, _))| format!("{}{name}=***", if n == 0 { '?' } else { '&' })).collect()
}

impl Handler {
    /// The same under another name and at another address. It hears nothing by itself: nothing of it is ever asked for subscriptions.
    pub fn at(&self, name: HandlerName, url: Url) -> Handler {
        let custom = self.custom.clone().map(|custom| super::Custom { url: None, ..custom });
        Handler { name, url, custom, transport: Transport::Http, renamed_from: None, enabled: true, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HostRule;

    fn refused(text: &str, network: &Network) -> String {
        ad_hoc(text, network).expect_err(text)
    }

    #[test]
    fn an_address_that_must_not_be_called_is_refused_before_anything_is_stored() {
        let open = Network::default();
        for (text, want) in [
            ("localhost:9000/hooks", "only http:// and https://"),
            ("/hooks", "no address"),
            ("ftp://h.example/", "only http:// and https://"),
            ("unix:/run/x.sock:/hooks", "only http:// and https://"),
            ("https://h.example/#top", "behind `#`"),
            ("https://h.example/{{ event.id }}", "stands for nothing"),
            ("http://169.254.169.254/latest", "never called"),
            ("http://[fe80::1]/", "never called"),
            ("http://0xa9fea9fe/", "never called"),
            ("http://[::ffff:169.254.169.254]/", "never called"),
            ("http://0.0.0.0:80/", "never called"),
        ] {
            let error = refused(text, &open);
            assert!(error.contains(want), "{text}: {error}");
        }
        for text in ["https://ops:hunter2@h.example/", "https://hunter2@h.example/"] {
            let error = refused(text, &open);
            assert!(error.contains("user or a password") && !error.contains("hunter2"), "{error}");
        }
        let named = Network { hosts: [("meta.example".into(), [169, 254, 169, 254].into())].into(), ..open };
        assert!(refused("http://meta.example/", &named).contains("never called"));
    }

    #[test]
    fn the_allow_list_is_asked_as_far_as_it_can_tell() {
        let name = HostRule::Name("repair.bank.example".into());
        let closed = Network { allow: Some(vec![name]), ..Network::default() };
        assert!(ad_hoc("https://repair.bank.example:8443/hooks?x=1", &closed).is_ok());
        for text in ["https://other.example/", "http://10.0.0.1/", "http://127.0.0.1:9/"] {
            assert!(refused(text, &closed).contains("network.allow"), "{text}");
        }
        let networks = Network { allow: Some(vec![HostRule::Network([10, 0, 0, 0].into(), 8)]), ..Network::default() };
        assert!(ad_hoc("https://core.bank.example/", &networks).is_ok(), "only its address can tell");
        assert!(refused("http://11.0.0.1/", &networks).contains("network.allow"));
    }

    #[test]
    fn a_query_shows_its_names_alone() {
        let url = |text: &str| query_masked(&text.parse().expect("an address"));
        assert_eq!(url("https://h.example/a?key=v&x=1"), "?key=***&x=***");
        assert_eq!(url("https://h.example/a"), "");
    }
}

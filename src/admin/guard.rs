//! Who may speak to the listener: a page in somebody's browser must not reach it through a name that points here (DNS
//! rebinding), nor post to it from another site.
//!
//! The control socket is guarded by its file mode instead.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::order::Refused;
use super::{Admin, Names, Parts};
use crate::listener::Caller;

pub async fn check(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let on_socket = matches!(request.extensions().get::<Caller>(), Some(Caller::Socket { .. }));
    if !on_socket && let Err(refused) = judge(&admin, request.method(), request.headers(), request.uri().host()) {
        return refused.into_response();
    }
    next.run(request).await
}

fn judge(parts: &Parts, method: &Method, headers: &HeaderMap, in_uri: Option<&str>) -> Result<(), Refused> {
    let header = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let (names, host) = (parts.names.load(), in_uri.or(header(HOST)).unwrap_or_default());
    if !known(&names, host) {
        let error = format!("the name `{}` is not one of this daemon's", host.chars().take(100).collect::<String>());
        let help = "use the address it listens on, or add the name to `admin.hosts` in config.toml";
        return Err(Refused::new(StatusCode::MISDIRECTED_REQUEST, error, help));
    }
    // A browser names the page's origin with every request that acts; commands send none.
    let foreign = header(ORIGIN).is_some_and(|origin| {
        let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
        !known(&names, authority)
    });
    if foreign && *method != Method::GET && *method != Method::HEAD {
        let error = "a page of another site may not act here";
        return Err(Refused::new(StatusCode::FORBIDDEN, error, "use the daemon's own pages or the commands"));
    }
    Ok(())
}

/// Whether a `host[:port]` names this daemon. An address cannot be pointed elsewhere, so those of a listener on all
/// addresses are taken as they come.
fn known(names: &Names, authority: &str) -> bool {
    let host = without_port(authority).trim_end_matches('.').to_ascii_lowercase();
    if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return ip.is_loopback() || names.listen.is_some_and(|listen| listen == ip || listen.is_unspecified());
    }
    host == "localhost"
        || host.ends_with(".localhost")
        || names.hosts.iter().any(|name| name.eq_ignore_ascii_case(&host))
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port))
            if port.chars().all(|c| c.is_ascii_digit()) && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::parts;
    use super::*;

    #[test]
    fn only_our_own_names_are_answered() {
        let names = Names { hosts: vec!["ringback.bank.example".into()], listen: Some([127, 0, 0, 1].into()) };
        let cases = [
            ("localhost:8420", true),
            ("LOCALHOST", true),
            ("localhost.", true),
            ("127.0.0.1:8420", true),
            ("[::1]:8420", true),
            ("::1", true),
            ("Ringback.bank.example:443", true),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example:8420", false),
            ("192.168.1.5", false),
            ("", false),
            (":8420", false),
        ];
        for (host, want) in cases {
            assert_eq!(known(&names, host), want, "{host}");
        }
    }

    #[test]
    fn a_page_of_another_site_may_look_at_nothing_and_act_on_nothing() {
        let parts = parts();
        let ask = |method: Method, host: &str, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().expect("a value"));
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().expect("a value"));
            }
            judge(&parts, &method, &headers, None).is_ok()
        };
        assert!(ask(Method::POST, "localhost:8420", None));
        assert!(ask(Method::POST, "localhost:8420", Some("http://localhost:8420")));
        assert!(!ask(Method::POST, "localhost:8420", Some("https://evil.example")));
        assert!(!ask(Method::POST, "localhost:8420", Some("null")));
        assert!(!ask(Method::GET, "evil.example:8420", None));
    }
}

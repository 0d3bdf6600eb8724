//! Who calls when a proxy stands between: the last address in `X-Forwarded-For` that no trusted proxy is itself.

use std::net::IpAddr;

use http::HeaderMap;

use crate::config::{Cidr, in_network};

/// The address behind the proxies, as far as they are trusted. `peer` is none on a Unix socket, where only a proxy of this machine calls.
pub fn behind(peer: Option<IpAddr>, headers: &HeaderMap, trusted: &[Cidr]) -> Option<IpAddr> {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|(first, prefix)| in_network(ip, *first, *prefix));
    if trusted.is_empty() || peer.is_some_and(|peer| !is_trusted(peer)) {
        return peer;
    }
    let mut found = peer;
    let lines: Vec<&str> = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect();
    // Each proxy adds at the end whom it heard, so the end is read first, and only as long as who wrote it is trusted.
    for text in lines.iter().flat_map(|line| line.split(',')).rev() {
        let Some(ip) = address(text.trim()) else { break };
        found = Some(ip);
        if !is_trusted(ip) {
            break;
        }
    }
    found
}

/// An address with or without port and brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[');
    let ip = bare.parse().ok().or_else(|| match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?.parse().ok(),
        None => text.rsplit_once(':')?.0.parse().ok(),
    })?;
    Some(IpAddr::to_canonical(&ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_trusted_proxies_wrote_is_believed() {
        let net = |text: &str, prefix| -> Cidr { (text.parse().expect("an address"), prefix) };
        let trusted = [net("10.0.0.0", 8), net("fd00::", 8)];
        type Case<'c> = (Option<&'c str>, &'c [&'c str], &'c [Cidr], Option<&'c str>);
        let cases: [Case<'_>; 12] = [
            (Some("10.0.0.1"), &["203.0.113.7"], &trusted, Some("203.0.113.7")),
            (Some("10.0.0.1"), &["1.1.1.1, 203.0.113.7"], &trusted, Some("203.0.113.7")),
            (Some("10.0.0.1"), &["203.0.113.7, 10.0.0.2"], &trusted, Some("203.0.113.7")),
            (Some("10.0.0.1"), &["203.0.113.7", "10.0.0.2"], &trusted, Some("203.0.113.7")),
            (Some("10.0.0.1"), &["10.0.0.3, 10.0.0.2"], &trusted, Some("10.0.0.3")),
            (Some("10.0.0.1"), &["203.0.113.7:4711"], &trusted, Some("203.0.113.7")),
            (Some("fd00::1"), &["[2001:db8::7]:4711"], &trusted, Some("2001:db8::7")),
            (Some("10.0.0.1"), &["203.0.113.7, unknown"], &trusted, Some("10.0.0.1")),
            (Some("10.0.0.1"), &[], &trusted, Some("10.0.0.1")),
            (Some("203.0.113.9"), &["1.1.1.1"], &trusted, Some("203.0.113.9")),
            (Some("10.0.0.1"), &["1.1.1.1"], &[], Some("10.0.0.1")),
            (None, &["203.0.113.7"], &trusted, Some("203.0.113.7")),
        ];
        for (peer, lines, trusted, want) in cases {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", line.parse().expect("a value"));
            }
            let ip = |text: &str| text.parse().expect("an address");
            assert_eq!(behind(peer.map(ip), &headers, trusted), want.map(ip), "{peer:?} {lines:?}");
        }
    }
}

//! Which addresses may be called, whichever way they are written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{HostRule, Network};

/// Where clouds keep their metadata services outside the link-local networks: Amazon (IPv6), Alibaba, Oracle, Azure.
const METADATA: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

impl Network {
    /// Whether the allow-list lets a host through, known by name, address or both. Without a list, all are. A name never stands for
    /// this machine, and no wide network holds it: that takes `localhost` or an address of its own in the list.
    pub fn allows(&self, name: Option<&str>, ip: Option<IpAddr>) -> bool {
        let Some(rules) = &self.allow else { return true };
        let ip = ip.map(plain);
        let local = ip.is_some_and(|ip| ip.is_loopback());
        rules.iter().any(|rule| match rule {
            HostRule::Name(allowed) => {
                name.is_some_and(|name| name.eq_ignore_ascii_case(allowed)) && (!local || allowed == "localhost")
            }
            HostRule::Suffix(suffix) => {
                !local
                    && name.is_some_and(|name| {
                        let (name, suffix) = (name.to_ascii_lowercase(), suffix.to_ascii_lowercase());
                        name.strip_suffix(&suffix).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
                    })
            }
            HostRule::Network(first, prefix) => {
                ip.is_some_and(|ip| in_network(ip, *first, *prefix)) && (!local || plain(*first).is_loopback())
            }
        })
    }
}

/// Whether an address lies in the network of `prefix` leading bits from `first`.
pub fn in_network(ip: IpAddr, first: IpAddr, prefix: u8) -> bool {
    match (ip.to_canonical(), first.to_canonical()) {
        (IpAddr::V4(ip), IpAddr::V4(first)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            u32::from(ip) & mask == u32::from(first) & mask
        }
        (IpAddr::V6(ip), IpAddr::V6(first)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            u128::from(ip) & mask == u128::from(first) & mask
        }
        _ => false,
    }
}

/// Why an address is never called, whatever the allow-list says.
pub fn never_called(ip: IpAddr) -> Option<&'static str> {
    let ip = plain(ip);
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80,
    };
    if link_local || METADATA.contains(&ip) {
        return Some("a link-local address or a cloud's metadata service");
    }
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast() || ip.octets()[0] == 0 || ip.octets()[0] >= 240);
    (ip.is_unspecified() || ip.is_multicast() || broadcast).then_some("no address of one machine")
}

/// The address that is really reached: IPv4 inside IPv6 (mapped, compatible, NAT64 of RFC 6052, 6to4 of RFC 3056) is taken out.
fn plain(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip.to_canonical() else { return ip.to_canonical() };
    let s = v6.segments();
    let inside = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match s {
        // `::` and `::1` are IPv6's own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => ip,
        [0, 0, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => inside(high, low),
        [0x64, 0xff9b, 1, .., high, low] => inside(high, low),
        [0x2002, high, low, ..] => inside(high, low),
        _ => ip,
    }
}

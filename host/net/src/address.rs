//! What kind of address an address is: open to grants, or always denied until the operator's own machine says otherwise. Pure.
//! Who may reach it is decided in `grant`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What may become of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A grant may name it: public, private (RFC 1918, RFC 4193), documentation.
    Open,
    /// Denied whatever the grant says, until the ceiling names it.
    Denied(Reason),
}

/// Why an address is always denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// 127.0.0.0/8, ::1.
    Loopback,
    /// 169.254.0.0/16, fe80::/10.
    LinkLocal,
    /// Where clouds hand out credentials. Opened only by a rule that is exactly this address, never by a range.
    Metadata,
    /// 0.0.0.0/8, ::. Linux connects to the machine itself.
    Unspecified,
    /// 224.0.0.0/4, ff00::/8.
    Multicast,
    /// 255.255.255.255.
    Broadcast,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Loopback => "loopback",
            Reason::LinkLocal => "link-local",
            Reason::Metadata => "cloud metadata",
            Reason::Unspecified => "unspecified",
            Reason::Multicast => "multicast",
            Reason::Broadcast => "broadcast",
        })
    }
}

/// The class of the address, and of every IPv4 address wrapped in it: IPv4-mapped and -compatible (RFC 4291), NAT64 (RFC 6052,
/// RFC 8215), 6to4 (RFC 3056), Teredo (RFC 4380). The worst of them counts.
pub fn classify(ip: IpAddr) -> Class {
    match ip {
        IpAddr::V4(ip) => classify_v4(ip),
        IpAddr::V6(ip) => match classify_v6(ip) {
            Class::Open => {
                wrapped(ip).map(classify_v4).find(|class| *class != Class::Open).unwrap_or(Class::Open)
            }
            denied => denied,
        },
    }
}

/// The address that a connection to `ip` really goes to: the IPv4 address of an IPv4-mapped one, else itself.
pub(crate) fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

fn classify_v4(ip: Ipv4Addr) -> Class {
    let reason = match ip.octets() {
        _ if METADATA_V4.contains(&ip) => Reason::Metadata,
        [0, ..] => Reason::Unspecified,
        [127, ..] => Reason::Loopback,
        [169, 254, ..] => Reason::LinkLocal,
        [255, 255, 255, 255] => Reason::Broadcast,
        [224..=239, ..] => Reason::Multicast,
        _ => return Class::Open,
    };
    Class::Denied(reason)
}

fn classify_v6(ip: Ipv6Addr) -> Class {
    let reason = match ip.segments() {
        _ if METADATA_V6.contains(&ip) => Reason::Metadata,
        [0, 0, 0, 0, 0, 0, 0, 0] => Reason::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Reason::Loopback,
        [0xfe80..=0xfebf, ..] => Reason::LinkLocal,
        [0xff00..=0xffff, ..] => Reason::Multicast,
        _ => return Class::Open,
    };
    Class::Denied(reason)
}

/// Every IPv4 address that a router or this machine could take out of an IPv6 address.
fn wrapped(ip: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let s = ip.segments();
    let pair = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    let found = match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] => [Some(pair(high, low)), None],
        [0, 0, 0, 0, 0xffff, 0, high, low] => [Some(pair(high, low)), None],
        [0, 0, 0, 0, 0, 0, high, low] => [Some(pair(high, low)), None],
        [0x64, 0xff9b, 0 | 1, .., high, low] => [Some(pair(high, low)), None],
        [0x2002, high, low, ..] => [Some(pair(high, low)), None],
        [0x2001, 0, server_high, server_low, _, _, high, low] => {
            [Some(pair(server_high, server_low)), Some(pair(!high, !low))]
        }
        _ => [None, None],
    };
    found.into_iter().flatten()
}

/// 169.254.170.2 and .23 hand out credentials to containers, as the others do to machines.
const METADATA_V4: [Ipv4Addr; 5] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
];

/// Of AWS (instances, pods), Google, Oracle, Scaleway, OpenStack and Alibaba.
const METADATA_V6: [Ipv6Addr; 7] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
    Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200),
];

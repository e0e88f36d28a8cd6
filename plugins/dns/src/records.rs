//! What makes two records the same: their data in one form, whatever the case, the dots and the quotes; or an address within a
//! network. Pure.

use std::net::IpAddr;

use crate::config::QueryType;

/// What a record's data is compared with.
#[derive(Debug, PartialEq)]
pub(crate) enum Expected {
    /// The data in its one form.
    Data(String),
    /// Any address within a network.
    Network(IpAddr, u8),
}

impl Expected {
    /// Reads what a monitor's owner wrote; an error says what to write instead.
    pub(crate) fn read(written: &str, kind: QueryType) -> Result<Self, String> {
        let v6 = match kind {
            QueryType::A => false,
            QueryType::Aaaa => true,
            _ => return Ok(Self::Data(normalise(written, kind))),
        };
        let (address, length) = match written.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (written, None),
        };
        let whole = if v6 { 128 } else { 32 };
        let address = address.trim().parse::<IpAddr>().ok().filter(|address| address.is_ipv6() == v6);
        let length =
            length.map_or(Some(whole), |length| length.parse().ok().filter(|length| *length <= whole));
        match (address, length) {
            (Some(address), Some(length)) => Ok(Self::Network(address, length)),
            _ => {
                let example = if v6 { "2001:db8::10 or 2001:db8::/32" } else { "192.0.2.10 or 192.0.2.0/24" };
                Err(format!("`{written}` is not what {} records hold: write {example}", kind.name()))
            }
        }
    }

    /// Whether a record with this data is meant.
    pub(crate) fn covers(&self, data: &str, kind: QueryType) -> bool {
        match self {
            Self::Data(expected) => *expected == normalise(data, kind),
            Self::Network(network, length) => {
                data.parse().is_ok_and(|address| prefix(address, *length) == prefix(*network, *length))
            }
        }
    }
}

/// The first bits of an address, and which family they are of.
fn prefix(address: IpAddr, length: u8) -> (bool, u128) {
    let (bits, width) = match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let dropped = u32::from(width - length.min(width));
    (address.is_ipv6(), bits.checked_shr(dropped).unwrap_or(0))
}

/// The one form of a record's data: fields with one space between, without quotes and trailing dots, in lower case where case
/// does not matter.
fn normalise(data: &str, kind: QueryType) -> String {
    match kind {
        // Text is compared as it is: keys in it tell cases apart.
        QueryType::Txt => unquoted(data.trim()).to_owned(),
        // Base64 tells cases apart, and may be written in groups.
        QueryType::Dnskey => grouped(data),
        QueryType::Ds | QueryType::Tlsa => grouped(data).to_ascii_lowercase(),
        _ => fields(data).collect::<Vec<_>>().join(" ").to_ascii_lowercase(),
    }
}

/// The serial in the data of a SOA record (RFC 1035, section 3.3.13).
pub(crate) fn serial(data: &str) -> Option<u32> {
    data.split_whitespace().nth(2)?.parse().ok()
}

fn fields(data: &str) -> impl Iterator<Item = &str> {
    data.split_whitespace().map(unquoted).map(|field| match field {
        "." => field,
        _ => field.strip_suffix('.').unwrap_or(field),
    })
}

/// Three numbers, and the rest without its spaces.
fn grouped(data: &str) -> String {
    let fields: Vec<&str> = data.split_whitespace().collect();
    let (numbers, rest) = fields.split_at(fields.len().min(3));
    format!("{} {}", numbers.join(" "), rest.concat())
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: QueryType, written: &str, data: &str, same: bool) {
        let expected = Expected::read(written, kind).unwrap();
        assert_eq!(expected.covers(data, kind), same, "{written} against {data}");
    }

    #[test]
    fn case_dots_and_quotes_do_not_matter() {
        check(QueryType::Cname, "WWW.Example.com", "www.example.com.", true);
        check(QueryType::Mx, "10  mail.example.com.", "10 Mail.example.com.", true);
        check(QueryType::Mx, "20 mail.example.com", "10 mail.example.com.", false);
        check(QueryType::Caa, "0 issue letsencrypt.org", "0 issue \"letsencrypt.org\"", true);
        check(QueryType::Txt, "\"v=spf1 -all\"", "v=spf1 -all", true);
        check(QueryType::Txt, "p=AbC", "p=abc", false);
        check(QueryType::Ds, "1 8 2 AB CD", "1 8 2 abcd", true);
        check(QueryType::Https, "1 . alpn=h2", "1 . alpn=h2", true);
    }

    #[test]
    fn the_serial_of_a_zone_is_read() {
        assert_eq!(serial("ns1.test. root.test. 2026010101 3600 900 604800 60"), Some(2_026_010_101));
        assert_eq!(serial("ns1.test. root.test."), None);
    }

    #[test]
    fn an_address_is_compared_by_value_and_by_network() {
        check(QueryType::A, "192.0.2.10", "192.0.2.10", true);
        check(QueryType::A, "192.0.2.0/24", "192.0.2.255", true);
        check(QueryType::A, "192.0.2.0/25", "192.0.2.255", false);
        check(QueryType::A, "0.0.0.0/0", "198.51.100.1", true);
        check(QueryType::Aaaa, "2001:DB8:0::10", "2001:db8::10", true);
        check(QueryType::Aaaa, "2001:db8::/32", "2001:db9::1", false);
        check(QueryType::Aaaa, "::/0", "2001:db9::1", true);
    }

    #[test]
    fn what_is_no_address_says_what_to_write() {
        for written in ["www.example.com", "192.0.2.0/33", "2001:db8::1", ""] {
            let error = Expected::read(written, QueryType::A).unwrap_err();
            assert!(error.ends_with("write 192.0.2.10 or 192.0.2.0/24"), "{error}");
        }
    }
}

//! The deciding function, by table: classes of addresses, grants, ceilings, names with several addresses.

use std::net::{IpAddr, Ipv4Addr};

use picket_net::{Ceiling, Class, Grant, Host, Policy, Purpose, Reason, classify};

use proptest::prelude::*;

use crate::rules;

fn decide(
    targets: &[&str],
    opened: &[&str],
    host: &str,
    port: u16,
    addresses: &[&str],
) -> Result<Vec<String>, String> {
    let grant = Grant { targets: rules(targets), ..Grant::default() };
    let ceiling = Ceiling {
        allow: rules(opened),
        control: Some(("cp.example.com".to_owned(), 8440)),
        ..Ceiling::default()
    };
    let control = ["198.51.100.9".parse().unwrap()];
    let policy = Policy { grant: &grant, ceiling: &ceiling, control: &control };
    let host: Host = host.parse().unwrap();
    let addresses: Vec<IpAddr> = match &host {
        Host::Address(ip) => vec![*ip],
        Host::Name(_) => addresses.iter().map(|a| a.parse().unwrap()).collect(),
    };
    let decided = policy.decide(Purpose::Target, &host, port, &addresses).map_err(|refusal| refusal.0)?;
    Ok(decided.allowed.iter().map(ToString::to_string).collect())
}

#[test]
fn every_address_has_its_class() {
    use Reason::*;
    for (address, reason) in [
        ("127.0.0.1", Some(Loopback)),
        ("127.0.0.0", Some(Loopback)),
        ("127.255.255.255", Some(Loopback)),
        ("128.0.0.0", None),
        ("126.255.255.255", None),
        ("0.0.0.0", Some(Unspecified)),
        ("0.1.2.3", Some(Unspecified)),
        ("1.0.0.0", None),
        ("169.254.0.0", Some(LinkLocal)),
        ("169.254.255.255", Some(LinkLocal)),
        ("169.253.255.255", None),
        ("169.255.0.0", None),
        ("169.254.169.254", Some(Metadata)),
        ("169.254.170.2", Some(Metadata)),
        ("100.100.100.200", Some(Metadata)),
        ("100.100.100.201", None),
        ("168.63.129.16", Some(Metadata)),
        ("168.63.129.17", None),
        ("224.0.0.0", Some(Multicast)),
        ("239.255.255.255", Some(Multicast)),
        ("240.0.0.0", None),
        ("223.255.255.255", None),
        ("255.255.255.255", Some(Broadcast)),
        ("10.0.0.1", None),
        ("172.16.0.1", None),
        ("192.168.1.1", None),
        ("100.64.0.1", None),
        ("93.184.216.34", None),
        ("::", Some(Unspecified)),
        ("::1", Some(Loopback)),
        ("::2", Some(Unspecified)),
        ("fe80::", Some(LinkLocal)),
        ("fe80::1", Some(LinkLocal)),
        ("febf:ffff::1", Some(LinkLocal)),
        ("fec0::1", None),
        ("ff02::1", Some(Multicast)),
        ("ff00::", Some(Multicast)),
        ("fd00:ec2::254", Some(Metadata)),
        ("fd00:ec2::253", None),
        ("fd20:ce::254", Some(Metadata)),
        ("fd00:c1::a9fe:a9fe", Some(Metadata)),
        ("fd00:42::42", Some(Metadata)),
        ("fd00:a9fe:a9fe::1", Some(Metadata)),
        ("fd00:100::100:200", Some(Metadata)),
        ("fd12:3456::1", None),
        ("2606:4700::1111", None),
        ("2001:db8::1", None),
        // IPv4-mapped
        ("::ffff:127.0.0.1", Some(Loopback)),
        ("::ffff:169.254.169.254", Some(Metadata)),
        ("::ffff:0.0.0.0", Some(Unspecified)),
        ("::ffff:224.0.0.1", Some(Multicast)),
        ("::ffff:255.255.255.255", Some(Broadcast)),
        ("::ffff:10.0.0.1", None),
        ("::ffff:0:127.0.0.1", Some(Loopback)),
        // IPv4-compatible
        ("::127.0.0.1", Some(Loopback)),
        ("::169.254.169.254", Some(Metadata)),
        ("::10.0.0.1", None),
        // NAT64
        ("64:ff9b::127.0.0.1", Some(Loopback)),
        ("64:ff9b::169.254.169.254", Some(Metadata)),
        ("64:ff9b::100.100.100.200", Some(Metadata)),
        ("64:ff9b::8.8.8.8", None),
        ("64:ff9b:1::127.0.0.1", Some(Loopback)),
        // 6to4
        ("2002:7f00:1::", Some(Loopback)),
        ("2002:a9fe:a9fe::1", Some(Metadata)),
        ("2002:808:808::", None),
        // Teredo: the server, and the client with its bits turned
        ("2001:0:7f00:1::", Some(Loopback)),
        ("2001:0:a9fe:a9fe:0:0:f7f7:f7f7", Some(Metadata)),
        ("2001:0:808:808:0:0:80ff:fffe", Some(Loopback)),
        ("2001:0:808:808:0:0:5601:5601", Some(Metadata)),
        ("2001:0:808:808:0:0:f7f7:f7f7", None),
    ] {
        let expected = reason.map_or(Class::Open, Class::Denied);
        assert_eq!(classify(address.parse().unwrap()), expected, "{address}");
    }
}

#[test]
fn a_target_is_reached_when_the_grant_names_it() {
    for (targets, host, port) in [
        (&["10.0.0.0/8"][..], "10.1.2.3", 5432),
        (&["10.0.0.0/8:5432"], "10.1.2.3", 5432),
        (&["192.168.1.1"], "192.168.1.1", 80),
        (&["fd12::/16"], "fd12::7", 443),
        (&["0.0.0.0/0"], "93.184.216.34", 443),
        (&["x.example", "10.1.2.3:80"], "10.1.2.3", 80),
    ] {
        decide(targets, &[], host, port, &[]).unwrap_or_else(|e| panic!("{targets:?} {host}:{port}: {e}"));
    }
}

#[test]
fn a_target_outside_the_grant_is_refused_with_the_line_to_add() {
    for (targets, host, port, says) in [
        (
            &[][..],
            "api.example.com",
            443,
            "api.example.com:443 is not among this monitor's targets; add allow: [\"api.example.com:443\"] to the monitor",
        ),
        (&["other.example.com"], "api.example.com", 443, "allow: [\"api.example.com:443\"]"),
        (&["api.example.com:80"], "api.example.com", 443, "allow: [\"api.example.com:443\"]"),
        (&["10.0.0.0/8"], "11.0.0.1", 80, "allow: [\"11.0.0.1:80\"]"),
        (&["10.0.0.0/8:80"], "10.0.0.1", 81, "allow: [\"10.0.0.1:81\"]"),
        (&["10.0.0.0/8"], "fd00::1", 80, "allow: [\"[fd00::1]:80\"]"),
        (&["10.0.0.0/8"], "64:ff9b::10.0.0.1", 80, "is not among"),
    ] {
        let refusal = decide(targets, &[], host, port, &["93.184.216.34"]).unwrap_err();
        assert!(refusal.contains(says), "{host}:{port}: {refusal}");
    }
}

#[test]
fn what_is_always_denied_is_denied_whatever_the_grant_says() {
    let everything = ["0.0.0.0/0", "::/0", "evil.example", "localhost"];
    for address in [
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "0.0.0.0",
        "0.0.0.1",
        "::",
        "169.254.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "fd00:ec2::254",
        "fe80::1",
        "224.0.0.1",
        "255.255.255.255",
        "ff02::1",
        "64:ff9b::127.0.0.1",
        "2002:7f00:1::",
        "::127.0.0.1",
        "2001:0:7f00:1::",
    ] {
        let refusal = decide(&everything, &[], address, 80, &[]).unwrap_err();
        let printed: IpAddr = address.parse().unwrap();
        assert!(refusal.contains("is always denied"), "{refusal}");
        assert!(refusal.contains(&format!("--allow {printed} ")), "{refusal}");
        let refusal = decide(&everything, &[], "evil.example", 80, &[address]).unwrap_err();
        assert!(refusal.starts_with("evil.example:80 leads to "), "{refusal}");
    }
    let refusal = decide(&everything, &[], "evil.example", 80, &["::ffff:127.0.0.1"]).unwrap_err();
    assert!(refusal.contains("--allow 127.0.0.1 "), "{refusal}");
    let refusal = decide(&["127.0.0.1:8080"], &[], "127.0.0.1", 8080, &[]).unwrap_err();
    assert_eq!(
        refusal,
        "127.0.0.1:8080 is always denied (loopback); start the agent with --allow 127.0.0.1 to open it"
    );
}

#[test]
fn the_ceiling_opens_what_it_names_and_no_more() {
    for (opened, address, port, open) in [
        ("127.0.0.0/8", "127.0.0.1", 80, true),
        ("127.0.0.0/8", "127.1.2.3", 80, true),
        ("127.0.0.0/8", "::1", 80, false),
        ("127.0.0.1", "127.0.0.1", 80, true),
        ("127.0.0.1", "127.0.0.2", 80, false),
        ("127.0.0.1:5432", "127.0.0.1", 5432, true),
        ("127.0.0.1:5432", "127.0.0.1", 80, false),
        ("::1", "::1", 80, true),
        ("::1", "127.0.0.1", 80, false),
        ("localhost", "127.0.0.1", 80, true),
        ("localhost", "::1", 80, true),
        ("localhost", "127.0.0.2", 80, false),
        ("localhost:80", "127.0.0.1", 81, false),
        ("evil.example", "127.0.0.1", 80, false),
        ("169.254.0.0/16", "169.254.1.1", 80, true),
        ("fe80::/10", "fe80::1", 80, true),
        ("0.0.0.0/0", "127.0.0.1", 80, true),
        ("0.0.0.0/0", "::1", 80, false),
        ("::/0", "::1", 80, true),
        ("::/0", "127.0.0.1", 80, false),
        // Metadata only by its own address
        ("169.254.0.0/16", "169.254.169.254", 80, false),
        ("169.254.169.252/30", "169.254.169.254", 80, false),
        ("0.0.0.0/0", "169.254.169.254", 80, false),
        ("0.0.0.0/0", "100.100.100.200", 80, false),
        ("0.0.0.0/0", "168.63.129.16", 80, false),
        ("::/0", "fd00:ec2::254", 80, false),
        ("169.254.169.254", "169.254.169.254", 80, true),
        ("169.254.169.254:80", "169.254.169.254", 80, true),
        ("169.254.169.254:80", "169.254.169.254", 81, false),
        ("fd00:ec2::254", "fd00:ec2::254", 80, true),
        ("169.254.169.254", "64:ff9b::169.254.169.254", 80, false),
        // Wrapped forms only by their own range
        ("127.0.0.0/8", "64:ff9b::127.0.0.1", 80, false),
        ("64:ff9b::/96", "64:ff9b::127.0.0.1", 80, true),
        ("64:ff9b::/96", "64:ff9b::169.254.169.254", 80, false),
        ("127.0.0.0/8", "2002:7f00:1::", 80, false),
    ] {
        let decided = decide(&["0.0.0.0/0", "::/0"], &[opened], address, port, &[]);
        assert_eq!(decided.is_ok(), open, "--allow {opened} and {address}:{port}: {decided:?}");
    }
}

#[test]
fn a_name_that_opens_the_control_plane_does_not_open_metadata() {
    let (name, opened) = ("cp.example.com", "cp.example.com:8440");
    decide(&[name], &[opened], name, 8440, &["198.51.100.9"]).unwrap();
    let refusal = decide(&[name], &[opened], name, 8440, &["169.254.169.254"]).unwrap_err();
    assert!(refusal.contains("(cloud metadata)"), "{refusal}");
}

#[test]
fn the_ceiling_grants_nothing_by_itself() {
    assert!(decide(&[], &["127.0.0.0/8"], "127.0.0.1", 80, &[]).unwrap_err().contains("targets"));
}

#[test]
fn one_denied_address_condemns_the_whole_name() {
    let refusal =
        decide(&["app.example"], &[], "app.example", 80, &["93.184.216.34", "127.0.0.1"]).unwrap_err();
    assert!(refusal.contains("app.example:80 leads to 127.0.0.1, which is always denied"), "{refusal}");
    decide(&["app.example"], &[], "app.example", 80, &["10.0.0.1", "fe80::1"]).unwrap_err();
    decide(&["app.example"], &["127.0.0.1"], "app.example", 80, &["10.0.0.1", "127.0.0.1"]).unwrap();
}

#[test]
fn localhost_may_lose_an_address_that_the_operator_did_not_open() {
    let allowed =
        decide(&["localhost:80"], &["127.0.0.0/8"], "localhost", 80, &["::1", "127.0.0.1"]).unwrap();
    assert_eq!(allowed, ["127.0.0.1"]);
    assert!(
        decide(&["localhost:80"], &[], "localhost", 80, &["::1", "127.0.0.1"])
            .unwrap_err()
            .contains("--allow")
    );
}

#[test]
fn a_range_opens_the_names_that_lead_into_it() {
    let allowed = decide(&["10.0.0.0/8"], &[], "db.internal", 80, &["10.0.0.1", "192.168.0.1"]).unwrap();
    assert_eq!(allowed, ["10.0.0.1"]);
    let refusal = decide(&["10.0.0.0/8"], &[], "db.internal", 80, &["192.168.0.1"]).unwrap_err();
    assert!(refusal.contains("leads to 192.168.0.1"), "{refusal}");
    // A single address is no range: nobody looks up names for it.
    decide(&["10.0.0.1"], &[], "db.internal", 80, &["10.0.0.1"]).unwrap_err();
    decide(&["10.0.0.0/8:443"], &[], "db.internal", 80, &["10.0.0.1"]).unwrap_err();
}

#[test]
fn a_mapped_address_is_dialled_as_what_it_is() {
    assert_eq!(decide(&["app.example"], &[], "app.example", 80, &["::ffff:10.0.0.1"]).unwrap(), ["10.0.0.1"]);
}

#[test]
fn the_control_plane_is_closed_by_name_and_by_address_until_exactly_it_is_opened() {
    let everything = ["0.0.0.0/0", "cp.example.com", "alias.example"];
    for (host, addresses) in [
        ("cp.example.com", &["198.51.100.9"][..]),
        ("198.51.100.9", &[]),
        ("alias.example", &["198.51.100.9"]),
    ] {
        let refusal = decide(&everything, &["0.0.0.0/0"], host, 8440, addresses).unwrap_err();
        assert!(refusal.contains(&format!("--allow {host}:8440 ")), "{refusal}");
        decide(&everything, &[&format!("{host}:8440")], host, 8440, addresses).unwrap();
        decide(&everything, &[], host, 443, addresses).unwrap();
    }
}

#[test]
fn a_name_is_looked_up_when_it_may_be_dialled_on_some_port() {
    for (targets, name, open) in [
        (&["app.example:443"][..], "app.example", true),
        (&["*.example"], "a.b.example", true),
        (&["10.0.0.0/8:80"], "whatever.internal", true),
        (&["10.0.0.1"], "app.example", false),
        (&["app.example"], "app.example.evil", false),
        (&[], "app.example", false),
        // The control plane's own port is its own.
        (&["cp.example.com:8440"], "cp.example.com", false),
        (&["cp.example.com:443"], "cp.example.com", true),
    ] {
        let grant = Grant { targets: rules(targets), ..Grant::default() };
        let ceiling = Ceiling { control: Some(("cp.example.com".to_owned(), 8440)), ..Ceiling::default() };
        let policy = Policy { grant: &grant, ceiling: &ceiling, control: &[] };
        assert_eq!(policy.may_look_up(name).is_ok(), open, "{targets:?} {name}");
    }
}

#[test]
fn a_name_is_asked_only_when_the_grant_names_it() {
    let names = ["example.com", "*.internal"].map(|n| n.parse().unwrap()).to_vec();
    let grant = Grant { names, ..Grant::default() };
    let policy = Policy { grant: &grant, ceiling: &Ceiling::default(), control: &[] };
    for (name, open) in
        [("example.com", true), ("a.b.internal", true), ("internal", false), ("x.example.com", false)]
    {
        assert_eq!(policy.may_ask(name).is_ok(), open, "{name}");
    }
}

proptest! {
    #[test]
    fn an_address_is_denied_in_every_wrapping(bits: u32, host: u64) {
        let ip = Ipv4Addr::from(bits);
        let (high, low) = (bits >> 16, bits & 0xffff);
        let turned = !bits;
        let wrapped = [
            format!("::ffff:{ip}"),
            format!("64:ff9b::{ip}"),
            format!("2002:{high:x}:{low:x}::{:x}", host & 0xffff),
            format!("2001:0:{high:x}:{low:x}::"),
            format!("2001:0:808:808:0:0:{:x}:{:x}", turned >> 16, turned & 0xffff),
        ];
        for address in wrapped {
            let class = classify(address.parse().unwrap());
            prop_assert!(classify(ip.into()) == Class::Open || class != Class::Open, "{address} of {ip}");
        }
    }

    #[test]
    fn no_range_opens_metadata(bits in 0u8..32) {
        for address in ["169.254.169.254", "100.100.100.200", "168.63.129.16"] {
            let range = ipnet::Ipv4Net::new(address.parse().unwrap(), bits).unwrap().trunc().to_string();
            prop_assert!(decide(&["0.0.0.0/0"], &[&range], address, 80, &[]).is_err());
        }
    }
}

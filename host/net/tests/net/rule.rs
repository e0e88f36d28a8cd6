//! Hosts and rules: what is read, what is refused, what is printed.

use picket_net::{Host, NameRule, Rule};
use proptest::prelude::*;

#[test]
fn a_rule_prints_what_parses_to_itself() {
    for text in [
        "example.com",
        "example.com:443",
        "*.example.com",
        "*.example.com:443",
        "10.0.0.0/8",
        "10.0.0.0/8:5432",
        "10.1.2.3",
        "10.1.2.3:80",
        "::1",
        "[::1]:443",
        "2001:db8::/32",
        "[2001:db8::/32]:443",
        "0.0.0.0/0",
        "xn--bcher-kva.example",
        "_dmarc.example.com",
    ] {
        let rule: Rule = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(rule.to_string(), text);
        assert_eq!(rule.to_string().parse::<Rule>().unwrap(), rule);
    }
}

#[test]
fn a_rule_is_read_in_its_canonical_form() {
    for (text, printed) in [
        ("EXAMPLE.com.", "example.com"),
        ("Bücher.example:443", "xn--bcher-kva.example:443"),
        ("[::1]", "::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("10.1.2.3/32", "10.1.2.3"),
        ("ｅxample.com", "example.com"),
    ] {
        assert_eq!(text.parse::<Rule>().unwrap().to_string(), printed);
    }
}

#[test]
fn a_rule_that_means_nothing_or_two_things_is_refused_with_what_to_write() {
    for (text, says) in [
        ("", "not a"),
        ("10.0.0.5/8", "write 10.0.0.0/8"),
        ("10.0.0.0/33", "bits"),
        ("10.0.0.0/", "bits"),
        ("example.com/24", "range"),
        ("https://example.com", ""),
        ("*", "star"),
        ("a.*.com", "star"),
        ("*.10.0.0.1", "range"),
        ("example.com:0", "port"),
        ("example.com:65536", "port"),
        ("example.com:http", "port"),
        ("example.com:", "port"),
        ("example.com:+80", "port"),
        ("example.com:-1", "port"),
        ("[::1]x", "bracket"),
        ("[example.com]", "bracket"),
        ("exa mple.com", ""),
        ("-", ""),
        ("a..b", ""),
    ] {
        match text.parse::<Rule>() {
            Ok(rule) if text == "-" => assert_eq!(rule.to_string(), "-"),
            Ok(rule) => panic!("{text:?} became {rule:?}"),
            Err(error) => assert!(error.to_string().contains(says), "{text:?}: {error}"),
        }
    }
}

#[test]
fn an_address_in_an_odd_spelling_is_never_silently_an_address_or_a_name() {
    for (text, write) in [
        ("0177.0.0.1", "127.0.0.1"),
        ("0x7f.0.0.1", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("127.0.0.01", "127.0.0.1"),
        ("１２７.0.0.1", "127.0.0.1"),
        ("127。0。0。1", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("0xa9fea9fe", "169.254.169.254"),
        ("169.254.43518", "169.254.169.254"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::ffff:7f00:1", "127.0.0.1"),
        ("[::ffff:10.0.0.1]", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%25eth0", "fe80::1"),
        ("256.256.256.256", "number"),
        ("1.2.3.4.5", "number"),
        ("example.0x1", "number"),
        ("example.1", "number"),
    ] {
        match text.parse::<Host>() {
            Ok(host) => panic!("{text} became {host:?}"),
            Err(error) => assert!(error.to_string().contains(write), "{text}: {error}"),
        }
    }
}

#[test]
fn the_rule_of_a_url_is_its_host_and_port() {
    for (url, rule) in [
        ("http://example.com/a:b@c", "example.com:80"),
        ("https://example.com", "example.com:443"),
        ("https://Example.COM:8443/x", "example.com:8443"),
        ("http://[::1]:8080/", "[::1]:8080"),
        ("http://10.0.0.1", "10.0.0.1:80"),
        ("postgres://u:p@db.internal/x", "db.internal:5432"),
        ("https://user:pass@example.com/", "example.com:443"),
    ] {
        assert_eq!(Rule::url(url).unwrap_or_else(|e| panic!("{url}: {e}")).to_string(), rule);
    }
    for url in [
        "http://0x7f.1/",
        "http://2130706433/",
        "http://[::ffff:10.0.0.1]/",
        "mailto:x@y.z",
        "foo://bar/",
        "x",
    ] {
        assert!(Rule::url(url).is_err(), "{url}");
    }
}

#[test]
fn a_star_names_what_is_below_and_not_the_name_itself() {
    let rule: Rule = "*.example.com:443".parse().unwrap();
    let name: NameRule = "*.example.com".parse().unwrap();
    for (asked, below) in [
        ("a.example.com", true),
        ("a.b.example.com", true),
        ("example.com", false),
        ("badexample.com", false),
        (".example.com", false),
        ("example.com.evil.org", false),
    ] {
        assert_eq!(rule.names(asked, 443), below, "{asked}");
        assert_eq!(name.names(asked), below, "{asked}");
    }
    assert!(!rule.names("a.example.com", 80));
}

proptest! {
    #[test]
    fn no_text_is_read_in_two_ways(text in "[a-fx0-9:.%*/\\[\\]@ _-]{0,24}") {
        if let Ok(rule) = text.parse::<Rule>() {
            prop_assert_eq!(rule.to_string().parse::<Rule>().ok(), Some(rule));
        }
        if let Ok(host) = text.parse::<Host>() {
            prop_assert_eq!(host.to_string().parse::<Host>().ok(), Some(host));
        }
    }

    #[test]
    fn no_text_ends_the_reader(text in any::<String>()) {
        let _ = (text.parse::<Rule>(), text.parse::<Host>(), text.parse::<NameRule>(), Rule::url(&text));
    }

    #[test]
    fn what_the_url_parser_reads_as_an_address_is_read_as_no_other(text in "[0-9a-fx.]{1,20}") {
        if let (Ok(host), Ok(url::Host::Ipv4(ip))) = (text.parse::<Host>(), url::Host::parse(&text)) {
            prop_assert_eq!(host, Host::Address(ip.into()));
        }
    }
}

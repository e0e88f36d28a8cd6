//! Which records of an answer section answer the question: those of the asked name and type, or of the name that its aliases lead to.
//! What else a server puts there belongs to somebody else. Pure.

use sdk::dns::Entry;

/// The records of the type, in their order.
pub(crate) fn of_question(name: &str, kind: &str, answers: Vec<Entry>) -> Vec<Entry> {
    let names = names(name, kind, &answers);
    let ours = |entry: &Entry| entry.kind == kind && names.contains(&canonical(&entry.name));
    answers.into_iter().filter(ours).collect()
}

/// The asked name and those behind its aliases (RFC 1034, section 3.6.2).
fn names(name: &str, kind: &str, answers: &[Entry]) -> Vec<String> {
    let asked = match (name.is_ascii(), answers.first()) {
        (true, _) => canonical(name),
        // The host asks for the ASCII form of an international name; the first record is of it.
        (false, first) => first.map(|entry| canonical(&entry.name)).unwrap_or_default(),
    };
    let mut names = vec![asked];
    while let Some(alias) = answers.iter().find(|entry| {
        entry.kind == "CNAME" && kind != "CNAME" && names.last() == Some(&canonical(&entry.name))
    }) {
        let target = canonical(&alias.data);
        if names.contains(&target) {
            break;
        }
        names.push(target);
    }
    names
}

fn canonical(name: &str) -> String {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, kind: &str, data: &str) -> Entry {
        Entry { name: name.into(), kind: kind.into(), ttl: 60, data: data.into(), rdata: Vec::new() }
    }

    fn check(name: &str, kind: &str, answers: &[(&str, &str, &str)], data: &[&str]) {
        let answers = answers.iter().map(|(name, kind, data)| entry(name, kind, data)).collect();
        let found: Vec<String> =
            of_question(name, kind, answers).into_iter().map(|entry| entry.data).collect();
        assert_eq!(found, data);
    }

    #[test]
    fn aliases_are_followed_and_strangers_left_out() {
        check("www.Shop.test", "A", &[("WWW.shop.test.", "A", "192.0.2.1")], &["192.0.2.1"]);
        check("www.shop.test.", "A", &[("other.test.", "A", "192.0.2.1")], &[]);
        let alias = [
            ("edge.cdn.test.", "A", "192.0.2.2"),
            ("www.shop.test.", "CNAME", "shop.cdn.test."),
            ("shop.cdn.test.", "CNAME", "Edge.cdn.test."),
            ("stranger.test.", "A", "192.0.2.66"),
        ];
        check("www.shop.test", "A", &alias, &["192.0.2.2"]);
        check("www.shop.test", "CNAME", &alias, &["shop.cdn.test."]);
        check("größe.test", "A", &[("xn--gre-6ka8i.test.", "A", "192.0.2.3")], &["192.0.2.3"]);
    }

    #[test]
    fn a_circle_of_aliases_ends() {
        let circle = [("a.test.", "CNAME", "b.test."), ("b.test.", "CNAME", "a.test.")];
        check("a.test", "A", &circle, &[]);
    }
}

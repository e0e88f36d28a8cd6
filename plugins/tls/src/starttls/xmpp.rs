//! XMPP (RFC 6120, section 5): a stream of XML is opened, and TLS begins in it. Reads no more of XML than where an element ends.

use sdk::Stop;

use super::{LONGEST_ANSWER, Stream, broken, not_offered};

/// `name` is the domain to ask for.
pub(super) fn xmpp(stream: &mut impl Stream, name: &str) -> Result<(), Stop> {
    let open = format!(
        "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams' to='{}' version='1.0'>",
        escaped(name)
    );
    stream.write(open.as_bytes())?;
    let features = until(
        stream,
        "the stream's opening",
        &["</stream:features>", "<stream:features/>", "</stream:error>"],
    )?;
    if features.contains("<stream:error") {
        return Err(broken("xmpp", format!("the XMPP server refuses the stream: {}", condition(&features))));
    }
    if !features.contains("<starttls") {
        return Err(not_offered("the XMPP server does not offer starttls"));
    }
    stream.write(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")?;
    // An empty element, or one with an end of its own; both end with what is looked for last.
    let answer = until(stream, "starttls", &["/>", "</proceed>", "</failure>"])?;
    match answer.trim_start().starts_with("<proceed") {
        true => Ok(()),
        false => Err(broken("xmpp", format!("the XMPP server refuses starttls: {}", condition(&answer)))),
    }
}

/// Text that ends with one of these, and nothing behind it; behind a refusal the stream ends.
fn until(stream: &mut impl Stream, to: &str, ends: &[&str]) -> Result<String, Stop> {
    let mut heard = String::new();
    loop {
        let bytes = stream.read(1024)?;
        if bytes.is_empty() {
            return Err(broken(
                "xmpp",
                format!("the server closed the connection instead of answering {to}"),
            ));
        }
        heard.push_str(&String::from_utf8_lossy(&bytes));
        if !heard.trim_start().starts_with('<') {
            let found: String = heard.lines().next().unwrap_or_default().chars().take(120).collect();
            return Err(broken("xmpp", format!("the server answers {to} with \"{found}\", which is no XML")));
        }
        if let Some((at, end)) = ends.iter().filter_map(|end| Some((heard.find(end)?, end))).min() {
            let is_refusal = heard.contains("<failure") || heard.contains("<stream:error");
            return match is_refusal || heard[at + end.len()..].trim().is_empty() {
                true => Ok(heard),
                false => Err(broken("xmpp", format!("the XMPP server sends more than one answer to {to}"))),
            };
        }
        if heard.len() > LONGEST_ANSWER {
            return Err(broken("xmpp", format!("the XMPP server's answer to {to} does not end")));
        }
    }
}

/// The first element within the refusal: "host-unknown".
fn condition(answer: &str) -> String {
    let inner = answer
        .split_once("error>")
        .or_else(|| answer.split_once("<failure"))
        .map_or(answer, |(_, inner)| inner);
    let name = inner.split_once('<').map_or(inner, |(_, name)| name);
    name.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect()
}

/// For the value of an attribute. A name that was granted has none of these in it, but what is not looked at may change.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;")
}

#[cfg(test)]
mod tests {
    use super::super::script::outcome;
    use super::*;

    const STREAM: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' from='a.test' id='1'>";
    const OFFER: &str = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>";
    const PROCEED: &str = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

    fn check(answers: &[&str], code: &str, words: &str) -> String {
        let answers: Vec<&[u8]> = answers.iter().map(|answer| answer.as_bytes()).collect();
        let (found, summary, said) = outcome(&answers, |script| xmpp(script, "a.test"));
        assert_eq!(found, code, "{summary}");
        assert!(summary.contains(words), "{summary}");
        String::from_utf8(said).unwrap()
    }

    #[test]
    fn a_stream_is_opened_for_the_name_and_turned_into_tls() {
        let said = check(&[STREAM, OFFER, PROCEED], "ok", "");
        assert!(said.contains("to='a.test'") && said.ends_with("xmpp-tls'/>"), "{said}");
        let whole = format!("{STREAM}{OFFER}");
        check(&[&whole, "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'></proceed>"], "ok", "");
    }

    #[test]
    fn a_server_that_does_not_follow_is_named() {
        check(&[STREAM, "<stream:features/>"], "tls.not_offered", "starttls");
        check(&[STREAM, "<stream:features><bind/></stream:features>"], "tls.not_offered", "starttls");
        let error = "<stream:error><host-unknown xmlns='urn:x'/></stream:error>";
        check(&[STREAM, error], "xmpp.protocol", "refuses the stream: host-unknown");
        check(
            &[STREAM, OFFER, "<failure xmlns='urn:x'/></stream:stream>"],
            "xmpp.protocol",
            "refuses starttls",
        );
        check(&["220 mail\r\n"], "xmpp.protocol", "no XML");
        check(&[], "xmpp.protocol", "closed");
        let injected = format!("{PROCEED}<message/>");
        check(&[STREAM, OFFER, &injected], "xmpp.protocol", "more than one answer");
    }
}

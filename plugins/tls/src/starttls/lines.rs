//! Dialogues of lines: SMTP (RFC 3207), FTP (RFC 4217), IMAP (RFC 9051) and POP3 (RFC 2595).

use sdk::Stop;

use super::{LONGEST_ANSWER, Stream, broken, not_offered};

/// RFC 3207.
pub(super) fn smtp(stream: &mut impl Stream) -> Result<(), Stop> {
    let mail = Numbered { protocol: "smtp", server: "the mail server" };
    mail.expect(stream, "the greeting", 220)?;
    // An address literal (RFC 5321, 4.1.3): an agent has no name that a mail server could check.
    stream.write(b"EHLO [127.0.0.1]\r\n")?;
    let offered = mail.expect(stream, "EHLO", 250)?;
    let offers =
        offered.lines().any(|line| line.get(4..).is_some_and(|word| word.eq_ignore_ascii_case("STARTTLS")));
    if !offers {
        return Err(not_offered("the mail server does not offer STARTTLS"));
    }
    stream.write(b"STARTTLS\r\n")?;
    mail.expect(stream, "STARTTLS", 220).map(drop)
}

/// RFC 4217, section 4. Servers without FEAT are older than it, so AUTH is simply tried.
pub(super) fn ftp(stream: &mut impl Stream) -> Result<(), Stop> {
    let ftp = Numbered { protocol: "ftp", server: "the FTP server" };
    ftp.expect(stream, "the greeting", 220)?;
    stream.write(b"AUTH TLS\r\n")?;
    let reply = ftp.reply(stream, "AUTH TLS")?;
    match reply.get(..3) {
        Some("234") => Ok(()),
        // RFC 959 and RFC 4217: each of these replies says that this server takes no AUTH TLS here.
        Some("500" | "502" | "504" | "530" | "534") => {
            Err(not_offered(format!("the FTP server does not offer TLS: it answers \"{}\"", shown(&reply))))
        }
        _ => Err(ftp.unexpected("AUTH TLS", 234, &reply)),
    }
}

/// RFC 9051, sections 6.1.1 and 6.2.1.
pub(super) fn imap(stream: &mut impl Stream) -> Result<(), Stop> {
    let is_greeting = |line: &str| line.starts_with("* ");
    let greeting = until(stream, "imap", "the greeting", is_greeting)?;
    match word(&greeting, 1).as_str() {
        "OK" => {}
        // RFC 9051, section 7.1.4: whoever is logged in already cannot begin TLS.
        "PREAUTH" => return Err(not_offered("the IMAP server logs in by itself, so STARTTLS cannot follow")),
        _ => return Err(unexpected("imap", "the greeting", &greeting)),
    }
    stream.write(b"a1 CAPABILITY\r\n")?;
    let offered = until(stream, "imap", "CAPABILITY", |line| line.starts_with("a1 "))?;
    let offers = offered
        .lines()
        .filter(|line| word(line, 0) == "*" && word(line, 1) == "CAPABILITY")
        .any(|line| line.split_whitespace().any(|word| word.eq_ignore_ascii_case("STARTTLS")));
    if !offers {
        return Err(not_offered("the IMAP server does not offer STARTTLS"));
    }
    stream.write(b"a2 STARTTLS\r\n")?;
    let answer = until(stream, "imap", "STARTTLS", |line| line.starts_with("a2 "))?;
    match answer.lines().last().map(|line| word(line, 1)).as_deref() {
        Some("OK") => Ok(()),
        _ => Err(unexpected("imap", "STARTTLS", &answer)),
    }
}

/// RFC 2595, section 4, and RFC 2449 for CAPA. Servers without CAPA are older than it, so STLS is simply tried there.
pub(super) fn pop3(stream: &mut impl Stream) -> Result<(), Stop> {
    let is_status = |line: &str| line.starts_with("+OK") || line.starts_with("-ERR");
    let greeting = until(stream, "pop3", "the greeting", is_status)?;
    if !greeting.starts_with("+OK") {
        return Err(unexpected("pop3", "the greeting", &greeting));
    }
    stream.write(b"CAPA\r\n")?;
    let offered = until(stream, "pop3", "CAPA", |line| line == "." || line.starts_with("-ERR"))?;
    let offers = offered.lines().any(|line| line.trim().eq_ignore_ascii_case("STLS"));
    if offered.starts_with("+OK") && !offers {
        return Err(not_offered("the POP3 server does not offer STLS"));
    }
    stream.write(b"STLS\r\n")?;
    let answer = until(stream, "pop3", "STLS", is_status)?;
    match answer.starts_with("+OK") {
        true => Ok(()),
        false if !offers => Err(not_offered("the POP3 server does not know STLS")),
        false => Err(unexpected("pop3", "STLS", &answer)),
    }
}

/// A protocol whose replies begin with three digits (RFC 5321, section 4.2; RFC 959, section 4.2).
struct Numbered {
    protocol: &'static str,
    server: &'static str,
}

impl Numbered {
    /// The text of a reply with that code.
    fn expect(&self, stream: &mut impl Stream, to: &str, code: u16) -> Result<String, Stop> {
        let reply = self.reply(stream, to)?;
        match reply.get(..3).and_then(|digits| digits.parse().ok()) == Some(code) {
            true => Ok(reply),
            false => Err(self.unexpected(to, code, &reply)),
        }
    }

    /// One reply and nothing behind it.
    fn reply(&self, stream: &mut impl Stream, to: &str) -> Result<String, Stop> {
        until_named(stream, self.protocol, self.server, to, end_of_reply)
    }

    fn unexpected(&self, to: &str, code: u16, reply: &str) -> Stop {
        let summary = format!("{} answers {to} with \"{}\", {code} was expected", self.server, shown(reply));
        broken(self.protocol, summary)
    }
}

/// A reply that begins with "250-" ends with "250 ", whatever stands between (RFC 959, section 4.2); any other is one line, also what
/// is no such protocol at all.
fn end_of_reply(lines: &[&str]) -> Option<usize> {
    match lines.first()?.split_at_checked(3) {
        Some((code, rest)) if code.bytes().all(|byte| byte.is_ascii_digit()) && rest.starts_with('-') => {
            let is_last = |line: &&str| line.strip_prefix(code).is_some_and(|rest| !rest.starts_with('-'));
            lines.iter().position(is_last)
        }
        _ => Some(0),
    }
}

fn until(
    stream: &mut impl Stream,
    protocol: &str,
    to: &str,
    is_last: impl Fn(&str) -> bool,
) -> Result<String, Stop> {
    let server = format!("the {} server", protocol.to_uppercase());
    until_named(stream, protocol, &server, to, |lines| lines.iter().position(|line| is_last(line)))
}

/// Lines up to the last one of an answer, which must be the last one that was sent.
fn until_named(
    stream: &mut impl Stream,
    protocol: &str,
    server: &str,
    to: &str,
    last: impl Fn(&[&str]) -> Option<usize>,
) -> Result<String, Stop> {
    let mut heard = String::new();
    loop {
        let whole = heard.rfind('\n').map_or("", |end| &heard[..=end]);
        let lines: Vec<&str> = whole.lines().collect();
        if let Some(last) = last(&lines) {
            if last + 1 != lines.len() || !heard.ends_with('\n') {
                return Err(broken(protocol, format!("{server} sends more than one answer to {to}")));
            }
            return Ok(heard);
        }
        // Whoever speaks something else would be waited for until the time is up.
        if let Some(first) = lines.first().filter(|first| !begins_an_answer(first, protocol)) {
            return Err(unexpected_by(protocol, server, to, first));
        }
        let bytes = stream.read(1024)?;
        if bytes.is_empty() {
            return Err(broken(
                protocol,
                format!("{server} closed the connection instead of answering {to}"),
            ));
        }
        heard.push_str(&String::from_utf8_lossy(&bytes));
        if heard.len() > LONGEST_ANSWER {
            return Err(broken(protocol, format!("{server}'s answer to {to} does not end")));
        }
    }
}

/// Whether an answer of that protocol may begin so.
fn begins_an_answer(line: &str, protocol: &str) -> bool {
    match protocol {
        "imap" => line.starts_with("* ") || line.starts_with('a') || line.starts_with("+ "),
        "pop3" => line.starts_with("+OK") || line.starts_with("-ERR"),
        _ => true,
    }
}

fn unexpected(protocol: &str, to: &str, answer: &str) -> Stop {
    unexpected_by(protocol, &format!("the {} server", protocol.to_uppercase()), to, answer)
}

fn unexpected_by(protocol: &str, server: &str, to: &str, answer: &str) -> Stop {
    broken(protocol, format!("{server} answers {to} with \"{}\"", shown(answer)))
}

/// The last line, as much of it as fits into a summary.
fn shown(answer: &str) -> String {
    answer.lines().last().unwrap_or_default().chars().take(120).collect()
}

/// In upper case; empty where there is none.
fn word(line: &str, place: usize) -> String {
    line.split_whitespace().nth(place).unwrap_or_default().to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::super::script::{Script, outcome};
    use super::*;

    type Dialogue = fn(&mut Script) -> Result<(), Stop>;

    fn check(dialogue: Dialogue, answers: &[&str], code: &str) -> String {
        let answers: Vec<&[u8]> = answers.iter().map(|answer| answer.as_bytes()).collect();
        let (found, summary, said) = outcome(&answers, dialogue);
        assert_eq!(found, code, "{summary}");
        String::from_utf8(said).unwrap()
    }

    #[test]
    fn a_mail_server_is_brought_to_its_handshake() {
        for answers in [
            &["220 hi\r\n", "250-me\r\n250-starttls\r\n250 OK\r\n", "220 go\r\n"][..],
            &["220-hi\r\n", "220 there\r\n", "250-me\r\n250 START", "TLS\r\n", "220 go\r\n"],
        ] {
            assert_eq!(check(smtp, answers, "ok"), "EHLO [127.0.0.1]\r\nSTARTTLS\r\n");
        }
    }

    #[test]
    fn a_mail_server_that_does_not_follow_is_named() {
        check(smtp, &["220 hi\r\n", "250-me\r\n250 SIZE\r\n"], "tls.not_offered");
        check(smtp, &["554 go away\r\n"], "smtp.protocol");
        check(smtp, &["HTTP/1.1 400 Bad Request\r\n"], "smtp.protocol");
        check(smtp, &["SSH-2.0-OpenSSH_9.2\r\n"], "smtp.protocol");
        check(smtp, &[], "smtp.protocol");
        check(smtp, &["220 hi\r\n", "250-me\r\n250 STARTTLS\r\n", "454 later\r\n"], "smtp.protocol");
    }

    #[test]
    fn bytes_in_front_of_the_handshake_are_refused() {
        let offer = "250-me\r\n250 STARTTLS\r\n";
        check(smtp, &["220 hi\r\n", offer, "220 go\r\n250 injected\r\n"], "smtp.protocol");
        check(smtp, &["220 hi\r\n", offer, "220 go\r\n\x16"], "smtp.protocol");
        check(ftp, &["220 hi\r\n", "234 go\r\n230 in\r\n"], "ftp.protocol");
        check(
            imap,
            &["* OK hi\r\n", "* CAPABILITY STARTTLS\r\na1 OK\r\n", "a2 OK go\r\n* OK x\r\n"],
            "imap.protocol",
        );
        check(pop3, &["+OK hi\r\n", "+OK\r\nSTLS\r\n.\r\n", "+OK go\r\n+OK x\r\n"], "pop3.protocol");
    }

    #[test]
    fn an_ftp_server_is_asked_for_tls() {
        let said = check(ftp, &["220-hi\r\nthere\r\n 221 x\r\n220 you\r\n", "234 go\r\n"], "ok");
        assert_eq!(said, "AUTH TLS\r\n");
        for refusal in ["500 what?\r\n", "502 no\r\n", "504 no\r\n", "530 log in\r\n", "534 no\r\n"] {
            check(ftp, &["220 hi\r\n", refusal], "tls.not_offered");
        }
        check(ftp, &["220 hi\r\n", "431 later\r\n"], "ftp.protocol");
        check(ftp, &["421 full\r\n"], "ftp.protocol");
    }

    #[test]
    fn an_imap_server_is_asked_what_it_can() {
        let offer = "* CAPABILITY IMAP4rev1 STARTTLS\r\na1 OK done\r\n";
        let said = check(imap, &["* OK hi\r\n", offer, "a2 OK go\r\n"], "ok");
        assert_eq!(said, "a1 CAPABILITY\r\na2 STARTTLS\r\n");
        check(imap, &["* OK hi\r\n", "* CAPABILITY IMAP4rev1\r\na1 OK done\r\n"], "tls.not_offered");
        check(imap, &["* PREAUTH hi\r\n"], "tls.not_offered");
        check(imap, &["* BYE full\r\n"], "imap.protocol");
        check(imap, &["220 hi\r\n"], "imap.protocol");
        check(imap, &["* OK hi\r\n", offer, "a2 NO not now\r\n"], "imap.protocol");
    }

    #[test]
    fn a_pop3_server_is_asked_what_it_can() {
        let said = check(pop3, &["+OK hi\r\n", "+OK\r\nUIDL\r\nSTLS\r\n.\r\n", "+OK go\r\n"], "ok");
        assert_eq!(said, "CAPA\r\nSTLS\r\n");
        check(pop3, &["+OK hi\r\n", "-ERR what?\r\n", "+OK go\r\n"], "ok");
        check(pop3, &["+OK hi\r\n", "-ERR what?\r\n", "-ERR what?\r\n"], "tls.not_offered");
        check(pop3, &["+OK hi\r\n", "+OK\r\nUIDL\r\n.\r\n"], "tls.not_offered");
        check(pop3, &["-ERR full\r\n"], "pop3.protocol");
        check(pop3, &["* OK hi\r\n"], "pop3.protocol");
    }
}

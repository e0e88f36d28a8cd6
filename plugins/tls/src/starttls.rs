//! The dialogues in front of a handshake. Each ends where the next byte belongs to TLS.

use sdk::{Outcome, Stop, tcp::Connection};

use crate::config::Starttls;

/// Brings the connection to the point where the handshake begins.
pub(crate) fn speak(dialogue: Starttls, connection: &Connection) -> Result<(), Stop> {
    match dialogue {
        Starttls::Smtp => smtp(&mut &*connection),
        Starttls::Postgres => postgres(&mut &*connection),
    }
}

/// What a dialogue needs of a connection.
trait Stream {
    /// Empty at the end.
    fn read(&mut self, max: u32) -> Result<Vec<u8>, Stop>;
    fn write(&mut self, bytes: &[u8]) -> Result<(), Stop>;
}

impl Stream for &Connection {
    fn read(&mut self, max: u32) -> Result<Vec<u8>, Stop> {
        Ok(Connection::read(self, max)?)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        Ok(Connection::write(self, bytes)?)
    }
}

/// RFC 3207.
fn smtp(stream: &mut impl Stream) -> Result<(), Stop> {
    expect(stream, "the greeting", 220)?;
    // An address literal (RFC 5321, 4.1.3): an agent has no name that a mail server could check.
    stream.write(b"EHLO [127.0.0.1]\r\n")?;
    let offered = expect(stream, "EHLO", 250)?;
    let offers =
        offered.lines().any(|line| line.get(4..).is_some_and(|word| word.eq_ignore_ascii_case("STARTTLS")));
    if !offers {
        return Err(not_offered("the mail server does not offer STARTTLS"));
    }
    stream.write(b"STARTTLS\r\n")?;
    expect(stream, "STARTTLS", 220).map(drop)
}

/// Reads one reply (RFC 5321, 4.2) and nothing behind it; its text when the code is the expected one.
fn expect(stream: &mut impl Stream, to: &str, code: u16) -> Result<String, Stop> {
    let mut reply = String::new();
    while !is_complete(&reply) {
        let bytes = stream.read(1024)?;
        if bytes.is_empty() {
            return Err(broken(format!("the mail server closed the connection instead of answering {to}")));
        }
        reply.push_str(&String::from_utf8_lossy(&bytes));
        if reply.len() > LONGEST_REPLY {
            return Err(broken(format!("the mail server's answer to {to} does not end")));
        }
    }
    // Whoever sends more in the clear could make it look as if it came through TLS (CVE-2011-0411).
    let lines: Vec<&str> = reply.lines().collect();
    let last = lines.iter().position(|line| is_last(line)).unwrap_or(0);
    if last + 1 != lines.len() {
        return Err(broken(format!("the mail server sends more than one answer to {to}")));
    }
    if reply.get(..3).and_then(|digits| digits.parse().ok()) == Some(code) {
        return Ok(reply);
    }
    let line: String = lines[last].chars().take(120).collect();
    Err(broken(format!("the mail server answers {to} with \"{line}\", {code} was expected")))
}

fn is_complete(reply: &str) -> bool {
    reply.ends_with('\n') && reply.lines().any(is_last)
}

/// "250 text", where "250-text" would go on. A line that is no reply at all also ends it.
fn is_last(line: &str) -> bool {
    let goes_on =
        |(code, rest): (&str, &str)| code.bytes().all(|byte| byte.is_ascii_digit()) && rest.starts_with('-');
    !line.split_at_checked(3).is_some_and(goes_on)
}

/// The protocol's SSLRequest message, answered with one byte.
fn postgres(stream: &mut impl Stream) -> Result<(), Stop> {
    stream.write(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f])?;
    match stream.read(1)?.first() {
        Some(b'S') => Ok(()),
        Some(b'N') => Err(not_offered("the PostgreSQL server does not offer TLS")),
        Some(_) => Err(Outcome::down(
            "postgres.protocol",
            "the server does not answer an SSLRequest as PostgreSQL does",
        )
        .into()),
        None => Err(Outcome::down(
            "postgres.protocol",
            "the server closed the connection instead of answering an SSLRequest",
        )
        .into()),
    }
}

fn not_offered(summary: &str) -> Stop {
    Outcome::down("tls.not_offered", summary).into()
}

fn broken(summary: String) -> Stop {
    Outcome::down("smtp.protocol", summary).into()
}

/// Bytes. RFC 5321 knows lines of 512; a server has a dozen extensions.
const LONGEST_REPLY: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers in turn, a piece each time; keeps what was said.
    struct Script(Vec<&'static str>, String);

    impl Stream for Script {
        fn read(&mut self, _: u32) -> Result<Vec<u8>, Stop> {
            Ok(if self.0.is_empty() { Vec::new() } else { self.0.remove(0).into() })
        }

        fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
            self.1.push_str(&String::from_utf8_lossy(bytes));
            Ok(())
        }
    }

    fn check_smtp(answers: &[&'static str], code: &str) {
        let mut script = Script(answers.to_vec(), String::new());
        match smtp(&mut script) {
            Ok(()) => assert_eq!((code, script.1.as_str()), ("ok", "EHLO [127.0.0.1]\r\nSTARTTLS\r\n")),
            Err(Stop::Outcome(outcome)) => assert_eq!(outcome.code, code, "{}", outcome.summary),
            Err(stop) => panic!("{stop:?}"),
        }
    }

    #[test]
    fn a_mail_server_is_brought_to_its_handshake() {
        check_smtp(&["220 hi\r\n", "250-me\r\n250-starttls\r\n250 OK\r\n", "220 go\r\n"], "ok");
        check_smtp(&["220-hi\r\n", "220 there\r\n", "250-me\r\n250 START", "TLS\r\n", "220 go\r\n"], "ok");
    }

    #[test]
    fn a_mail_server_that_does_not_follow_is_named() {
        check_smtp(&["220 hi\r\n", "250-me\r\n250 SIZE\r\n"], "tls.not_offered");
        check_smtp(&["554 go away\r\n"], "smtp.protocol");
        check_smtp(&["HTTP/1.1 400 Bad Request\r\n"], "smtp.protocol");
        check_smtp(&["SSH-2.0-OpenSSH_9.2\r\n"], "smtp.protocol");
        check_smtp(&[], "smtp.protocol");
        check_smtp(&["220 hi\r\n", "250-me\r\n250 STARTTLS\r\n", "454 later\r\n"], "smtp.protocol");
    }

    #[test]
    fn bytes_in_front_of_the_handshake_are_refused() {
        check_smtp(
            &["220 hi\r\n", "250-me\r\n250 STARTTLS\r\n", "220 go\r\n250 injected\r\n"],
            "smtp.protocol",
        );
    }

    #[test]
    fn a_database_says_with_one_byte_whether_it_speaks_tls() {
        assert!(postgres(&mut Script(vec!["S"], String::new())).is_ok());
        for (answer, code) in [("N", "tls.not_offered"), ("E", "postgres.protocol")] {
            let Err(Stop::Outcome(outcome)) = postgres(&mut Script(vec![answer], String::new())) else {
                panic!()
            };
            assert_eq!(outcome.code, code);
        }
    }
}

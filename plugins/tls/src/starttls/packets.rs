//! Dialogues of packets: LDAP (RFC 4511), MySQL and PostgreSQL (their protocol manuals).

use sdk::Stop;

use super::{LONGEST_ANSWER, Stream, broken, exactly, not_offered};

/// The extended operation StartTLS (RFC 4511, section 4.14), in BER.
pub(super) fn ldap(stream: &mut impl Stream) -> Result<(), Stop> {
    stream.write(&[&[0x30, 0x1d, 0x02, 0x01, 0x01, 0x77, 0x18, 0x80, 0x16][..], START_TLS].concat())?;
    let wrong = || broken("ldap", "the server does not answer StartTLS as LDAP does");
    let head = exactly(stream, 2)?.ok_or_else(|| closed("ldap", "the LDAP server", "StartTLS"))?;
    if head[0] != 0x30 {
        return Err(wrong());
    }
    let length = match head[1] {
        short @ ..=0x7f => usize::from(short),
        long @ 0x81..=0x82 => {
            let bytes = exactly(stream, usize::from(long - 0x80))?.ok_or_else(wrong)?;
            bytes.iter().fold(0, |sum, byte| sum * 256 + usize::from(*byte))
        }
        _ => return Err(wrong()),
    };
    if length > LONGEST_ANSWER {
        return Err(wrong());
    }
    let message = exactly(stream, length)?.ok_or_else(|| closed("ldap", "the LDAP server", "StartTLS"))?;
    // messageID 1, then ExtendedResponse: resultCode, matchedDN, diagnosticMessage (section 4.1.9).
    let (_, rest) = element(&message, 0x02).filter(|(id, _)| *id == [1]).ok_or_else(wrong)?;
    let (response, _) = element(rest, 0x78).ok_or_else(wrong)?;
    let (code, rest) = element(response, 0x0a).ok_or_else(wrong)?;
    let diagnostic = element(rest, 0x04).and_then(|(_, rest)| element(rest, 0x04)).map(|(text, _)| text);
    let says = match String::from_utf8_lossy(diagnostic.unwrap_or_default()) {
        text if text.is_empty() => String::new(),
        text => format!(": {}", text.chars().take(120).collect::<String>()),
    };
    match code {
        [0] => Ok(()),
        // protocolError: it does not know the operation. unavailable, unwillingToPerform: it has no certificate.
        [code @ (2 | 52 | 53)] => {
            Err(not_offered(format!("the LDAP server does not offer StartTLS (result {code}){says}")))
        }
        code => {
            let code = code.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(256) + u64::from(*byte));
            Err(broken("ldap", format!("the LDAP server answers StartTLS with result {code}{says}")))
        }
    }
}

/// What stands in an element of BER with that tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match *length {
        short @ ..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(*rest.first()?) * 256 + usize::from(*rest.get(1)?), &rest[2..]),
        _ => return None,
    };
    (*found == tag).then(|| rest.split_at_checked(length)).flatten()
}

/// The server speaks first; the client answers with the first part of its handshake response, and TLS follows (MySQL, "Connection
/// Phase").
pub(super) fn mysql(stream: &mut impl Stream) -> Result<(), Stop> {
    let wrong = || broken("mysql", "the server does not greet as MySQL does");
    let gone = || closed("mysql", "the MySQL server", "a connection");
    let head = exactly(stream, 4)?.ok_or_else(gone)?;
    let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
    if !(3..=LONGEST_ANSWER).contains(&length) || head[3] != 0 {
        return Err(wrong());
    }
    let greeting = exactly(stream, length)?.ok_or_else(gone)?;
    if greeting[0] == 0xff {
        // An error packet: too many connections, a host that is not let in. Two bytes of code are in front.
        let text: String = String::from_utf8_lossy(&greeting[3..]).chars().take(120).collect();
        return Err(broken("mysql", format!("the MySQL server refuses the connection: {text}")));
    }
    if greeting[0] != 10 {
        return Err(wrong());
    }
    // The version ends with a zero; then come 4 bytes of thread, 8 of a challenge and a zero.
    let version = greeting[1..].iter().position(|byte| *byte == 0).ok_or_else(wrong)?;
    let at = 1 + version + 1 + 4 + 8 + 1;
    let offered = greeting.get(at..at + 2).ok_or_else(wrong)?;
    if u16::from_le_bytes([offered[0], offered[1]]) & CLIENT_SSL == 0 {
        return Err(not_offered("the MySQL server does not offer TLS"));
    }
    let mut request = vec![32, 0, 0, 1];
    request.extend(CAPABILITIES.to_le_bytes());
    request.extend(LARGEST_PACKET.to_le_bytes());
    request.push(UTF8MB4);
    request.extend([0; 23]);
    stream.write(&request)
}

/// The protocol's SSLRequest message, answered with one byte.
pub(super) fn postgres(stream: &mut impl Stream) -> Result<(), Stop> {
    stream.write(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f])?;
    match stream.read(1)?.first() {
        Some(b'S') => Ok(()),
        Some(b'N') => Err(not_offered("the PostgreSQL server does not offer TLS")),
        Some(_) => Err(broken("postgres", "the server does not answer an SSLRequest as PostgreSQL does")),
        None => Err(closed("postgres", "the server", "an SSLRequest")),
    }
}

fn closed(protocol: &str, server: &str, to: &str) -> Stop {
    broken(protocol, format!("{server} closed the connection instead of answering {to}"))
}

/// RFC 4511, section 4.14.1.
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";
/// Long passwords, 4.1's protocol, TLS, its way of logging in, and named plugins for that.
const CAPABILITIES: u32 = 0x0000_0001 | 0x0000_0200 | CLIENT_SSL as u32 | 0x0000_8000 | 0x0008_0000;
const CLIENT_SSL: u16 = 0x0800;
const LARGEST_PACKET: u32 = 16 * 1024 * 1024;
const UTF8MB4: u8 = 45;

#[cfg(test)]
mod tests {
    use super::super::script::outcome;
    use super::*;

    fn ldap_answer(code: u8, text: &str) -> Vec<u8> {
        let mut response = vec![0x0a, 1, code, 0x04, 0, 0x04, u8::try_from(text.len()).unwrap()];
        response.extend(text.bytes());
        let mut message = vec![0x02, 1, 1, 0x78, u8::try_from(response.len()).unwrap()];
        message.extend(response);
        [vec![0x30, u8::try_from(message.len()).unwrap()], message].concat()
    }

    fn greeting(capabilities: u16) -> Vec<u8> {
        let mut packet = vec![10];
        packet.extend(b"8.4.0\0\x01\0\0\0challeng\0");
        packet.extend(capabilities.to_le_bytes());
        packet.extend([45, 2, 0, 0xff, 0xdf]);
        [vec![u8::try_from(packet.len()).unwrap(), 0, 0, 0], packet].concat()
    }

    #[test]
    fn a_directory_is_asked_for_start_tls() {
        let answer = ldap_answer(0, "");
        let (code, summary, said) = outcome(&[&answer[..3], &answer[3..]], ldap);
        assert_eq!(code, "ok", "{summary}");
        assert_eq!((said.len(), &said[9..]), (31, START_TLS));
        let long = [&[0x30, 0x82, 0, 12][..], &ldap_answer(0, "")[2..]].concat();
        assert_eq!(outcome(&[&long], ldap).0, "ok");
        for (answer, code, words) in [
            (ldap_answer(2, "unsupported"), "tls.not_offered", "unsupported"),
            (ldap_answer(52, ""), "tls.not_offered", "result 52"),
            (ldap_answer(1, "TLS started already"), "ldap.protocol", "result 1: TLS started already"),
            (b"220 mail\r\n".to_vec(), "ldap.protocol", "as LDAP does"),
            (vec![0x30, 0x84, 0, 0, 0, 9], "ldap.protocol", "as LDAP does"),
            (ldap_answer(0, "")[..9].to_vec(), "ldap.protocol", "closed"),
        ] {
            let (found, summary, _) = outcome(&[&answer], ldap);
            assert_eq!(found, code, "{summary}");
            assert!(summary.contains(words), "{summary}");
        }
    }

    #[test]
    fn a_mysql_server_says_in_its_greeting_whether_it_speaks_tls() {
        let (code, summary, said) = outcome(&[&greeting(0xffff)], mysql);
        assert_eq!(code, "ok", "{summary}");
        assert_eq!((said.len(), &said[..4], said[5] & 0x08), (36, &[32, 0, 0, 1][..], 0x08));
        let refused = [&[20, 0, 0, 0, 0xff, 0x10, 0x04][..], b"Too many connects"].concat();
        for (answer, code, words) in [
            (greeting(0xf7ff), "tls.not_offered", "does not offer"),
            (refused, "mysql.protocol", "Too many"),
            (b"220 mail server\r\n".to_vec(), "mysql.protocol", "as MySQL does"),
            (Vec::new(), "mysql.protocol", "closed"),
        ] {
            let (found, summary, _) = outcome(&[&answer], mysql);
            assert_eq!(found, code, "{summary}");
            assert!(summary.contains(words), "{summary}");
        }
    }

    #[test]
    fn a_database_says_with_one_byte_whether_it_speaks_tls() {
        for (answer, code) in [
            (&b"S"[..], "ok"),
            (b"N", "tls.not_offered"),
            (b"E", "postgres.protocol"),
            (b"", "postgres.protocol"),
        ] {
            assert_eq!(outcome(&[answer], postgres).0, code);
        }
    }
}

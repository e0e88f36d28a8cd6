//! HTTP/1.1 by hand: messages with the very bytes that carried them, so that they can be cut, altered and sent again.
//!
//! Blocking; knows content-length and chunks. What a message means is its reader's business.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A request or an answer.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// "POST /v1/hello HTTP/1.1" or "HTTP/1.1 200 OK".
    pub start: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Without the framing of chunks.
    pub body: Vec<u8>,
    /// All of it as it came.
    pub raw: Vec<u8>,
}

impl Message {
    /// The next message of a connection; none at its end. `to` is the method of the request when this is an answer.
    pub fn read(from: &mut impl BufRead, to: Option<&str>) -> io::Result<Option<Self>> {
        let mut message = Self::default();
        message.start = message.line(from)?;
        if message.raw.is_empty() {
            return Ok(None);
        }
        loop {
            let line = message.line(from)?;
            let Some((name, value)) = line.split_once(':') else { break };
            message.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let bodiless =
            to.is_some_and(|method| method == "HEAD") || [101, 204, 304].contains(&message.status());
        if bodiless {
            return Ok(Some(message));
        }
        if message.header("transfer-encoding").contains("chunked") {
            message.chunks(from)?;
        } else if let Ok(length) = message.header("content-length").parse() {
            let bytes = message.take(from, length)?;
            message.body = bytes;
        } else if to.is_some() {
            from.read_to_end(&mut message.body)?;
            message.raw.extend_from_slice(&message.body);
        }
        Ok(Some(message))
    }

    /// An answer with that body.
    pub fn answer(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        [head.as_bytes(), b"\r\n", body].concat()
    }

    /// Of an answer; 0 of a request.
    pub fn status(&self) -> u16 {
        let code = self.start.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        code.and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// Of a request.
    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// Of a request, with the query.
    pub fn path(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The value of a header, or "".
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// Its body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Its bytes with another body and other headers: an answer of the same shape that says something else.
    pub fn altered(&self, body: &[u8], replaced: &[(&str, &str)]) -> Vec<u8> {
        let mut head = format!("{}\r\n", self.start);
        for (name, value) in &self.headers {
            if ["content-length", "transfer-encoding"].contains(&name.as_str()) {
                continue;
            }
            let value = replaced.iter().find(|(n, _)| n == name).map_or(value.as_str(), |(_, v)| v);
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    fn line(&mut self, from: &mut impl BufRead) -> io::Result<String> {
        let mut line = Vec::new();
        from.read_until(b'\n', &mut line)?;
        self.raw.extend_from_slice(&line);
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn take(&mut self, from: &mut impl BufRead, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        from.read_exact(&mut bytes)?;
        self.raw.extend_from_slice(&bytes);
        Ok(bytes)
    }

    fn chunks(&mut self, from: &mut impl BufRead) -> io::Result<()> {
        loop {
            let size = self.line(from)?;
            let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            let chunk = self.take(from, size)?;
            self.body.extend_from_slice(&chunk);
            self.line(from)?;
            if size == 0 {
                return Ok(());
            }
        }
    }
}

/// One request on a connection of its own, to a port of this machine. An answer comes within a minute or is none.
pub fn ask(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Message> {
    ask_within(LONGEST, port, method, path, headers, body)
}

/// The same for an answer that may take so long to begin.
pub fn ask_within(
    longest: Duration,
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Message> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("content-length: {}\r\n\r\n", body.len());
    send_within(longest, port, &[head.as_bytes(), body].concat(), method)
}

/// Bytes that are a request, and the answer to them.
pub fn send(port: u16, request: &[u8], method: &str) -> io::Result<Message> {
    send_within(LONGEST, port, request, method)
}

fn send_within(longest: Duration, port: u16, request: &[u8], method: &str) -> io::Result<Message> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(longest))?;
    stream.write_all(request)?;
    let mut reader = BufReader::new(stream);
    Message::read(&mut reader, Some(method))?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

const LONGEST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_whole_and_byte_for_byte() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.1 304 Not Modified\r\n\r\n";
        let mut from = &bytes[..];
        let mut all = Vec::new();
        for (status, body) in [(200, "{}"), (200, "abc"), (304, "")] {
            let message = Message::read(&mut from, Some("GET")).unwrap().unwrap();
            assert_eq!((message.status(), &message.body[..]), (status, body.as_bytes()));
            all.extend(message.raw);
        }
        assert_eq!(all, bytes);
        assert!(Message::read(&mut from, Some("GET")).unwrap().is_none());
    }

    #[test]
    fn an_altered_answer_keeps_what_was_not_replaced() {
        let mut from =
            &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\netag: a\r\npicket-signature: b\r\n\r\n{}"[..];
        let message = Message::read(&mut from, Some("GET")).unwrap().unwrap();
        let altered = message.altered(b"[1]", &[("picket-signature", "c")]);
        assert_eq!(
            String::from_utf8(altered).unwrap(),
            "HTTP/1.1 200 OK\r\netag: a\r\npicket-signature: c\r\ncontent-length: 3\r\n\r\n[1]"
        );
    }
}

//! Something that speaks PostgreSQL's protocol, and lies in one known way. Speaks no TLS; asks for no password unless the lie is
//! about it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::Error;
use crate::listener::Listener;

/// What it does instead of serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Answers the login with bytes that are no message.
    Garbage,
    /// Answers the login with a web page.
    WebPage,
    /// Announces a message of two gigabytes.
    HugeLength,
    /// Announces a message shorter than its own length field.
    ShortLength,
    /// Sends settings during the login, without end.
    ParameterFlood,
    /// Asks for the password again and again.
    Questions,
    /// Knows no password, and claims to.
    Impostor,
    /// Continues SCRAM with a nonce of its own.
    WrongNonce,
    /// Asks for four thousand million rounds of hashing.
    ManyRounds,
    /// Ends the connection after the login's first message.
    Closes,
    /// Ends the connection in the middle of a row.
    ClosesInRow,
    /// Sends rows without end.
    EndlessRows,
    /// Sends one endless message, a byte at a time.
    Trickle,
    /// Sends notices without end instead of an answer.
    NoticeFlood,
    /// Sends a row whose columns are longer than itself.
    CutRow,
    /// Sends a row of one column.
    OneColumn,
    /// Sends rows of numbers that are none.
    NoNumbers,
    /// Says that it is ready, without an answer.
    NoAnswer,
    /// Sends a row and then nothing.
    NeverReady,
    /// Sends a row and then an error.
    ErrorInQuery,
    /// Sends a row, an error that ends the session, and ends it.
    FatalInQuery,
    /// Sends an error that says nothing.
    EmptyError,
    /// Says that it is PostgreSQL 11.
    Old,
    /// Answers an SSLRequest with an error.
    TlsError,
    /// Answers an SSLRequest with yes, and slips a login behind it in the clear.
    TlsInjection,
}

/// The server.
#[derive(Debug)]
pub struct Liar {
    listener: Listener,
}

impl Liar {
    /// Lies to whoever connects.
    pub fn start(lie: Lie) -> Result<Liar, Error> {
        let listener = Listener::start(move |stream| {
            // Whoever is lied to may go at any time.
            let _ = serve(stream, lie);
        })?;
        Ok(Liar { listener })
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.listener.port()
    }
}

fn serve(mut stream: TcpStream, lie: Lie) -> std::io::Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    read(&mut stream, length)?;
    match lie {
        Lie::Garbage => return stream.write_all(&[0xff; 64]),
        Lie::WebPage => return stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        Lie::HugeLength => return stream.write_all(b"R\x7f\xff\xff\xff"),
        Lie::ShortLength => return stream.write_all(b"R\0\0\0\x03"),
        Lie::Closes => return Ok(()),
        Lie::TlsError => return stream.write_all(b"E"),
        Lie::TlsInjection => {
            stream.write_all(&[b"S", &message(b'R', &[0; 4])[..]].concat())?;
            return swallow(&mut stream);
        }
        Lie::ParameterFlood => {
            stream.write_all(&message(b'R', &[0; 4]))?;
            return flood(&mut stream, &parameter("x", "y"));
        }
        Lie::Questions => return flood(&mut stream, &message(b'R', b"\0\0\0\x05salt")),
        Lie::Impostor | Lie::WrongNonce | Lie::ManyRounds => return scram(stream, lie),
        _ => {}
    }
    let version = if lie == Lie::Old { "11.22" } else { "15.7" };
    let login =
        [message(b'R', &[0; 4]), parameter("server_version", version), message(b'K', &[0; 8]), ready()];
    stream.write_all(&login.concat())?;
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        read(&mut stream, [head[1], head[2], head[3], head[4]])?;
        answer(&mut stream, lie)?;
    }
}

fn answer(stream: &mut TcpStream, lie: Lie) -> std::io::Result<()> {
    let one = row(&["1"]);
    match lie {
        Lie::EndlessRows => flood(stream, &one),
        Lie::NoticeFlood => flood(stream, &message(b'N', b"SNOTICE\0\0")),
        Lie::Trickle => {
            stream.write_all(b"N\0\x0f\xff\xff")?;
            loop {
                stream.write_all(b"x")?;
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
        Lie::ClosesInRow => {
            stream.write_all(&one[..one.len() - 1])?;
            stream.shutdown(std::net::Shutdown::Both)
        }
        Lie::CutRow => stream.write_all(&message(b'D', b"\0\x01\0\0\0\x09x")),
        Lie::OneColumn => stream.write_all(&[one, ready()].concat()),
        Lie::NoNumbers => {
            let text =
                ["0", "t", "NaN", "-1", "f", "Infinity", "NaN", "7", "streaming", "NaN", "f", "1e999", "x"];
            stream.write_all(&[row(&text), ready()].concat())
        }
        Lie::NoAnswer => stream.write_all(&ready()),
        Lie::NeverReady => {
            stream.write_all(&one)?;
            swallow(stream)
        }
        Lie::ErrorInQuery => stream.write_all(&[one, error("XX000", "out of order"), ready()].concat()),
        Lie::FatalInQuery => {
            stream.write_all(&[one, error("57P01", "terminating connection")].concat())?;
            stream.shutdown(std::net::Shutdown::Both)
        }
        Lie::EmptyError => stream.write_all(&[message(b'E', b"\0"), ready()].concat()),
        _ => swallow(stream),
    }
}

/// SCRAM up to where the lie is. The nonce of the client stands behind the last `r=` of what it says.
fn scram(mut stream: TcpStream, lie: Lie) -> std::io::Result<()> {
    stream.write_all(&message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0"))?;
    let said = said(&mut stream)?;
    let nonce = said.rsplit("r=").next().unwrap_or_default();
    let (nonce, rounds) = match lie {
        Lie::WrongNonce => ("other".to_owned(), "4096"),
        Lie::ManyRounds => (format!("{nonce}more"), "4000000000"),
        _ => (format!("{nonce}more"), "4096"),
    };
    let challenge = format!("r={nonce},s=c2FsdHNhbHQ=,i={rounds}");
    stream.write_all(&message(b'R', &[b"\0\0\0\x0b", challenge.as_bytes()].concat()))?;
    self::said(&mut stream)?;
    stream.write_all(&message(b'R', b"\0\0\0\x0cv=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="))?;
    swallow(&mut stream)
}

fn said(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    Ok(String::from_utf8_lossy(&read(stream, [head[1], head[2], head[3], head[4]])?).into_owned())
}

/// What follows a length; no honest client says more than this takes.
fn read(stream: &mut TcpStream, length: [u8; 4]) -> std::io::Result<Vec<u8>> {
    let mut body = vec![0; (u32::from_be_bytes(length).saturating_sub(4) as usize).min(1 << 16)];
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// Until the other side has enough.
fn flood(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    let many = message.repeat(1000);
    loop {
        stream.write_all(&many)?;
    }
}

fn swallow(stream: &mut TcpStream) -> std::io::Result<()> {
    std::io::copy(stream, &mut std::io::sink()).map(drop)
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("these are short");
    [&[kind], &length.to_be_bytes()[..], body].concat()
}

fn parameter(name: &str, value: &str) -> Vec<u8> {
    message(b'S', format!("{name}\0{value}\0").as_bytes())
}

fn row(columns: &[&str]) -> Vec<u8> {
    let mut body = u16::try_from(columns.len()).expect("these are few").to_be_bytes().to_vec();
    for column in columns {
        body.extend(u32::try_from(column.len()).expect("these are short").to_be_bytes());
        body.extend(column.as_bytes());
    }
    message(b'D', &body)
}

fn error(code: &str, text: &str) -> Vec<u8> {
    message(b'E', format!("SERROR\0C{code}\0M{text}\0\0").as_bytes())
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

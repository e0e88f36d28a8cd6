//! An HTTP server that breaks its protocol, or strains it, in one way for each path. What a server should do is nginx's.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::Error;
use crate::listener::Listener;
use crate::process::pause;

/// The server.
///
/// | path | answer |
/// |---|---|
/// | `/fine` | 200, "fine" |
/// | `/slow-head`, `/slow-body` | a byte now and then, for ever |
/// | `/cut` | ten of a thousand bytes, then the end |
/// | `/longer` | "fine" by Content-Length, and more behind it |
/// | `/two-lengths`, `/odd-length` | a Content-Length that nobody can believe |
/// | `/endless-headers`, `/endless-header`, `/many-headers` | headers for ever, one for ever, 200 of them |
/// | `/endless-body`, `/endless-chunks` | a body for ever |
/// | `/garbage`, `/no-http` | bytes, a text |
/// | `/chunk-garbage`, `/chunk-cut`, `/no-end` | chunks that are none, that end in their middle, that lack the last one |
/// | `/bomb/CODING` | 32 MiB of zeros in gzip, deflate, br or zstd |
/// | `/not/CODING`, `/half/CODING` | plain text under the coding's name, half of a coded one |
/// | `/coded/CODING`, `/coded/raw-deflate` | "Welcome to Picket" in it |
/// | `/early-hints`, `/hints-forever` | three times 103 before 200 "fine", 103 for ever |
/// | `/control`, `/nul-name`, `/folded` | headers with a control byte in the value, in the name, over two lines |
/// | `/reset`, `/reset-mid-body`, `/close` | a reset before the answer and within it, an end before it |
/// | `/loop`, `/to-garbage`, `/to-control`, `/to-ftp`, `/to-odd-address`, `/no-location` | redirects that lead nowhere |
/// | `/status-999`, `/status-20` | statuses that are none |
/// | `/http-1.0`, `/bare-line-feeds` | old, but readable |
/// | `/json/N`, `/json/many` | N arrays in each other, 400,000 values |
#[derive(Debug)]
pub struct Rogue {
    listener: Listener,
}

impl Rogue {
    /// Listens on a free port.
    pub fn start() -> Result<Rogue, Error> {
        let listener = Listener::start(|stream| {
            let _ = serve(stream);
        })?;
        Ok(Rogue { listener })
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.listener.port()
    }
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    let head = head(&mut stream)?;
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    match path.as_str() {
        "/fine" => stream.write_all(FINE)?,
        "/slow-head" => dribble(&mut stream, b"HTTP/1.1 200 OK\r\nX-Slow: ")?,
        "/slow-body" => dribble(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")?,
        "/cut" => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nten bytes.")?,
        "/longer" => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine and more")?,
        "/two-lengths" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nfine")?;
        }
        "/odd-length" => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: four\r\n\r\nfine")?,
        "/endless-headers" => forever(&mut stream, b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n")?,
        "/endless-header" => forever(&mut stream, b"HTTP/1.1 200 OK\r\nX-Long: ", b"and longer ")?,
        "/many-headers" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
            (0..200).try_for_each(|index| write!(stream, "X-{index}: {index}\r\n"))?;
            stream.write_all(b"Content-Length: 4\r\n\r\nfine")?;
        }
        "/endless-body" => forever(&mut stream, b"HTTP/1.1 200 OK\r\n\r\n", &[b'a'; 16384])?,
        "/endless-chunks" => {
            forever(&mut stream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"4\r\nfine\r\n")?;
        }
        "/garbage" => stream.write_all(&[0x16, 0x03, 0xff, 0x00].repeat(50))?,
        "/no-http" => stream.write_all(b"Good morning.\r\n\r\n")?,
        "/chunk-garbage" => chunked(&mut stream, b"xyz\r\nfine\r\n0\r\n\r\n")?,
        "/chunk-cut" => chunked(&mut stream, b"100\r\nten bytes.")?,
        "/no-end" => chunked(&mut stream, b"4\r\nfine\r\n")?,
        "/early-hints" => {
            stream.write_all(&HINT.repeat(3))?;
            stream.write_all(FINE)?;
        }
        "/hints-forever" => forever(&mut stream, b"", HINT)?,
        "/control" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nX-Odd: a\x01b\r\nContent-Length: 4\r\n\r\nfine")?;
        }
        "/nul-name" => stream.write_all(b"HTTP/1.1 200 OK\r\nX\0Odd: a\r\nContent-Length: 4\r\n\r\nfine")?,
        "/folded" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nX-Odd: a\r\n b\r\nContent-Length: 4\r\n\r\nfine")?;
        }
        "/reset" => return reset(&stream),
        "/reset-mid-body" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nten bytes.")?;
            // The bytes go out before the reset does.
            pause();
            return reset(&stream);
        }
        "/close" => {}
        "/loop" => redirect(&mut stream, b"/loop")?,
        "/to-garbage" => redirect(&mut stream, b"http://[bad/")?,
        "/to-control" => redirect(&mut stream, b"/a\x01b")?,
        "/to-ftp" => redirect(&mut stream, b"ftp://127.0.0.1/")?,
        "/to-odd-address" => redirect(&mut stream, b"http://0x7f.1/")?,
        "/no-location" => stream.write_all(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n")?,
        "/status-999" => stream.write_all(b"HTTP/1.1 999 Odd\r\nContent-Length: 4\r\n\r\nfine")?,
        "/status-20" => stream.write_all(b"HTTP/1.1 20 Odd\r\nContent-Length: 4\r\n\r\nfine")?,
        "/http-1.0" => stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nfine")?,
        "/bare-line-feeds" => stream.write_all(b"HTTP/1.1 200 OK\nContent-Length: 4\n\nfine")?,
        "/json/many" => {
            body(&mut stream, "", [b"[".to_vec(), b"0,".repeat(400_000), b"0]".to_vec()].concat())?;
        }
        other => match other.trim_start_matches('/').split_once('/') {
            Some(("bomb", coding)) => body(&mut stream, coding, coded(coding, &vec![0; 32 << 20]))?,
            Some(("json", depth)) => {
                let depth = depth.parse().unwrap_or(1);
                body(&mut stream, "", [b"[".repeat(depth), b"]".repeat(depth)].concat())?;
            }
            Some(("not", coding)) => body(&mut stream, coding, b"this is plain text".to_vec())?,
            Some(("half", coding)) => {
                let whole = coded(coding, &TEXT.repeat(50));
                body(&mut stream, coding, whole[..whole.len() / 2].to_vec())?;
            }
            Some(("coded", coding)) => {
                let name = coding.strip_prefix("raw-").unwrap_or(coding);
                body(&mut stream, name, coded(coding, TEXT))?;
            }
            _ => stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?,
        },
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    // Closing with unread bytes would be a reset.
    io::copy(&mut stream, &mut io::sink()).map(drop)
}

/// The request line and headers.
fn head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") && head.len() < 65_536 {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn body(stream: &mut TcpStream, coding: &str, bytes: Vec<u8>) -> io::Result<()> {
    let coding = if coding.is_empty() { String::new() } else { format!("Content-Encoding: {coding}\r\n") };
    write!(stream, "HTTP/1.1 200 OK\r\n{coding}Content-Length: {}\r\n\r\n", bytes.len())?;
    stream.write_all(&bytes)
}

fn chunked(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    stream.write_all(bytes)
}

fn redirect(stream: &mut TcpStream, location: &[u8]) -> io::Result<()> {
    let head: &[u8] = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: ";
    stream.write_all(&[head, location, b"\r\n\r\n"].concat())
}

/// Until the peer has enough.
fn forever(stream: &mut TcpStream, first: &[u8], then: &[u8]) -> io::Result<()> {
    stream.write_all(first)?;
    loop {
        stream.write_all(then)?;
    }
}

fn dribble(stream: &mut TcpStream, first: &[u8]) -> io::Result<()> {
    stream.write_all(first)?;
    loop {
        stream.write_all(b".")?;
        pause();
    }
}

fn reset(stream: &TcpStream) -> io::Result<()> {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
    Ok(())
}

fn coded(coding: &str, bytes: &[u8]) -> Vec<u8> {
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    let encoded = || -> io::Result<Vec<u8>> {
        match coding {
            "gzip" => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            "deflate" => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            "raw-deflate" => {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            "br" => {
                let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 1, 22);
                encoder.write_all(bytes)?;
                Ok(encoder.into_inner())
            }
            "zstd" => zstd::encode_all(bytes, 1),
            _ => Ok(bytes.to_vec()),
        }
    };
    encoded().expect("writing to a vector does not fail")
}

const FINE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
const HINT: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n";
const TEXT: &[u8] = b"Welcome to Picket";

/// How a server of HTTP/2 (RFC 9113) misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    /// GOAWAY before any request.
    GoAway,
    /// RST_STREAM for the request.
    Reset,
    /// Settings, and then nothing.
    Silent,
    /// A frame that is larger than was agreed.
    Oversize,
}

/// A server that speaks HTTP/2 from the first byte, and not for long.
#[derive(Debug)]
pub struct RogueFrames {
    listener: Listener,
}

impl RogueFrames {
    /// Listens on a free port.
    pub fn start(frames: Frames) -> Result<RogueFrames, Error> {
        let listener = Listener::start(move |stream| {
            let _ = serve_frames(stream, frames);
        })?;
        Ok(RogueFrames { listener })
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.listener.port()
    }
}

fn serve_frames(mut stream: TcpStream, frames: Frames) -> io::Result<()> {
    // "PRI * HTTP/2.0", two empty lines, "SM", an empty line.
    let mut preface = [0; 24];
    stream.read_exact(&mut preface)?;
    stream.write_all(&frame(SETTINGS, 0, &[]))?;
    match frames {
        Frames::GoAway => stream.write_all(&frame(GO_AWAY, 0, &[0, 0, 0, 0, 0, 0, 0, ENHANCE_YOUR_CALM]))?,
        Frames::Silent => {}
        Frames::Reset | Frames::Oversize => {
            wait_for_headers(&mut stream)?;
            match frames {
                Frames::Reset => stream.write_all(&frame(RST_STREAM, 1, &[0, 0, 0, INTERNAL_ERROR]))?,
                _ => stream.write_all(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1])?,
            }
        }
    }
    io::copy(&mut stream, &mut io::sink()).map(drop)
}

fn wait_for_headers(stream: &mut TcpStream) -> io::Result<()> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        io::copy(&mut Read::by_ref(stream).take(length.into()), &mut io::sink())?;
        if head[3] == HEADERS {
            return Ok(());
        }
    }
}

/// RFC 9113, section 4.1.
fn frame(kind: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("these frames are small");
    [&[0, 0, length, kind, 0, 0, 0, 0, stream], payload].concat()
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;
const INTERNAL_ERROR: u8 = 2;
const ENHANCE_YOUR_CALM: u8 = 11;

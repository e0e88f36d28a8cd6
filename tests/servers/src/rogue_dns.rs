//! A name server that answers each name in one way that a resolver must not believe. What a server should do is knot's.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Error;
use crate::listener::Listener;

/// The server; its proper answer is the address 192.0.2.1, a forged one 192.0.2.66. The first label of a name says what comes.
///
/// | label | over UDP |
/// |---|---|
/// | `fine` | the proper answer |
/// | `stranger`, `stranger-first` | a forged answer from another port, alone or before the proper one |
/// | `wrong-id`, `wrong-id-first` | a forged one with another id |
/// | `wrong-question`, `wrong-question-first` | a forged one to another question |
/// | `echo`, `echo-first` | the question itself, which is no answer |
/// | `garbage`, `garbage-first` | the id and bytes |
/// | `other-owner` | an address of another name |
/// | `no-question` | a record without the question |
/// | `refused` | REFUSED without the question |
/// | `cut-garbage` | cut off in the middle of a record, and says so; proper over TCP |
/// | `short` | over TCP: ten of a hundred bytes |
/// | `keyless` | the proper answer to a question for an address, nothing to any other |
/// | `silent` | nothing |
#[derive(Debug)]
pub struct RogueDns {
    port: u16,
    closing: Arc<AtomicBool>,
    answering: Option<JoinHandle<()>>,
    _tcp: Listener,
}

impl RogueDns {
    /// Listens on a free port, UDP and TCP.
    pub fn start() -> Result<RogueDns, Error> {
        let failed = |action| move |source| Error::Socket { action, source };
        let tcp = Listener::start(|stream| {
            let _ = serve_stream(stream);
        })?;
        let socket =
            UdpSocket::bind((Ipv4Addr::LOCALHOST, tcp.port())).map_err(failed("bind a port of 127.0.0.1"))?;
        let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed("bind a port of 127.0.0.1"))?;
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .map_err(failed("set the time that a socket waits"))?;
        let closing = Arc::new(AtomicBool::new(false));
        let answering = thread::spawn({
            let closing = closing.clone();
            move || serve(&socket, &other, &closing)
        });
        Ok(RogueDns { port: tcp.port(), closing, answering: Some(answering), _tcp: tcp })
    }

    /// Where it answers on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for RogueDns {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        if let Some(answering) = self.answering.take() {
            let _ = answering.join();
        }
    }
}

fn serve(socket: &UdpSocket, other: &UdpSocket, closing: &AtomicBool) {
    let mut buffer = [0; 1024];
    while !closing.load(Ordering::SeqCst) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let Some(question) = Question::read(&buffer[..length]) else { continue };
        let _ = answer(socket, other, from, &question);
    }
}

fn answer(socket: &UdpSocket, other: &UdpSocket, to: SocketAddr, question: &Question<'_>) -> io::Result<()> {
    let send = |message: Vec<u8>| socket.send_to(&message, to).map(drop);
    let (label, proper_too) = match question.label.strip_suffix("-first") {
        Some(label) => (label, true),
        None => (question.label.as_str(), false),
    };
    match label {
        "fine" => send(question.answer(PROPER))?,
        "keyless" if question.is_for_address() => send(question.answer(PROPER))?,
        "stranger" => other.send_to(&question.answer(FORGED), to).map(drop)?,
        "wrong-id" => {
            let mut forged = question.answer(FORGED);
            forged[0] ^= 0xff;
            send(forged)?;
        }
        "wrong-question" => {
            let mut forged = question.answer(FORGED);
            // The first letter of the name.
            forged[HEADER + 1] = b'x';
            send(forged)?;
        }
        "echo" => send(question.bytes.to_vec())?,
        "garbage" => send([&question.bytes[..2], &[0xff; 30]].concat())?,
        "other-owner" => {
            let mut forged = question.answer(FORGED);
            // The answer's owner: the name behind the first label.
            let at = HEADER + question.asked.len() + 1;
            forged[at] += u8::try_from(question.label.len() + 1).unwrap_or_default();
            send(forged)?;
        }
        "no-question" => {
            let whole = question.answer(FORGED);
            let record = &whole[HEADER + question.asked.len() + 2..];
            let header = [&whole[..4], &[0, 0, 0, 1, 0, 0, 0, 0]].concat();
            send([header, question.name().to_vec(), record.to_vec()].concat())?;
        }
        "refused" => send([&question.bytes[..2], &[0x80, 5, 0, 0, 0, 0, 0, 0, 0, 0]].concat())?,
        "cut-garbage" => {
            let mut cut = question.answer(FORGED);
            cut[2] |= 2;
            cut.truncate(cut.len() - 3);
            send(cut)?;
        }
        _ => {}
    }
    if proper_too { send(question.answer(PROPER)) } else { Ok(()) }
}

fn serve_stream(mut stream: std::net::TcpStream) -> io::Result<()> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut bytes)?;
    let Some(question) = Question::read(&bytes) else { return Ok(()) };
    let answer = question.answer(PROPER);
    match question.label.as_str() {
        "short" => stream.write_all(&[&[0, 100], &answer[..10]].concat()),
        "wrong-id" => {
            let mut forged = question.answer(FORGED);
            forged[0] ^= 0xff;
            stream
                .write_all(&[&[0, u8::try_from(forged.len()).unwrap_or(u8::MAX)], forged.as_slice()].concat())
        }
        _ => stream
            .write_all(&[&[0, u8::try_from(answer.len()).unwrap_or(u8::MAX)], answer.as_slice()].concat()),
    }
}

struct Question<'a> {
    bytes: &'a [u8],
    /// Name, type and class.
    asked: &'a [u8],
    label: String,
}

impl<'a> Question<'a> {
    /// RFC 1035, section 4.1.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut at = HEADER;
        let first = usize::from(*bytes.get(at)?);
        let label = String::from_utf8_lossy(bytes.get(at + 1..at + 1 + first)?).to_lowercase();
        while *bytes.get(at)? != 0 {
            at += 1 + usize::from(bytes[at]);
        }
        Some(Self { bytes, asked: bytes.get(HEADER..at + 5)?, label })
    }

    fn is_for_address(&self) -> bool {
        self.asked.ends_with(&[0, 1, 0, 1])
    }

    fn name(&self) -> &[u8] {
        &self.asked[..self.asked.len() - 4]
    }

    /// One address of the asked name.
    fn answer(&self, address: [u8; 4]) -> Vec<u8> {
        let header = [&self.bytes[..2], &[0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0]].concat();
        // A pointer to the name in the question, A, IN, 300 seconds, four bytes.
        let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4];
        [&header, self.asked, &record, &address].concat()
    }
}

const HEADER: usize = 12;
const PROPER: [u8; 4] = [192, 0, 2, 1];
const FORGED: [u8; 4] = [192, 0, 2, 66];

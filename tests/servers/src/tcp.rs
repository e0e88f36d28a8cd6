//! Plain TCP services that behave well or badly in one known way.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, getsockname, listen, socket, socket_with,
};

use crate::Error;
use crate::listener::Listener;

/// What a connection meets.
#[derive(Debug, Clone)]
pub enum Manner {
    /// These bytes at once, then silence until the peer closes.
    Banner(Vec<u8>),
    /// What comes is sent back.
    Echo,
    /// Nothing, ever.
    Silent,
    /// A reset (RST) right after the connection.
    Reset,
    /// An end of stream right after the connection.
    Close,
    /// These bytes at once; then, when what comes begins with the first text of a pair, the second is the answer.
    Dialogue(Vec<u8>, Vec<(String, String)>),
}

/// A service of one manner.
#[derive(Debug)]
pub struct TcpServer {
    listener: Listener,
}

impl TcpServer {
    /// Listens on a free port.
    pub fn start(manner: Manner) -> Result<TcpServer, Error> {
        let listener = Listener::start(move |stream| {
            let _ = serve(stream, &manner);
        })?;
        Ok(TcpServer { listener })
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.listener.port()
    }
}

fn serve(mut stream: TcpStream, manner: &Manner) -> std::io::Result<()> {
    match manner {
        Manner::Banner(bytes) => {
            stream.write_all(bytes)?;
            swallow(stream)
        }
        Manner::Silent => swallow(stream),
        Manner::Close => stream.shutdown(std::net::Shutdown::Both),
        Manner::Reset => {
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
            Ok(())
        }
        Manner::Echo => {
            let mut reader = stream.try_clone()?;
            std::io::copy(&mut reader, &mut stream).map(drop)
        }
        Manner::Dialogue(banner, turns) => {
            stream.write_all(banner)?;
            dialogue(stream, turns)
        }
    }
}

fn dialogue(mut stream: TcpStream, turns: &[(String, String)]) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if let Some((_, answer)) = turns.iter().find(|(expected, _)| said.starts_with(expected.as_str())) {
            stream.write_all(answer.as_bytes())?;
        }
    }
}

fn swallow(mut stream: TcpStream) -> std::io::Result<()> {
    std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
}

/// A port of 127.0.0.1 where nobody listens: a connection is refused.
pub fn closed_port() -> Result<u16, Error> {
    crate::ports::free_port()
}

/// A port that neither accepts nor refuses: its queue is full, so a SYN gets no answer, as behind a firewall that drops.
#[derive(Debug)]
pub struct BlackHole {
    port: u16,
    _queue: Vec<OwnedFd>,
}

impl BlackHole {
    /// Listens without accepting and fills the queue.
    pub fn start() -> Result<BlackHole, Error> {
        fill().map_err(|source| Error::Socket {
            action: "fill the queue of a listening socket",
            source: source.into(),
        })
    }

    /// Where it does not answer on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn fill() -> Result<BlackHole, rustix::io::Errno> {
    let listening = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&listening, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    listen(&listening, 0)?;
    let address =
        SocketAddr::try_from(getsockname(&listening)?).map_err(|_| rustix::io::Errno::AFNOSUPPORT)?;
    let mut queue = vec![listening];
    // The queue holds one or two; the first that hangs shows that it is full.
    for _ in 0..16 {
        let waiting = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK, None)?;
        match connect(&waiting, &address) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno),
        }
        let patience = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        let hangs = poll(&mut [PollFd::new(&waiting, PollFlags::OUT)], Some(&patience))? == 0;
        queue.push(waiting);
        if hangs {
            break;
        }
    }
    Ok(BlackHole { port: address.port(), _queue: queue })
}

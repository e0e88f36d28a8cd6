//! The network between an agent and its control plane, in our hands: passes each request on, or does to it what it is told.
//!
//! It knows where a request and an answer begin and end, so that "cut the answer after byte k" means what it says. What becomes of a
//! request decides a [`Fate`], asked for each; the state of the link as a whole is a [`Link`]. A connection that is upgraded is
//! carried as bytes from then on.

use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::http::Message;
use crate::pause;

/// Makes another answer of an answer.
pub type Remake = Box<dyn FnOnce(&Message) -> Vec<u8> + Send>;

/// What becomes of one request.
pub enum Fate {
    /// It is passed on, and its answer too.
    Pass,
    /// The control plane gets so many bytes of it, then both ends are cut.
    CutRequest(usize),
    /// It is passed on; of the answer so many bytes arrive, then both ends are cut.
    CutAnswer(usize),
    /// The control plane never sees it; these bytes are the answer.
    Answer(Vec<u8>),
    /// It is passed on, and the answer replaced by what this makes of it.
    Replace(Remake),
    /// It is passed on; the answer arrives so many bytes a second.
    Trickle(usize),
    /// It is passed on; of the stream that it opens so many bytes come down, then both ends are cut.
    CutStream(usize),
    /// It is passed on; after the first frame of the stream that it opens these bytes come down, as if the control plane sent them.
    Inject(Vec<u8>),
    /// Nobody answers, and the connection stays.
    Swallow,
    /// The connection is closed.
    Close,
}

/// The state of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Bytes flow.
    Up,
    /// Connections are cut, new ones are refused.
    Refused,
    /// Connections stay open and no byte passes: the other end is gone and nobody said so.
    Frozen,
}

/// A request and its answer, as they passed.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What the agent sent.
    pub request: Message,
    /// What it was given.
    pub answer: Message,
}

type Policy = Box<dyn FnMut(&Message) -> Fate + Send>;

/// The proxy; cut when dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    to: u16,
    state: Mutex<State>,
    policy: Mutex<Policy>,
}

struct State {
    link: Link,
    /// One way.
    delay: Duration,
    ended: bool,
    /// Handles of what is open, to cut it.
    open: Vec<TcpStream>,
    /// Connections accepted so far.
    connections: u64,
    /// Streams opened so far, and how many of them ended.
    streams: (u64, u64),
    /// When which path was asked for.
    asked: Vec<(Instant, String)>,
    /// The newest exchanges.
    kept: Vec<Exchange>,
}

impl Proxy {
    /// Carries to that port of this machine; passes everything.
    pub fn start(to: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = State {
            link: Link::Up,
            delay: Duration::ZERO,
            ended: false,
            open: Vec::new(),
            connections: 0,
            streams: (0, 0),
            asked: Vec::new(),
            kept: Vec::new(),
        };
        let shared =
            Arc::new(Shared { to, state: Mutex::new(state), policy: Mutex::new(Box::new(|_| Fate::Pass)) });
        let accepting = shared.clone();
        thread::spawn(move || accept(listener, address, &accepting));
        Self { address, shared }
    }

    /// What the agent takes for its control plane.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Asks `policy` about every request from now on.
    pub fn policy(&self, policy: impl FnMut(&Message) -> Fate + Send + 'static) {
        *self.shared.policy.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(policy);
    }

    /// Changes the link, open connections included.
    pub fn link(&self, link: Link) {
        let mut state = self.shared.lock();
        state.link = link;
        if link == Link::Refused {
            hang_up(&mut state);
            drop(state);
            // Wakes the accept loop, which then closes its socket.
            let _ = TcpStream::connect(self.address);
            return;
        }
        if link == Link::Up {
            drop(state);
            crate::until("the proxy listens again", Duration::from_secs(10), || {
                TcpStream::connect(self.address).ok()
            });
        }
    }

    /// Cuts what is open; new connections are served.
    pub fn hang_up(&self) {
        hang_up(&mut self.shared.lock());
    }

    /// Every byte is that much late from now on, in each direction.
    pub fn delay(&self, one_way: Duration) {
        self.shared.lock().delay = one_way;
    }

    /// When requests whose path begins like this arrived.
    pub fn asked(&self, path: &str) -> Vec<Instant> {
        let state = self.shared.lock();
        state.asked.iter().filter(|(_, p)| p.starts_with(path)).map(|(at, _)| *at).collect()
    }

    /// Connections so far.
    pub fn connections(&self) -> u64 {
        self.shared.lock().connections
    }

    /// Streams opened so far, and how many of them ended.
    pub fn streams(&self) -> (u64, u64) {
        self.shared.lock().streams
    }

    /// The newest exchanges that passed whole, oldest first.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.lock().kept.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.ended = true;
        hang_up(&mut state);
        drop(state);
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while no byte passes, and for the delay.
    fn pass(&self) {
        pause(self.lock().delay);
        while self.lock().link == Link::Frozen {
            pause(Duration::from_millis(10));
        }
    }

    fn fate(&self, request: &Message) -> Fate {
        let mut policy = self.policy.lock().unwrap_or_else(PoisonError::into_inner);
        policy(request)
    }
}

fn hang_up(state: &mut State) {
    for stream in state.open.drain(..) {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// Accepts until the end. A refused link has no socket at all, so that the kernel refuses.
fn accept(listener: TcpListener, address: SocketAddr, shared: &Arc<Shared>) {
    let mut listener = Some(listener);
    loop {
        let (link, ended) = {
            let state = shared.lock();
            (state.link, state.ended)
        };
        if ended {
            return;
        }
        if link == Link::Refused {
            listener = None;
            pause(Duration::from_millis(5));
            continue;
        }
        let Some(socket) = &listener else {
            listener = TcpListener::bind(address).ok();
            pause(Duration::from_millis(5));
            continue;
        };
        let Ok((near, _)) = socket.accept() else { continue };
        let mut state = shared.lock();
        if state.link == Link::Refused || state.ended {
            continue;
        }
        let Ok(handle) = near.try_clone() else { continue };
        state.open.push(handle);
        state.connections += 1;
        drop(state);
        let shared = shared.clone();
        thread::spawn(move || {
            let _ = near.set_nodelay(true);
            let peer = near.peer_addr().ok();
            let _ = carry(&near, &shared);
            let _ = near.shutdown(Shutdown::Both);
            // The second handle would keep the connection open.
            shared.lock().open.retain(|open| open.peer_addr().ok() != peer);
        });
    }
}

/// One connection of the agent, request by request.
fn carry(near: &TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let mut requests = BufReader::new(near.try_clone()?);
    let mut near = near.try_clone()?;
    let mut far: Option<BufReader<TcpStream>> = None;
    while let Some(request) = Message::read(&mut requests, None)? {
        shared.lock().asked.push((Instant::now(), request.path().to_owned()));
        shared.pass();
        let fate = shared.fate(&request);
        let mut server = match (far.take(), &fate) {
            (_, Fate::Answer(bytes)) => {
                shared.pass();
                near.write_all(bytes)?;
                continue;
            }
            (_, Fate::Swallow) => {
                // Until the agent gives up.
                let _ = requests.read(&mut [0; 1]);
                return Ok(());
            }
            (_, Fate::Close) => return Ok(()),
            (Some(server), _) => server,
            (None, _) => {
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.to))?;
                server.set_nodelay(true)?;
                shared.lock().open.push(server.try_clone()?);
                BufReader::new(server)
            }
        };
        if let Fate::CutRequest(bytes) = fate {
            server.get_mut().write_all(&request.raw[..bytes.min(request.raw.len())])?;
            return server.get_ref().shutdown(Shutdown::Both);
        }
        server.get_mut().write_all(&request.raw)?;
        let Some(answer) = Message::read(&mut server, Some(request.method()))? else { return Ok(()) };
        shared.pass();
        let (down, injected) = match &fate {
            Fate::CutStream(bytes) => (*bytes, &[][..]),
            Fate::Inject(bytes) => (usize::MAX, &bytes[..]),
            _ => (usize::MAX, &[][..]),
        };
        if answer.status() == 101 {
            near.write_all(&answer.raw)?;
            if !injected.is_empty() {
                near.write_all(&frame(&mut server)?)?;
                near.write_all(injected)?;
            }
            shared.lock().streams.0 += 1;
            let ended = carry_stream(near, requests, server, down, shared);
            shared.lock().streams.1 += 1;
            return ended;
        }
        match fate {
            Fate::CutAnswer(bytes) => return near.write_all(&answer.raw[..bytes.min(answer.raw.len())]),
            Fate::Replace(replace) => near.write_all(&replace(&answer))?,
            Fate::Trickle(a_second) => {
                for bytes in answer.raw.chunks(a_second.max(1)) {
                    near.write_all(bytes)?;
                    pause(Duration::from_secs(1));
                }
            }
            _ => near.write_all(&answer.raw)?,
        }
        let closes = answer.header("connection").eq_ignore_ascii_case("close");
        let mut state = shared.lock();
        state.kept.push(Exchange { request, answer });
        let older = state.kept.len().saturating_sub(KEPT);
        state.kept.drain(..older);
        drop(state);
        if closes {
            return Ok(());
        }
        far = Some(server);
    }
    if let Some(far) = far {
        let _ = far.get_ref().shutdown(Shutdown::Both);
    }
    Ok(())
}

/// Bytes in both directions until either end closes, or so many came down.
fn carry_stream(
    near: TcpStream,
    from_near: BufReader<TcpStream>,
    from_far: BufReader<TcpStream>,
    down: usize,
    shared: &Arc<Shared>,
) -> io::Result<()> {
    let far = from_far.get_ref().try_clone()?;
    let downwards = {
        let (near, shared) = (near.try_clone()?, shared.clone());
        thread::spawn(move || pump(from_far.take(down as u64), &near, &shared))
    };
    pump(from_near, &far, shared);
    let _ = near.shutdown(Shutdown::Both);
    let _ = downwards.join();
    Ok(())
}

/// The next frame of a control plane, which does not mask them.
fn frame(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 2];
    from.read_exact(&mut bytes)?;
    let mut rest = match bytes[1] & 0x7f {
        126 => vec![0; 2],
        127 => vec![0; 8],
        _ => vec![],
    };
    from.read_exact(&mut rest)?;
    let length = match rest.is_empty() {
        true => usize::from(bytes[1] & 0x7f),
        false => rest.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
    };
    let mut payload = vec![0; length];
    from.read_exact(&mut payload)?;
    Ok([bytes, rest, payload].concat())
}

/// A text frame as a control plane sends it.
pub fn text_frame(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("frames of rows are short");
    let head = match length {
        0..126 => vec![0x81, length as u8],
        _ => [&[0x81, 126][..], &length.to_be_bytes()].concat(),
    };
    [&head, text.as_bytes()].concat()
}

/// Bytes in one direction, each as late as the link is slow, however many are under way.
fn pump(mut from: impl Read, to: &TcpStream, shared: &Arc<Shared>) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    let writing = {
        let (Ok(mut to), shared) = (to.try_clone(), shared.clone()) else { return };
        thread::spawn(move || {
            for (due, bytes) in receiver {
                pause(due.saturating_duration_since(Instant::now()));
                while shared.lock().link == Link::Frozen {
                    pause(Duration::from_millis(10));
                }
                if to.write_all(&bytes).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        })
    };
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let due = Instant::now() + shared.lock().delay;
        if sender.send((due, buffer[..length].to_vec())).is_err() {
            break;
        }
    }
    drop(sender);
    let _ = writing.join();
}

/// Exchanges that are remembered.
const KEPT: usize = 300;

//! One open stream: requests go up and find their answers, pushes come down. Owns frames, and when a stream counts as dead. Judges
//! nothing that comes: whether an answer or a push is our control plane's says `client`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Upgraded;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use wire::stream::{Down, FRAME_LIMIT, PING_S, Up};

use super::transport::Answer;

/// The way into an open stream, for whoever has a request.
pub(crate) struct Stream {
    /// The lease and the token's generation that opened it: it carries requests of no other.
    pub(crate) lease: String,
    pub(crate) generation: u64,
    requests: mpsc::Sender<Sent>,
    broken: Arc<Notify>,
}

/// The other end of [`Stream`], which somebody has to [`run`](Connection::run).
pub(crate) struct Connection {
    socket: WebSocketStream<Upgraded>,
    requests: mpsc::Receiver<Sent>,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    broken: Arc<Notify>,
}

/// A push as it came.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) number: u64,
    pub(crate) body: String,
    pub(crate) signature: String,
}

struct Sent {
    counter: u64,
    frame: String,
    answer: oneshot::Sender<Answer>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stream({})", self.generation)
    }
}

impl Stream {
    /// A stream on a connection that was just upgraded.
    pub(crate) async fn new(raw: Upgraded, lease: &str, generation: u64) -> (Self, Connection) {
        let limits =
            WebSocketConfig::default().max_message_size(Some(FRAME_LIMIT)).max_frame_size(Some(FRAME_LIMIT));
        let socket = WebSocketStream::from_raw_socket(raw, Role::Client, Some(limits)).await;
        let (sender, requests) = mpsc::channel(1);
        let broken = Arc::new(Notify::new());
        let connection = Connection { socket, requests, waiting: HashMap::new(), broken: broken.clone() };
        (Self { lease: lease.to_owned(), generation, requests: sender, broken }, connection)
    }

    /// One exchange; none when the stream ended before its answer, or `within` is over: then it ends the stream.
    pub(crate) async fn exchange(&self, request: &Up, within: Duration) -> Option<Answer> {
        let Up::Request { counter, .. } = request;
        let (answer, answered) = oneshot::channel();
        let frame = serde_json::to_string(request).expect("frames are texts and numbers");
        let sent = Sent { counter: *counter, frame, answer };
        let exchange = async {
            self.requests.send(sent).await.ok()?;
            answered.await.ok()
        };
        match timeout(within, exchange).await {
            Ok(answer) => answer,
            Err(_) => {
                self.end();
                None
            }
        }
    }

    /// Ends the stream: something on it is not as it should be.
    pub(crate) fn end(&self) {
        self.broken.notify_one();
    }
}

impl Connection {
    /// The first frame, which has to be the answer to the request with this counter.
    pub(crate) async fn first(&mut self, opened_by: u64) -> Result<Answer, String> {
        let message = timeout(FIRST, self.socket.next());
        let text = match message.await {
            Ok(Some(Ok(Message::Text(text)))) => text,
            Ok(_) => return Err("what came first on the stream is no frame of a control plane".to_owned()),
            Err(_) => return Err(format!("nothing came on the stream within {} s", FIRST.as_secs())),
        };
        match frame(&text) {
            Some(Frame::Answer(counter, answer)) if counter == opened_by => Ok(answer),
            _ => Err("what came first on the stream is no answer of a control plane".to_owned()),
        }
    }

    /// Carries until the stream ends, and gives why. Each push goes to `heard`, which says whether it is to be believed.
    pub(crate) async fn run(mut self, mut heard: impl FnMut(Heard) -> bool) -> &'static str {
        let mut ping = interval(Duration::from_secs(PING_S));
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Since when something is on its way that the other side answers at once, and nothing came.
        let mut unanswered = None;
        loop {
            let silent = sleep_until(unanswered.unwrap_or_else(Instant::now) + SILENT);
            let going = tokio::select! {
                message = self.socket.next() => {
                    unanswered = None;
                    match message {
                        Some(Ok(Message::Text(text))) => self.take(&text, &mut heard),
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
                        Some(Ok(Message::Close(_))) | None => Err("it was closed"),
                        Some(Ok(_)) => Err("something came that is no text"),
                        Some(Err(_)) => Err("it was cut"),
                    }
                }
                Some(Sent { counter, frame, answer }) = self.requests.recv() => {
                    // Whoever waited and left is forgotten here.
                    self.waiting.retain(|_, answer| !answer.is_closed());
                    self.waiting.insert(counter, answer);
                    unanswered.get_or_insert_with(Instant::now);
                    // Its answer may take a while; that of a ping may not.
                    match self.send(Message::text(frame)).await {
                        Ok(()) => self.send(Message::Ping(Default::default())).await,
                        Err(end) => Err(end),
                    }
                }
                _ = ping.tick() => {
                    unanswered.get_or_insert_with(Instant::now);
                    self.send(Message::Ping(Default::default())).await
                }
                () = silent, if unanswered.is_some() => Err("nothing was heard for too long"),
                () = self.broken.notified() => Err("a request got no answer, or one that is not the control plane's"),
            };
            if let Err(end) = going {
                return end;
            }
        }
    }

    fn take(&mut self, text: &str, heard: &mut impl FnMut(Heard) -> bool) -> Result<(), &'static str> {
        match frame(text) {
            Some(Frame::Answer(counter, answer)) => {
                if let Some(waits) = self.waiting.remove(&counter) {
                    let _ = waits.send(answer);
                }
                Ok(())
            }
            Some(Frame::Push(push)) => match heard(push) {
                true => Ok(()),
                false => Err("a push came that is not the control plane's"),
            },
            None => Err("something came that is no frame of a control plane"),
        }
    }

    /// Sends; a peer that takes nothing any more is gone.
    async fn send(&mut self, message: Message) -> Result<(), &'static str> {
        match timeout(SILENT, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err("it was cut"),
            Err(_) => Err("the other side takes nothing"),
        }
    }
}

/// What a frame holds.
enum Frame {
    /// To the request with this counter.
    Answer(u64, Answer),
    Push(Heard),
}

fn frame(text: &str) -> Option<Frame> {
    match serde_json::from_str(text).ok()? {
        Down::Push { number, body, signature } => Some(Frame::Push(Heard { number, body, signature })),
        Down::Answer { counter, status, etag, retry_after, body, signature } => {
            let content_type = if body.is_empty() { "" } else { "application/json" }.to_owned();
            let retry_after = retry_after.map(Duration::from_secs);
            let body = body.into_bytes();
            Some(Frame::Answer(counter, Answer { status, etag, signature, content_type, retry_after, body }))
        }
    }
}

/// For the first frame.
const FIRST: Duration = Duration::from_secs(5);
/// A ping that is not answered for so long finds nobody: with the time between two, a dead stream is found earlier than the control
/// plane finds it. More than the time between two pings of the control plane, which come whatever else is on its way.
const SILENT: Duration = Duration::from_secs(12);

//! The way of pushes, and of requests beside them: a WebSocket that the agent opens, or a long poll where it cannot. See
//! `wire::stream` for the frames. A request that came by the stream is the same as one by HTTPS: the same handler, the same signatures.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::SplitSink;
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use wire::Problem;
use wire::push::Waiting;
use wire::signature::Stamp;
use wire::stream::{DEAD_S, Down, FRAME_LIMIT, PING_S, Up};

use super::reply::{blocking, query};
use super::signed::{self, Received, Reply, Sealed};
use super::uplink::{self, Way};
use crate::control::{Control, lock};
use crate::uplink::Signed;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct After {
    /// The number of the last push that arrived in this lease; 0 when none did.
    #[serde(default)]
    after: u64,
    /// Seconds to wait for a push; at most 30.
    #[serde(default)]
    wait: u64,
}

/// Wait for pushes.
///
/// The way of pushes for agents that can open no stream. They are given again until a later request names a higher number.
#[utoipa::path(get, path = "/v1/pushes", tag = "agent", security(("agent" = [])), params(After), responses(
    (status = 200, body = Waiting),
    (status = 401, description = "unauthorized, bad_signature, lease_unknown", body = Problem),
))]
pub(super) async fn pushes(State(control): State<Arc<Control>>, request: Request) -> Response {
    signed::answer(control, request, wait_for_pushes).await
}

async fn wait_for_pushes(
    control: Arc<Control>,
    signed: Signed,
    body: Vec<u8>,
    _: HeaderMap,
) -> Result<Reply, Problem> {
    let After { after, wait } = query(&uri(&signed)?)?;
    let (stamp, deadline) = (signed.stamp.clone(), Instant::now() + Duration::from_secs(wait.min(30)));
    blocking(&control, move |c| c.admit(&signed, &body)).await?;
    let agent = stamp.agent;
    lock(&control.pushes).arrived(agent, after);
    let mut told = control.told.subscribe();
    let mut pushed = control.pushed.subscribe();
    let mut closing = control.closing.subscribe();
    let mut stale = true;
    loop {
        pushed.mark_unchanged();
        // Pushes are many, and mostly for others: only a change of configurations is worth making one.
        if std::mem::take(&mut stale) {
            announce(&control, &stamp).await;
        }
        let pushes = lock(&control.pushes).since(agent, after);
        let over = !pushes.is_empty()
            || !control.is_current(agent, &stamp.lease)
            || tokio::select! {
                _ = told.changed() => {
                    stale = true;
                    false
                }
                _ = pushed.changed() => false,
                _ = closing.wait_for(|closing| *closing) => true,
                () = sleep_until(deadline) => true,
            };
        if over {
            return Ok(Reply::json(&Waiting { pushes }));
        }
    }
}

/// Open the stream. The first frame is the signed answer to this request; without it the agent believes none of the others.
pub(super) async fn open(State(control): State<Arc<Control>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let received = signed::receive(&control, Request::from_parts(parts, body)).await;
    let Received { signed, body, .. } = match received {
        Ok(received) => received,
        Err(problem) => return super::Failure(problem).into_response(),
    };
    let (opening, asked) = (signed.clone(), signed.asked(&body));
    let seal = |outcome| signed::seal(&control, &opening.stamp, &asked, outcome);
    match begin(&control, signed, body, upgrade.is_ok()).await {
        Ok(after) => {
            let first = seal(Ok(Reply::open()));
            let upgrade = upgrade.expect("begin refuses whatever is no upgrade");
            let stream = Stream { stamp: opening.stamp.clone(), token: opening.token, sent: after, control };
            upgrade
                .max_message_size(FRAME_LIMIT)
                .max_frame_size(FRAME_LIMIT)
                .on_upgrade(|socket| stream.serve(socket, first))
        }
        Err(problem) => seal(Err(problem)).into_response(),
    }
}

/// The number of the last push that the agent has.
async fn begin(
    control: &Arc<Control>,
    signed: Signed,
    body: Vec<u8>,
    upgrades: bool,
) -> Result<u64, Problem> {
    let After { after, .. } = query(&uri(&signed)?)?;
    blocking(control, move |c| c.admit(&signed, &body)).await?;
    if upgrades {
        return Ok(after);
    }
    let detail = "the request came without its upgrade to a WebSocket: something between removed it";
    Err(Problem::new(Problem::INVALID, detail))
}

/// One open stream.
struct Stream {
    control: Arc<Control>,
    /// Of the request that opened it.
    stamp: Stamp,
    token: String,
    /// Number of the last push that was sent.
    sent: u64,
}

type Outgoing = SplitSink<WebSocket, Message>;

impl Stream {
    /// Serves until either side ends it, nothing comes any more, or the lease ends.
    async fn serve(mut self, socket: WebSocket, first: Sealed) {
        let agent = self.stamp.agent;
        let number = lock(&self.control.pushes).open(agent);
        // Another stream of this agent may have to end.
        self.control.pushed.send_modify(|n| *n += 1);
        let (mut out, incoming) = socket.split();
        let end = match say(&mut out, &first.into_frame(self.stamp.counter)).await {
            Ok(()) => self.carry(number, &mut out, incoming).await,
            Err(gone) => gone,
        };
        tracing::debug!(%agent, end, "a stream ended");
        lock(&self.control.pushes).close(agent, number);
        let _ = timeout(FAREWELL, out.close()).await;
    }

    /// Gives why it ended.
    async fn carry(
        &mut self,
        number: u64,
        out: &mut Outgoing,
        mut incoming: futures_util::stream::SplitStream<WebSocket>,
    ) -> &'static str {
        let control = self.control.clone();
        let (mut told, mut pushed) = (control.told.subscribe(), control.pushed.subscribe());
        let mut closing = control.closing.subscribe();
        let mut answers = JoinSet::new();
        let mut ping = interval(Duration::from_secs(PING_S));
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        announce(&control, &self.stamp).await;
        loop {
            pushed.mark_unchanged();
            if let Err(gone) = self.push(out).await {
                return gone;
            }
            // After the pushes: the one that ends a session still travels in it.
            if !lock(&control.pushes).is_open(self.stamp.agent, number) {
                return "another one took its place";
            }
            if !control.is_current(self.stamp.agent, &self.stamp.lease) {
                return "its lease ended";
            }
            let done = tokio::select! {
                message = incoming.next(), if answers.len() < AT_ONCE => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => match self.request(&text) {
                            Some((signed, body, headers)) => {
                                answers.spawn(answer(control.clone(), signed, body, headers));
                                Ok(())
                            }
                            None => Err("something came that is no request of this agent"),
                        },
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
                        Some(Ok(Message::Binary(_))) => Err("something came that is no text"),
                        Some(Ok(Message::Close(_)) | Err(_)) | None => Err("the agent is gone"),
                    }
                }
                Some(done) = answers.join_next() => match done {
                    Ok(frame) => say(out, &frame).await,
                    Err(_) => Err("a request broke the control plane"),
                },
                _ = pushed.changed() => Ok(()),
                _ = told.changed() => {
                    told.mark_unchanged();
                    announce(&control, &self.stamp).await;
                    Ok(())
                }
                _ = ping.tick() => match heard.elapsed() > DEAD && answers.is_empty() {
                    true => Err("nothing was heard for too long"),
                    false => send(out, Message::Ping(Default::default())).await,
                },
                () = ended(&mut closing) => Err("the control plane ends"),
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    /// Sends what waits.
    async fn push(&mut self, out: &mut Outgoing) -> Result<(), &'static str> {
        let waiting = lock(&self.control.pushes).since(self.stamp.agent, self.sent);
        for push in waiting {
            let body = serde_json::to_string(&push.push).expect("pushes are texts and numbers");
            let signature =
                self.stamp.sign_push(&self.control.parts.keys.server, push.number, body.as_bytes());
            say(out, &Down::Push { number: push.number, body, signature }).await?;
            self.sent = push.number;
        }
        Ok(())
    }

    /// The request in a frame, as it would stand in HTTPS; none when it is not one, or its token is not good any more.
    fn request(&self, text: &str) -> Option<(Signed, Vec<u8>, HeaderMap)> {
        let Up::Request { counter, method, path, etag, accept, body, signature } =
            serde_json::from_str(text).ok()?;
        let stamp = Stamp { counter, ..self.stamp.clone() };
        let signed = Signed { stamp, token: self.token.clone(), signature, method, path };
        self.control.recognise(&signed).ok()?;
        let mut headers = HeaderMap::new();
        if let Some(etag) = etag {
            headers.insert(header::IF_NONE_MATCH, etag.parse().ok()?);
        }
        if let Some(accept) = accept {
            headers.insert(header::ACCEPT, accept.parse().ok()?);
        }
        Some((signed, body.into_bytes(), headers))
    }
}

/// What is answered to a request of a stream.
async fn answer(control: Arc<Control>, signed: Signed, body: Vec<u8>, headers: HeaderMap) -> Down {
    let (stamp, asked) = (signed.stamp.clone(), signed.asked(&body));
    let path = signed.path.split('?').next().unwrap_or_default();
    let outcome = match (signed.method.as_str(), path) {
        ("POST", "/v1/results") => uplink::store(control.clone(), signed, body, headers).await,
        ("GET", "/v1/config") => {
            uplink::wait_for_configuration(control.clone(), signed, body, headers, Way::Stream).await
        }
        _ => Err(Problem::new(Problem::NOT_FOUND, "the stream carries results and configurations only")),
    };
    signed::seal(&control, &stamp, &asked, outcome).into_frame(stamp.counter)
}

async fn ended(closing: &mut watch::Receiver<bool>) {
    // Its sender is gone only when everything ends.
    let _ = closing.wait_for(|closing| *closing).await;
}

async fn announce(control: &Arc<Control>, stamp: &Stamp) {
    let agent = stamp.agent;
    // A failure is in the log, and the agent asks by itself from time to time.
    let _ = blocking(control, move |c| {
        c.announce(agent);
        Ok(())
    })
    .await;
}

async fn say(out: &mut Outgoing, frame: &Down) -> Result<(), &'static str> {
    let text = serde_json::to_string(frame).expect("frames are texts and numbers");
    send(out, Message::text(text)).await
}

/// Sends; an agent that takes nothing any more is gone.
async fn send(out: &mut Outgoing, message: Message) -> Result<(), &'static str> {
    match timeout(DEAD, out.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err("the agent is gone"),
        Err(_) => Err("the agent takes nothing"),
    }
}

fn uri(signed: &Signed) -> Result<Uri, Problem> {
    signed.path.parse().map_err(|_| Problem::new(Problem::INVALID, "the path is not one"))
}

const DEAD: Duration = Duration::from_secs(DEAD_S);
/// For the last frame.
const FAREWELL: Duration = Duration::from_secs(1);
/// Requests of one stream that are worked on at the same time.
const AT_ONCE: usize = 16;

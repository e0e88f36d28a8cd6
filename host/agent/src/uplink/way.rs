//! Which way a request within a session takes: by the stream while one is open, else by HTTPS; and how a stream is opened. Trust is
//! `client`'s, whichever way an answer came.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use tokio::sync::watch;
use wire::config;
use wire::push::Waiting;
use wire::signature::Asked;
use wire::stream::{self, Up};

use super::client::{Client, EXCHANGE, Session, Trouble, Voice, path, read, success};
use super::stream::{Connection, Heard, Stream};
use super::transport::{Answer, Switched};
use crate::identity::Identity;

impl Client {
    /// An exchange within a session: by the stream where one carries it, else by HTTPS. What goes by neither may have arrived all the
    /// same; nothing that is asked here does harm twice.
    pub(super) async fn within(
        &self,
        session: &Session,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Answer, Trouble> {
        if let Some(answer) = self.on_stream(session, &method, path, &body, Asking::default()).await {
            return Ok(answer);
        }
        let voice = self.voice(session.lease().to_owned(), session.next());
        self.stamped(&voice, method, path, body, EXCHANGE).await
    }

    /// The configuration, if it is another one than that with `etag`: by the stream where it is short, else by HTTPS, packed.
    pub(super) async fn fetch_configuration(
        &self,
        session: &Session,
        path: &str,
        etag: Option<&str>,
    ) -> Result<Answer, Trouble> {
        let asking = Asking { etag, accept: Some(config::PACKED) };
        if let Some(answer) = self.on_stream(session, &Method::GET, path, &[], asking).await
            && answer.status != TOO_LARGE
        {
            return Ok(answer);
        }
        let voice = self.voice(session.lease().to_owned(), session.next());
        let (request, asked) = voice.request(Method::GET, path, Vec::new(), LONG);
        let request = match etag {
            Some(etag) => request.configuration().if_changed(etag),
            None => request.configuration(),
        };
        let answer = self.transport.exchange(request).await.map_err(Trouble::Network)?;
        self.believe(&voice, &asked, answer)
    }

    /// An exchange by the stream; none where none is open for this session, or it did not carry it.
    async fn on_stream(
        &self,
        session: &Session,
        method: &Method,
        path: &str,
        body: &[u8],
        asking: Asking<'_>,
    ) -> Option<Answer> {
        let stream = self.stream.borrow().clone().filter(|stream| stream.lease == session.lease())?;
        let voice = self.voice(session.lease().to_owned(), session.next());
        if stream.generation != voice.stamp.generation {
            return None;
        }
        self.by_stream(&stream, &voice, method, path, body, asking).await
    }

    /// An exchange on a stream; none when the stream did not carry it. An answer that is not the control plane's ends the stream.
    async fn by_stream(
        &self,
        stream: &Stream,
        voice: &Voice,
        method: &Method,
        path: &str,
        body: &[u8],
        asking: Asking<'_>,
    ) -> Option<Answer> {
        let request = Up::Request {
            counter: voice.stamp.counter,
            method: method.to_string(),
            path: path.to_owned(),
            etag: asking.etag.map(str::to_owned),
            accept: asking.accept.map(str::to_owned),
            body: String::from_utf8_lossy(body).into_owned(),
            signature: voice.stamp.sign_request(&voice.identity.key, method.as_str(), path, body),
        };
        let answer = stream.exchange(&request, EXCHANGE).await?;
        let believed = self.believe(voice, &Asked::new(method.as_str(), path, body), answer);
        believed.inspect_err(|_| stream.end()).ok()
    }

    /// Opens a stream; from then on it is used, as long as somebody runs its connection. Gives who judges the pushes on it.
    pub(super) async fn open(&self, session: &Session, after: u64) -> Result<(Connection, Voice), Trouble> {
        let voice = self.voice(session.lease().to_owned(), session.next());
        let path = format!("{}?after={after}", stream::PATH);
        let (request, asked) = voice.request(Method::GET, &path, Vec::new(), EXCHANGE);
        let request = request.upgrading(&rand::random());
        let raw = match self.transport.upgrade(request).await.map_err(Trouble::Network)? {
            Switched::Open(raw) => raw,
            Switched::Refused(answer) => {
                let status = answer.status;
                success(self.believe(&voice, &asked, answer)?)?;
                return Err(Trouble::Network(format!("asked for a stream, was answered {status}")));
            }
        };
        let (stream, mut connection) = Stream::new(raw, session.lease(), voice.stamp.generation).await;
        let first = connection.first(voice.stamp.counter).await.map_err(Trouble::Network)?;
        let first = self.believe(&voice, &asked, first)?;
        if first.status != stream::OPEN {
            return Err(Trouble::Network(format!("the stream began with {}", first.status)));
        }
        self.stream.send_replace(Some(Arc::new(stream)));
        Ok((connection, voice))
    }

    /// The stream that was open is not any more.
    pub(super) fn leave_stream(&self) {
        self.stream.send_if_modified(|stream| stream.take().is_some());
    }

    /// The stream while one is open.
    pub(crate) fn streams(&self) -> watch::Receiver<Option<Arc<Stream>>> {
        self.stream.subscribe()
    }

    /// The identity and its changes.
    pub(super) fn identities(&self) -> watch::Receiver<Arc<Identity>> {
        self.identity.clone()
    }

    /// Waits for pushes after this number. Never by the stream: it is what takes its place.
    pub(super) async fn pushes(&self, session: &Session, after: u64) -> Result<Waiting, Trouble> {
        let voice = self.voice(session.lease().to_owned(), session.next());
        let path = path(&format!("/pushes?after={after}&wait=20"));
        let answer = self.stamped(&voice, Method::GET, &path, Vec::new(), POLL).await?;
        read(&success(answer)?)
    }
}

/// What a request says beside itself.
#[derive(Clone, Copy, Default)]
struct Asking<'a> {
    /// What is known already.
    etag: Option<&'a str>,
    /// What can be read beside JSON.
    accept: Option<&'a str>,
}

impl Voice {
    /// Of the token that it speaks with.
    pub(super) fn generation(&self) -> u64 {
        self.stamp.generation
    }

    /// Whether our control plane made this push for this agent and this lease.
    pub(super) fn believes(&self, heard: &Heard) -> bool {
        let Heard { number, body, signature } = heard;
        self.stamp.verify_push(&self.identity.server_key, *number, body.as_bytes(), signature)
    }
}

/// What is answered on a stream instead of something long.
const TOO_LARGE: u16 = 413;
/// For a whole configuration over a slow link.
const LONG: Duration = Duration::from_secs(60);
/// For a request that waits for pushes.
const POLL: Duration = Duration::from_secs(30);

//! How a peer answers requests, as a web server does; redirects are followed, and ask the grant, on the way.

use std::time::Duration;

use net::{
    Cause, Endpoint, Failure, Hidden, NoToken, Phase, Purpose, Request, Response, Timings, TokenRequest,
};

use super::super::Scripted;
use super::super::script::{HttpAnswer, Op};
use super::{Playing, fail};

/// A request, redirects included.
pub(in super::super) fn exchange(world: &Scripted, request: Request) -> Result<Response, Failure> {
    let mut url = parsed(&request.url)?;
    let mut hops = Vec::new();
    loop {
        let response = hop(world, &request, &url)?;
        hops.push((url.to_string(), response.status));
        let location = response.header("location").into_iter().next();
        let next = match location {
            Some(location) if (300..400).contains(&response.status) => url.join(&location).ok(),
            _ => None,
        };
        match next {
            Some(next) if hops.len() <= usize::from(request.max_redirects) => url = next,
            _ => {
                let hop_timings = vec![response.timings; hops.len()];
                return Ok(Response { hops, hop_timings, ..response });
            }
        }
    }
}

/// A token for whoever asks a server that answers with 200.
pub(in super::super) fn token(world: &Scripted, request: &TokenRequest) -> Result<Hidden, NoToken> {
    let asked = Request {
        method: "POST".to_owned(),
        url: request.url.clone(),
        headers: Vec::new(),
        body: Vec::new(),
        versions: Vec::new(),
        family: request.family,
        tls: request.tls.clone(),
        max_redirects: 0,
        max_body: 0,
    };
    match exchange(world, asked)? {
        Response { status: 200, .. } => Ok(Hidden(b"a-token-of-the-scripted-world".to_vec().into())),
        Response { status, .. } => Err(NoToken::Refused { status, reason: "the script says so".to_owned() }),
    }
}

fn parsed(url: &str) -> Result<url::Url, Failure> {
    url::Url::parse(url)
        .map_err(|e| fail(Cause::Invalid(e.to_string()), Phase::Send, format!("{url:?} is not a URL: {e}")))
}

fn hop(world: &Scripted, request: &Request, url: &url::Url) -> Result<Response, Failure> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let to = Endpoint::new(host.clone(), url.port_or_known_default().unwrap_or(80));
    let (remote, mut playing) = world.open(&to, Purpose::Target)?;
    let session = match url.scheme() {
        "https" => Some(playing.secure(&request.tls.clone().unwrap_or_default(), &host)?),
        _ => None,
    };
    let answer = playing.respond(request)?;
    let kept = answer.body.len().min(request.max_body as usize);
    let headers = answer.headers.iter();
    Ok(Response {
        status: answer.status,
        version: "1.1".to_owned(),
        headers: headers
            .map(|(name, value)| {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                (name.to_ascii_lowercase(), value)
            })
            .collect(),
        truncated: kept < answer.body.len(),
        decoded: false,
        body: answer.body.as_bytes()[..kept].to_vec(),
        hops: Vec::new(),
        remote,
        session,
        timings: Timings { connect: Some(Duration::from_millis(1)), ..Timings::default() },
        hop_timings: Vec::new(),
    })
}

impl Playing {
    /// The answer to a request on an open connection.
    fn respond(&mut self, request: &Request) -> Result<HttpAnswer, Failure> {
        let at = self.at.clone();
        let phase = Phase::FirstByte;
        loop {
            let (name, failure) = match self.ops.pop_front() {
                Some(Op::Http(answer)) => return Ok(answer),
                Some(Op::Oblige) => return Ok(plain("ok\n".to_owned())),
                Some(Op::Echo) => {
                    self.world.meet("echo");
                    let headers = request.headers.iter().map(|header| {
                        format!("{}: {}\n", header.name, String::from_utf8_lossy(&header.value))
                    });
                    let body = String::from_utf8_lossy(&request.body).into_owned();
                    return Ok(plain(headers.chain([body]).collect()));
                }
                Some(Op::Delay(time)) => {
                    self.world.pass(time, phase, &at)?;
                    continue;
                }
                Some(Op::Silence | Op::Drop) => ("silence", self.world.wait(phase, &at)),
                Some(Op::Trickle(_)) => ("trickle", self.world.wait(Phase::Transfer, &at)),
                Some(Op::Reset) => {
                    ("reset", fail(Cause::Reset, phase, format!("{at} reset the connection ({phase})")))
                }
                Some(Op::Close) | None => {
                    ("close", fail(Cause::Closed, phase, format!("{at} closed the connection too early")))
                }
                Some(Op::Garbage(_) | Op::Send(_)) => {
                    let message = format!("{at} answered something that is not HTTP");
                    ("garbage", fail(Cause::Protocol(message.clone()), phase, message))
                }
                Some(_) => continue,
            };
            self.world.meet(name);
            return Err(failure);
        }
    }
}

fn plain(body: String) -> HttpAnswer {
    let headers = [("content-type".to_owned(), "text/plain".into())].into_iter().collect();
    HttpAnswer { status: 200, headers, body }
}

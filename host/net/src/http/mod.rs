//! HTTP exchanges (RFC 9110): hop after hop until an answer that leads nowhere. One hop is made in `exchange`, the next one is
//! chosen in `hop`, what is said at it in `request`.

mod body;
mod clock;
mod exchange;
mod hop;
mod request;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::grant::{Purpose, Refusal};
use crate::session::{Run, add, fail};
use crate::types::{Cause, Failure, Phase, Request, Response, Timings};
use exchange::Versions;
use hop::{Hop, Mistake};

/// Makes the exchange, redirects included. The response of the last hop is given back also when it is one more redirect.
pub(crate) async fn send(run: &Arc<Run>, request: Request) -> Result<Response, Failure> {
    send_for(run, request, Purpose::Target).await
}

/// The same with another list of the grant.
pub(crate) async fn send_for(
    run: &Arc<Run>,
    request: Request,
    purpose: Purpose,
) -> Result<Response, Failure> {
    let begun = Instant::now();
    let refused = |message: String| fail(Cause::Invalid(message.clone()), Phase::Send, message);
    let mut hop = Hop::first(&request, purpose).map_err(|mistake| match mistake {
        Mistake::Host(words) => run.denied(Refusal(words)),
        Mistake::Text(words) => refused(words),
    })?;
    hop.tls = run.route.tls.beneath(hop.tls);
    let versions = Versions::parse(&request.versions).map_err(refused)?;
    let max_body = u64::from(request.max_body).min(run.tally.body_left(run.budget.body));
    let max_body = usize::try_from(max_body).unwrap_or(usize::MAX);
    let mut hops = Vec::new();
    let mut hop_timings = Vec::new();
    let mut kept = None;
    loop {
        if let Some(refusal) = hop.refusal() {
            return Err(run.denied(Refusal(refusal)));
        }
        let follow = hops.len() < usize::from(request.max_redirects);
        let got =
            exchange::exchange(run, &mut kept, &hop, request.family, versions, max_body, follow).await?;
        hops.push((hop.url.to_string(), got.status));
        hop_timings.push(got.timings);
        match got.location.as_deref().filter(|_| follow) {
            Some(location) => {
                hop = hop.follow(got.status, location).map_err(|mistake| match mistake {
                    Mistake::Host(words) => run.denied(Refusal(words)),
                    Mistake::Text(words) => fail(Cause::Protocol(words.clone()), Phase::Transfer, words),
                })?;
            }
            None => {
                run.tally.keep(got.body.len());
                return Ok(Response {
                    status: got.status,
                    version: got.version,
                    headers: got.headers,
                    body: got.body,
                    truncated: got.truncated,
                    decoded: got.decoded,
                    hops,
                    remote: got.remote,
                    session: got.session,
                    timings: sum(&hop_timings, begun.elapsed()),
                    hop_timings,
                });
            }
        }
    }
}

fn sum(hops: &[Timings], total: Duration) -> Timings {
    let mut all = Timings { total, ..Timings::default() };
    for hop in hops {
        let phases = [
            (Phase::Resolve, hop.resolve),
            (Phase::Connect, hop.connect),
            (Phase::Handshake, hop.handshake),
            (Phase::Send, hop.send),
            (Phase::FirstByte, hop.first_byte),
            (Phase::Transfer, hop.transfer),
        ];
        for (phase, time) in phases {
            time.into_iter().for_each(|time| add(&mut all, phase, time));
        }
    }
    all
}

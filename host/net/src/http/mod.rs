//! HTTP exchanges (RFC 9110): hop after hop until an answer that leads nowhere. One hop is made in `exchange`, the next one is
//! chosen in `hop`.

mod body;
mod clock;
mod exchange;
mod hop;

use std::sync::Arc;

use tokio::time::Instant;

use crate::grant::Refusal;
use crate::session::{Run, fail};
use crate::types::{Cause, Failure, Phase, Request, Response, Timings};
use exchange::Versions;
use hop::{Hop, Mistake};

/// Makes the exchange, redirects included. The response of the last hop is given back also when it is one more redirect.
pub(crate) async fn send(run: &Arc<Run>, request: Request) -> Result<Response, Failure> {
    let begun = Instant::now();
    let refused = |message: String| fail(Cause::Invalid(message.clone()), Phase::Send, message);
    let mut hop = Hop::first(&request).map_err(|mistake| match mistake {
        Mistake::Host(words) => run.denied(Refusal(words)),
        Mistake::Text(words) => refused(words),
    })?;
    let versions = Versions::parse(&request.versions).map_err(refused)?;
    let max_body = u64::from(request.max_body).min(run.tally.body_left(run.budget.body));
    let max_body = usize::try_from(max_body).unwrap_or(usize::MAX);
    let mut hops = Vec::new();
    let mut timings = Timings::default();
    loop {
        if let Some(refusal) = hop.refusal() {
            return Err(run.denied(Refusal(refusal)));
        }
        let follow = hops.len() < usize::from(request.max_redirects);
        let got =
            exchange::exchange(run, &hop, request.family, versions, max_body, follow, &mut timings).await?;
        hops.push((hop.url.to_string(), got.status));
        match got.location.as_deref().filter(|_| follow) {
            Some(location) => {
                hop = hop.follow(got.status, location).map_err(|mistake| match mistake {
                    Mistake::Host(words) => run.denied(Refusal(words)),
                    Mistake::Text(words) => fail(Cause::Protocol(words.clone()), Phase::Transfer, words),
                })?;
            }
            None => {
                timings.total = begun.elapsed();
                run.tally.keep(got.body.len());
                return Ok(Response {
                    status: got.status,
                    version: got.version,
                    headers: got.headers,
                    body: got.body,
                    truncated: got.truncated,
                    hops,
                    remote: got.remote,
                    session: got.session,
                    timings,
                });
            }
        }
    }
}

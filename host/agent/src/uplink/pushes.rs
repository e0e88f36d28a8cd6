//! The one place where pushes come in, by the stream or by a long poll, and from where they go to whoever subscribed. Owns when a
//! stream is tried and what takes its place; obeys no push itself but the one that ends the session.
//!
//! A stream is kept open while there is a session. Where it cannot be opened, or breaks, requests go on by HTTPS at once and a long
//! poll waits for pushes, until the next try. A network that cuts streams gets fewer and fewer of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep, sleep_until};
use wire::push::{Numbered, Push};

use super::backoff::Backoff;
use super::client::{Client, Session};

/// Receives pushes.
pub(crate) struct Pushes {
    client: Client,
    sessions: watch::Receiver<Option<Arc<Session>>>,
    told: broadcast::Sender<Push>,
    numbers: Numbers,
    tries: Tries,
}

/// The pushes from its making on, for one part of the agent.
pub(crate) struct Subscription(broadcast::Receiver<Push>);

impl Subscription {
    /// The next push. One that came while too many others waited is lost: a push is a hint.
    pub(crate) async fn next(&mut self) -> Push {
        loop {
            match self.0.recv().await {
                Ok(push) => return push,
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    tracing::warn!(lost, "too many pushes at once");
                }
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

impl Pushes {
    /// Pushes that come within `sessions`.
    pub(crate) fn new(client: Client, sessions: watch::Receiver<Option<Arc<Session>>>) -> Self {
        let told = broadcast::Sender::new(WAITING);
        Self { client, sessions, told, numbers: Numbers::default(), tries: Tries::default() }
    }

    /// For whoever wants to hear of pushes.
    pub(crate) fn subscribe(&self) -> Subscription {
        Subscription(self.told.subscribe())
    }

    /// Listens for ever, while there is a session.
    pub(crate) async fn listen(&mut self) {
        loop {
            self.client.leave_stream();
            let usable = |session: &Option<Arc<Session>>| session.as_ref().is_some_and(|s| !s.is_lost());
            let Ok(session) = self.sessions.wait_for(usable).await.map(|session| session.clone()) else {
                // The uplink ended, and says why itself.
                return std::future::pending().await;
            };
            let Some(session) = session else { continue };
            self.numbers.begin(session.lease());
            self.within(&session).await;
        }
    }

    /// Listens until the session is another one, or the stream of it ended.
    async fn within(&mut self, session: &Arc<Session>) {
        let wait = self.tries.wait(rand::random());
        let last = self.numbers.last;
        let opening = async {
            sleep(wait).await;
            self.client.open(session, last).await
        };
        let mut polled = self.numbers.clone();
        // A stream opens in a moment where it can be opened at all: until then nothing is asked.
        let patience = if wait.is_zero() { HEAD_START } else { Duration::ZERO };
        let polling = poll(&self.client, session, &mut polled, &self.told, patience);
        let opened = tokio::select! {
            opened = opening => Some(opened),
            () = polling => None,
            () = replaced(&mut self.sessions, session) => None,
        };
        self.numbers = polled;
        let (connection, judge) = match opened {
            None => return,
            Some(Ok(opened)) => opened,
            Some(Err(trouble)) => {
                if trouble.wants_hello() {
                    session.lose();
                }
                tracing::debug!(%trouble, "no stream; pushes come by a long poll");
                return self.tries.failed();
            }
        };
        tracing::debug!("a stream is open");
        let begun = Instant::now();
        let mut identities = self.client.identities();
        let (numbers, told) = (&mut self.numbers, &self.told);
        let running = connection.run(|heard| {
            let believed = judge.believes(&heard);
            match serde_json::from_str(&heard.body) {
                Ok(push) if believed => {
                    hand_out(Numbered { number: heard.number, push }, numbers, session, told);
                }
                Err(error) if believed => tracing::warn!(%error, "a push that cannot be read"),
                _ => {}
            }
            believed
        });
        tokio::select! {
            end = running => {
                tracing::debug!(end, "the stream ended; pushes come by a long poll");
                self.tries.ended(begun.elapsed());
            }
            () = replaced(&mut self.sessions, session) => {}
            // A new token opens its own stream.
            Ok(_) = identities.wait_for(|identity| identity.generation != judge.generation()) => {}
        }
    }
}

/// Waits for pushes by requests, until the session is lost.
async fn poll(
    client: &Client,
    session: &Arc<Session>,
    numbers: &mut Numbers,
    told: &broadcast::Sender<Push>,
    patience: Duration,
) {
    let mut backoff = Backoff::default();
    sleep(patience).await;
    while !session.is_lost() {
        let begun = Instant::now();
        match client.pushes(session, numbers.last).await {
            Ok(waiting) => {
                backoff.succeeded();
                let nothing = waiting.pushes.is_empty();
                waiting.pushes.into_iter().for_each(|push| hand_out(push, numbers, session, told));
                if nothing {
                    sleep_until(begun + BETWEEN).await;
                }
            }
            Err(trouble) => {
                if trouble.wants_hello() {
                    session.lose();
                }
                tracing::debug!(%trouble, "no pushes");
                sleep(backoff.failed_or(trouble.asks(rand::random()), rand::random())).await;
            }
        }
    }
}

/// Gives a push to whoever subscribed, once.
fn hand_out(push: Numbered, numbers: &mut Numbers, session: &Session, told: &broadcast::Sender<Push>) {
    if !numbers.is_new(push.number) {
        return;
    }
    tracing::debug!(number = push.number, push = ?push.push, "pushed");
    if push.push == Push::Unknown {
        tracing::warn!("a push that this version does not know is passed over");
    }
    if push.push == Push::Hello {
        session.lose();
    }
    // Where nobody subscribed there is nobody to tell.
    let _ = told.send(push.push);
}

/// Ends when the session is not this one any more.
async fn replaced(sessions: &mut watch::Receiver<Option<Arc<Session>>>, session: &Arc<Session>) {
    let other = |now: &Option<Arc<Session>>| now.as_ref().is_none_or(|now| !Arc::ptr_eq(now, session));
    if sessions.wait_for(other).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Which pushes of a lease came already.
#[derive(Clone, Debug, Default, PartialEq)]
struct Numbers {
    lease: String,
    last: u64,
}

impl Numbers {
    /// Numbers begin again with each lease.
    fn begin(&mut self, lease: &str) {
        if self.lease != lease {
            *self = Self { lease: lease.to_owned(), last: 0 };
        }
    }

    /// Whether this one did not come yet; it has from then on.
    fn is_new(&mut self, number: u64) -> bool {
        let new = number > self.last;
        self.last = self.last.max(number);
        new
    }
}

/// When to try a stream: at once, and after failures later and later. One that did not last long is a failure too.
#[derive(Debug, Default)]
struct Tries {
    failures: u32,
}

impl Tries {
    /// `chance` in 0..1 spreads agents whose streams were cut together.
    fn wait(&self, chance: f64) -> Duration {
        if self.failures == 0 {
            return Duration::ZERO;
        }
        let bound = 2_f64.powi(self.failures.min(20) as i32 - 1).min(LONGEST.as_secs_f64());
        Duration::from_secs_f64((bound * (0.5 + chance.clamp(0.0, 1.0) / 2.0)).max(1.0))
    }

    fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    fn ended(&mut self, lasted: Duration) {
        self.failures = if lasted >= LONGEST { 1 } else { self.failures.saturating_add(1) };
    }
}

/// Pushes that wait for one subscriber at most.
const WAITING: usize = 256;
/// Between two polls at least, should the control plane not wait.
const BETWEEN: Duration = Duration::from_secs(1);
/// What a stream gets to open before the first poll.
const HEAD_START: Duration = Duration::from_secs(1);
/// Between two tries of a stream at most; one that lasted so long is a good one.
const LONGEST: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_counts_once_and_numbers_begin_again_with_a_lease() {
        let mut numbers = Numbers::default();
        numbers.begin("a");
        let mut new = |number| numbers.is_new(number);
        assert_eq!([new(1), new(2), new(2), new(1), new(5), new(4)], [true, true, false, false, true, false]);
        numbers.begin("a");
        assert!(!numbers.is_new(5));
        numbers.begin("b");
        assert!(numbers.is_new(1));
    }

    #[test]
    fn streams_are_tried_at_once_then_less_and_less_often_up_to_five_minutes() {
        let mut tries = Tries::default();
        assert_eq!(tries.wait(1.0), Duration::ZERO);
        let waits: Vec<_> = (0..11)
            .map(|_| {
                tries.failed();
                tries.wait(1.0).as_secs()
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(tries.wait(0.0).as_secs(), 150);
    }

    #[test]
    fn a_network_that_cuts_streams_gets_fewer_and_a_restart_of_the_control_plane_costs_a_second() {
        let mut tries = Tries::default();
        (0..4).for_each(|_| tries.ended(Duration::from_secs(60)));
        assert_eq!(tries.wait(1.0).as_secs(), 8);
        tries.ended(Duration::from_secs(3_600));
        assert_eq!(tries.wait(1.0).as_secs(), 1);
    }
}

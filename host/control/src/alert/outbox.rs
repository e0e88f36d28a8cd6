//! Events on their way into channels: which is tried when, in which order, and when it is given up. Pure; `delivery` sends.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use wire::Timestamp;
use wire::alert::DeliveryState;

use crate::clock::Now;

/// One event for one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parcel {
    /// Which event.
    pub event: Uuid,
    /// Its alert: parcels of one alert stay in order.
    pub alert: Uuid,
    /// Into which channel.
    pub channel: String,
    /// When the event was made.
    pub made_at: Timestamp,
    /// How it stands.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: u32,
    /// What the last try came to, when it failed.
    pub error: Option<String>,
    /// When the last try was.
    pub tried_at: Option<Timestamp>,
}

/// What a try came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The receiver has it: a status from 200 to 299.
    Delivered,
    /// The receiver wants it never again: 410.
    Refused(String),
    /// Anything else, perhaps with the wait that the receiver asks for.
    Failed(String, Option<u64>),
}

/// What waits.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// By event and channel: ids order as events were made.
    waiting: BTreeMap<(Uuid, String), Waiting>,
}

#[derive(Debug)]
struct Waiting {
    parcel: Parcel,
    due_ms: u64,
    under_way: bool,
}

impl Parcel {
    /// One that was not tried yet.
    pub(crate) fn new(event: Uuid, alert: Uuid, channel: String, made_at: Timestamp) -> Self {
        let (state, attempts) = (DeliveryState::Waiting, 0);
        Self { event, alert, channel, made_at, state, attempts, error: None, tried_at: None }
    }

    /// Whether it is still to be delivered.
    pub(crate) fn waits(&self) -> bool {
        self.state == DeliveryState::Waiting
    }
}

impl Outbox {
    /// Adds a parcel that waits; it is due at once.
    pub(crate) fn add(&mut self, parcel: Parcel) {
        let key = (parcel.event, parcel.channel.clone());
        self.waiting.insert(key, Waiting { parcel, due_ms: 0, under_way: false });
    }

    /// What is to be tried now, and is under way from here on. Of one alert and channel only the first.
    pub(crate) fn due(&mut self, now_ms: u64) -> Vec<Parcel> {
        let mut busy = BTreeMap::<String, usize>::new();
        for waiting in self.waiting.values().filter(|w| w.under_way) {
            *busy.entry(waiting.parcel.channel.clone()).or_default() += 1;
        }
        let (mut before, mut due) = (BTreeSet::new(), Vec::new());
        for waiting in self.waiting.values_mut() {
            let first = before.insert((waiting.parcel.channel.clone(), waiting.parcel.alert));
            let places = busy.entry(waiting.parcel.channel.clone()).or_default();
            if first && !waiting.under_way && waiting.due_ms <= now_ms && *places < AT_ONCE {
                *places += 1;
                waiting.under_way = true;
                due.push(waiting.parcel.clone());
            }
        }
        due
    }

    /// Whoever delivered ended in the middle: nothing is under way.
    pub(crate) fn take_back(&mut self) {
        self.waiting.values_mut().for_each(|waiting| waiting.under_way = false);
    }

    /// The parcel as it stands after a try. Nothing changes before it is [kept](Self::keep).
    pub(crate) fn tried(parcel: &Parcel, outcome: &Outcome, now: Now) -> Parcel {
        let mut parcel = Parcel { attempts: parcel.attempts + 1, tried_at: Some(now.wall), ..parcel.clone() };
        let age_ms = now.wall.as_millis().saturating_sub(parcel.made_at.as_millis());
        (parcel.state, parcel.error) = match outcome {
            Outcome::Delivered => (DeliveryState::Delivered, None),
            Outcome::Refused(why) => (DeliveryState::Failed, Some(why.clone())),
            Outcome::Failed(why, _) if age_ms >= GIVEN_UP_MS => {
                (DeliveryState::Failed, Some(format!("given up after a day: {why}")))
            }
            Outcome::Failed(why, _) => (DeliveryState::Waiting, Some(why.clone())),
        };
        parcel
    }

    /// A try is over and its parcel is on disk. `random` from 0 to 1 spreads the next one.
    pub(crate) fn keep(&mut self, parcel: Parcel, outcome: &Outcome, now_ms: u64, random: f64) {
        let key = (parcel.event, parcel.channel.clone());
        if parcel.state != DeliveryState::Waiting {
            self.waiting.remove(&key);
            return;
        }
        let asked_ms = match outcome {
            Outcome::Failed(_, asked) => asked.unwrap_or(0).min(LONGEST_ASKED_MS),
            Outcome::Delivered | Outcome::Refused(_) => 0,
        };
        let due_ms = now_ms + pause_ms(parcel.attempts, random).max(asked_ms);
        self.waiting.insert(key, Waiting { parcel, due_ms, under_way: false });
    }

    /// A try could not be noted: it is made again.
    pub(crate) fn again(&mut self, parcel: &Parcel, now_ms: u64) {
        if let Some(waiting) = self.waiting.get_mut(&(parcel.event, parcel.channel.clone())) {
            (waiting.under_way, waiting.due_ms) = (false, now_ms + FIRST_MS);
        }
    }
}

/// A second at first, twice as long each time, five minutes at most; a fifth more or less.
fn pause_ms(attempts: u32, random: f64) -> u64 {
    let pause = FIRST_MS.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(LONGEST_MS);
    pause * 4 / 5 + (pause as f64 * 0.4 * random) as u64
}

/// Parcels of one channel that are under way at once.
const AT_ONCE: usize = 4;

const FIRST_MS: u64 = 1_000;
const LONGEST_MS: u64 = 300_000;

/// The longest wait that a receiver may ask for.
const LONGEST_ASKED_MS: u64 = 3_600_000;

/// A day after the event nobody wants to be told any more.
const GIVEN_UP_MS: i64 = 24 * 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(event: u128, alert: u128, channel: &str) -> Parcel {
        Parcel::new(Uuid::from_u128(event), Uuid::from_u128(alert), channel.into(), Timestamp::default())
    }

    fn events(parcels: &[Parcel]) -> Vec<u128> {
        parcels.iter().map(|p| p.event.as_u128()).collect()
    }

    fn fail() -> Outcome {
        Outcome::Failed("503".into(), None)
    }

    fn at(ms: i64) -> Now {
        Now { wall: Timestamp::from_millis(ms), up_ms: u64::try_from(ms).unwrap() }
    }

    #[test]
    fn the_events_of_one_alert_stay_in_order_in_each_channel() {
        let mut outbox = Outbox::default();
        let parcels = [parcel(1, 1, "ops"), parcel(2, 1, "ops"), parcel(2, 1, "dev"), parcel(3, 9, "ops")];
        parcels.into_iter().for_each(|p| outbox.add(p));
        let due = outbox.due(0);
        assert_eq!(events(&due), [1, 2, 3], "2 goes to dev only");
        assert_eq!(due[1].channel, "dev");
        assert_eq!(outbox.due(0), []);
        let tried = Outbox::tried(&due[0], &fail(), at(5));
        outbox.keep(tried, &fail(), 5, 0.5);
        assert_eq!(outbox.due(900), [], "the recovery waits for the alert");
        let again = outbox.due(1_005);
        assert_eq!((events(&again), again[0].attempts), (vec![1], 1));
        outbox.keep(Outbox::tried(&again[0], &Outcome::Delivered, at(9)), &Outcome::Delivered, 9, 0.5);
        assert_eq!(events(&outbox.due(1_005)), [2]);
    }

    #[test]
    fn of_one_channel_four_are_under_way_at_most() {
        let mut outbox = Outbox::default();
        (0..9).for_each(|n| outbox.add(parcel(n, n, "ops")));
        assert_eq!(outbox.due(0).len(), 4);
        assert_eq!(outbox.due(0).len(), 0);
        outbox.take_back();
        assert_eq!(outbox.due(0).len(), 4, "whoever delivered began anew");
    }

    #[test]
    fn pauses_grow_to_five_minutes_and_honour_what_the_receiver_asks() {
        let pauses: Vec<_> = (1..12).map(|n| pause_ms(n, 0.5) / 1000).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        let mut outbox = Outbox::default();
        outbox.add(parcel(1, 1, "ops"));
        let asked = Outcome::Failed("429".into(), Some(60_000));
        let due = outbox.due(0);
        outbox.keep(Outbox::tried(&due[0], &asked, at(0)), &asked, 0, 0.5);
        assert_eq!((outbox.due(59_999).len(), outbox.due(60_000).len()), (0, 1));
    }

    #[test]
    fn what_is_refused_or_a_day_old_is_given_up_and_says_why() {
        let gone = Outbox::tried(&parcel(1, 1, "ops"), &Outcome::Refused("410".into()), at(0));
        assert_eq!((gone.state, gone.error.as_deref()), (DeliveryState::Failed, Some("410")));
        let young = Outbox::tried(&parcel(1, 1, "ops"), &fail(), at(GIVEN_UP_MS - 1));
        assert_eq!(young.state, DeliveryState::Waiting);
        let old = Outbox::tried(&parcel(1, 1, "ops"), &fail(), at(GIVEN_UP_MS));
        assert_eq!(
            (old.state, old.error.as_deref()),
            (DeliveryState::Failed, Some("given up after a day: 503"))
        );
        let mut outbox = Outbox::default();
        outbox.add(old.clone());
        outbox.keep(old, &fail(), 0, 0.0);
        assert_eq!(outbox.due(u64::MAX), []);
    }
}

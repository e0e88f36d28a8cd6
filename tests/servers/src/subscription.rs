//! A PostgreSQL publisher and a subscriber of its table `demo`, with the link between them in our hands, and what may befall it.

use std::sync::Mutex;
use std::thread;

use crate::cluster::insert;
use crate::postgres::{Running, source};
use crate::process::wait;
use crate::relay::{Link, Relay};
use crate::{Authority, Error, Postgres};

/// The two servers. The subscription, its slot and its publication are called `orders`.
#[derive(Debug)]
pub struct Subscription {
    // Dropped in this order: nobody streams when the publisher ends.
    beside: Mutex<Vec<Running>>,
    subscriber: Postgres,
    relay: Relay,
    publisher: Postgres,
}

impl Subscription {
    /// Both run, and the subscription does not exist yet.
    pub fn start(authority: &Authority) -> Result<Subscription, Error> {
        let (publisher, subscriber) = thread::scope(|scope| {
            let publisher = scope.spawn(|| Postgres::start(authority));
            let subscriber = Postgres::copy(authority, "subscriber", None);
            (publisher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), subscriber)
        });
        let (publisher, subscriber) = (publisher?, subscriber?);
        let relay = Relay::start(publisher.port())?;
        insert(&publisher, 10)?;
        publisher.query("CREATE PUBLICATION orders FOR TABLE demo")?;
        Ok(Subscription { beside: Mutex::default(), subscriber, relay, publisher })
    }

    /// The server that is followed.
    pub fn publisher(&self) -> &Postgres {
        &self.publisher
    }

    /// The server that follows.
    pub fn subscriber(&self) -> &Postgres {
        &self.subscriber
    }

    /// Subscribes, and waits until everything is copied and confirmed.
    pub fn follow(&self) -> Result<(), Error> {
        self.subscribe()?;
        let copied = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate = 'r'";
        wait("the table to be copied", || Ok(self.subscriber.query(copied)? == "1"))?;
        let confirmed = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'orders' \
             AND state = 'streaming' AND replay_lsn IS NOT NULL";
        wait("the subscriber to confirm", || Ok(self.publisher.query(confirmed)? == "1"))
    }

    /// Subscribes while the subscriber's table is locked: the first copy waits.
    pub fn copy_for_ever(&self) -> Result<(), Error> {
        self.lock()?;
        self.subscribe()?;
        let worker = "SELECT count(*) FROM pg_stat_subscription WHERE relid IS NULL AND last_msg_receipt_time IS NOT NULL";
        wait("the worker to run", || Ok(self.subscriber.query(worker)? == "1"))?;
        let copying = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate = 'd'";
        wait("the copy to begin", || Ok(self.subscriber.query(copying)? == "1"))
    }

    /// The subscriber no longer applies, and the publisher writes so many rows.
    pub fn fall_behind(&self, rows: u32) -> Result<(), Error> {
        self.lock()?;
        insert(&self.publisher, rows)?;
        let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'demo'::regclass AND NOT granted";
        wait("the worker to wait", || Ok(self.subscriber.query(waiting)? != "0"))
    }

    /// The subscription is switched off, and the publisher's slot is left alone.
    pub fn disable(&self) -> Result<(), Error> {
        self.subscriber.query("ALTER SUBSCRIPTION orders DISABLE")?;
        self.wait_until_unread()
    }

    /// The subscriber refuses a row, again and again.
    pub fn fail(&self) -> Result<(), Error> {
        self.subscriber.query("ALTER TABLE demo ADD CHECK (text <> 'poison')")?;
        self.publisher.query("INSERT INTO demo (text) VALUES ('poison')")?;
        let failed = "SELECT coalesce(sum(apply_error_count), 0) > 1 FROM pg_stat_subscription_stats";
        wait("the worker to fail twice", || Ok(self.subscriber.query(failed)? == "t"))
    }

    /// The link is cut, and both have noticed.
    pub fn cut(&self) -> Result<(), Error> {
        self.relay.set(Link::Cut);
        let gone = "SELECT count(*) FROM pg_stat_subscription WHERE pid IS NOT NULL AND last_msg_receipt_time IS NOT NULL";
        wait("the worker to end", || Ok(self.subscriber.query(gone)? == "0"))?;
        self.wait_until_unread()
    }

    /// The link carries nothing for more than so many seconds.
    pub fn freeze(&self, seconds: f64) -> Result<(), Error> {
        self.relay.set(Link::Frozen);
        insert(&self.publisher, 1)?;
        let silent = format!(
            "SELECT count(*) FROM pg_stat_replication WHERE clock_timestamp() - reply_time > '{seconds} s'"
        );
        wait("the publisher to hear nothing", || Ok(self.publisher.query(&silent)? == "1"))?;
        let silent = format!(
            "SELECT count(*) FROM pg_stat_subscription WHERE clock_timestamp() - last_msg_receipt_time > '{seconds} s'"
        );
        wait("the subscriber to hear nothing", || Ok(self.subscriber.query(&silent)? == "1"))
    }

    fn subscribe(&self) -> Result<(), Error> {
        let source = source(self.relay.port(), "orders");
        let sql =
            format!("CREATE SUBSCRIPTION orders CONNECTION '{source} dbname=postgres' PUBLICATION orders");
        self.subscriber.query(&sql).map(drop)
    }

    /// Somebody holds the subscriber's table: it can be read, and not be written.
    fn lock(&self) -> Result<(), Error> {
        let holding = self.subscriber.keep_running(
            "BEGIN; LOCK TABLE demo IN SHARE ROW EXCLUSIVE MODE; SELECT pg_sleep(3600); COMMIT",
        )?;
        let held = "SELECT count(*) FROM pg_locks WHERE relation = 'demo'::regclass AND granted AND mode = 'ShareRowExclusiveLock'";
        let holding = holding.wait_until(|| self.subscriber.query(held).is_ok_and(|count| count == "1"))?;
        self.beside.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(holding);
        Ok(())
    }

    fn wait_until_unread(&self) -> Result<(), Error> {
        let unread = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'orders' AND NOT active";
        wait("the slot to be left", || Ok(self.publisher.query(unread)? == "1"))
    }
}

//! A PostgreSQL primary with two standbys and a cascade below the second, and the situations that befall such a thing. Each
//! method returns when its situation is there, by what the servers themselves say.

use std::sync::Mutex;
use std::thread;

use crate::postgres::Running;
use crate::process::wait;
use crate::relay::Link;
use crate::standby::Standby;
use crate::{Authority, Error, Postgres};

/// The four servers: `standby1` and `standby2` stream from the primary, `cascade` from `standby2`, each through a relay.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: whoever streams before those that are streamed from.
    beside: Mutex<Vec<Running>>,
    cascade: Standby,
    standby2: Standby,
    standby1: Standby,
    primary: Postgres,
}

impl Cluster {
    /// All run, and have replayed everything. Takes a second or two.
    pub fn start(authority: &Authority) -> Result<Cluster, Error> {
        let (primary, standby1, standby2, cascade) = thread::scope(|scope| {
            let primary = scope.spawn(|| Postgres::start(authority));
            let [one, two, below] = ["standby1", "standby2", "cascade"]
                .map(|name| scope.spawn(move || Standby::start(authority, name)));
            (joined(primary), joined(one), joined(two), joined(below))
        });
        let cluster = Cluster {
            beside: Mutex::default(),
            cascade: cascade?,
            standby2: standby2?,
            standby1: standby1?,
            primary: primary?,
        };
        cluster.standby1.follow(&cluster.primary);
        cluster.standby2.follow(&cluster.primary);
        cluster.cascade.follow(cluster.standby2.server());
        // A standby that never replayed a commit does not know how old its data is.
        cluster.insert(1)?;
        cluster.wait_until_caught_up()?;
        Ok(cluster)
    }

    /// The server that writes.
    pub fn primary(&self) -> &Postgres {
        &self.primary
    }

    /// Streams from the primary; nobody streams from it.
    pub fn standby1(&self) -> &Standby {
        &self.standby1
    }

    /// Streams from the primary, and feeds the cascade.
    pub fn standby2(&self) -> &Standby {
        &self.standby2
    }

    /// Streams from the second standby.
    pub fn cascade(&self) -> &Standby {
        &self.cascade
    }

    /// Writes so many rows on the primary.
    pub fn insert(&self, rows: u32) -> Result<(), Error> {
        insert(&self.primary, rows)
    }

    /// Waits until all standbys have replayed what the primary has written.
    pub fn wait_until_caught_up(&self) -> Result<(), Error> {
        let written = self.primary.query("SELECT pg_current_wal_lsn()")?;
        for standby in [&self.standby1, &self.standby2, &self.cascade] {
            standby.wait_until_at(&written)?;
        }
        Ok(())
    }

    /// Nothing is written for more than so many seconds.
    pub fn idle(&self, seconds: f64) -> Result<(), Error> {
        age(self.cascade.server(), seconds)?;
        age(self.standby1.server(), seconds)
    }

    /// The first standby's link carries nothing for more than so many seconds; the primary has written since.
    pub fn freeze(&self, seconds: f64) -> Result<(), Error> {
        self.standby1.set_link(Link::Frozen)?;
        self.insert(10)?;
        let silent = format!(
            "SELECT count(*) FROM pg_stat_wal_receiver WHERE clock_timestamp() - last_msg_receipt_time > '{seconds} s'"
        );
        wait("the standby to hear nothing", || Ok(self.standby1.server().query(&silent)? == "1"))?;
        let silent = format!(
            "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'standby1' \
             AND clock_timestamp() - reply_time > '{seconds} s'"
        );
        wait("the primary to hear nothing", || Ok(self.primary.query(&silent)? == "1"))
    }

    /// The first standby needs WAL that is gone.
    pub fn lose_wal(&self) -> Result<(), Error> {
        lose_wal(&self.primary, &self.standby1)
    }

    /// Ends the first standby.
    pub fn remove_standby(&mut self) -> Result<(), Error> {
        self.standby1.remove(&self.primary)
    }

    /// The second standby becomes a primary; the cascade follows it onto the new timeline, while the primary goes on.
    pub fn promote(&self) -> Result<(), Error> {
        self.standby2.promote()?;
        insert(self.standby2.server(), 10)?;
        let written = self.standby2.server().query("SELECT pg_current_wal_lsn()")?;
        self.cascade.wait_until_at(&written)?;
        let followed = "SELECT count(*) FROM pg_stat_wal_receiver WHERE received_tli = 2";
        wait("the cascade to follow", || Ok(self.cascade.server().query(followed)? == "1"))
    }

    /// The second standby's link is cut, and the primary writes on: the cascade sees nothing of either.
    pub fn cut_upstream(&self) -> Result<(), Error> {
        self.standby2.set_link(Link::Cut)?;
        self.insert(10)
    }

    /// One transaction writes on and on; the last commit is more than so many seconds old everywhere.
    pub fn write_long(&self, seconds: f64) -> Result<(), Error> {
        let writing = self.primary.keep_running(
            "DO $$ BEGIN LOOP INSERT INTO demo (text) SELECT repeat('x', 200) FROM generate_series(1, 20); \
             PERFORM pg_sleep(0.005); END LOOP; END $$",
        )?;
        self.keep(writing);
        age(self.standby1.server(), seconds)
    }

    /// A transaction on the first standby keeps it from replaying, for more than so many seconds.
    pub fn hold_replay(&self, seconds: f64) -> Result<(), Error> {
        let standby = self.standby1.server();
        let holding =
            standby.keep_running("BEGIN; SELECT count(*) FROM demo; SELECT pg_sleep(3600); COMMIT")?;
        let held = "SELECT count(*) FROM pg_locks WHERE relation = 'demo'::regclass AND granted";
        self.keep(holding.wait_until(|| standby.query(held).is_ok_and(|count| count != "0"))?);
        self.primary.query("BEGIN; LOCK TABLE demo IN ACCESS EXCLUSIVE MODE; INSERT INTO demo (text) VALUES ('held'); COMMIT")?;
        let waits = "SELECT pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()";
        wait("replay to wait", || Ok(standby.query(waits)? == "t"))?;
        age(standby, seconds)
    }

    /// A hundred transactions a second, for good.
    pub fn load(&self) -> Result<(), Error> {
        self.primary.prepare_bench()?;
        let writing = self.primary.keep_writing(100)?;
        let written = "SELECT count(*) > 10 FROM pgbench_history";
        self.keep(writing.wait_until(|| self.primary.query(written).is_ok_and(|enough| enough == "t"))?);
        self.wait_until_caught_up()
    }

    /// A base backup runs, as slowly as it can.
    pub fn back_up(&self) -> Result<(), Error> {
        let running = self.primary.client(
            "pg_basebackup",
            &["-X", "stream", "--max-rate=32k", "-c", "fast", "--no-sync", "-D", "backup"],
        )?;
        let there = "SELECT count(*) FROM pg_stat_replication WHERE state = 'backup'";
        self.keep(running.wait_until(|| self.primary.query(there).is_ok_and(|count| count == "1"))?);
        Ok(())
    }

    /// An archiver receives, and never replays.
    pub fn archive(&self) -> Result<(), Error> {
        self.keep(self.receive(None)?);
        Ok(())
    }

    /// One slot each that is in use, was never used, was left, is about to be lost, and is lost: `used`, `never`, `left_behind`,
    /// `endangered`, `lost`.
    pub fn make_slots(&self) -> Result<(), Error> {
        let primary = &self.primary;
        let make = |name: &str, reserve: bool| {
            primary.query(&format!("SELECT pg_create_physical_replication_slot('{name}', {reserve})"))
        };
        primary.set("wal_keep_size", "0")?;
        primary.set("max_slot_wal_keep_size", "2MB")?;
        make("never", false)?;
        make("lost", true)?;
        switch_wal(primary, 6)?;
        primary.query("CHECKPOINT")?;
        make("endangered", true)?;
        switch_wal(primary, 6)?;
        // A slot begins where the last checkpoint was, unless its user begins at the present.
        make("left_behind", false)?;
        drop(self.receive(Some("left_behind"))?);
        make("used", false)?;
        self.keep(self.receive(Some("used"))?);
        let states = "SELECT string_agg(concat_ws(' ', slot_name, wal_status, CASE WHEN active THEN 'active' END), ', ' \
             ORDER BY slot_name) FROM pg_replication_slots";
        let wanted = "endangered unreserved, left_behind reserved, lost lost, never, used reserved active";
        wait(&format!("slots to be {wanted}"), || Ok(primary.query(states)? == wanted))
    }

    /// An archiver that has received something; with a slot it says how far it is.
    fn receive(&self, slot: Option<&str>) -> Result<Running, Error> {
        let mut arguments = vec!["--no-loop", "--status-interval=1", "-D", "."];
        arguments.extend(slot.into_iter().flat_map(|slot| ["--slot", slot]));
        let running = self.primary.client("pg_receivewal", &arguments)?;
        let there = match slot {
            Some(slot) => format!(
                "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active \
                 AND restart_lsn IS NOT NULL"
            ),
            None => "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'pg_receivewal' \
                 AND state = 'streaming' AND replay_lsn IS NULL AND write_lsn IS NOT NULL"
                .to_owned(),
        };
        running.wait_until(|| self.primary.query(&there).is_ok_and(|count| count == "1"))
    }

    fn keep(&self, running: Running) {
        self.beside.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(running);
    }
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Writes so many rows.
pub(crate) fn insert(server: &Postgres, rows: u32) -> Result<(), Error> {
    let sql = format!("INSERT INTO demo (text) SELECT repeat('x', 200) FROM generate_series(1, {rows})");
    server.query(&sql).map(drop)
}

/// Cuts the link, removes what the standby would need next, and mends the link: it tries again and again, and can never follow.
fn lose_wal(primary: &Postgres, standby: &Standby) -> Result<(), Error> {
    standby.set_link(Link::Cut)?;
    primary.set("wal_keep_size", "0")?;
    switch_wal(primary, 4)?;
    primary.query("CHECKPOINT")?;
    standby.mend_link();
    Ok(())
}

/// Begins so many new segments of WAL.
fn switch_wal(server: &Postgres, times: u32) -> Result<(), Error> {
    for _ in 0..times {
        insert(server, 10)?;
        server.query("SELECT pg_switch_wal()")?;
    }
    Ok(())
}

/// Waits until the last commit that a standby replayed is older than so many seconds.
fn age(standby: &Postgres, seconds: f64) -> Result<(), Error> {
    let sql = format!("SELECT clock_timestamp() - pg_last_xact_replay_timestamp() > '{seconds} s'");
    wait("the last commit to be old", || Ok(standby.query(&sql)? == "t"))
}

//! A PostgreSQL primary and a streaming standby, with the link between them in our hands.

use crate::postgres::PASSWORD;
use crate::process::pause;
use crate::relay::{Link, Relay};
use crate::{Authority, Error, Postgres};

use std::time::{Duration, Instant};

/// The two servers. The standby streams as `standby1`, through a relay.
#[derive(Debug)]
pub struct Pair {
    // Dropped in this order: the standby first, so that nobody streams when the primary ends.
    standby: Postgres,
    relay: Relay,
    primary: Postgres,
}

impl Pair {
    /// Both run and the standby has replayed everything. Takes a few seconds.
    pub fn start(authority: &Authority) -> Result<Pair, Error> {
        let primary = Postgres::start(authority)?;
        let relay = Relay::start(primary.port())?;
        let installation = primary.installation().clone();
        let directory = installation.directory("standby")?;
        let source = format!(
            "host=127.0.0.1 port={} user=replicator password={PASSWORD} application_name=standby1 sslmode=disable",
            relay.port()
        );
        installation.run(
            "pg_basebackup",
            &["--dbname", &source, "-R", "-X", "stream", "-c", "fast", "--no-sync", "-D"],
            &directory.path().join("data"),
        )?;
        let standby = Postgres::launch(installation, directory, authority)?;
        let pair = Pair { standby, relay, primary };
        // A standby that never replayed a commit does not know how old its data is.
        pair.insert(1)?;
        pair.wait_until_caught_up()?;
        Ok(pair)
    }

    /// The server that writes.
    pub fn primary(&self) -> &Postgres {
        &self.primary
    }

    /// The server that follows.
    pub fn standby(&self) -> &Postgres {
        &self.standby
    }

    /// Writes so many rows on the primary.
    pub fn insert(&self, rows: u32) -> Result<(), Error> {
        let sql = format!("INSERT INTO demo (text) SELECT repeat('x', 200) FROM generate_series(1, {rows})");
        self.primary.query(&sql).map(drop)
    }

    /// The standby goes on receiving, but replays no more.
    pub fn pause_replay(&self) -> Result<(), Error> {
        self.standby.query("SELECT pg_wal_replay_pause()")?;
        // "pause requested" becomes "paused" when the startup process has noticed.
        wait("the standby to pause", || {
            Ok(self.standby.query("SELECT pg_get_wal_replay_pause_state()")? == "paused")
        })
    }

    /// The standby replays again.
    pub fn resume_replay(&self) -> Result<(), Error> {
        self.standby.query("SELECT pg_wal_replay_resume()").map(drop)
    }

    /// Changes the link between the two. After [`Link::Cut`] the standby has noticed; after [`Link::Up`] it streams again.
    pub fn set_link(&self, link: Link) -> Result<(), Error> {
        self.relay.set(link);
        match link {
            Link::Up => self.wait_until_caught_up(),
            Link::Cut => {
                wait(
                    "the standby to lose its receiver",
                    || Ok(self.receivers("status = 'streaming'")? == "0"),
                )
            }
            Link::Frozen => Ok(()),
        }
    }

    /// Cuts the link, removes what the standby would need next from the primary, and mends the link: the standby tries again and
    /// again, and can never follow.
    pub fn lose_wal(&self) -> Result<(), Error> {
        self.set_link(Link::Cut)?;
        self.primary.query("ALTER SYSTEM SET wal_keep_size = 0")?;
        self.primary.query("SELECT pg_reload_conf()")?;
        for _ in 0..4 {
            self.insert(10)?;
            self.primary.query("SELECT pg_switch_wal()")?;
        }
        self.primary.query("CHECKPOINT")?;
        self.relay.set(Link::Up);
        Ok(())
    }

    /// Makes the standby a primary. There is no way back.
    pub fn promote(&self) -> Result<(), Error> {
        self.standby.query("SELECT pg_promote(true, 30)").map(drop)
    }

    /// Ends the primary.
    pub fn stop_primary(&mut self) {
        self.primary.stop();
    }

    /// Waits until the standby streams and has replayed what the primary has written.
    pub fn wait_until_caught_up(&self) -> Result<(), Error> {
        let written = self.primary.query("SELECT pg_current_wal_lsn()")?;
        let sql = format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{written}', false)");
        wait("the standby to catch up", || {
            Ok(self.receivers("status = 'streaming'")? == "1" && self.standby.query(&sql)? == "t")
        })
    }

    fn receivers(&self, condition: &str) -> Result<String, Error> {
        self.standby.query(&format!("SELECT count(*) FROM pg_stat_wal_receiver WHERE {condition}"))
    }
}

fn wait(for_what: &str, mut done: impl FnMut() -> Result<bool, Error>) -> Result<(), Error> {
    let begun = Instant::now();
    while !done()? {
        if begun.elapsed() > PATIENCE {
            return Err(Error::Silent {
                program: "postgres".to_string(),
                waited: PATIENCE,
                output: format!("waited for {for_what}"),
            });
        }
        pause();
    }
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(30);

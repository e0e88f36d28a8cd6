//! A PostgreSQL standby with the link to its upstream in our hands. What it follows is known to whoever started it.

use crate::postgres::{Postgres, source};
use crate::process::wait;
use crate::relay::{Link, Relay};
use crate::{Authority, Error};

/// The server, and the relay through which it streams.
#[derive(Debug)]
pub struct Standby {
    name: &'static str,
    // Dropped in this order: nobody streams when the upstream ends.
    server: Postgres,
    relay: Relay,
}

impl Standby {
    /// A copy that streams under that name once [`Standby::follow`] has said from where.
    pub(crate) fn start(authority: &Authority, name: &'static str) -> Result<Standby, Error> {
        let relay = Relay::to_nowhere()?;
        let server = Postgres::copy(authority, name, Some(&source(relay.port(), name)))?;
        Ok(Standby { name, server, relay })
    }

    /// Streams from that server.
    pub(crate) fn follow(&self, upstream: &Postgres) {
        self.relay.lead_to(upstream.port());
    }

    /// The server itself.
    pub fn server(&self) -> &Postgres {
        &self.server
    }

    /// Ends it; its upstream has noticed.
    pub fn remove(&mut self, upstream: &Postgres) -> Result<(), Error> {
        self.server.stop();
        let gone =
            format!("SELECT count(*) FROM pg_stat_replication WHERE application_name = '{}'", self.name);
        wait("the upstream to miss the standby", || Ok(upstream.query(&gone)? == "0"))
    }

    /// It goes on receiving, but replays no more.
    pub fn pause_replay(&self) -> Result<(), Error> {
        self.server.query("SELECT pg_wal_replay_pause()")?;
        // "pause requested" becomes "paused" when the startup process has noticed.
        wait("the standby to pause", || {
            Ok(self.server.query("SELECT pg_get_wal_replay_pause_state()")? == "paused")
        })
    }

    /// It replays again.
    pub fn resume_replay(&self) -> Result<(), Error> {
        self.server.query("SELECT pg_wal_replay_resume()").map(drop)
    }

    /// Changes the link to the upstream. After [`Link::Cut`] the standby has noticed; after [`Link::Up`] it streams again.
    pub fn set_link(&self, link: Link) -> Result<(), Error> {
        self.relay.set(link);
        match link {
            Link::Up => wait("the standby to stream", || self.streams()),
            Link::Cut => wait("the standby to lose its receiver", || Ok(!self.streams()?)),
            Link::Frozen => Ok(()),
        }
    }

    /// Tries again, without waiting for what comes of it.
    pub(crate) fn mend_link(&self) {
        self.relay.set(Link::Up);
    }

    /// Makes it a primary, on a new timeline. There is no way back.
    pub fn promote(&self) -> Result<(), Error> {
        self.server.query("SELECT pg_promote(true, 60)").map(drop)
    }

    /// Waits until it streams and has replayed up to that position.
    pub(crate) fn wait_until_at(&self, position: &str) -> Result<(), Error> {
        let sql = format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{position}', false)");
        wait("the standby to catch up", || Ok(self.streams()? && self.server.query(&sql)? == "t"))
    }

    fn streams(&self) -> Result<bool, Error> {
        let sql = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'";
        Ok(self.server.query(sql)? == "1")
    }
}

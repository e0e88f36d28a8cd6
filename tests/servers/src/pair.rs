//! A PostgreSQL primary and a streaming standby, with the link between them in our hands.

use crate::cluster::insert;
use crate::relay::Link;
use crate::standby::Standby;
use crate::{Authority, Error, Postgres};

/// The two servers. The standby streams as `standby1`, through a relay.
#[derive(Debug)]
pub struct Pair {
    // Dropped in this order: the standby first, so that nobody streams when the primary ends.
    standby: Standby,
    primary: Postgres,
}

impl Pair {
    /// Both run and the standby has replayed everything. Takes a second.
    pub fn start(authority: &Authority) -> Result<Pair, Error> {
        let primary = Postgres::start(authority)?;
        let standby = Standby::start(authority, "standby1")?;
        standby.follow(&primary);
        let pair = Pair { standby, primary };
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
        self.standby.server()
    }

    /// Writes so many rows on the primary.
    pub fn insert(&self, rows: u32) -> Result<(), Error> {
        insert(&self.primary, rows)
    }

    /// The standby goes on receiving, but replays no more.
    pub fn pause_replay(&self) -> Result<(), Error> {
        self.standby.pause_replay()
    }

    /// The standby replays again.
    pub fn resume_replay(&self) -> Result<(), Error> {
        self.standby.resume_replay()
    }

    /// Changes the link between the two. After [`Link::Cut`] the standby has noticed; after [`Link::Up`] it has caught up.
    pub fn set_link(&self, link: Link) -> Result<(), Error> {
        self.standby.set_link(link)?;
        if link == Link::Up { self.wait_until_caught_up() } else { Ok(()) }
    }

    /// Makes the standby a primary. There is no way back.
    pub fn promote(&self) -> Result<(), Error> {
        self.standby.promote()
    }

    /// Ends the primary.
    pub fn stop_primary(&mut self) {
        self.primary.stop();
    }

    /// Waits until the standby streams and has replayed what the primary has written.
    pub fn wait_until_caught_up(&self) -> Result<(), Error> {
        let written = self.primary.query("SELECT pg_current_wal_lsn()")?;
        self.standby.wait_until_at(&written)
    }
}

//! The directory of the spool, as soon as it can be had: a disk that is read-only or full at the start may change its mind.

use crate::{
    error::Error,
    fjall::FjallStore,
    home::{Home, Source},
    marker::Marker,
    queue::Queue,
    slot,
    space::Room,
    types::{Position, Settings},
};

/// Where a [`Home`] is, or will be.
pub(crate) struct Place {
    settings: Settings,
    home: Option<Home>,
    /// What the slots told while the directory could only be read.
    known: Option<Marker>,
}

impl Place {
    /// Looks, and touches nothing yet.
    pub(crate) fn new(settings: Settings) -> Self {
        let known = slot::newest(&settings.dir);
        Self { settings, home: None, known }
    }
}

impl Source for Place {
    type Store = FjallStore;

    fn queue(&mut self, reported: Option<Position>) -> Result<Queue<FjallStore>, Error> {
        let home = match &mut self.home {
            Some(home) => home,
            None => self.home.insert(Home::open(&self.settings)?),
        };
        home.queue(reported)
    }

    fn keep(&mut self, marker: &Marker) -> Result<(), Error> {
        self.home.as_mut().map_or(Ok(()), |home| home.keep(marker))
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.home.as_mut().map_or(Ok(()), Home::sync)
    }

    fn dirty(&self) -> bool {
        self.home.as_ref().is_some_and(Home::dirty)
    }

    fn doubt(&mut self) {
        if let Some(home) = &mut self.home {
            home.doubt();
        }
    }

    fn quarantined(&self) -> u64 {
        self.home.as_ref().map_or(0, Home::quarantined)
    }

    fn known(&self) -> Option<Marker> {
        self.home.as_ref().map_or_else(|| self.known.clone(), Home::known)
    }

    fn low(&self) -> bool {
        self.home.as_ref().is_some_and(Home::low)
    }

    fn room(&self) -> bool {
        self.home.as_ref().is_none_or(Home::room)
    }

    fn space(&self) -> Room {
        self.home.as_ref().map_or(Room::Plenty, Home::space)
    }

    fn tend(&mut self) {
        if let Some(home) = &mut self.home {
            home.tend();
        }
    }
}

//! Which results go next while a backlog is drained: new ones first in a lane of their own, the backlog in order beside it. Pure.
//!
//! Without a backlog there is one lane. While there is one, what is recorded after the hello goes ahead, at most every second request,
//! and comes again in order: the control plane knows it by its id. Once the backlog reaches what went ahead, it is one lane again.

use wire::Position;
use wire::results::Lane;

/// The two lanes of a session.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    /// Everything up to here was in the backlog at the hello, or went ahead since.
    ahead: Position,
    /// The lane of the last request.
    last: Lane,
}

impl Lanes {
    /// A session begins; `backlog` is the last position of what waits, if anything does.
    pub(crate) fn begin(&mut self, backlog: Option<Position>) {
        *self = Self { ahead: backlog.unwrap_or_default(), last: Lane::Backlog };
    }

    /// The lane of the next request, when everything up to `acknowledged` is released and everything up to `recorded` is there.
    pub(crate) fn next(&self, acknowledged: Position, recorded: Position) -> Lane {
        let behind = acknowledged < self.ahead;
        let waits = recorded > self.ahead;
        if behind && waits && self.last == Lane::Backlog { Lane::Live } else { Lane::Backlog }
    }

    /// The next live batch begins after this position.
    pub(crate) fn ahead(&self) -> Position {
        self.ahead
    }

    /// A request leaves.
    pub(crate) fn sending(&mut self, lane: Lane) {
        self.last = lane;
    }

    /// The lane of the last request.
    pub(crate) fn last(&self) -> Lane {
        self.last
    }

    /// Everything up to here went ahead, or is left to the backlog.
    pub(crate) fn passed(&mut self, upto: Position) {
        self.ahead = self.ahead.max(upto);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seq: u64) -> Position {
        Position { epoch: 1, seq }
    }

    #[test]
    fn without_a_backlog_there_is_one_lane() {
        let mut lanes = Lanes::default();
        lanes.begin(None);
        assert_eq!(lanes.next(at(0), at(9)), Lane::Backlog);
        assert_eq!(lanes.next(at(9), at(9)), Lane::Backlog);
    }

    #[test]
    fn what_is_new_goes_first_and_takes_every_second_request_until_the_backlog_is_through() {
        let mut lanes = Lanes::default();
        lanes.begin(Some(at(2_000)));
        // A result is recorded with each request; a live batch takes all of them, a backlog batch 500.
        let (mut acknowledged, mut recorded, mut told) = (at(0), at(2_001), Vec::new());
        while acknowledged < recorded {
            let lane = lanes.next(acknowledged, recorded);
            lanes.sending(lane);
            told.push(lane);
            match lane {
                Lane::Live => lanes.passed(recorded),
                Lane::Backlog => acknowledged.seq = (acknowledged.seq + 500).min(recorded.seq),
            }
            recorded.seq += u64::from(told.len() < 9);
        }
        let (live, backlog) = (Lane::Live, Lane::Backlog);
        assert_eq!(told, [live, backlog, live, backlog, live, backlog, live, backlog, live, backlog]);
        assert_eq!(lanes.next(at(2_009), at(2_010)), backlog, "one lane again");
    }

    #[test]
    fn a_backlog_alone_has_every_request() {
        let mut lanes = Lanes::default();
        lanes.begin(Some(at(2_000)));
        for acknowledged in [0, 500, 1_000, 1_500] {
            assert_eq!(lanes.next(at(acknowledged), at(2_000)), Lane::Backlog);
            lanes.sending(Lane::Backlog);
        }
    }
}

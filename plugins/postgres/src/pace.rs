//! A lag in time, worked out of looks at a standby's replay. Pure; whose clock the seconds are is said by whoever looked.
//!
//! The age of the last replayed commit is no lag by itself: it grows while a long transaction is replayed at once. So it is
//! watched whether replay reaches what there was at first. If it does, the time until then is the lag. If it does not, but
//! comes along, its pace says when it would. The age of the last commit is a bound from above for both, and all there is
//! where replay stands still.

use crate::lag::Lag;

/// A position at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Look {
    /// Seconds.
    pub at: f64,
    /// Bytes of WAL.
    pub replayed: Option<u64>,
}

/// What is to be reached, and what is known beside the looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Goal {
    /// Bytes of WAL that there were at first.
    pub position: Option<u64>,
    /// When, in seconds.
    pub at: f64,
    /// Bytes that are not replayed yet.
    pub behind: Option<u64>,
    /// Seconds since the last replayed commit.
    pub commit_age: Option<f64>,
}

/// The lag by these looks, oldest first.
pub(crate) fn lag(goal: Goal, looks: &[Look]) -> Lag {
    let bytes = goal.behind;
    let there = |look: &Look| goal.position.is_some_and(|position| look.replayed >= Some(position));
    match looks.iter().position(there) {
        // What is there at the first look did not wait.
        Some(0) => return Lag { seconds: Some(0.0), bytes, by: NOTHING_WAITS },
        Some(index) => {
            return Lag { seconds: Some((looks[index].at - goal.at).max(0.0)), bytes, by: REACHED };
        }
        None => {}
    }
    // A commit of the future is a clock that goes wrong, not a negative lag.
    let age = goal.commit_age.map(|age| age.max(0.0));
    match (pace(goal, looks), age) {
        (Some(pace), Some(age)) if pace < age => Lag { seconds: Some(pace), bytes, by: BY_PACE },
        (Some(pace), None) => Lag { seconds: Some(pace), bytes, by: BY_PACE },
        (_, age) => Lag { seconds: age, bytes, by: BY_COMMIT },
    }
}

/// When the goal would be reached, if replay goes on as it did.
fn pace(goal: Goal, looks: &[Look]) -> Option<f64> {
    let (first, last) = (looks.first()?, looks.last()?);
    let (from, to) = (first.replayed?, last.replayed?);
    let (way, time) = (to.checked_sub(from)?, last.at - first.at);
    let left = goal.position?.checked_sub(to)?;
    (way > 0 && time > 0.0).then(|| last.at - goal.at + left as f64 / (way as f64 / time))
}

pub(crate) const NOTHING_WAITS: &str = "none, for nothing waits to be replayed";
pub(crate) const REACHED: &str = "the time until replay reached what there was";
pub(crate) const BY_PACE: &str = "the time that replay needs for what there was, at its pace";
pub(crate) const BY_COMMIT: &str = "the age of the last replayed commit";

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks a quarter of a second apart, the goal asked for at the first.
    fn check(position: u64, replayed: &[u64], commit_age: Option<f64>) -> (Option<f64>, &'static str) {
        let looks: Vec<Look> = replayed
            .iter()
            .enumerate()
            .map(|(index, replayed)| Look { at: 100.0 + 0.25 * index as f64, replayed: Some(*replayed) })
            .collect();
        let behind = replayed.last().map(|replayed| position.saturating_sub(*replayed));
        let lag = lag(Goal { position: Some(position), at: 100.0, behind, commit_age }, &looks);
        assert_eq!(lag.bytes, behind);
        (lag.seconds, lag.by)
    }

    #[test]
    fn what_is_reached_lags_by_the_time_until_then() {
        assert_eq!(check(900, &[900], Some(7200.0)), (Some(0.0), NOTHING_WAITS));
        let looks = [Look { at: 100.0, replayed: Some(500) }, Look { at: 100.25, replayed: Some(900) }];
        let goal = Goal { position: Some(900), at: 100.0, behind: Some(50), commit_age: Some(7200.0) };
        assert_eq!((lag(goal, &looks).seconds, lag(goal, &looks).by), (Some(0.25), REACHED));
    }

    #[test]
    fn what_comes_along_lags_by_its_pace_and_never_by_more_than_its_last_commit() {
        // 100 bytes a second, 300 to go.
        assert_eq!(check(900, &[500, 525, 550, 575, 600], Some(7200.0)), (Some(4.0), BY_PACE));
        assert_eq!(check(900, &[500, 525, 550, 575, 600], None), (Some(4.0), BY_PACE));
        assert_eq!(check(900, &[500, 525, 550, 575, 600], Some(2.0)), (Some(2.0), BY_COMMIT));
    }

    #[test]
    fn what_stands_still_lags_by_its_last_commit() {
        assert_eq!(check(900, &[500, 500], Some(40.0)), (Some(40.0), BY_COMMIT));
        assert_eq!(check(900, &[500], Some(-3.0)), (Some(0.0), BY_COMMIT));
        assert_eq!(check(900, &[500], None), (None, BY_COMMIT));
        let nothing = Goal { position: None, at: 0.0, behind: None, commit_age: None };
        assert_eq!(lag(nothing, &[]).seconds, None);
    }
}

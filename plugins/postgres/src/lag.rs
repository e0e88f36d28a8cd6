//! A measured lag against the bounds of the configuration. Does not know how it was measured.

use sdk::{Finding, Outcome};

use crate::choice::Combine;
use crate::config::Config;

/// How far replay is behind; none where it cannot be known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Lag {
    pub seconds: Option<f64>,
    pub bytes: Option<u64>,
    /// Which number the seconds are: there are several, and one that is none of a lag in each situation.
    pub by: &'static str,
}

impl Lag {
    /// "0.2 s and 1.5 MiB behind".
    pub(crate) fn text(&self) -> String {
        match (self.seconds, self.bytes) {
            (Some(seconds), Some(bytes)) => format!("{seconds:.1} s and {} behind", size(bytes)),
            (Some(seconds), None) => format!("{seconds:.1} s behind"),
            (None, Some(bytes)) => format!("{} and an unknown time behind", size(bytes)),
            (None, None) => "an unknown time behind".into(),
        }
    }

    /// Adds the verdict. `whose` stands in front of the summary: "the standby", "standby1".
    pub(crate) fn judge(&self, outcome: Outcome, config: &Config, whose: &str) -> Outcome {
        let summary = || format!("{whose} is {}", self.text());
        let found = || format!("{whose} is {}; the time is {}", self.text(), self.by);
        let (warn_bytes, critical_bytes) = (config.warn_bytes(), config.critical_bytes);
        let critical = self.exceeds(Some(config.critical_seconds), critical_bytes, config.combine);
        let warning = self.exceeds(Some(config.warn_seconds), warn_bytes, config.combine);
        let bounds = |level: &str, seconds: f64, bytes: Option<u64>| {
            let word = if config.combine == Combine::Any { "and" } else { "or" };
            let bytes = bytes.map(|bytes| format!(" {word} {}", size(bytes))).unwrap_or_default();
            format!("{level}: at most {seconds} s{bytes}")
        };
        let known = self.seconds.is_some() || self.bytes.is_some();
        outcome
            .must(
                Finding::new(
                    "critical",
                    !critical,
                    bounds("critical", config.critical_seconds, critical_bytes),
                    found(),
                ),
                "postgres.lag",
                summary,
            )
            .should(
                Finding::new("warn", !warning, bounds("warning", config.warn_seconds, warn_bytes), found()),
                "postgres.lag",
                summary,
            )
            .should(
                Finding::new("lag", known, "can be measured", if known { self.by } else { "unknown" }),
                "postgres.lag_unknown",
                summary,
            )
    }

    /// Adds the numbers that were judged.
    pub(crate) fn metrics(&self, mut outcome: Outcome) -> Outcome {
        if let Some(seconds) = self.seconds {
            outcome = outcome.metric("postgres.lag", seconds, "s");
        }
        if let Some(bytes) = self.bytes {
            outcome = outcome.metric("postgres.lag_bytes", bytes as f64, "By");
        }
        outcome
    }

    /// Whether the bounds of one level are exceeded. A measure that is not known has no say.
    fn exceeds(&self, seconds: Option<f64>, bytes: Option<u64>, combine: Combine) -> bool {
        let by_time = self.seconds.zip(seconds).map(|(lag, bound)| lag > bound);
        let by_bytes = self.bytes.zip(bytes).map(|(lag, bound)| lag > bound);
        let mut known = [by_time, by_bytes].into_iter().flatten().peekable();
        match combine {
            Combine::Any => known.any(|exceeded| exceeded),
            Combine::All => known.peek().is_some() && known.all(|exceeded| exceeded),
        }
    }
}

/// "16.0 MiB".
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use sdk::State;

    use super::*;
    use crate::config::tests::config;

    const MIB: u64 = 1 << 20;

    #[track_caller]
    fn check(options: &str, seconds: Option<f64>, bytes: Option<u64>, state: State, code: &str) {
        let lag = Lag { seconds, bytes, by: "a guess" };
        let outcome = lag.judge(Outcome::up("fine"), &config(options), "the standby");
        assert_eq!((outcome.state, outcome.code.as_str()), (state, code), "{}", outcome.summary);
        assert!(outcome.findings[0].actual.ends_with("the time is a guess"), "{:?}", outcome.findings);
    }

    #[test]
    fn time_and_bytes_have_bounds_of_their_own() {
        check("{}", Some(30.0), Some(16 * MIB), State::Up, "ok");
        check("{}", Some(30.1), Some(0), State::Degraded, "postgres.lag");
        check("{}", Some(0.0), Some(16 * MIB + 1), State::Degraded, "postgres.lag");
        check("{}", Some(60.1), Some(0), State::Down, "postgres.lag");
        check("{}", Some(0.0), Some(1 << 40), State::Degraded, "postgres.lag");
        check(r#"{"critical_bytes": 33554432}"#, Some(0.0), Some(33 * MIB), State::Down, "postgres.lag");
    }

    #[test]
    fn all_asks_for_every_bound_of_a_level() {
        let all = r#"{"combine": "all", "critical_bytes": 33554432}"#;
        check(all, Some(1000.0), Some(0), State::Up, "ok");
        check(all, Some(0.0), Some(1000 * MIB), State::Up, "ok");
        check(all, Some(31.0), Some(17 * MIB), State::Degraded, "postgres.lag");
        check(all, Some(61.0), Some(17 * MIB), State::Degraded, "postgres.lag");
        check(all, Some(61.0), Some(33 * MIB), State::Down, "postgres.lag");
    }

    #[test]
    fn what_is_not_known_has_no_say_and_is_never_zero() {
        check("{}", None, Some(0), State::Up, "ok");
        check("{}", None, Some(17 * MIB), State::Degraded, "postgres.lag");
        check(r#"{"combine": "all"}"#, None, Some(17 * MIB), State::Degraded, "postgres.lag");
        check("{}", None, None, State::Degraded, "postgres.lag_unknown");
        check(r#"{"combine": "all"}"#, None, None, State::Degraded, "postgres.lag_unknown");
    }

    #[test]
    fn sizes_are_read_by_people() {
        assert_eq!(
            [size(0), size(1023), size(1536), size(16 * MIB)],
            ["0 B", "1023 B", "1.5 KiB", "16.0 MiB"]
        );
    }
}

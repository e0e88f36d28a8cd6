//! Uptime: what it counts, and how it is said.

use serde::{Deserialize, Serialize};

/// How a monitor's target fared in a span of time that ends now. A result speaks until the next one, at most for two intervals and the
/// timeout, at the time at which it was made, however late it came. Time before the monitor was made, while it was not enabled, or in
/// maintenance does not count; `known_s` and `unknown_s` are all the time that does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Uptime {
    /// "24h", "7d" or "30d".
    pub window: String,
    /// Up and degraded as a share of what is known, rounded down to three decimals: 100 only without any down time. None while
    /// nothing is known.
    pub up_percent: Option<f64>,
    /// Seconds for which the target's state is known: up, degraded or down.
    pub known_s: u64,
    /// Seconds for which it is not: no result, a gap, or a check that could not be made.
    pub unknown_s: u64,
    /// Known seconds of it that were down.
    pub down_s: u64,
    /// Known seconds of it that were degraded.
    pub degraded_s: u64,
    /// Unknown seconds of it in which the check could not be made.
    pub error_s: u64,
    /// Seconds of maintenance, which do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub maintenance_s: u64,
}

impl std::fmt::Display for Uptime {
    /// "99.93 % of 23 h 10 min known, 50 min unknown; down 59 s".
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.percent() {
            None => write!(f, "nothing known, {} unknown", Span(self.unknown_s))?,
            Some(percent) => {
                write!(f, "{percent} of {} known, {} unknown", Span(self.known_s), Span(self.unknown_s))?;
            }
        }
        if self.down_s > 0 {
            write!(f, "; down {}", Span(self.down_s))?;
        }
        if self.maintenance_s > 0 {
            write!(f, "; maintenance {}", Span(self.maintenance_s))?;
        }
        Ok(())
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Uptime {
    /// "99.93 %", rounded down; none while nothing is known.
    pub fn percent(&self) -> Option<String> {
        // Thousandths of a percent, which a float holds exactly enough to be counted.
        let thousandths = (self.up_percent? * 1_000.0).round() as u64;
        Some(match thousandths {
            100_000.. => "100 %".to_owned(),
            less => format!("{}.{:02} %", less / 1_000, less % 1_000 / 10),
        })
    }
}

/// Seconds in the two largest units that they fill: "6 d 23 h", "50 min", "0 s".
struct Span(u64);

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            (self.0 / 86_400, "d"),
            (self.0 / 3_600 % 24, "h"),
            (self.0 / 60 % 60, "min"),
            (self.0 % 60, "s"),
        ];
        let largest = parts.iter().position(|(n, _)| *n > 0).unwrap_or(parts.len() - 1);
        let (n, unit) = parts[largest];
        write!(f, "{n} {unit}")?;
        match parts.get(largest + 1) {
            Some((n, unit)) if *n > 0 => write!(f, " {n} {unit}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_reads_as_a_sentence_and_is_never_rounded_up() {
        let uptime = Uptime {
            window: "24h".into(),
            up_percent: Some(99.929),
            known_s: 23 * 3_600 + 600,
            unknown_s: 3_000,
            down_s: 59,
            degraded_s: 0,
            error_s: 0,
            maintenance_s: 0,
        };
        assert_eq!(uptime.to_string(), "99.92 % of 23 h 10 min known, 50 min unknown; down 59 s");
        for (percent, text) in [(100.0, "100 %"), (99.999, "99.99 %"), (0.0, "0.00 %"), (7.05, "7.05 %")] {
            assert_eq!(Uptime { up_percent: Some(percent), ..uptime.clone() }.percent().unwrap(), text);
        }
        let served = Uptime { maintenance_s: 7_200, ..uptime.clone() };
        assert!(served.to_string().ends_with("; down 59 s; maintenance 2 h"), "{served}");
        let silent = Uptime { up_percent: None, known_s: 0, unknown_s: 86_400, down_s: 0, ..uptime };
        assert_eq!(silent.to_string(), "nothing known, 1 d unknown");
    }

    #[test]
    fn a_span_has_two_units_at_most() {
        for (seconds, text) in
            [(0, "0 s"), (61, "1 min 1 s"), (3_600, "1 h"), (604_799, "6 d 23 h"), (86_459, "1 d")]
        {
            assert_eq!(Span(seconds).to_string(), text);
        }
    }
}

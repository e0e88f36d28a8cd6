//! When to come again, as an answer says it: RFC 9110, section 10.2.3. Pure: the answer's own date tells what time it is, the clocks of
//! this machine have no say.

use std::time::Duration;

use jiff::fmt::rfc2822;

/// What a `Retry-After` header asks for: seconds, or a time that is held against the `Date` of the same answer. None for what is
/// neither, is negative, or lies in the past.
pub(crate) fn asked(retry_after: &str, date: &str) -> Option<Duration> {
    let retry_after = retry_after.trim();
    if !retry_after.is_empty() && retry_after.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a number holds are longer than any bound.
        return Some(Duration::from_secs(retry_after.parse().unwrap_or(u64::MAX)));
    }
    let seconds = time(retry_after)?.checked_sub(time(date)?)?;
    u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

/// How long to wait then: at most an hour when the control plane says so itself, at most five minutes when anybody may have said it;
/// at least a second, a fifth more or less by `chance` in 0..1, so that those who were told the same do not come together.
pub(crate) fn wait(asked: Duration, signed: bool, chance: f64) -> Duration {
    let longest = if signed { SIGNED } else { UNSIGNED };
    asked.clamp(SHORTEST, longest).mul_f64(0.8 + 0.4 * chance.clamp(0.0, 1.0)).max(SHORTEST)
}

/// Seconds since 1970.
fn time(text: &str) -> Option<i64> {
    rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok().map(jiff::Timestamp::as_second)
}

const SHORTEST: Duration = Duration::from_secs(1);
const SIGNED: Duration = Duration::from_secs(3600);
/// A portal cannot silence an agent for longer than it takes to log in.
const UNSIGNED: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn seconds_and_dates_are_understood_and_everything_else_is_ignored() {
        const NOW: &str = "Fri, 20 Nov 2026 18:00:00 GMT";
        for (retry_after, date, seconds) in [
            ("120", NOW, Some(120)),
            ("0", "", Some(0)),
            ("315360000", NOW, Some(315_360_000)),
            ("99999999999999999999999", NOW, Some(u64::MAX)),
            ("-5", NOW, None),
            ("1.5", NOW, None),
            ("soon", NOW, None),
            ("", NOW, None),
            ("Fri, 20 Nov 2026 18:01:30 GMT", NOW, Some(90)),
            ("Fri, 20 Nov 2026 17:59:59 GMT", NOW, None),
            ("Fri, 20 Nov 2026 18:01:30 GMT", "", None),
            ("Fri, 20 Nov 2026 18:01:30 GMT", "yesterday", None),
            ("Thu, 20 Nov 2036 18:00:00 GMT", "Sat, 20 Nov 1999 18:00:00 GMT", Some(1_167_696_000)),
            ("Mon, 20 Nov 2026 18:01:30 GMT", NOW, None),
            ("Fri, 20 Nov 2026 25:00:00 GMT", NOW, None),
            ("🕰", NOW, None),
        ] {
            assert_eq!(asked(retry_after, date), seconds.map(Duration::from_secs), "{retry_after} at {date}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_header_says_the_wait_has_its_bounds(
            retry_after in "[-+0-9A-Za-z,: ]{0,40}|.*",
            date in ".*",
            signed: bool,
            chance in -1.0..2.0_f64,
        ) {
            if let Some(asked) = asked(&retry_after, &date) {
                let waits = wait(asked, signed, chance);
                let longest = if signed { 4320 } else { 360 };
                prop_assert!((Duration::from_secs(1)..=Duration::from_secs(longest)).contains(&waits));
            }
        }
    }

    #[test]
    fn a_wait_has_bounds_and_a_fifth_of_jitter() {
        for (asked_s, signed, chance, wait_s) in [
            (100, true, 0.5, 100.0),
            (100, true, 0.0, 80.0),
            (100, true, 1.0, 120.0),
            (315_360_000, true, 0.5, 3600.0),
            (u64::MAX, true, 1.0, 4320.0),
            (3600, false, 0.5, 300.0),
            (0, true, 0.0, 1.0),
        ] {
            let waits = wait(Duration::from_secs(asked_s), signed, chance).as_secs_f64();
            assert!((waits - wait_s).abs() < 1e-6, "{asked_s} s: {waits}");
        }
    }
}

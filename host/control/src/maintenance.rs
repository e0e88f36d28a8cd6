//! Whether a maintenance window holds at a time. Pure: the time comes in, the time zones come with the program. What that means for
//! results, alerts and uptime is said where those are decided.

use cronexpr::{Crontab, parse_crontab};
use jiff::civil::{DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use wire::maintenance::{Day, Maintenance};

/// Whether one of the windows holds at that time. What cannot be read holds never; it was refused when it was written.
pub(crate) fn holds(windows: &[Maintenance], at: wire::Timestamp) -> bool {
    let Ok(at) = Timestamp::from_millisecond(at.as_millis()) else { return false };
    // No clock that is worth believing is outside of these, and calendars end somewhere.
    let believable = CALENDAR.contains(&at.as_second());
    believable && windows.iter().any(|window| Window::read(window).is_ok_and(|window| window.holds(at)))
}

/// A window without mistakes.
#[derive(Debug)]
pub(crate) enum Window {
    /// Once.
    Once { from: Timestamp, to: Timestamp },
    /// On days of the week; on all when none.
    Weekly { days: Vec<Weekday>, at: Time, duration: SignedDuration, zone: TimeZone },
    /// By a cron expression.
    Cron { times: Box<Crontab>, duration: SignedDuration },
}

/// What is wrong with a window: the key, and what to write instead.
pub(crate) type Wrong = (&'static str, String);

impl Window {
    /// Reads what people wrote.
    pub(crate) fn read(written: &Maintenance) -> Result<Self, Wrong> {
        match written {
            Maintenance::Once { from, to, time_zone } => {
                let zone = zone(time_zone)?;
                let moment = |key, text| {
                    moment(text, &zone).ok_or_else(|| (key, format!("found {text:?}, write {MOMENT}")))
                };
                let (from, to) = (moment("from", from)?, moment("to", to)?);
                match from < to {
                    true => Ok(Self::Once { from, to }),
                    false => Err(("to", "it is not after `from`: write a later time".to_owned())),
                }
            }
            Maintenance::Weekly { days, at, duration, time_zone } => {
                let time = Time::strptime("%H:%M", at);
                let at =
                    time.map_err(|_| ("at", format!("found {at:?}, write a time of day like \"22:00\"")))?;
                let days = days.iter().map(|day| weekday(*day)).collect();
                Ok(Self::Weekly { days, at, duration: length(duration)?, zone: zone(time_zone)? })
            }
            Maintenance::Cron { cron, duration, time_zone } => {
                zone(time_zone)?;
                let wrong = |why: &str| ("cron", format!("found {cron:?}, write {CRON}: {why}"));
                // A sixth word would be a time zone of its own.
                if cron.split_whitespace().count() != 5 {
                    return Err(wrong("it has five fields"));
                }
                let times = parse_crontab(&format!("{cron} {time_zone}"))
                    .map_err(|_| wrong("one of its fields cannot be read"))?;
                if times.find_next(SOME_DAY).is_err() {
                    return Err(wrong("this time never comes"));
                }
                Ok(Self::Cron { times: Box::new(times), duration: length(duration)? })
            }
        }
    }

    fn holds(&self, now: Timestamp) -> bool {
        match self {
            Self::Once { from, to } => (*from..*to).contains(&now),
            Self::Weekly { days, at, duration, zone } => {
                let (first, last) = (zone.to_datetime(now - *duration).date(), zone.to_datetime(now).date());
                let began = |date: jiff::civil::Date| {
                    // A time that clocks leave out comes as much later; of one that comes twice the first counts.
                    let begins = zone.to_ambiguous_timestamp(date.to_datetime(*at)).compatible();
                    begins.is_ok_and(|begins| begins <= now && now.duration_since(begins) < *duration)
                };
                let dates = first.series(jiff::Span::new().days(1)).take_while(|date| *date <= last);
                dates.filter(|date| days.is_empty() || days.contains(&date.weekday())).any(began)
            }
            // It began after that time and not later than now.
            Self::Cron { times, duration } => {
                times.find_next(now - *duration).is_ok_and(|begins| begins.timestamp() <= now)
            }
        }
    }
}

fn moment(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let exact = text.parse::<Timestamp>().ok();
    let civil = || zone.to_ambiguous_timestamp(text.parse::<DateTime>().ok()?).compatible().ok();
    exact.or_else(civil).filter(|at| CALENDAR.contains(&at.as_second()))
}

fn length(text: &str) -> Result<SignedDuration, Wrong> {
    let wrong = || ("duration", format!("found {text:?}, write a text like \"2h\", at most 7 days"));
    let duration = humantime::parse_duration(text).map_err(|_| wrong())?;
    let duration = SignedDuration::try_from(duration).map_err(|_| wrong())?;
    if duration.is_zero() || duration > LONGEST { Err(wrong()) } else { Ok(duration) }
}

fn zone(name: &str) -> Result<TimeZone, Wrong> {
    TimeZone::get(name).map_err(|_| {
        ("time_zone", format!("found {name:?}, write IANA's name of a time zone, like \"Europe/Berlin\""))
    })
}

fn weekday(day: Day) -> Weekday {
    match day {
        Day::Mon => Weekday::Monday,
        Day::Tue => Weekday::Tuesday,
        Day::Wed => Weekday::Wednesday,
        Day::Thu => Weekday::Thursday,
        Day::Fri => Weekday::Friday,
        Day::Sat => Weekday::Saturday,
        Day::Sun => Weekday::Sunday,
    }
}

const MOMENT: &str = "a time like \"2026-12-01T22:00:00+01:00\", or \"2026-12-01 22:00\" in its time zone";
const CRON: &str = "minute, hour, day of the month, month and day of the week, like \"0 22 * * 6\"";

/// A Monday; the calendar repeats itself.
const SOME_DAY: &str = "2024-01-01T00:00:00Z";

/// From 1971 to 9000, in seconds.
const CALENDAR: std::ops::Range<i64> = 31_536_000..221_845_392_000;

const LONGEST: SignedDuration = SignedDuration::from_hours(7 * 24);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn window(written: Value) -> Maintenance {
        serde_json::from_value(written).unwrap()
    }

    fn check(written: Value, table: &[(&str, bool)]) {
        let windows = [window(written)];
        for (at, expected) in table {
            assert_eq!(holds(&windows, at.parse().unwrap()), *expected, "{windows:?} at {at}");
        }
    }

    #[test]
    fn a_window_begins_with_its_first_moment_and_ends_before_its_last() {
        check(
            json!({"from": "2026-12-01 22:00", "to": "2026-12-02 02:00", "time_zone": "Europe/Berlin"}),
            &[
                ("2026-12-01T20:59:59.999Z", false),
                ("2026-12-01T21:00:00Z", true),
                ("2026-12-02T00:59:59.999Z", true),
                ("2026-12-02T01:00:00Z", false),
            ],
        );
        check(
            json!({"from": "2026-12-01T22:00:00-05:00", "to": "2026-12-02T04:00Z", "time_zone": "Asia/Tokyo"}),
            &[
                ("2026-12-02T02:59:59Z", false),
                ("2026-12-02T03:00:00Z", true),
                ("2026-12-02T04:00:00Z", false),
            ],
        );
    }

    #[test]
    fn a_weekly_window_reaches_over_midnight_and_over_the_week() {
        check(
            json!({"days": ["sat"], "at": "22:00", "duration": "4h", "time_zone": "America/New_York"}),
            &[
                ("2026-11-22T02:59:59Z", false),
                ("2026-11-22T03:00:00Z", true),
                ("2026-11-22T06:59:59Z", true),
                ("2026-11-22T07:00:00Z", false),
                ("2026-11-23T03:00:00Z", false),
            ],
        );
        check(
            json!({"days": ["sun"], "at": "12:00", "duration": "7d", "time_zone": "UTC"}),
            &[("2026-11-22T11:59:59Z", true), ("2026-11-22T12:00:00Z", true), ("2026-11-25T00:00:00Z", true)],
        );
        check(
            json!({"days": [], "at": "03:00", "duration": "30m", "time_zone": "UTC"}),
            &[
                ("2026-11-24T03:29:59Z", true),
                ("2026-11-25T03:00:00Z", true),
                ("2026-11-25T03:30:00Z", false),
            ],
        );
    }

    #[test]
    fn a_window_follows_the_clocks_of_its_zone() {
        // 2026-03-29 02:00 is 03:00 at once, 2026-10-25 03:00 is 02:00 once more.
        let berlin = json!({"days": [], "at": "02:30", "duration": "1h", "time_zone": "Europe/Berlin"});
        check(
            berlin,
            &[
                ("2026-03-28T01:30:00Z", true),
                ("2026-03-29T01:29:59Z", false),
                ("2026-03-29T01:30:00Z", true),
                ("2026-03-29T02:30:00Z", false),
                ("2026-03-30T00:30:00Z", true),
                ("2026-10-25T00:30:00Z", true),
                ("2026-10-25T01:30:00Z", false),
                ("2026-10-26T01:30:00Z", true),
            ],
        );
        check(
            json!({"cron": "30 4 * * *", "duration": "1h", "time_zone": "Europe/Berlin"}),
            &[
                ("2026-03-28T03:30:00Z", true),
                ("2026-03-29T02:30:00Z", true),
                ("2026-03-29T03:30:00Z", false),
            ],
        );
    }

    #[test]
    fn a_cron_expression_says_when_windows_begin() {
        check(
            json!({"cron": "0 2 1 * *", "duration": "90m", "time_zone": "UTC"}),
            &[
                ("2026-12-01T01:59:59Z", false),
                ("2026-12-01T02:00:00Z", true),
                ("2026-12-01T03:29:59.999Z", true),
                ("2026-12-01T03:30:00Z", false),
                ("2026-12-02T02:00:00Z", false),
            ],
        );
        check(
            json!({"cron": "*/20 8-9 * * MON-FRI", "duration": "5m", "time_zone": "UTC"}),
            &[
                ("2026-11-27T09:44:59Z", true),
                ("2026-11-27T09:45:00Z", false),
                ("2026-11-28T09:40:00Z", false),
            ],
        );
    }

    #[test]
    fn a_time_that_no_calendar_knows_is_in_no_window() {
        let daily = json!({"days": [], "at": "00:00", "duration": "24h", "time_zone": "UTC"});
        check(daily, &[("0000-01-01T00:00:00Z", false), ("9999-12-30T00:00:00Z", false)]);
    }

    #[test]
    fn a_mistake_names_its_key_and_what_to_write() {
        for (written, key, says) in [
            (
                json!({"from": "soon", "to": "2026-12-01 22:00", "time_zone": "UTC"}),
                "from",
                "2026-12-01 22:00",
            ),
            (
                json!({"from": "2026-12-01 22:00", "to": "2026-12-01 21:00", "time_zone": "UTC"}),
                "to",
                "later",
            ),
            (
                json!({"from": "2026-12-01 22:00", "to": "2026-12-01 23:00", "time_zone": "Berlin"}),
                "time_zone",
                "Europe/Berlin",
            ),
            (json!({"days": [], "at": "25:00", "duration": "2h", "time_zone": "UTC"}), "at", "22:00"),
            (json!({"days": [], "at": "22:00", "duration": "8d", "time_zone": "UTC"}), "duration", "7 days"),
            (json!({"days": [], "at": "22:00", "duration": "0s", "time_zone": "UTC"}), "duration", "2h"),
            (json!({"cron": "0 22 * *", "duration": "2h", "time_zone": "UTC"}), "cron", "five fields"),
            (json!({"cron": "0 22 * * 6 UTC", "duration": "2h", "time_zone": "UTC"}), "cron", "five fields"),
            (json!({"cron": "0 24 * * *", "duration": "2h", "time_zone": "UTC"}), "cron", "cannot be read"),
            (json!({"cron": "0 0 30 2 *", "duration": "2h", "time_zone": "UTC"}), "cron", "never comes"),
        ] {
            let (found, message) = Window::read(&window(written)).unwrap_err();
            assert!(found == key && message.contains(says), "{found}: {message}");
        }
    }
}

//! Maintenance windows as people write them. When one holds is decided by the control plane.

use serde::{Deserialize, Serialize};

/// Times in which nobody is alerted and uptime does not count: once, on days of the week, or by a cron expression.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum Maintenance {
    /// Once.
    Once {
        /// The first moment: RFC 3339 with an offset, or "2026-12-01 22:00" in `time_zone`.
        from: String,
        /// The first moment after it.
        to: String,
        /// IANA's name of the time zone in which times without an offset are meant: "Europe/Berlin". Default "UTC".
        #[serde(default = "utc")]
        time_zone: String,
    },
    /// On days of the week.
    Weekly {
        /// On which days it begins. Default: on all.
        #[serde(default)]
        days: Vec<Day>,
        /// When it begins: "22:00". Where clocks are put forward over that time, as much later.
        at: String,
        /// How long it lasts, at most 7 days: "2h".
        duration: String,
        /// As above.
        #[serde(default = "utc")]
        time_zone: String,
    },
    /// By a cron expression.
    Cron {
        /// When it begins: minute, hour, day of the month, month, day of the week, as crontab(5) has them.
        cron: String,
        /// How long it lasts, at most 7 days: "2h".
        duration: String,
        /// As above.
        #[serde(default = "utc")]
        time_zone: String,
    },
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

fn utc() -> String {
    "UTC".to_owned()
}

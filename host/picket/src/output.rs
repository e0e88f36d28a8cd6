//! What goes to stdout: tables for people, JSON for machines, times in the local zone, colours only on a terminal.

use std::io::Write as _;

use anstream::ColorChoice;
use comfy_table::{Cell, Color, ContentArrangement, Table};
use jiff::tz::TimeZone;
use serde::Serialize;
use wire::Timestamp;

/// Stdout could not be written: a full disk, or a reader that went away.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to stdout")]
pub(crate) struct WriteError(#[source] pub(crate) std::io::Error);

/// Writes text and a line end to stdout, without colours where they are not wanted.
pub(crate) fn line(text: &str) -> Result<(), WriteError> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(WriteError)
}

/// Writes text over the `lines` last lines of a terminal, and says how many it wrote.
#[cfg(feature = "demo")]
pub(crate) fn redraw(lines: usize, text: &str) -> Result<usize, WriteError> {
    let mut out = std::io::stdout().lock();
    let up = if lines > 0 { format!("\u{1b}[{lines}A\r\u{1b}[J") } else { String::new() };
    writeln!(out, "{up}{text}").and_then(|()| out.flush()).map_err(WriteError)?;
    Ok(text.lines().count())
}

/// Writes one line of JSON to stdout.
pub(crate) fn json(value: &impl Serialize) -> Result<(), WriteError> {
    let text = serde_json::to_string(value).expect("our types have string keys and no failing serializer");
    line(&text)
}

/// Writes indented JSON to stdout: for a single object.
pub(crate) fn json_pretty(value: &impl Serialize) -> Result<(), WriteError> {
    let text =
        serde_json::to_string_pretty(value).expect("our types have string keys and no failing serializer");
    line(&text)
}

/// Whether stdout shows colours: a terminal, no `NO_COLOR`.
pub(crate) fn colours() -> bool {
    anstream::AutoStream::choice(&std::io::stdout()) != ColorChoice::Never
}

/// Columns under headings, as wide as their content, cut to the terminal's width on a terminal.
pub(crate) struct Columns {
    table: Table,
    colours: bool,
}

impl Columns {
    /// A table for stdout.
    pub(crate) fn new(headings: &[&str]) -> Self {
        let width = terminal_width();
        Self::with(headings, colours(), width)
    }

    /// A table for somewhere else: `width` none means as wide as it takes.
    pub(crate) fn with(headings: &[&str], colours: bool, width: Option<u16>) -> Self {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        match width {
            Some(width) => {
                table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
            }
            None => {
                table.set_content_arrangement(ContentArrangement::Disabled);
            }
        }
        if colours {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(headings.iter().map(|h| h.to_uppercase()));
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Self { table, colours }
    }

    /// Adds a line. Control characters in it, which came from elsewhere, never reach the terminal.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Entry>) {
        let colours = self.colours;
        self.table.add_row(cells.into_iter().map(|entry| {
            let mut cell = Cell::new(printable(&entry.text));
            if colours && let Some(colour) = entry.colour {
                cell = cell.fg(colour);
            }
            cell
        }));
        let row = self.table.row_count() - 1;
        if let Some(row) = self.table.row_mut(row) {
            row.max_height(1);
        }
    }

    /// The lines, without blanks at their ends.
    pub(crate) fn text(&self) -> String {
        self.table.lines().map(|l| l.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    }
}

/// One place in a table.
pub(crate) struct Entry {
    text: String,
    colour: Option<Color>,
}

impl Entry {
    /// A state in its colour.
    pub(crate) fn state(state: &str) -> Self {
        let colour = match state {
            "ok" | "up" | "connected" | "live" | "recovered" | "agent_up" | "delivered" => Some(Color::Green),
            "degraded" | "late" | "buffered" | "clock" => Some(Color::Yellow),
            "FAIL" | "down" | "agent_down" | "failed" => Some(Color::Red),
            "error" => Some(Color::Magenta),
            "maintenance" => Some(Color::Blue),
            "away" | "unknown" | "pending" | "created" | "disabled" => Some(Color::DarkGrey),
            _ => None,
        };
        Self { text: state.to_owned(), colour }
    }
}

/// A state, perhaps padded, in its colour; the stream removes it where colours are not wanted.
pub(crate) fn coloured(state: &str) -> String {
    let code = match Entry::state(state.trim()).colour {
        Some(Color::Green) => 32,
        Some(Color::Yellow) => 33,
        Some(Color::Red) => 31,
        Some(Color::Magenta) => 35,
        Some(Color::Blue) => 34,
        Some(Color::DarkGrey) => 90,
        _ => return state.to_owned(),
    };
    format!("\u{1b}[{code}m{state}\u{1b}[0m")
}

impl<T: ToString> From<T> for Entry {
    fn from(text: T) -> Self {
        Self { text: text.to_string(), colour: None }
    }
}

/// A cell that may be empty.
pub(crate) fn or_dash<T: ToString>(value: Option<T>) -> Entry {
    value.map_or_else(|| "-".into(), Entry::from)
}

/// The same text with control characters shown as the replacement character: an agent's summary must not move the cursor.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A time in the local zone: the time of day today, the date too otherwise.
pub(crate) fn local(time: Timestamp) -> String {
    in_zone(time, jiff::Timestamp::now().into(), &TimeZone::system())
}

fn in_zone(time: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let at = |t: Timestamp| {
        jiff::Timestamp::from_millisecond(t.as_millis())
            .expect("wire clamps times to what jiff can print")
            .to_zoned(zone.clone())
    };
    let (time, now) = (at(time), at(now));
    let format = if time.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    time.strftime(format).to_string()
}

/// How long ago, in one unit: "3 s", "5 min", "2 h", "4 d". A time in the future is "0 s".
pub(crate) fn ago(time: Timestamp, now: Timestamp) -> String {
    let seconds = (now.as_millis() - time.as_millis()).max(0) / 1000;
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7_200 => format!("{} min ago", seconds / 60),
        7_200..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// The terminal's columns; none when stdout is not a terminal.
pub(crate) fn terminal_width() -> Option<u16> {
    rustix::termios::tcgetwinsize(std::io::stdout())
        .ok()
        .map(|size| size.ws_col)
        .filter(|columns| *columns > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(colours: bool, width: Option<u16>) -> String {
        let mut table = Columns::with(&["monitor", "state", "summary"], colours, width);
        table.row(["shop".into(), Entry::state("up"), "200 in 12 ms".into()]);
        table.row([
            "payments-db".into(),
            Entry::state("down"),
            "replica \u{1b}[2J is 40 s behind its primary".into(),
        ]);
        table.text()
    }

    #[test]
    fn aligns_columns_and_keeps_control_characters_away() {
        let expected = "MONITOR      STATE  SUMMARY\n\
                        shop         up     200 in 12 ms\n\
                        payments-db  down   replica \u{fffd}[2J is 40 s behind its primary";
        assert_eq!(sample(false, None), expected);
    }

    #[test]
    fn cuts_to_the_width_of_the_terminal() {
        let text = sample(false, Some(40));
        assert_eq!(text.lines().count(), 3, "one line a row: {text}");
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
    }

    #[test]
    fn colours_states_only_when_asked() {
        assert!(!sample(false, None).contains('\u{1b}'));
        assert!(sample(true, None).contains('\u{1b}'));
    }

    #[test]
    fn shows_the_date_only_of_another_day() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-11-20T23:30:00.000Z");
        assert_eq!(in_zone(at("2026-11-20T22:15:07.900Z"), now, &zone), "00:15:07");
        assert_eq!(in_zone(at("2026-11-20T21:15:07.900Z"), now, &zone), "2026-11-20 23:15:07");
    }

    #[test]
    fn tells_ages_in_one_unit() {
        let ago = |s: i64| ago(Timestamp::from_millis(0), Timestamp::from_millis(s * 1000));
        assert_eq!(
            [ago(-5), ago(7), ago(300), ago(7_200), ago(400_000)],
            ["0 s ago", "7 s ago", "5 min ago", "2 h ago", "4 d ago"]
        );
    }
}

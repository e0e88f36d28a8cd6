//! `picket monitors`: apply a file, list, show, run now, delete.

mod run;

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{ArgMatches, Subcommand};
use serde_json::Value;
use wire::admin::{Applied, Apply, ApplyAnswer, Change, MonitorView};
use wire::alert::ChannelApplied;
use wire::{Mistake, Problem, Timestamp};

use crate::client::{Access, Named};
use crate::failure::{Failure, exit};
use crate::output::{self, Columns, Entry};
use crate::yaml::Document;

/// Apply, list, show, run and delete monitors
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make the control plane's monitors those of a file: all of them or, with a mistake, none
    Apply {
        /// YAML file with the key `monitors`, perhaps `channels` too; - for stdin
        #[arg(long, short, value_name = "FILE")]
        file: PathBuf,
        /// Show the difference and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Delete the monitors that the file lacks; the channels too, where it has the key `channels`
        #[arg(long)]
        prune: bool,
        /// Print the answer as one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        access: Access,
    },
    /// List the monitors with their states
    List {
        /// Print one JSON array
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        access: Access,
    },
    /// Show one monitor: its configuration, its state at each location, its uptime
    Show {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        monitor: Named,
    },
    /// Run a monitor now, beside its plan, on its agents, and print what they find
    #[command(after_help = RUN_AFTER_HELP)]
    Run {
        /// Its name
        #[arg(value_name = "NAME")]
        monitor: String,
        /// Only at this location
        #[arg(long, value_name = "LOCATION")]
        location: Option<String>,
        /// How long to wait for the agents, 1s to 50s
        #[arg(long, default_value = "30s", value_name = "TIME", value_parser = run::timeout)]
        timeout: std::time::Duration,
        /// Print the answer as one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        access: Access,
    },
    /// Delete a monitor: its results stay
    Delete(Named),
}

const RUN_AFTER_HELP: &str = "\
Exit status, as of picket check; the worst where it runs at several locations:
  0  up
  1  degraded
  2  down
  3  error: the check could not be made, no agent answered, or the command line is wrong";

pub(crate) async fn run(args: Args, matches: &ArgMatches) -> Result<u8, Failure> {
    match args.verb {
        Verb::Apply { file, dry_run, prune, json, access } => {
            let document = Document::read(&file)?;
            let (monitors, channels) = listed(&document)?;
            let client = access.client(matches)?;
            let apply = Apply { monitors, channels, prune, dry_run };
            let answer: ApplyAnswer = client
                .post("/monitors/apply", &apply)
                .await
                .map_err(|failure| failure.map_problem(|problem| explained(problem, &apply, &document)))?;
            if json {
                output::json_pretty(&answer)?;
            } else {
                output::line(&difference(&answer, dry_run))?;
            }
        }
        Verb::List { json, access } => {
            let monitors: Vec<MonitorView> = access.client(matches)?.get("/monitors", &[]).await?;
            if json {
                output::json_pretty(&monitors)?;
            } else {
                let table = table(&monitors, Columns::new(HEADINGS), jiff::Timestamp::now().into());
                output::line(if monitors.is_empty() {
                    "no monitors yet: `picket monitors apply -f FILE` makes them"
                } else {
                    &table
                })?;
            }
        }
        Verb::Show { json, monitor } => {
            let path = monitor.path("monitors", "");
            let monitor: MonitorView = monitor.access.client(matches)?.get(&path, &[]).await?;
            if json {
                output::json_pretty(&monitor)?;
            } else {
                output::line(&page(&monitor))?;
            }
        }
        Verb::Run { monitor, location, timeout, json, access } => {
            let wanted = run::Wanted { monitor, location, timeout };
            let ran = match access.client(matches) {
                Ok(client) => run::now(&client, &wanted, json).await,
                Err(failure) => Err(failure),
            };
            return Ok(ran.unwrap_or_else(|failure| match failure.print() {
                0 => 0,
                _ => crate::check::ERROR,
            }));
        }
        Verb::Delete(monitor) => {
            let path = monitor.path("monitors", "");
            monitor.access.client(matches)?.delete(&path).await?;
            output::line(&format!("{} deleted", monitor.name))?;
        }
    }
    Ok(0)
}

/// The entries below `monitors:` and those below `channels:`, which may be missing. There is no other key.
fn listed(document: &Document) -> Result<(Vec<Value>, Option<Vec<Value>>), Failure> {
    let wrong = |at: &str, what: &str| Failure::text(exit::DATA, format!("{}: {what}", document.place(at)));
    let Value::Object(mut file) = document.to_json() else {
        return Err(wrong("", "expected the key \"monitors\" with a list below it"));
    };
    let list = |key: &str, value: Value| match value {
        Value::Array(entries) => Ok(entries),
        Value::Null => Ok(Vec::new()),
        _ => Err(wrong(
            &format!("/{key}"),
            &format!("{key}: expected a list: each entry begins with \"- name:\""),
        )),
    };
    let channels = file.shift_remove("channels").map(|value| list("channels", value)).transpose()?;
    let Some(monitors) = file.shift_remove("monitors") else {
        return Err(wrong("", "the key \"monitors\" with a list below it is missing"));
    };
    if let Some(key) = file.keys().next() {
        let message = format!("unknown key {key:?}: known are \"monitors\" and \"channels\"");
        return Err(wrong(&format!("/{key}"), &message));
    }
    Ok((list("monitors", monitors)?, channels))
}

/// The control plane's mistakes, with the file's lines and the monitors' names. Their places are pointers into the request.
fn explained(problem: Problem, sent: &Apply, document: &Document) -> Problem {
    if problem.mistakes.is_empty() {
        return problem;
    }
    let sentence = |mistake: &Mistake| {
        let place = document.place(&mistake.at);
        let lists = [("monitor", Some(&sent.monitors)), ("channel", sent.channels.as_ref())];
        let within = lists.into_iter().find_map(|(what, entries)| {
            let rest = mistake.at.strip_prefix(&format!("/{what}s/"))?;
            let (index, key) = rest.split_once('/').unwrap_or((rest, ""));
            Some((what, entries?, index.parse::<usize>().ok()?, key))
        });
        let Some((what, entries, index, key)) = within else {
            return format!("{place}: {}", mistake.message);
        };
        let name = entries.get(index).and_then(|m| m.get("name")).and_then(Value::as_str);
        let name = name.map_or_else(|| format!("{what} {}", index + 1), |name| format!("{what} {name:?}"));
        let key = if key.is_empty() { String::new() } else { format!("{}: ", key.replace('/', ".")) };
        // The control plane names the monitor too, for callers without a file.
        let message = mistake.message.strip_prefix(&format!("{name}: ")).unwrap_or(&mistake.message);
        format!("{place}: {name}: {key}{message}")
    };
    let mistakes: Vec<String> = problem.mistakes.iter().map(sentence).collect();
    Problem::new(&problem.code, format!("nothing was changed\n  {}", mistakes.join("\n  ")))
}

fn difference(answer: &ApplyAnswer, dry_run: bool) -> String {
    let ApplyAnswer { changes, channels } = answer;
    let mut text = String::new();
    let all = || changes.iter().map(|c| c.change).chain(channels.iter().map(|c| c.change));
    let count = |change| all().filter(|c| *c == change).count();
    for ChannelApplied { channel, change } in channels {
        let _ = match change {
            Change::Created => writeln!(text, "+ channel {channel}"),
            Change::Updated => writeln!(text, "~ channel {channel}"),
            Change::Deleted => writeln!(text, "- channel {channel}"),
            Change::Unchanged => Ok(()),
        };
    }
    for Applied { monitor, change, changed } in changes {
        let keys = changed
            .iter()
            .map(|p| p.trim_start_matches('/').replace('/', "."))
            .collect::<Vec<_>>()
            .join(", ");
        let _ = match change {
            Change::Created => writeln!(text, "+ {monitor}"),
            Change::Updated => writeln!(text, "~ {monitor}: {keys}"),
            Change::Deleted => writeln!(text, "- {monitor}"),
            Change::Unchanged => Ok(()),
        };
    }
    let _ = write!(
        text,
        "{} created, {} updated, {} deleted, {} unchanged{}",
        count(Change::Created),
        count(Change::Updated),
        count(Change::Deleted),
        count(Change::Unchanged),
        if dry_run { "; nothing was changed (--dry-run)" } else { "" }
    );
    text
}

const HEADINGS: &[&str] =
    &["monitor", "check", "state", "every", "location", "last result", "code", "summary"];

fn table(monitors: &[MonitorView], mut columns: Columns, now: Timestamp) -> String {
    for monitor in monitors {
        for (i, place) in monitor.by_location.iter().enumerate() {
            columns.row([
                if i == 0 { (&monitor.spec.name).into() } else { "".into() },
                if i == 0 { (&monitor.spec.check).into() } else { "".into() },
                Entry::state(place.state.as_str()),
                output::or_dash(monitor.spec.interval.as_ref()),
                (&place.location).into(),
                output::or_dash(place.last_result_at.map(|at| output::ago(at, now))),
                output::or_dash(place.code.as_ref()),
                output::or_dash(place.summary.as_ref()),
            ]);
        }
    }
    columns.text()
}

/// The monitor as it would stand in a file, its state and its uptime below.
fn page(monitor: &MonitorView) -> String {
    let spec = serde_json::to_value(&monitor.spec).expect("a monitor is JSON already");
    let options = serde_saphyr::ser_options! {};
    let spec = serde_saphyr::to_string_with_options(&spec, options).unwrap_or_else(|_| format!("{spec:#}"));
    let mut columns = Columns::new(&["location", "state", "agent", "last result", "code", "summary"]);
    for place in &monitor.by_location {
        columns.row([
            (&place.location).into(),
            Entry::state(place.state.as_str()),
            output::or_dash(place.agent.as_ref()),
            output::or_dash(place.last_result_at.map(output::local)),
            output::or_dash(place.code.as_ref()),
            output::or_dash(place.summary.as_ref()),
        ]);
    }
    let mut uptime = Columns::new(&["last", "location", "uptime"]);
    let places = monitor.by_location.iter().map(|place| (&place.location[..], &place.uptime));
    // Of one location, the monitor's own says nothing more.
    let mean = (monitor.by_location.len() > 1).then_some(("mean", &monitor.uptime));
    for window in 0..monitor.uptime.len() {
        for (place, figures) in places.clone().chain(mean) {
            let Some(figure) = figures.get(window) else { continue };
            uptime.row([(&figure.window).into(), place.into(), figure.into()]);
        }
    }
    format!("{}\n\n{}\n\n{}", spec.trim_end(), columns.text(), uptime.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "monitors:\n  - name: shop\n    check: http\n    locations: [dc1]\n    config: { url: 7 }\n";

    fn document(text: &str) -> Document {
        Document::parse("monitors.yaml", text).unwrap()
    }

    #[test]
    fn mistakes_of_the_control_plane_get_a_line_and_a_name() {
        let document = document(FILE);
        let (monitors, channels) = listed(&document).unwrap();
        let sent = Apply { monitors, channels, prune: false, dry_run: false };
        let problem = Problem {
            mistakes: vec![
                Mistake { at: "/monitors/0/config/url".into(), message: "found 7, expected a string".into() },
                Mistake {
                    at: "/monitors/0".into(),
                    message: "monitor \"shop\": the key \"interval\" is odd".into(),
                },
            ],
            ..Problem::new(Problem::INVALID, "1 monitor has mistakes")
        };
        assert_eq!(
            explained(problem, &sent, &document).to_string(),
            "nothing was changed\n  monitors.yaml:5:15: monitor \"shop\": config.url: found 7, expected a string\n  \
             monitors.yaml:2:5: monitor \"shop\": the key \"interval\" is odd"
        );
    }

    #[test]
    fn the_file_has_two_keys() {
        let wrong = |text| listed(&document(text)).unwrap_err().message();
        assert_eq!(
            wrong("monitor: []\n"),
            "monitors.yaml:1:1: the key \"monitors\" with a list below it is missing"
        );
        assert_eq!(
            wrong("monitors: []\nx: 1\n"),
            "monitors.yaml:2:1: unknown key \"x\": known are \"monitors\" and \"channels\""
        );
        assert!(
            wrong("monitors: { name: shop }\n").starts_with("monitors.yaml:1:1: monitors: expected a list")
        );
        assert!(listed(&document("monitors:\n")).unwrap().0.is_empty());
    }

    #[test]
    fn the_difference_names_what_changes_and_counts_the_rest() {
        let change = |monitor: &str, change, changed: &[&str]| Applied {
            monitor: monitor.into(),
            change,
            changed: changed.iter().map(ToString::to_string).collect(),
        };
        let changes = [
            change("a", Change::Created, &[]),
            change("b", Change::Updated, &["/config/url", "/interval"]),
            change("c", Change::Unchanged, &[]),
            change("d", Change::Deleted, &[]),
        ];
        assert_eq!(
            difference(&ApplyAnswer { changes: changes.into(), channels: vec![] }, true),
            "+ a\n~ b: config.url, interval\n- d\n1 created, 1 updated, 1 deleted, 1 unchanged; nothing was changed (--dry-run)"
        );
    }
}

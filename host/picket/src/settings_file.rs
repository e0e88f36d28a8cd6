//! `--config FILE` of `picket agent` and `picket control`: the long options as YAML keys, as defaults below flag and environment.
//!
//! The file's values become the options' defaults, so that each option is declared, documented and checked in one place.

use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};
use serde_json::Value;

use crate::failure::{Failure, exit};
use crate::yaml::Document;

/// Subcommand and file, when the command line or the environment names one.
pub(crate) fn named_in(matches: &ArgMatches) -> Option<(String, PathBuf)> {
    let (name, inner) = matches.subcommand()?;
    if !matches!(name, "agent" | "control") {
        return None;
    }
    inner.get_one::<PathBuf>("config").map(|path| (name.to_owned(), path.clone()))
}

/// The command with the file's values as the defaults of the subcommand `name`.
pub(crate) fn apply(command: clap::Command, name: &str, path: &Path) -> Result<clap::Command, Failure> {
    let document = Document::read(path)?;
    let mistakes = |mistakes: Vec<String>| Failure::text(exit::DATA, mistakes.join("\n"));
    let defaults = defaults(&command, name, &document).map_err(mistakes)?;
    Ok(defaults.into_iter().fold(command, |command, (id, values)| {
        let of_all = command.get_arguments().any(|arg| arg.get_id() == id.as_str());
        let with_default = |arg: Arg| arg.default_values(values);
        if of_all {
            command.mut_arg(id, with_default)
        } else {
            command.mut_subcommand(name, |sub| sub.mut_arg(id, with_default))
        }
    }))
}

fn defaults(
    command: &clap::Command,
    name: &str,
    document: &Document,
) -> Result<Vec<(String, Vec<String>)>, Vec<String>> {
    let mut defaults = Vec::new();
    let mut mistakes = Vec::new();
    let Value::Object(members) = document.to_json() else {
        return Err(vec![format!(
            "{}: expected keys and values, such as `data: /var/lib/picket`",
            document.place("")
        )]);
    };
    let sub = command.find_subcommand(name).expect("it was just matched");
    let own = sub.get_arguments().filter(|arg| arg.get_id() != "config");
    let known: Vec<&Arg> = own
        .chain(command.get_arguments())
        .filter(|arg| arg.get_long().is_some() && !arg.is_hide_set())
        .collect();
    for (key, value) in members {
        let place = document.place(&format!("/{key}"));
        let long = key.replace('_', "-");
        let Some(arg) = known.iter().find(|a| a.get_long() == Some(&long)) else {
            mistakes.push(format!("{place}: unknown key {key:?}{}", nearest(&known, &long)));
            continue;
        };
        match values(arg, &value).and_then(|values| accepted(command, name, arg, &values).map(|()| values)) {
            Ok(values) => defaults.push((arg.get_id().to_string(), values)),
            Err(mistake) => mistakes.push(format!("{place}: {key}: {mistake}")),
        }
    }
    if mistakes.is_empty() { Ok(defaults) } else { Err(mistakes) }
}

/// A JSON value as the words that would stand on the command line.
fn values(arg: &Arg, value: &Value) -> Result<Vec<String>, String> {
    let word = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Null => Err("has no value: write one, or leave the key out".to_owned()),
        Value::Array(_) | Value::Object(_) => Err(format!("found {value}, expected one value")),
    };
    match value {
        Value::Array(entries) if matches!(arg.get_action(), ArgAction::Append) => {
            entries.iter().map(word).collect()
        }
        _ => Ok(vec![word(value)?]),
    }
}

/// Asks the option's own parser, by a trial run with only this option on the command line.
fn accepted(command: &clap::Command, name: &str, arg: &Arg, values: &[String]) -> Result<(), String> {
    let long = arg.get_long().expect("only options with a long name are asked");
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return match values {
            [flag] if flag == "true" || flag == "false" => Ok(()),
            _ => Err(format!("found {}, expected true or false", values.join(", "))),
        };
    }
    let words = values.iter().map(|value| format!("--{long}={value}"));
    let words = ["picket".to_owned(), name.to_owned()].into_iter().chain(words);
    let Err(error) = command.clone().try_get_matches_from(words) else { return Ok(()) };
    // Another option's environment variable may be wrong: that is told when the real command line is read.
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(wrong)) if wrong.starts_with(&format!("--{long}")) => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            Err(first.trim_start_matches("error: ").replace(&format!(" for '{wrong}'"), ""))
        }
        _ => Ok(()),
    }
}

fn nearest(known: &[&Arg], wrong: &str) -> String {
    let longs: Vec<&str> = known.iter().filter_map(|a| a.get_long()).collect();
    let alike = |long: &str| {
        let (a, b): (Vec<char>, Vec<char>) = (long.chars().collect(), wrong.chars().collect());
        let shared = a.iter().filter(|c| b.contains(c)).count();
        shared * 2 * 100 / (a.len() + b.len()).max(1)
    };
    match longs.iter().max_by_key(|long| alike(long)).filter(|long| alike(long) >= 75) {
        Some(long) => format!("; did you mean {:?}?", long.replace('-', "_")),
        None => format!(
            "; known are {}",
            longs.iter().map(|l| l.replace('-', "_")).collect::<Vec<_>>().join(", ")
        ),
    }
}

/// Of two options that say the same, the one from the stronger source: flag, environment, file. None when neither is given.
pub(crate) fn stronger<'a>(
    matches: &ArgMatches,
    one: &'a str,
    other: &'a str,
) -> Result<Option<&'a str>, Failure> {
    let rank = |id| match matches.value_source(id) {
        Some(ValueSource::CommandLine) => 3,
        Some(ValueSource::EnvVariable) => 2,
        Some(_) => 1,
        None => 0,
    };
    match rank(one).cmp(&rank(other)) {
        std::cmp::Ordering::Greater => Ok(Some(one)),
        std::cmp::Ordering::Less => Ok(Some(other)),
        std::cmp::Ordering::Equal if rank(one) == 0 => Ok(None),
        std::cmp::Ordering::Equal => {
            let name = |id: &str| id.replace('_', "-");
            Err(Failure::text(
                exit::USAGE,
                format!("--{} and --{} are both given the same way: leave one out", name(one), name(other)),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::defaults;
    use crate::cli::Cli;
    use crate::yaml::Document;

    fn check(name: &str, text: &str) -> Result<Vec<(String, Vec<String>)>, Vec<String>> {
        defaults(&Cli::command(), name, &Document::parse("picket.yaml", text).unwrap())
    }

    #[test]
    fn keys_are_the_long_options() {
        let found =
            check("agent", "data: ./edge-1\nallow: [127.0.0.0/8, \"::1\"]\nconcurrency: 8\n").unwrap();
        let expected =
            [("data", vec!["./edge-1"]), ("allow", vec!["127.0.0.0/8", "::1"]), ("concurrency", vec!["8"])];
        let expected: Vec<(String, Vec<String>)> = expected
            .into_iter()
            .map(|(id, values)| (id.to_owned(), values.into_iter().map(str::to_owned).collect()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_log_is_set_in_the_file_too() {
        let found = check("control", "log_format: json\nlog_level: debug\n").unwrap();
        let ids: Vec<&str> = found.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["log_format", "log_level"]);
    }

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest_known_one() {
        let mistakes = check("control", "data: ./cp\nlisen: 127.0.0.1:1\n").unwrap_err();
        assert_eq!(mistakes, ["picket.yaml:2:1: unknown key \"lisen\"; did you mean \"listen\"?"]);
    }

    #[test]
    fn a_wrong_value_is_refused_by_the_option_itself() {
        let mistakes = check("control", "listen: somewhere\nbehind-proxy: 7\n").unwrap_err();
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
        assert!(
            mistakes[0].starts_with("picket.yaml:1:1: listen: invalid value 'somewhere'"),
            "{mistakes:?}"
        );
        assert_eq!(mistakes[1], "picket.yaml:2:1: behind-proxy: found 7, expected true or false");
    }
}

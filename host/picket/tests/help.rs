//! Every help page as it is printed, in `tests/help/`; `UPDATE=1 cargo test -p picket` rewrites them. And how a command line fails.

#![allow(clippy::unwrap_used, reason = "every function here belongs to a test")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};

fn picket(arguments: &[&str]) -> Output {
    picket_with(&[], arguments)
}

fn picket_with(variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_picket"));
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        if name.starts_with("PICKET_") || name == "RUST_LOG" || name == "COLUMNS" {
            command.env_remove(&variable);
        }
    }
    command.args(arguments).envs(variables.iter().copied()).output().unwrap()
}

/// The page of these subcommands and those of all below them, as file name and text.
fn pages(path: &[&str], found: &mut Vec<(String, String)>) {
    let output = picket(&[path, &["--help"]].concat());
    assert!(output.status.success(), "{path:?} --help");
    let text = String::from_utf8(output.stdout).unwrap();
    let name = std::iter::once("picket").chain(path.iter().copied()).collect::<Vec<_>>().join("-");
    found.push((format!("{name}.txt"), text.clone()));
    let commands =
        text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for command in commands.filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let name = command.split_whitespace().next().unwrap();
        pages(&[path, &[name]].concat(), found);
    }
}

#[test]
fn the_help_pages_are_those_in_the_tree() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/help");
    let kept = || -> BTreeSet<String> {
        std::fs::read_dir(&directory)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    let mut found = Vec::new();
    pages(&[], &mut found);
    if std::env::var_os("UPDATE").is_some() {
        kept().iter().for_each(|name| std::fs::remove_file(directory.join(name)).unwrap());
        found.iter().for_each(|(name, text)| std::fs::write(directory.join(name), text).unwrap());
    }
    let named: BTreeSet<String> = found.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(named, kept(), "rewrite them with UPDATE=1 cargo test -p picket");
    for (name, text) in found {
        let expected = std::fs::read_to_string(directory.join(&name)).unwrap();
        assert_eq!(text, expected, "{name} differs: rewrite it with UPDATE=1 cargo test -p picket");
    }
}

#[test]
fn a_wrong_command_line_has_its_own_exit_status() {
    let status = |arguments: &[&str]| picket(arguments).status.code();
    assert_eq!(status(&["agents", "lst"]), Some(64));
    assert_eq!(status(&["agents", "create"]), Some(64));
    assert_eq!(status(&["monitors", "list"]), Some(64), "without a token");
    assert_eq!(status(&["check"]), Some(3), "as for a Nagios plugin");
    assert_eq!(status(&["check", "./nowhere.wasm"]), Some(3));
    assert_eq!(status(&["--version"]), Some(0));
}

#[test]
fn an_agent_that_knows_no_control_plane_says_where_to_name_one() {
    let output = picket(&["agent", "--data", "/nonexistent/picket"]);
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("PICKET_CONTROL=URL"), "{said}");
}

#[test]
fn mistakes_in_a_file_of_settings_name_their_lines() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("agent.yaml");
    std::fs::write(&file, "data: ./x\nconcurency: 4\nallow: 7.7.7\n").unwrap();
    let output = picket(&["agent", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(65));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("agent.yaml:2:1: unknown key \"concurency\"; did you mean \"concurrency\"?"),
        "{said}"
    );
    assert!(said.contains("agent.yaml:3:1: allow: "), "{said}");
}

#[test]
fn a_mistake_in_monitors_yaml_is_told_with_its_line_before_anything_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("monitors.yaml");
    std::fs::write(&file, "monitors:\n  - name: shop\n    check: [http\n").unwrap();
    let output = picket(&["monitors", "apply", "-f", file.to_str().unwrap(), "--api-token", "x"]);
    assert_eq!(output.status.code(), Some(65));
    let said = String::from_utf8(output.stderr).unwrap();
    let line =
        said.split("monitors.yaml:").nth(1).and_then(|rest| rest.split(':').next()?.parse::<u32>().ok());
    assert!(line.is_some_and(|line| (1..=4).contains(&line)), "{said}");
}

#[test]
fn a_flag_wins_over_a_variable_and_that_over_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("agent.yaml");
    std::fs::write(&file, "control: http://file.example\n").unwrap();
    let file = file.to_str().unwrap();
    // Plain HTTP to another machine is refused, by a sentence that names the address.
    let refused = |variable: &str, more: &[&str], expected: &str| {
        let arguments = [&["agent", "--config", file, "--data", "/nonexistent/picket"], more].concat();
        let output = picket_with(&[("PICKET_CONTROL", variable)], &arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(expected), "{expected} in {said}");
    };
    refused("", &[], "http://file.example/");
    refused("http://variable.example", &[], "http://variable.example/");
    refused("http://variable.example", &["--control", "http://flag.example"], "http://flag.example/");
}

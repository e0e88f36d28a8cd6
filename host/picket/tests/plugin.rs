//! The author's tools through the binary: the suite, a trace and its replay, the reference pages, and a new check from its template
//! to a component that passes.

#![allow(clippy::unwrap_used, reason = "every function here belongs to a test")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn picket(arguments: &[&str]) -> Output {
    picket_with(&[], arguments)
}

fn picket_with(variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_picket"));
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        if name.starts_with("PICKET_") || name == "RUST_LOG" {
            command.env_remove(&variable);
        }
    }
    command.env("PICKET_PLUGINS", root().join("target/plugins"));
    command.args(arguments).envs(variables.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn good(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// A server that answers every request with the value of its header "authorization"; it ends with the test's process.
fn echo_of_authorization() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut heard = Vec::new();
            let mut part = [0; 1024];
            while !heard.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut part) {
                    Ok(count) if count > 0 => heard.extend_from_slice(&part[..count]),
                    _ => break,
                }
            }
            let heard = String::from_utf8_lossy(&heard).to_lowercase();
            let said = heard.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or("none");
            let body = format!("you said {said}");
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    port
}

#[test]
fn a_run_is_written_down_without_its_secret_and_repeated_without_a_network() {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("run.json");
    let trace = trace.to_str().unwrap();
    let url = format!("url=http://127.0.0.1:{}/", echo_of_authorization());
    let secret = "q7w3x9z5v1k8j4h2";
    let made = picket_with(
        &[("PICKET_SECRET_API", secret)],
        &[
            "check",
            "http",
            "--set",
            &url,
            "--set",
            "keyword=you said",
            "--set",
            "auth={\"bearer\": {\"token\": {\"$secret\": \"api\"}}}",
            "--trace",
            trace,
        ],
    );
    good(&made);
    let written = std::fs::read_to_string(trace).unwrap();
    assert!(!written.contains(secret), "{written}");
    assert!(written.contains("you said bearer ****************"), "{written}");
    let read: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(read["format"], "picket-trace/1");
    assert!(read["calls"].as_array().unwrap().iter().any(|call| call["call"] == "http.send"), "{written}");

    let repeated = good(&picket(&["replay", trace, "http"]));
    assert!(repeated.contains("the same verdict"), "{repeated}");
    let repeated: Value = serde_json::from_str(&good(&picket(&["replay", trace, "http", "--json"]))).unwrap();
    assert_eq!((&repeated["same_calls"], &repeated["same_verdict"]), (&true.into(), &true.into()));

    // Somebody else asks something else.
    let mut other = read.clone();
    other["config"]["method"] = "HEAD".into();
    std::fs::write(trace, other.to_string()).unwrap();
    let output = picket(&["replay", trace, "http"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("differs"), "{}", text(&output.stdout));
}

#[test]
fn a_file_that_is_no_trace_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("run.json");
    for (written, expected) in
        [("{", "not a trace"), ("{\"format\": \"picket-trace/2\"}", "this version reads \"picket-trace/1\"")]
    {
        std::fs::write(&file, written).unwrap();
        let output = picket(&["replay", file.to_str().unwrap(), "http"]);
        assert_eq!(output.status.code(), Some(65));
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
    // The two arguments the wrong way round.
    let component = root().join("target/plugins/http.wasm");
    let output = picket(&["replay", component.to_str().unwrap(), file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(65));
    assert!(text(&output.stderr).contains("the trace stands first"), "{}", text(&output.stderr));
}

#[test]
fn a_suite_whose_output_nobody_reads_still_writes_its_report_and_says_that_a_case_failed() {
    let directory = tempfile::tempdir().unwrap();
    let (nothing, report) = (directory.path().join("x.wasm"), directory.path().join("report.xml"));
    std::fs::write(&nothing, "no component").unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_picket"));
    command.args(["plugin", "test"]).arg(nothing).arg("--junit").arg(&report);
    let status = command.stdout(writer).stderr(std::process::Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(1));
    let report = std::fs::read_to_string(report).unwrap();
    assert!(report.contains("failures=\"1\""), "{report}");
}

#[test]
fn the_suite_says_a_line_for_each_case_and_writes_reports() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.xml");
    let said =
        good(&picket(&["plugin", "test", "tcp", "--case", "describe/", "--junit", report.to_str().unwrap()]));
    assert!(said.contains("ok    describe/twice"), "{said}");
    assert!(said.ends_with("4 passed, 0 failed, 0 not applicable\n"), "{said}");
    assert!(!said.contains('\u{1b}'), "no colours where there is no terminal: {said}");
    let report = std::fs::read_to_string(report).unwrap();
    assert!(report.contains("<testsuite name=\"tcp\" tests=\"4\" failures=\"0\""), "{report}");

    let json: Value =
        serde_json::from_str(&good(&picket(&["plugin", "test", "tcp", "--case", "schema", "--json"])))
            .unwrap();
    assert_eq!(json["failed"], 0);
    assert_eq!(json["cases"][0]["outcome"], "passed");

    let nothing = directory.path().join("x.wasm");
    std::fs::write(&nothing, "no component").unwrap();
    let output = picket(&["plugin", "test", nothing.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("FAIL  contract/component"), "{}", text(&output.stdout));
    assert_eq!(picket(&["plugin", "test", "tcp", "--case", "no-such"]).status.code(), Some(64));
    let unknown = picket(&["plugin", "test", "my-check"]);
    assert_eq!(unknown.status.code(), Some(65));
    assert!(text(&unknown.stderr).contains("./my.wasm"), "{}", text(&unknown.stderr));
    let folder = directory.path().join("cases/wrong");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("case.json"), r#"{"about": "a", "world": {}, "expect": {"statte": "up"}}"#)
        .unwrap();
    let wrong = picket(&["plugin", "test", "tcp", "--cases", directory.path().to_str().unwrap()]);
    assert_eq!(wrong.status.code(), Some(65));
    assert!(text(&wrong.stderr).contains("cases/wrong/case.json: unknown field"), "{}", text(&wrong.stderr));
}

#[test]
fn a_component_is_shown_with_what_it_may_reach_and_use() {
    let said = good(&picket(&["plugin", "inspect", "http"]));
    for expected in [
        "contract 0.1",
        "picket:net/http@0.1",
        "HTTP exchanges",
        "  url (url)",
        "  auth.basic.password (secret)",
    ] {
        assert!(said.contains(expected), "{expected} in {said}");
    }
    let json: Value = serde_json::from_str(&good(&picket(&["plugin", "inspect", "http", "--json"]))).unwrap();
    assert_eq!(json["targets"][0], serde_json::json!({"at": "url", "kind": "url"}));
    assert!(json["contract"].as_str().unwrap().starts_with("0.1."));
}

#[test]
fn the_reference_pages_are_those_in_the_tree() {
    let directory = root().join("docs/checks");
    let mut names: Vec<String> = std::fs::read_dir(root().join("plugins"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !["sdk", "templates"].contains(&name.as_str()))
        .collect();
    names.sort();
    for name in names {
        let found = good(&picket(&["plugin", "inspect", &name, "--reference"]));
        let file = directory.join(format!("{name}.md"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(&file, &found).unwrap();
        }
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(found, kept, "{} differs: `make update` writes it anew", file.display());
    }
}

#[test]
fn a_new_check_builds_with_one_command_and_passes_the_suite_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("greets");
    let run = |arguments: &[&str]| {
        let mut command = Command::new("cargo");
        // Its own dependencies are those of this tree, so that nothing is fetched and little is built twice.
        command.args(arguments).arg("--offline").current_dir(&folder);
        command.env("CARGO_TARGET_DIR", root().join("target/new-check"));
        command.env_remove("RUSTFLAGS").env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
        command.output().unwrap()
    };
    good(&picket(&["plugin", "new", "greets", "--dir", folder.to_str().unwrap()]));
    std::fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    good(&run(&["build", "--release", "--target", "wasm32-wasip2"]));
    let component = root().join("target/new-check/wasm32-wasip2/release/picket_check_greets.wasm");
    let cases = folder.join("cases");
    let said =
        good(&picket(&["plugin", "test", component.to_str().unwrap(), "--cases", cases.to_str().unwrap()]));
    assert!(said.contains("ok    greeting"), "{said}");
    assert!(said.contains(" 0 failed"), "{said}");

    let again = picket(&["plugin", "new", "greets", "--dir", folder.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(65));
    assert_eq!(picket(&["plugin", "new", "Greets"]).status.code(), Some(64));
}

#[test]
fn a_new_check_in_python_builds_with_one_command_and_passes_the_suite_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("greets");
    good(&picket(&["plugin", "new", "greets", "--lang", "python", "--dir", folder.to_str().unwrap()]));
    let tool = root().join("target/guests/venv/bin/componentize-py");
    assert!(tool.is_file(), "{} is missing; scripts/setup test installs it", tool.display());
    let built =
        Command::new("sh").arg(folder.join("build.sh")).env("COMPONENTIZE_PY", tool).output().unwrap();
    good(&built);
    let (component, cases) = (folder.join("greets.wasm"), folder.join("cases"));
    let said =
        good(&picket(&["plugin", "test", component.to_str().unwrap(), "--cases", cases.to_str().unwrap()]));
    assert!(said.contains("ok    greeting"), "{said}");
    assert!(said.contains(" 0 failed"), "{said}");
}

#[test]
fn the_template_builds_with_what_this_tree_builds_with() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let (template, ours) = (read("plugins/templates/rust/Cargo.toml"), read("Cargo.toml"));
    for name in ["schemars", "serde", "serde_json", "wit-bindgen"] {
        let line =
            |text: &str| text.lines().find(|line| line.starts_with(&format!("{name} = "))).map(str::to_owned);
        assert_eq!(line(&template), line(&ours), "{name}");
    }
    let channel = |text: &str| text.lines().find(|line| line.starts_with("channel = ")).map(str::to_owned);
    assert_eq!(
        channel(&read("plugins/templates/rust/rust-toolchain.toml")),
        channel(&read("rust-toolchain.toml"))
    );
}

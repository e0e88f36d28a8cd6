//! Bad input gets a clear error and an exit status that is not 0; nothing is lost.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use picket_e2e::process::{command, free_port};
use picket_e2e::web::Web;
use picket_e2e::{Field, Finished, Process, until};

/// Every text must be in the message.
#[track_caller]
fn says(finished: &Finished, texts: &[&str]) {
    let all = format!("{}{}", finished.stdout, finished.stderr);
    for text in texts {
        assert!(all.contains(text), "{text:?} is not in:\n{all}");
    }
    assert!(!all.contains("panicked"), "{all}");
}

fn refused(field: &Field, token: &str, name: &str) -> Finished {
    let done = Finished::of(field.agent(name).env("PICKET_SETUP_TOKEN", token));
    assert!(!done.status.success() && done.status.code().is_some(), "{done:?}");
    done
}

#[test]
fn a_setup_token_that_is_wrong_used_or_missing_is_refused_in_words() {
    let field = Field::new();
    says(&refused(&field, "pst_0000", "edge-0"), &["setup token"]);
    let token = field.create_agent("edge-1", "dc1");
    let agent =
        Process::start(field.agent("edge-1").env("PICKET_SETUP_TOKEN", &token), field.path("edge-1.log"));
    until("edge-1 is connected", Duration::from_secs(60), || {
        field.picket(["agents", "list"]).stdout.contains("connected").then_some(())
    });
    says(&refused(&field, &token, "edge-2"), &["setup token", "used"]);
    drop(agent);
    let done = Finished::of(&mut field.agent("edge-3"));
    assert!(!done.status.success());
    says(&done, &["PICKET_SETUP_TOKEN"]);
}

#[test]
fn an_expired_setup_token_is_refused_in_words() {
    let mut field = Field::new();
    field.kill_control();
    field.start_control_with(&["--setup-token-ttl", "1s"]);
    let token = field.create_agent("edge-1", "dc1");
    picket_e2e::pause(Duration::from_millis(1_100));
    says(&refused(&field, &token, "edge-1"), &["setup token", "expired"]);
}

#[test]
fn an_identity_wins_over_a_setup_token_that_is_used_up() {
    let field = Field::new();
    let token = field.create_agent("edge-1", "dc1");
    for start in 1..=2 {
        let mut agent =
            Process::start(field.agent("edge-1").env("PICKET_SETUP_TOKEN", &token), field.path("edge-1.log"));
        until("edge-1 says hello", Duration::from_secs(60), || {
            assert!(agent.runs(), "{}", agent.output());
            (agent.output().matches("connected to the control plane").count() == start).then_some(())
        });
        agent.kill();
    }
}

#[test]
fn a_control_plane_that_is_not_there_or_not_one_is_named() {
    let field = Field::new();
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let done = Finished::of(field.command(["agents", "list"]).env("PICKET_CONTROL", &nobody));
    assert!(!done.status.success());
    says(&done, &[&nobody, "refused"]);
    let done = Finished::of(
        field.command(["agents", "list"]).env("PICKET_CONTROL", field.url().replace("http", "https")),
    );
    assert!(!done.status.success());
    says(&done, &["https", "TLS"]);
    let done =
        Finished::of(field.command(["agents", "list"]).env("PICKET_CONTROL", "http://picket.example.com"));
    assert!(!done.status.success());
    says(&done, &["http://picket.example.com", "https"]);
    let done = Finished::of(field.command(["agents", "list"]).env("PICKET_API_TOKEN", "wrong"));
    assert!(!done.status.success());
    says(&done, &["PICKET_API_TOKEN"]);
}

#[test]
fn an_agent_waits_for_a_control_plane_that_is_not_there_and_says_so() {
    let mut field = Field::new();
    let token = field.create_agent("edge-1", "dc1");
    field.kill_control();
    let mut agent =
        Process::start(field.agent("edge-1").env("PICKET_SETUP_TOKEN", &token), field.path("edge-1.log"));
    until("it says that nobody answers", Duration::from_secs(60), || {
        assert!(agent.runs(), "{}", agent.output());
        agent.output().contains("refused").then_some(())
    });
    field.start_control();
    until("it enrols by itself", Duration::from_secs(70), || {
        field.picket(["agents", "list"]).stdout.contains("connected").then_some(())
    });
}

#[test]
fn a_data_directory_in_use_read_only_or_of_somebody_else_is_refused() {
    let field = Field::new();
    let agent = field.start_agent("edge-1", "dc1");
    until("edge-1 is connected", Duration::from_secs(60), || {
        field.picket(["agents", "list"]).stdout.contains("connected").then_some(())
    });
    says(&Finished::of(&mut field.agent("edge-1")).exits(73), &["edge-1", "another"]);
    drop(agent);
    // A file where the directory should be cannot be written to by root either.
    let token = field.create_agent("edge-2", "dc1");
    field.write("edge-2", "not a directory");
    says(&refused(&field, &token, "edge-2"), &["edge-2"]);
    if rustix::process::geteuid().is_root() {
        let token = field.create_agent("edge-3", "dc1");
        let path = field.path("edge-3");
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(&path, Some(65_532), Some(65_532)).unwrap();
        says(&refused(&field, &token, "edge-3"), &["edge-3", "belongs to user 65532"]);
    }
}

/// A monitors file with one mistake, and what the message must say.
const MISTAKES: &[(&str, &[&str])] = &[
    ("monitors:\n  - name: a\n    check: http\n   locations: [dc1]\n", &["monitors.yaml:4"]),
    (
        "monitors:\n  - { name: a, check: htp, locations: [dc1], config: { url: \"http://127.0.0.1/\" } }\n",
        &["a", "htp", "http"],
    ),
    (
        "monitors:\n  - { name: a, check: http, locations: [dc1], config: { url: \"http://127.0.0.1/\", keywrd: x } }\n",
        &["a", "keywrd", "keyword"],
    ),
    (
        "monitors:\n  - { name: a, check: tcp, locations: [dc1], config: { host: 127.0.0.1, port: http } }\n",
        &["a", "port", "integer"],
    ),
    ("monitors:\n  - { name: a, check: http, locations: [dc1], config: {} }\n", &["a", "url", "missing"]),
    (
        "monitors:\n  - { name: a, check: http, interval: 5s, timeout: 6s, locations: [dc1], config: { url: \"http://127.0.0.1/\" } }\n",
        &["a", "timeout", "6s", "5s"],
    ),
    (
        "monitors:\n  - { name: a, check: http, interval: 10ms, locations: [dc1], config: { url: \"http://127.0.0.1/\" } }\n",
        &["a", "interval", "1s"],
    ),
    (
        "monitors:\n  - { name: a, check: http, intervall: 10s, locations: [dc1], config: { url: \"http://127.0.0.1/\" } }\n",
        &["a", "intervall", "interval"],
    ),
    (
        "monitors:\n  - { name: a, check: http, locations: [dc1], config: { url: \"https://127.0.0.1/\", tls: { ca: /ca.pem } } }\n",
        &["config.tls", "tls is a field of every monitor", "beside config"],
    ),
    // What no schema can say.
    (
        "monitors:\n  - { name: a, check: http, locations: [dc1], config: { url: \"http://127.0.0.1/\", body_matches: [a, \"(\"], json: [{ path: \"$.a[\" }] } }\n",
        &["config.body_matches.1", "unclosed group", "config.json.0.path"],
    ),
    (
        "monitors:\n  - { name: a, check: dns, locations: [dc1], config: { query_name: a.test, answer_matches: [\"(\"], expected: [nonsense] } }\n",
        &["config.answer_matches.0", "unclosed group", "config.expected.0"],
    ),
    (
        "monitors:\n  - { name: a, check: tcp, locations: [dc1], config: { host: 127.0.0.1, port: 1, query_response: [{ expect: { regex: \"(\" } }] } }\n",
        &["config.query_response.0.expect.regex", "unclosed group"],
    ),
    (
        "monitors:\n  - { name: a, check: tls, locations: [dc1], config: { host: 127.0.0.1, warn_days: 1, critical_days: 2 } }\n",
        &["config.critical_days", "above warn_days"],
    ),
    (
        "monitors:\n  - { name: a, check: postgres, locations: [dc1], config: { host: 127.0.0.1, user: a, exclude: [\"(\"], critical_seconds: 1 } }\n",
        &["config.exclude.0", "unclosed group", "config.critical_seconds"],
    ),
];

#[test]
fn a_mistake_in_a_monitors_file_names_key_found_and_expected_and_changes_nothing() {
    let field = Field::new();
    field.apply(
        "monitors:\n  - { name: kept, check: tcp, locations: [dc1], config: { host: 127.0.0.1, port: 1 } }\n",
    );
    for (yaml, texts) in MISTAKES {
        field.write("monitors.yaml", yaml);
        let done = field.picket(["monitors", "apply", "--prune", "-f", "monitors.yaml"]);
        assert!(!done.status.success(), "{yaml} was accepted");
        says(&done, texts);
        let list = field.picket(["monitors", "list"]).exits(0);
        assert!(list.stdout.contains("kept"), "{yaml} changed something");
    }
}

#[test]
fn a_monitor_whose_secret_is_missing_or_whose_target_is_denied_is_an_error_and_the_others_go_on() {
    let web = Web::start("<h1>Welcome</h1>");
    let field = Field::new();
    let _agent = field.start_agent("edge-1", "dc1");
    field.apply(&format!(
        "monitors:\n  - {{ name: good, check: http, interval: 1s, timeout: 900ms, locations: [dc1], config: {{ url: \"{url}\" }} }}\n\
         \x20 - {{ name: secretless, check: http, interval: 1s, timeout: 900ms, locations: [dc1], config: {{ url: \"{url}\", auth: {{ bearer: {{ token: {{ $secret: nowhere }} }} }} }} }}\n\
         \x20 - {{ name: metadata, check: http, interval: 1s, timeout: 900ms, locations: [dc1], config: {{ url: \"http://169.254.169.254/\" }} }}\n",
        url = web.url()
    ));
    let result = field.result_of("secretless", "error", |r| r["state"] == "error");
    assert!(result["summary"].as_str().unwrap().contains("nowhere"), "{result}");
    let result = field.result_of("metadata", "error", |r| r["state"] == "error");
    assert_eq!(result["code"], "denied");
    field.result_of("good", "up", |r| r["state"] == "up");
}

#[test]
fn a_file_that_is_no_check_is_refused_in_words() {
    let field = Field::new();
    field.write("text.wasm", "hello");
    std::fs::write(field.path("core.wasm"), b"\0asm\x01\0\0\0").unwrap();
    std::fs::File::create(field.path("big.wasm")).unwrap().set_len(65 << 20).unwrap();
    field.write("c.json", "{}");
    for (file, texts) in [
        ("text.wasm", &["component"][..]),
        ("core.wasm", &["component"]),
        ("big.wasm", &["67108864"]),
        ("no.wasm", &["no.wasm"]),
    ] {
        let done = Finished::of(
            command(["check", &format!("./{file}"), "--config", "c.json"]).current_dir(field.dir()),
        );
        assert_eq!(done.status.code(), Some(3), "{done:?}");
        says(&done, texts);
    }
}

#[test]
fn a_check_by_hand_tells_its_mistakes_and_reaches_loopback_but_never_metadata() {
    let web = Web::start("<h1>Welcome</h1>");
    let run = |args: &[&str]| Finished::of(&mut command([&["check"], args].concat()));
    let url = format!("url={}", web.url());
    run(&["http", "--set", &url, "--set", "keyword=Welcome"]).exits(0);
    run(&["http", "--set", &url, "--set", "keyword=Nowhere"]).exits(2);
    says(&run(&["http", "--set", "keyword=x"]).exits(3), &["url"]);
    says(&run(&["htp"]).exits(3), &["htp", "http"]);
    let denied = run(&["http", "--json", "--set", "url=http://169.254.169.254/"]).exits(3).json();
    assert_eq!((denied["state"].as_str(), denied["code"].as_str()), (Some("error"), Some("denied")));
    let done = run(&["http", "--json", "--set", &url]).exits(0).json();
    for key in [
        "state",
        "code",
        "summary",
        "findings",
        "metrics",
        "attributes",
        "phases",
        "plugin_digest",
        "duration_ms",
    ] {
        assert!(!done[key].is_null(), "{key} is missing in {done}");
    }
}

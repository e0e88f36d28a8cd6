//! What the sandbox promises to a guest that means well: deadlines that are answers, secrets as handles, a validator, a log.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::sync::Arc;
use std::time::Duration;

use net::Ceiling;
use picket_hostile::{Attempt, Door, Guest, OUTCOME, SCRATCH, job};
use sandbox::{Fault, Job, Level, Mistake, Plugin, Report, Sandbox, Secrets, Settings, Verdict};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Enough for whoever means well.
const MOMENT: Duration = Duration::from_millis(500);

fn sandbox() -> Sandbox {
    let ceiling = Ceiling { allow: vec!["127.0.0.1".parse().unwrap()], ..Ceiling::default() };
    let network = net::Network::new(net::Settings { ceiling, ..net::Settings::default() }).unwrap();
    Sandbox::new(Settings { slots: 8, ..Settings::default() }, network).unwrap()
}

async fn load(guest: Guest<'_>) -> (Sandbox, Arc<Plugin>) {
    picket_hostile::load(sandbox(), guest).await
}

fn summary(report: &Report) -> &str {
    match &report.verdict {
        Verdict::Outcome(outcome) => &outcome.summary,
        other => panic!("{other:?}"),
    }
}

/// Answers with the text at `place`, of `length` bytes, as summary.
fn say(place: &str, length: &str) -> String {
    format!(
        "(i32.store (i32.const {}) {place}) (i32.store (i32.const {}) {length})",
        OUTCOME + 16,
        OUTCOME + 20
    )
}

#[tokio::test]
async fn a_peer_that_never_answers_is_a_timeout_that_the_guest_hears_of() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let imports = r#"
        (import "picket:net/tcp@0.1.0" "connect" (func $connect (param i32 i32 i32 i32 i32)))
        (import "picket:net/tcp@0.1.0" "[method]connection.read" (func $read (param i32 i32 i32)))"#;
    let text = SCRATCH + 256;
    let items = format!("(data (i32.const {text}) \"127.0.0.1\")");
    // Connected, and the read failed with the first cause, which is `timeout`.
    let run = format!(
        "(call $connect (i32.const {text}) (i32.const 9) (i32.const {port}) (i32.const 0) (i32.const {SCRATCH}))
         (if (i32.load8_u (i32.const {SCRATCH})) (then (unreachable)))
         (call $read (i32.load (i32.const {handle})) (i32.const 10) (i32.const {second}))
         (if (i32.ne (i32.load8_u (i32.const {second})) (i32.const 1)) (then (unreachable)))
         (if (i32.load8_u (i32.const {cause})) (then (unreachable)))",
        handle = SCRATCH + 4,
        second = SCRATCH + 64,
        cause = SCRATCH + 68,
    );
    let (sandbox, plugin) = load(Guest { imports, items: &items, run: &run, ..Guest::default() }).await;
    let grant = plugin.schema.grant(&json!({}), &[format!("127.0.0.1:{port}")]).unwrap();
    let report = sandbox.run(&plugin, Job { grant: grant.into(), ..job(json!({}), MOMENT) }).await;
    assert_eq!(summary(&report), "fine", "{report:?}");
    assert!(report.duration >= Duration::from_millis(500), "{report:?}");
    assert!(report.spent.cpu < Duration::from_millis(200), "waiting is not computing: {report:?}");
    assert_eq!(report.measured.connections, 1);
    assert_eq!(report.spent.calls, 2);
}

#[tokio::test]
async fn what_a_guest_gets_is_what_the_job_says() {
    let (sandbox, plugin) =
        load(Guest { run: &say("(local.get $config)", "(local.get $config_len)"), ..Guest::default() }).await;
    let report = sandbox.run(&plugin, job(json!({"a": "häuser"}), MOMENT)).await;
    assert_eq!(summary(&report), r#"{"a":"häuser"}"#);
    let (sandbox, plugin) =
        load(Guest { run: &say("(local.get $monitor)", "(local.get $monitor_len)"), ..Guest::default() })
            .await;
    assert_eq!(summary(&sandbox.run(&plugin, job(json!({}), MOMENT)).await), "test");
}

fn with_secret(config: Value) -> Job {
    let mut secrets = Secrets::new();
    secrets.insert("token", b"hunter22".to_vec());
    Job { secrets, ..job(config, MOMENT) }
}

#[tokio::test]
async fn a_secret_leaves_neither_by_the_result_nor_by_the_log() {
    let log = r#"(import "picket:net/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#;
    let run = format!(
        "(call $log (i32.const 2) (local.get $config) (local.get $config_len)) {}",
        say("(local.get $config)", "(local.get $config_len)")
    );
    let (sandbox, plugin) = load(Guest { imports: log, run: &run, ..Guest::default() }).await;
    let report = sandbox.run(&plugin, with_secret(json!({"a": "hunter22", "b": "aHVudGVyMjI="}))).await;
    let text = summary(&report);
    assert!(text.starts_with(r#"{"a":"[redacted]","b":"[redacted]"#), "{text}");
    assert_eq!(report.log.len(), 1);
    assert_eq!(report.log[0].0, Level::Warn);
    assert!(!format!("{report:?}").contains("hunter22"), "{report:?}");
}

#[tokio::test]
async fn a_secret_is_used_by_its_name_and_never_seen() {
    let imports = r#"
        (import "picket:net/secrets@0.1.0" "get" (func $get (param i32 i32 i32)))
        (import "picket:net/secrets@0.1.0" "[method]secret.postgres-md5" (func $md5 (param i32 i32 i32 i32 i32 i32)))"#;
    let text = SCRATCH + 256;
    let items = format!("(data (i32.const {text}) \"tokenuserSALT\")");
    let run = format!(
        "(call $get (i32.const {text}) (i32.const 5) (i32.const {SCRATCH}))
         (if (i32.load8_u (i32.const {SCRATCH})) (then {error} (return (i32.const {OUTCOME}))))
         (call $md5 (i32.load (i32.const {handle})) (i32.const {user}) (i32.const 4) (i32.const {salt}) (i32.const 4) (i32.const {answer}))
         {say}",
        error = say(&format!("(i32.load (i32.const {}))", SCRATCH + 4), &format!("(i32.load (i32.const {}))", SCRATCH + 8)),
        handle = SCRATCH + 4,
        user = text + 5,
        salt = text + 9,
        answer = SCRATCH + 64,
        say = say(&format!("(i32.load (i32.const {}))", SCRATCH + 64), &format!("(i32.load (i32.const {}))", SCRATCH + 68)),
    );
    let (sandbox, plugin) = load(Guest { imports, items: &items, run: &run, ..Guest::default() }).await;
    let report = sandbox.run(&plugin, with_secret(json!({}))).await;
    // md5(md5("hunter22user") + "SALT")
    assert_eq!(summary(&report), "md52f451234087b63bd2c1693d80bc7c66f");
    let report = sandbox.run(&plugin, job(json!({}), MOMENT)).await;
    assert_eq!(summary(&report), "this monitor's configuration names no secret \"token\"");
}

#[tokio::test]
async fn a_validator_speaks_its_own_rules() {
    let list = SCRATCH + 64;
    let items = format!(
        "(data (i32.const {text}) \"/bno without a\")
         (func (export \"picket:check/validator@0.1.0#validate\") (param i32 i32) (result i32)
           (i32.store8 (i32.const {SCRATCH}) (i32.gt_u (local.get 1) (i32.const 2)))
           (i32.store (i32.const {}) (i32.const {list}))
           (i32.store (i32.const {}) (i32.const 1))
           (i32.store (i32.const {list}) (i32.const {text}))
           (i32.store (i32.const {}) (i32.const 2))
           (i32.store (i32.const {}) (i32.const {}))
           (i32.store (i32.const {}) (i32.const 12))
           (i32.const {SCRATCH}))",
        SCRATCH + 4,
        SCRATCH + 8,
        list + 4,
        list + 8,
        SCRATCH + 258,
        list + 12,
        text = SCRATCH + 256,
    );
    let guest = Guest { items: &items, world: "export picket:check/validator@0.1.0;", ..Guest::default() };
    let (_sandbox, plugin) = load(guest).await;
    assert!(plugin.exports.iter().any(|name| name == "picket:check/validator@0.1.0"));
    assert_eq!(plugin.validate(&json!({})).await, Ok(Vec::new()));
    let mistake = Mistake { at: "/b".to_owned(), message: "no without a".to_owned() };
    assert_eq!(plugin.validate(&json!({"b": 1})).await, Ok(vec![mistake]));
}

#[tokio::test]
async fn a_validator_that_loops_is_a_fault() {
    let items = "(func (export \"picket:check/validator@0.1.0#validate\") (param i32 i32) (result i32) (loop $l (br $l)) (i32.const 0))";
    let (_sandbox, plugin) =
        load(Guest { items, world: "export picket:check/validator@0.1.0;", ..Guest::default() }).await;
    let fault = plugin.validate(&json!({})).await.unwrap_err();
    assert!(matches!(fault, Fault::Cpu | Fault::Wall), "{fault}");
    let (_sandbox, plugin) = load(Guest::default()).await;
    assert_eq!(plugin.validate(&json!({})).await, Ok(Vec::new()), "none is no mistake");
}

#[tokio::test]
async fn exit_is_a_trap_with_its_number() {
    let guest = Guest {
        packages: "package wasi:cli@0.2.6 { interface exit { exit: func(status: result); } }",
        world: "import wasi:cli/exit@0.2.6;",
        imports: r#"(import "wasi:cli/exit@0.2.6" "exit" (func $exit (param i32)))"#,
        run: "(call $exit (i32.const 1))",
        ..Guest::default()
    };
    let (sandbox, plugin) = load(guest).await;
    let report = sandbox.run(&plugin, job(json!({}), MOMENT)).await;
    let Verdict::Fault(fault) = report.verdict else { panic!("{report:?}") };
    assert_eq!(fault.to_string(), "the plugin crashed: it called exit(1)");
}

#[tokio::test]
async fn environment_and_arguments_are_empty() {
    let guest = Guest {
        packages: "package wasi:cli@0.2.6 { interface environment {
            get-environment: func() -> list<tuple<string, string>>; get-arguments: func() -> list<string>; } }",
        world: "import wasi:cli/environment@0.2.6;",
        imports: r#"(import "wasi:cli/environment@0.2.6" "get-environment" (func $environment (param i32)))
                    (import "wasi:cli/environment@0.2.6" "get-arguments" (func $arguments (param i32)))"#,
        run: &format!(
            "(call $environment (i32.const {SCRATCH})) (call $arguments (i32.const {}))
             (if (i32.or (i32.load (i32.const {})) (i32.load (i32.const {}))) (then (unreachable)))",
            SCRATCH + 8,
            SCRATCH + 4,
            SCRATCH + 12
        ),
        ..Guest::default()
    };
    let (sandbox, plugin) = load(guest).await;
    assert_eq!(summary(&sandbox.run(&plugin, job(json!({}), MOMENT)).await), "fine");
}

#[tokio::test]
async fn a_trace_says_what_is_not_in_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let sandbox = sandbox();
    for (door, target, unwritten) in
        [(Door::Connect, "7f000001", &["wasi:sockets"][..]), (Door::Tcp, "127.0.0.1", &[])]
    {
        let plugin = sandbox.load(&door.guest().component()).await.unwrap();
        let grant = plugin.schema.grant(&json!({}), &[format!("127.0.0.1:{port}")]).unwrap();
        let job = Job {
            monitor: target.to_owned(),
            attempt: port.into(),
            grant: grant.into(),
            ..job(json!({}), Duration::from_secs(10))
        };
        let (report, trace) = sandbox.record(&plugin, job, |session| Arc::new(session)).await.unwrap();
        assert_eq!(
            Door::attempt(&report.verdict),
            Attempt::Reached,
            "{door:?}: a run is as it is without a trace"
        );
        assert_eq!(trace.unwritten, unwritten, "{door:?}");
        let replayed = sandbox.replay(&plugin, &trace).await;
        assert_eq!(replayed.same, unwritten.is_empty(), "{door:?}: {replayed:?}");
    }
}

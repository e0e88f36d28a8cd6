//! Every promise of the sandbox has a guest that tries to break it. Each ends as the fault or the refusal that fits, this process
//! lives. That the runs of others keep their time meanwhile is shown in `attack`.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod boundary;
mod canaries;
mod floods;
mod loops;
mod malformed;
mod memory;
mod rebinding;
mod sockets;
mod vectors;

use std::sync::Arc;
use std::time::{Duration, Instant};

use picket_hostile::{Guest, HEAP, OUTCOME, SCRATCH, SUMMARY, job};
use sandbox::{Failure, Fault, Job, LoadError, Plugin, Report, Sandbox, Secrets, Settings, State, Verdict};
use serde_json::json;

const LOOP: &str = "(loop $for_ever (br $for_ever))";
const LOG: &str = r#"(import "picket:net/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#;
const CONNECT: &str =
    r#"(import "picket:net/tcp@0.1.0" "connect" (func $connect (param i32 i32 i32 i32 i32)))"#;

fn sandbox() -> Sandbox {
    let network = net::Network::new(net::Settings::default()).unwrap();
    Sandbox::new(Settings::default(), network).unwrap()
}

async fn load(guest: Guest<'_>) -> (Sandbox, Arc<Plugin>) {
    picket_hostile::load(sandbox(), guest).await
}

async fn run(guest: Guest<'_>) -> Report {
    let (sandbox, plugin) = load(guest).await;
    sandbox.run(&plugin, job(json!({}), Duration::from_secs(30))).await
}

#[track_caller]
fn check(report: &Report, expected: &Fault) {
    match &report.verdict {
        Verdict::Fault(Fault::Trap(reason)) => match expected {
            Fault::Trap(part) => assert!(reason.contains(part.as_str()), "{reason}"),
            other => panic!("trap {reason}, expected {other:?}"),
        },
        Verdict::Fault(fault) => assert_eq!(fault.code(), expected.code(), "{fault}"),
        other => panic!("{other:?}, expected {expected:?}"),
    }
}

#[tokio::test]
async fn a_guest_that_behaves_is_up() {
    let report = run(Guest::default()).await;
    let Verdict::Outcome(outcome) = report.verdict else { panic!("{report:?}") };
    assert_eq!((outcome.state, outcome.code.as_str(), outcome.summary.as_str()), (State::Up, "ok", "fine"));
    assert!(!outcome.cut);
    assert_eq!(report.spent.calls, 0);
    assert_eq!(report.spent.memory, 2 << 16);
}

#[tokio::test]
async fn an_endless_loop_ends_by_processor_time() {
    let report = run(Guest { run: LOOP, ..Guest::default() }).await;
    check(&report, &Fault::Cpu);
    assert!(report.spent.cpu >= Duration::from_secs(2), "{report:?}");
}

#[tokio::test]
async fn an_endless_loop_ends_by_its_deadline_when_that_comes_first() {
    let (sandbox, plugin) = load(Guest { run: LOOP, ..Guest::default() }).await;
    let report = sandbox.run(&plugin, job(json!({}), Duration::from_millis(100))).await;
    check(&report, &Fault::Wall);
    assert!(report.duration >= Duration::from_millis(600), "{report:?}");
    assert!(report.duration < Duration::from_secs(5), "{report:?}");
}

#[tokio::test]
async fn an_endless_loop_in_a_start_function_never_becomes_a_plugin() {
    let guest = Guest { items: &format!("(func $spin {LOOP}) (start $spin)"), ..Guest::default() };
    let error = sandbox().load(&guest.component()).await.unwrap_err();
    assert!(matches!(error, LoadError::Describe(Fault::Cpu | Fault::Wall)), "{error}");
}

#[tokio::test]
async fn a_looping_describe_never_becomes_a_plugin() {
    let started = Instant::now();
    let error = sandbox().load(&Guest { describe: LOOP, ..Guest::default() }.component()).await.unwrap_err();
    assert!(matches!(error, LoadError::Describe(Fault::Cpu | Fault::Wall)), "{error}");
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_memory_bomb_ends_at_its_limit() {
    let grow = "(loop $more (drop (memory.grow (i32.const 16))) (br $more))";
    let report = run(Guest { run: grow, ..Guest::default() }).await;
    check(&report, &Fault::Memory);
    assert!(report.spent.memory <= 64 << 20);
    // At once, and at the start.
    check(
        &run(Guest { run: "(drop (memory.grow (i32.const 60000)))", ..Guest::default() }).await,
        &Fault::Memory,
    );
    let guest = Guest { pages: 2000, ..Guest::default() };
    assert!(sandbox().load(&guest.component()).await.is_err());
}

#[tokio::test]
async fn a_table_bomb_ends_at_its_limit() {
    let items = "(table $t 1 funcref)";
    let grow = "(loop $more (drop (table.grow $t (ref.null func) (i32.const 4096))) (br $more))";
    let report = run(Guest { items, run: grow, ..Guest::default() }).await;
    check(&report, &Fault::Memory);
}

#[tokio::test]
async fn a_trap_is_a_fault_with_its_reason() {
    check(&run(Guest { run: "(unreachable)", ..Guest::default() }).await, &Fault::Trap("unreachable".into()));
    let division = "(drop (i32.div_u (i32.const 1) (i32.const 0)))";
    check(&run(Guest { run: division, ..Guest::default() }).await, &Fault::Trap("divide by zero".into()));
    let outside = "(drop (i32.load (i32.const -8)))";
    check(&run(Guest { run: outside, ..Guest::default() }).await, &Fault::Trap("out of bounds".into()));
}

#[tokio::test]
async fn deep_recursion_is_a_trap() {
    let items = "(func $deep (param i64 i64 i64) (result i64) (i64.add (call $deep (local.get 1) (local.get 2) (local.get 0)) (i64.const 1)))";
    let dive = "(drop (call $deep (i64.const 1) (i64.const 2) (i64.const 3)))";
    check(&run(Guest { items, run: dive, ..Guest::default() }).await, &Fault::Trap("stack".into()));
}

#[tokio::test]
async fn a_giant_output_is_cut_and_flagged() {
    let fill = format!(
        "(memory.fill (i32.const {SUMMARY}) (i32.const 97) (i32.const 900)) (memory.fill (i32.const {HEAP}) (i32.const 97) (i32.const 500000))"
    );
    let summary = (HEAP as u32) - SUMMARY as u32 + 500_000;
    let report = run(Guest { run: &fill, summary_len: summary, pages: 12, ..Guest::default() }).await;
    let Verdict::Outcome(outcome) = report.verdict else { panic!("{report:?}") };
    assert!(outcome.cut);
    assert_eq!(outcome.summary.len(), 512);
}

#[tokio::test]
async fn an_output_beyond_the_budget_of_a_call_is_a_fault() {
    let guest = Guest { summary_len: 40 << 20, pages: 800, ..Guest::default() };
    check(&run(guest).await, &Fault::Output(String::new()));
}

#[tokio::test]
async fn an_output_outside_of_memory_or_not_text_is_a_fault() {
    check(&run(Guest { summary_len: 1 << 30, ..Guest::default() }).await, &Fault::Output(String::new()));
    let broken = format!("(i32.store8 (i32.const {SUMMARY}) (i32.const 255))");
    check(&run(Guest { run: &broken, ..Guest::default() }).await, &Fault::Output(String::new()));
    let state = format!("(i32.store8 (i32.const {}) (i32.const 77))", OUTCOME + 4);
    check(&run(Guest { run: &state, ..Guest::default() }).await, &Fault::Output(String::new()));
}

#[tokio::test]
async fn a_flood_of_calls_ends_at_its_budget() {
    let flood =
        format!("(loop $more (call $log (i32.const 1) (i32.const {SUMMARY}) (i32.const 4)) (br $more))");
    let report = run(Guest { imports: LOG, run: &flood, ..Guest::default() }).await;
    check(&report, &Fault::Calls);
    assert_eq!(report.spent.calls, 10_001);
    let bytes: usize = report.log.iter().map(|(_, text)| text.len()).sum();
    assert!(bytes <= (16 << 10) + 64, "{bytes}");
    // Empty notes cost as much as others.
    let empty = "(loop $more (call $log (i32.const 1) (i32.const 0) (i32.const 0)) (br $more))";
    let report = run(Guest { imports: LOG, run: empty, ..Guest::default() }).await;
    check(&report, &Fault::Calls);
    assert!(report.log.len() <= (16 << 10) + 1);
}

#[tokio::test]
async fn a_flood_of_clock_and_random_calls_ends_too() {
    let guest = Guest {
        packages: "package wasi:clocks@0.2.6 { interface monotonic-clock { now: func() -> u64; } }
                   package wasi:random@0.2.6 { interface random { get-random-u64: func() -> u64; } }",
        world: "import wasi:clocks/monotonic-clock@0.2.6; import wasi:random/random@0.2.6;",
        imports: r#"(import "wasi:clocks/monotonic-clock@0.2.6" "now" (func $now (result i64)))
                    (import "wasi:random/random@0.2.6" "get-random-u64" (func $random (result i64)))"#,
        run: "(loop $more (drop (call $now)) (drop (call $random)) (br $more))",
        ..Guest::default()
    };
    let report = run(guest).await;
    check(&report, &Fault::Calls);
    assert!(report.spent.cpu < Duration::from_secs(2), "{report:?}");
}

/// A guest with timers.
fn sleeper(run: &str) -> Guest<'_> {
    Guest {
        packages: "package wasi:io@0.2.6 { interface poll { resource pollable { block: func(); } } }
                   package wasi:clocks@0.2.6 { interface monotonic-clock {
                     use wasi:io/poll@0.2.6.{pollable};
                     subscribe-duration: func(when: u64) -> pollable; } }",
        world: "import wasi:clocks/monotonic-clock@0.2.6;",
        imports: r#"(import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration" (func $timer (param i64) (result i32)))
                    (import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))"#,
        run,
        ..Guest::default()
    }
}

#[tokio::test]
async fn sleeping_is_not_computing_but_ends_by_the_deadline() {
    let report = run(sleeper("(call $block (call $timer (i64.const 300000000)))")).await;
    assert!(matches!(report.verdict, Verdict::Outcome(_)), "{report:?}");
    assert!(report.duration >= Duration::from_millis(300), "{report:?}");
    assert!(report.spent.cpu < Duration::from_millis(100), "{report:?}");
    let (sandbox, plugin) = load(sleeper("(call $block (call $timer (i64.const 3600000000000)))")).await;
    check(&sandbox.run(&plugin, job(json!({}), Duration::from_millis(100))).await, &Fault::Wall);
}

#[tokio::test]
async fn a_handle_bomb_ends_at_its_limit() {
    let report = run(sleeper("(loop $more (drop (call $timer (i64.const 1))) (br $more))")).await;
    check(&report, &Fault::Memory);
    assert!(report.spent.calls <= 1100, "{report:?}");
}

#[tokio::test]
async fn a_foreign_import_is_refused_in_words() {
    let guest = Guest {
        packages: "package wasi:keyvalue@0.2.6 { interface store { open: func() -> u32; } }",
        world: "import wasi:keyvalue/store@0.2.6;",
        imports: r#"(import "wasi:keyvalue/store@0.2.6" "open" (func $open (result i32)))"#,
        run: "(drop (call $open))",
        ..Guest::default()
    };
    let error = sandbox().load(&guest.component()).await.unwrap_err();
    assert_eq!(error, LoadError::Import(vec!["wasi:keyvalue/store@0.2.6".to_owned()]));
    assert!(
        error
            .to_string()
            .starts_with("the component asks for wasi:keyvalue/store@0.2.6, which this agent does not give;")
    );
}

#[tokio::test]
async fn an_import_that_only_bears_a_known_name_is_refused() {
    let guest = Guest {
        packages: "package wasi:clocks@0.2.6 { interface monotonic-clock { now: func() -> string; } }",
        world: "import wasi:clocks/monotonic-clock@0.2.6;",
        imports: r#"(import "wasi:clocks/monotonic-clock@0.2.6" "now" (func $now (param i32)))"#,
        run: "(call $now (i32.const 256))",
        ..Guest::default()
    };
    let error = sandbox().load(&guest.component()).await.unwrap_err();
    assert!(matches!(error, LoadError::Contract(_)), "{error}");
    let expected = "now of wasi:clocks/monotonic-clock@0.2.6 is another one than in contract 0.1.x";
    assert!(error.to_string().contains(expected), "{error}");
}

/// Connects to a host and answers with the failure `denied` and the host's words, when that is what happened.
fn connecting(host: &str) -> (String, String) {
    let items = format!("(data (i32.const {}) \"{host}\")", SCRATCH + 256);
    let ret = SCRATCH;
    let answer = SCRATCH + 64;
    let run = format!(
        "(call $connect (i32.const {text}) (i32.const {len}) (i32.const 80) (i32.const 0) (i32.const {ret}))
         (if (i32.and (i32.eq (i32.load8_u (i32.const {ret})) (i32.const 1)) (i32.eq (i32.load8_u (i32.const {cause})) (i32.const 1)))
           (then
             (i32.store8 (i32.const {answer}) (i32.const 1))
             (i32.store8 (i32.const {kind}) (i32.const 1))
             (i32.store (i32.const {at}) (i32.load (i32.const {message})))
             (i32.store (i32.const {length}) (i32.load (i32.const {message_len})))
             (return (i32.const {answer}))))",
        text = SCRATCH + 256,
        len = host.len(),
        cause = ret + 4,
        message = ret + 20,
        message_len = ret + 24,
        kind = answer + 4,
        at = answer + 8,
        length = answer + 12,
    );
    (items, run)
}

async fn denied(host: &str, allow: &[&str]) -> (String, Report) {
    let (items, run) = connecting(host);
    let (sandbox, plugin) =
        load(Guest { imports: CONNECT, items: &items, run: &run, ..Guest::default() }).await;
    let allow: Vec<_> = allow.iter().map(ToString::to_string).collect();
    let grant = plugin.schema.grant(&json!({}), &allow).unwrap();
    let report =
        sandbox.run(&plugin, Job { grant: grant.into(), ..job(json!({}), Duration::from_secs(5)) }).await;
    match report.verdict.clone() {
        Verdict::Failure(Failure::Denied(text)) => (text, report),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_undeclared_host_is_denied_with_the_line_to_add() {
    let (text, report) = denied("192.0.2.7", &[]).await;
    assert!(text.contains("192.0.2.7"), "{text}");
    assert_eq!(report.measured.denials.len(), 1, "{report:?}");
    assert_eq!(report.measured.connections, 0, "{report:?}");
    denied("undeclared.example", &["declared.example:80"]).await;
}

#[tokio::test]
async fn a_secret_in_a_denied_name_is_not_reported() {
    let (items, run) = connecting("hunter22.example");
    let (sandbox, plugin) =
        load(Guest { imports: CONNECT, items: &items, run: &run, ..Guest::default() }).await;
    let mut secrets = Secrets::new();
    secrets.insert("token", b"hunter22".to_vec());
    let report = sandbox.run(&plugin, Job { secrets, ..job(json!({}), Duration::from_secs(5)) }).await;
    assert_eq!(report.measured.denials.len(), 1, "{report:?}");
    assert!(!format!("{report:?}").contains("hunter22"), "{report:?}");
}

#[tokio::test]
async fn a_metadata_address_is_denied_even_when_the_monitor_grants_it() {
    for (host, allow) in [
        ("169.254.169.254", "169.254.169.254:80"),
        ("169.254.169.254", "169.254.0.0/16"),
        ("::ffff:169.254.169.254", "169.254.169.254:80"),
        ("100.100.100.200", "100.100.100.200"),
        ("127.0.0.1", "127.0.0.1:80"),
    ] {
        let (sandbox, plugin) = {
            let (items, run) = connecting(host);
            load(Guest { imports: CONNECT, items: &items, run: &run, ..Guest::default() }).await
        };
        let grant = plugin.schema.grant(&json!({}), &[allow.to_owned()]).unwrap();
        let report =
            sandbox.run(&plugin, Job { grant: grant.into(), ..job(json!({}), Duration::from_secs(5)) }).await;
        assert!(matches!(report.verdict, Verdict::Failure(Failure::Denied(_))), "{host}: {report:?}");
        assert_eq!(report.measured.remote, None, "{host}");
    }
}

#[tokio::test]
async fn describe_reaches_nothing() {
    // Its answer is the same whatever connect says; what counts is that nothing was dialled and nothing broke.
    let host = "192.0.2.7";
    let items = format!("(data (i32.const {}) \"{host}\")", SCRATCH + 256);
    let call = format!(
        "(call $connect (i32.const {}) (i32.const {}) (i32.const 80) (i32.const 0) (i32.const {SCRATCH}))
         (if (i32.ne (i32.load8_u (i32.const {})) (i32.const 1)) (then (unreachable)))",
        SCRATCH + 256,
        host.len(),
        SCRATCH + 4,
    );
    let guest = Guest { imports: CONNECT, items: &items, describe: &call, ..Guest::default() };
    assert_eq!(sandbox().load(&guest.component()).await.unwrap().description.name, "guest");
}

#[tokio::test]
async fn what_is_not_a_check_is_told_so() {
    let sandbox = sandbox();
    let check = async |bytes: &[u8]| sandbox.load(bytes).await.unwrap_err();
    assert_eq!(check(b"").await, LoadError::Empty);
    assert_eq!(check(b"#!/bin/sh\n").await, LoadError::NotWasm);
    assert_eq!(check(&wat::parse_str("(module)").unwrap()).await, LoadError::CoreModule);
    assert_eq!(check(&wat::parse_str("(component)").unwrap()).await, LoadError::World);
    let mut half = Guest::default().component();
    half.truncate(half.len() / 2);
    assert!(matches!(check(&half).await, LoadError::Compile(_)));
    let guest = Guest { schema: r#"{"type":"object"}"#, ..Guest::default() };
    assert!(matches!(check(&guest.component()).await, LoadError::Schema(_)));
}

#[tokio::test]
async fn no_state_survives_a_run() {
    // 160 kB: the end of the table lies behind what is wiped in place.
    let items = "(global $count (mut i32) (i32.const 0)) (table $t 20000 funcref) (elem declare func $kept) (func $kept)";
    let run = format!(
        "(global.set $count (i32.add (global.get $count) (i32.const 1)))
         (i32.store8 (i32.const {SUMMARY}) (i32.add (i32.const 48) (global.get $count)))
         (i32.store (i32.const {place}) (i32.add (i32.load (i32.const {place})) (i32.const 1)))
         (i32.store8 (i32.const {}) (i32.add (i32.const 48) (i32.load (i32.const {place}))))
         (i32.store8 (i32.const {})
           (i32.add (i32.const 48) (i32.add
             (ref.is_null (table.get $t (i32.const 3))) (ref.is_null (table.get $t (i32.const 19999))))))
         (table.set $t (i32.const 3) (ref.func $kept))
         (table.set $t (i32.const 19999) (ref.func $kept))",
        SUMMARY + 1,
        SUMMARY + 2,
        // Behind the configuration, which the host wrote at the beginning of the heap.
        place = HEAP + 32_768,
    );
    let (sandbox, plugin) = load(Guest { items, run: &run, ..Guest::default() }).await;
    for _ in 0..50 {
        let report = sandbox.run(&plugin, job(json!({}), Duration::from_secs(5))).await;
        let Verdict::Outcome(outcome) = report.verdict else { panic!("{report:?}") };
        assert_eq!(outcome.summary, "112e");
    }
}

#[tokio::test]
async fn a_run_beyond_the_slots_is_the_agents_fault() {
    let network = net::Network::new(net::Settings::default()).unwrap();
    let sandbox = Sandbox::new(Settings { slots: 1, ..Settings::default() }, network).unwrap();
    let slow = sandbox.load(&Guest { run: LOOP, ..Guest::default() }.component()).await.unwrap();
    let quick = sandbox.load(&Guest::default().component()).await.unwrap();
    let (first, second) = tokio::join!(
        sandbox.run(&slow, job(json!({}), Duration::from_millis(50))),
        sandbox.run(&quick, job(json!({}), Duration::from_secs(5)))
    );
    check(&first, &Fault::Wall);
    check(&second, &Fault::Exhausted);
    // The slot is free again, also after a run that was cut off.
    let third = sandbox.run(&quick, job(json!({}), Duration::from_secs(5))).await;
    assert!(matches!(third.verdict, Verdict::Outcome(_)), "{third:?}");
}

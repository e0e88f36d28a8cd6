//! G6: calls of the host without end, whatever each of them costs. A run has a number of calls and a time on the processor, and
//! whatever is done for it counts.

use std::time::Duration;

use picket_hostile::{Guest, HEAP, SCRATCH, job};
use sandbox::{Fault, Job, Report, Secrets, Verdict};
use serde_json::json;

use crate::{check, load, run};

/// A guest that writes to its standard output.
fn printing(run: &str) -> Guest<'_> {
    Guest {
        world: "import wasi:cli/stdout@0.2.12;",
        imports: r#"
            (import "wasi:cli/stdout@0.2.12" "get-stdout" (func $stdout (result i32)))
            (import "wasi:io/streams@0.2.12" "[method]output-stream.check-write" (func $room (param i32 i32)))
            (import "wasi:io/streams@0.2.12" "[method]output-stream.write" (func $write (param i32 i32 i32 i32)))
            (import "wasi:io/streams@0.2.12" "[method]output-stream.blocking-write-and-flush"
              (func $print (param i32 i32 i32 i32)))
            (import "wasi:io/streams@0.2.12" "[method]output-stream.write-zeroes" (func $zeroes (param i32 i64 i32)))
            (import "wasi:io/streams@0.2.12" "[method]output-stream.blocking-write-zeroes-and-flush"
              (func $print_zeroes (param i32 i64 i32)))"#,
        run,
        ..Guest::default()
    }
}

#[track_caller]
fn little_was_kept(report: &Report) {
    let bytes: usize = report.log.iter().map(|(_, text)| text.len()).sum();
    assert!(
        bytes <= (16 << 10) + 64 && report.log.len() <= (16 << 10) + 1,
        "{bytes} in {}",
        report.log.len()
    );
}

#[tokio::test]
async fn a_flood_of_empty_writes_ends_at_its_budget() {
    // GHSA-5m8g-xhq4-4h93: what is empty costs nothing but is kept.
    for write in [
        "(call $room (local.get $out) (i32.const 256)) (call $write (local.get $out) (i32.const 0) (i32.const 0) (i32.const 256))",
        "(call $print (local.get $out) (i32.const 0) (i32.const 0) (i32.const 256))",
    ] {
        let run_ =
            format!("(local $out i32) (local.set $out (call $stdout)) (loop $more {write} (br $more))");
        let report = run(printing(&run_)).await;
        check(&report, &Fault::Calls);
        little_was_kept(&report);
    }
}

#[tokio::test]
async fn a_flood_of_printed_text_ends_at_its_budget() {
    let run_ = "(local $out i32) (local.set $out (call $stdout))
        (loop $more (call $print (local.get $out) (i32.const 0) (i32.const 4096) (i32.const 256)) (br $more))";
    let report = run(printing(run_)).await;
    assert!(matches!(report.verdict, Verdict::Fault(Fault::Calls | Fault::Cpu)), "{report:?}");
    little_was_kept(&report);
}

#[tokio::test]
async fn a_write_of_more_than_there_is_room_for_ends_the_run() {
    for write in [
        "(call $write (local.get $out) (i32.const 0) (i32.const 100000) (i32.const 256))",
        "(call $zeroes (local.get $out) (i64.const 1099511627776) (i32.const 256))",
        "(call $print_zeroes (local.get $out) (i64.const -1) (i32.const 256))",
    ] {
        let run_ = format!("(local $out i32) (local.set $out (call $stdout)) {write} {write}");
        let report = run(printing(&run_)).await;
        assert!(matches!(report.verdict, Verdict::Fault(_)), "{write}: {report:?}");
        little_was_kept(&report);
    }
}

#[tokio::test]
async fn a_request_for_a_terabyte_of_randomness_ends_the_run() {
    let imports = r#"(import "wasi:random/random@0.2.12" "get-random-bytes" (func $random (param i64 i32)))"#;
    for length in ["1099511627776", "-1", "65537"] {
        let run_ = format!("(call $random (i64.const {length}) (i32.const 256))");
        let guest =
            Guest { world: "import wasi:random/random@0.2.12;", imports, run: &run_, ..Guest::default() };
        let report = run(guest).await;
        assert!(matches!(report.verdict, Verdict::Fault(_)), "{length}: {report:?}");
        assert!(report.spent.memory < 1 << 20, "{report:?}");
    }
}

/// A guest that polls.
fn polling(run: &str) -> Guest<'_> {
    Guest {
        world: "import wasi:io/poll@0.2.12; import wasi:clocks/monotonic-clock@0.2.12;",
        imports: r#"
            (import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration" (func $timer (param i64) (result i32)))
            (import "wasi:io/poll@0.2.12" "poll" (func $poll (param i32 i32 i32)))
            (import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))
            (import "wasi:io/poll@0.2.12" "[resource-drop]pollable" (func $drop (param i32)))"#,
        run,
        pages: 700,
        ..Guest::default()
    }
}

#[tokio::test]
async fn a_poll_of_nothing_or_of_a_million_timers_ends_the_run() {
    let nothing = "(call $poll (i32.const 0) (i32.const 0) (i32.const 256))";
    check(&run(polling(nothing)).await, &Fault::Output(String::new()));
    let million = format!(
        "(local $at i32) (local $timer i32)
         (local.set $timer (call $timer (i64.const 3600000000000)))
         (local.set $at (i32.const {HEAP}))
         (loop $more
           (i32.store (local.get $at) (local.get $timer))
           (local.set $at (i32.add (local.get $at) (i32.const 4)))
           (br_if $more (i32.lt_u (local.get $at) (i32.const 4065536))))
         (call $poll (i32.const {HEAP}) (i32.const 1000000) (i32.const 256))"
    );
    check(&run(polling(&million)).await, &Fault::Output(String::new()));
}

#[tokio::test]
async fn a_flood_of_polls_of_many_timers_ends() {
    // A thousand timers in each of ten thousand polls: the host looks at ten million of them if nobody counts.
    let run_ = format!(
        "(local $at i32)
         (local.set $at (i32.const {HEAP}))
         (loop $make
           (i32.store (local.get $at) (call $timer (i64.const 0)))
           (local.set $at (i32.add (local.get $at) (i32.const 4)))
           (br_if $make (i32.lt_u (local.get $at) (i32.const {end}))))
         (loop $more (call $poll (i32.const {HEAP}) (i32.const 900) (i32.const 256)) (br $more))",
        end = HEAP + 4 * 900,
    );
    let report = run(polling(&run_)).await;
    assert!(
        matches!(report.verdict, Verdict::Fault(Fault::Calls | Fault::Cpu | Fault::Wall | Fault::Memory)),
        "{report:?}"
    );
    assert!(report.duration < Duration::from_secs(20), "{report:?}");
}

#[tokio::test]
async fn a_flood_of_naps_ends_at_its_budget() {
    let run_ = "(local $timer i32) (loop $more
        (local.set $timer (call $timer (i64.const 0)))
        (call $block (local.get $timer))
        (call $drop (local.get $timer))
        (br $more))";
    let report = run(polling(run_)).await;
    assert!(matches!(report.verdict, Verdict::Fault(Fault::Calls | Fault::Cpu | Fault::Wall)), "{report:?}");
}

#[tokio::test]
async fn work_that_the_host_does_for_a_guest_is_the_guests_computing() {
    let imports = r#"
        (import "picket:net/secrets@0.1.0" "get" (func $get (param i32 i32 i32)))
        (import "picket:net/secrets@0.1.0" "[method]secret.hmac-sha256" (func $hmac (param i32 i32 i32 i32)))
        (import "picket:net/secrets@0.1.0" "[method]secret.scram-sha256"
          (func $scram (param i32 i32 i32 i32 i32 i32 i32 i32)))"#;
    let server = "r=abcdefgh,s=c2FsdHNhbHQ=,i=100000";
    let items = format!(
        "(data (i32.const {SCRATCH}) \"token\") (data (i32.const {}) \"n=,r=abcd\") (data (i32.const {}) \"{server}\") (data (i32.const {}) \"biws\")",
        SCRATCH + 16,
        SCRATCH + 32,
        SCRATCH + 96,
    );
    let get = format!(
        "(call $get (i32.const {SCRATCH}) (i32.const 5) (i32.const {answer}))
         (if (i32.load8_u (i32.const {answer})) (then (unreachable)))",
        answer = SCRATCH + 128,
    );
    let handle = format!("(i32.load (i32.const {}))", SCRATCH + 132);
    for work in [
        format!("(call $hmac {handle} (i32.const {HEAP}) (i32.const 1000000) (i32.const {}))", SCRATCH + 160),
        format!(
            "(call $scram {handle} (i32.const {}) (i32.const 9) (i32.const {}) (i32.const {}) (i32.const {}) (i32.const 4) (i32.const {}))",
            SCRATCH + 16,
            SCRATCH + 32,
            server.len(),
            SCRATCH + 96,
            SCRATCH + 160,
        ),
    ] {
        // What the host brings is forgotten at once, so that memory is not what ends it.
        let run_ = format!("{get} (loop $more {work} (global.set $free (i32.const 40000000)) (br $more))");
        let (sandbox, plugin) =
            load(Guest { imports, items: &items, run: &run_, pages: 700, ..Guest::default() }).await;
        let mut secrets = Secrets::new();
        secrets.insert("token", b"hunter22".to_vec());
        let job = Job { secrets, ..job(json!({}), Duration::from_secs(20)) };
        let report = sandbox.run(&plugin, job).await;
        check(&report, &Fault::Cpu);
        assert!(report.spent.cpu >= Duration::from_secs(2), "{report:?}");
    }
}

//! G1: code that does not end, in every place where a component's code runs, and instructions that take long by themselves.

use std::time::{Duration, Instant};

use picket_hostile::{Guest, job};
use sandbox::{Fault, LoadError};
use serde_json::json;

use crate::{LOOP, check, load, run, sandbox};

/// Ends as a run that computed too long, and not much later than that.
async fn computes_for_ever(guest: Guest<'_>) {
    let started = Instant::now();
    let report = run(guest).await;
    check(&report, &Fault::Cpu);
    // Two seconds of computing, five of deadline and half a one of grace; more is a stretch that nobody interrupted.
    assert!(started.elapsed() < Duration::from_secs(20), "{report:?}");
}

#[tokio::test]
async fn an_endless_loop_in_cabi_realloc_ends() {
    computes_for_ever(Guest { realloc: LOOP, ..Guest::default() }).await;
}

#[tokio::test]
async fn an_endless_loop_behind_the_answer_ends() {
    let items = format!(r#"(func (export "cabi_post_picket:check/checker@0.1.0#run") (param i32) {LOOP})"#);
    computes_for_ever(Guest { items: &items, ..Guest::default() }).await;
}

#[tokio::test]
async fn an_endless_loop_in_a_validator_is_a_fault_and_no_run() {
    let items = format!(
        r#"(func (export "picket:check/validator@0.1.0#validate") (param i32 i32) (result i32) {LOOP} (i32.const 0))"#
    );
    let guest = Guest { world: "export picket:check/validator@0.1.0;", items: &items, ..Guest::default() };
    let (_sandbox, plugin) = load(guest).await;
    let fault = plugin.validate(&json!({})).await.unwrap_err();
    assert!(matches!(fault, Fault::Cpu | Fault::Wall), "{fault}");
}

#[tokio::test]
async fn filling_and_copying_memory_for_ever_ends() {
    for bulk in [
        "(memory.fill (i32.const 0) (i32.const 1) (i32.const 50331648))",
        "(memory.copy (i32.const 1) (i32.const 0) (i32.const 50331647))",
        "(memory.copy (i32.const 0) (i32.const 1) (i32.const 50331647))",
    ] {
        let run = format!("(loop $more {bulk} (br $more))");
        computes_for_ever(Guest { run: &run, pages: 768, ..Guest::default() }).await;
    }
}

#[tokio::test]
async fn filling_and_copying_tables_for_ever_ends() {
    let items = "(table $t 16000 funcref) (elem $e func $nothing) (func $nothing)";
    for bulk in [
        "(table.fill $t (i32.const 0) (ref.func $nothing) (i32.const 16000))",
        "(table.copy $t $t (i32.const 1) (i32.const 0) (i32.const 15999))",
        "(table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1))",
    ] {
        let run = format!("(loop $more {bulk} (br $more))");
        computes_for_ever(Guest { items, run: &run, ..Guest::default() }).await;
    }
}

#[tokio::test]
async fn endless_tail_calls_are_a_loop_and_no_recursion() {
    let items = "(func $ping (return_call $pong)) (func $pong (return_call $ping))";
    computes_for_ever(Guest { items, run: "(call $ping)", ..Guest::default() }).await;
}

#[tokio::test]
async fn a_loop_through_a_table_of_functions_ends() {
    let items = "(table $t funcref (elem $turn)) (func $turn)";
    let run = "(loop $more (call_indirect $t (i32.const 0)) (br $more))";
    computes_for_ever(Guest { items, run, ..Guest::default() }).await;
}

#[tokio::test]
async fn a_start_function_that_fills_memory_for_ever_never_becomes_a_plugin() {
    let items = "(func $spin (loop $more (memory.fill (i32.const 0) (i32.const 1) (i32.const 50331648)) (br $more))) (start $spin)";
    let guest = Guest { items, pages: 768, ..Guest::default() };
    let error = sandbox().load(&guest.component()).await.unwrap_err();
    assert!(matches!(error, LoadError::Describe(Fault::Cpu | Fault::Wall)), "{error}");
}

#[tokio::test]
async fn a_loop_in_a_later_attempt_ends_like_one_in_the_first() {
    // Nothing that a run leaves behind lets the next one compute longer.
    let (sandbox, plugin) = load(Guest { run: LOOP, ..Guest::default() }).await;
    for attempt in 1..=3 {
        let mut job = job(json!({}), Duration::from_millis(50));
        job.attempt = attempt;
        let report = sandbox.run(&plugin, job).await;
        check(&report, &Fault::Wall);
        assert!(report.duration < Duration::from_secs(5), "{report:?}");
    }
}

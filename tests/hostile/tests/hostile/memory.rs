//! G2, G4: memory, tables, instances and recursion beyond what a run may have.

use picket_hostile::{Guest, crowded};
use sandbox::{Fault, LoadError, Report, Verdict};

use crate::{check, run, sandbox};

/// What a run may have, with what lies beside it.
const MOST: usize = 64 << 20;

#[track_caller]
fn within(report: &Report) {
    assert!(report.spent.memory <= MOST, "{report:?}");
}

/// The component is no plugin, and the sandbox says why.
async fn never_a_plugin(guest: Guest<'_>) -> LoadError {
    sandbox().load(&guest.component()).await.unwrap_err()
}

#[tokio::test]
async fn memory_that_grows_in_cabi_realloc_ends_at_its_limit() {
    let report = run(Guest {
        realloc: "(loop $more (drop (memory.grow (i32.const 16))) (br $more))",
        ..Guest::default()
    })
    .await;
    check(&report, &Fault::Memory);
    within(&report);
}

#[tokio::test]
async fn memory_that_grows_page_by_page_ends_at_its_limit() {
    let report =
        run(Guest { run: "(loop $more (drop (memory.grow (i32.const 1))) (br $more))", ..Guest::default() })
            .await;
    check(&report, &Fault::Memory);
    within(&report);
}

#[tokio::test]
async fn a_table_that_grows_entry_by_entry_ends_at_its_limit() {
    let items = "(table $t 1 funcref)";
    let run_ = "(loop $more (drop (table.grow $t (ref.null func) (i32.const 7))) (br $more))";
    check(&run(Guest { items, run: run_, ..Guest::default() }).await, &Fault::Memory);
}

#[tokio::test]
async fn a_second_table_never_becomes_a_plugin() {
    let error =
        never_a_plugin(Guest { items: "(table 1 funcref) (table 1 funcref)", ..Guest::default() }).await;
    assert!(matches!(error, LoadError::Compile(_)), "{error}");
}

#[tokio::test]
async fn a_table_that_begins_beyond_its_limit_never_becomes_a_plugin() {
    let error = never_a_plugin(Guest { items: "(table $t 10000000 funcref)", ..Guest::default() }).await;
    let said = error.to_string();
    assert!(
        matches!(error, LoadError::Contract(_) | LoadError::Describe(_) | LoadError::Compile(_)),
        "{said}"
    );
}

#[tokio::test]
async fn a_second_memory_never_becomes_a_plugin() {
    let error = never_a_plugin(Guest { items: "(memory $second 1)", ..Guest::default() }).await;
    assert!(!error.to_string().is_empty());
    assert!(
        matches!(error, LoadError::Compile(_) | LoadError::Contract(_) | LoadError::Describe(_)),
        "{error}"
    );
}

#[tokio::test]
async fn shared_memory_and_collected_objects_are_not_compiled() {
    for items in [
        "(memory $shared 1 1 shared)",
        "(type $pair (struct (field i64) (field i64))) (func $make (drop (struct.new_default $pair)))",
        "(type $row (array (mut i64))) (func $make (drop (array.new_default $row (i32.const 100000000))))",
    ] {
        let guest = Guest { items, ..Guest::default() };
        let Ok(component) = guest.try_component() else {
            // Not even the tool that makes components of modules takes it.
            continue;
        };
        let error = sandbox().load(&component).await.unwrap_err();
        assert!(matches!(error, LoadError::Compile(_)), "{items}: {error}");
    }
}

#[tokio::test]
async fn a_crowd_of_instances_never_becomes_a_plugin() {
    for instances in [30, 1000] {
        let component = crowded(&Guest::default().component(), instances);
        let error = sandbox().load(&component).await.unwrap_err();
        let said = error.to_string();
        assert!(
            matches!(error, LoadError::Contract(_) | LoadError::Describe(_) | LoadError::Compile(_)),
            "{instances}: {said}"
        );
    }
}

#[tokio::test]
async fn what_a_bomb_took_is_there_for_the_next_run() {
    let sandbox = sandbox();
    let bomb = Guest {
        run: "(drop (memory.grow (i32.const 900))) (memory.fill (i32.const 0) (i32.const 7) (i32.const 58000000)) (unreachable)",
        ..Guest::default()
    };
    let bomb = sandbox.load(&bomb.component()).await.unwrap();
    // Looks at every word of its memory: what another run wrote would be there.
    let look = Guest {
        run: "(local $at i32)
            (local.set $at (i32.const 131072))
            (drop (memory.grow (i32.const 900)))
            (loop $more
              (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (unreachable)))
              (local.set $at (i32.add (local.get $at) (i32.const 8)))
              (br_if $more (i32.lt_u (local.get $at) (i32.const 58000000))))",
        ..Guest::default()
    };
    let look = sandbox.load(&look.component()).await.unwrap();
    for _ in 0..5 {
        let job = || picket_hostile::job(serde_json::json!({}), std::time::Duration::from_secs(5));
        check(&sandbox.run(&bomb, job()).await, &Fault::Trap("unreachable".into()));
        let report = sandbox.run(&look, job()).await;
        assert!(matches!(report.verdict, Verdict::Outcome(_)), "{report:?}");
    }
}

#[tokio::test]
async fn recursion_of_every_kind_is_a_trap() {
    let wide = format!(
        "(func $wide (param i64) (result i64) {} (i64.add (call $wide (local.get 0)) (local.get 400)))",
        "(local i64)".repeat(500)
    );
    for (items, dive) in [
        (
            "(func $odd (param i64) (result i64) (i64.add (call $even (local.get 0)) (i64.const 1)))
             (func $even (param i64) (result i64) (i64.add (call $odd (local.get 0)) (i64.const 1)))",
            "(drop (call $odd (i64.const 1)))",
        ),
        (
            "(type $f (func (param i64) (result i64)))
             (table $t funcref (elem $deep))
             (func $deep (type $f) (i64.add (call_indirect $t (type $f) (local.get 0) (i32.const 0)) (i64.const 1)))",
            "(drop (call $deep (i64.const 1)))",
        ),
        (wide.as_str(), "(drop (call $wide (i64.const 1)))"),
    ] {
        check(&run(Guest { items, run: dive, ..Guest::default() }).await, &Fault::Trap("stack".into()));
    }
}

#[tokio::test]
async fn recursion_in_cabi_realloc_is_a_trap() {
    let items = "(func $deep (param i64) (result i64) (i64.add (call $deep (local.get 0)) (i64.const 1)))";
    let guest = Guest { items, realloc: "(drop (call $deep (i64.const 1)))", ..Guest::default() };
    check(&run(guest).await, &Fault::Trap("stack".into()));
}

#[tokio::test]
async fn recursion_in_a_start_function_never_becomes_a_plugin() {
    let items = "(func $deep (param i64) (result i64) (i64.add (call $deep (local.get 0)) (i64.const 1)))
        (func $begin (drop (call $deep (i64.const 1)))) (start $begin)";
    let error = never_a_plugin(Guest { items, ..Guest::default() }).await;
    assert!(matches!(&error, LoadError::Describe(Fault::Trap(said)) if said.contains("stack")), "{error}");
}

#[tokio::test]
async fn the_host_is_not_entered_again_from_cabi_realloc() {
    let imports = crate::LOG;
    let realloc = "(call $log (i32.const 1) (i32.const 1024) (i32.const 4))";
    let report = run(Guest { imports, realloc, ..Guest::default() }).await;
    check(&report, &Fault::Trap("cannot leave component instance".into()));
    assert!(report.log.is_empty(), "{report:?}");
}

#[tokio::test]
async fn a_call_that_brings_its_answer_to_an_exhausted_memory_is_a_fault() {
    // The guest has all of its memory already when the host asks for room for an answer.
    let imports = r#"(import "picket:net/secrets@0.1.0" "get" (func $get (param i32 i32 i32)))"#;
    let run_ = "(drop (memory.grow (i32.const 1022)))
        (global.set $free (i32.const 67108860))
        (call $get (i32.const 1024) (i32.const 4) (i32.const 256))";
    check(&run(Guest { imports, run: run_, ..Guest::default() }).await, &Fault::Memory);
}

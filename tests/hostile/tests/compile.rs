//! G12: compiling in a child process. This program is both the agent that asks and, with the word "child", the child.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use picket_hostile::{Guest, job};
use sandbox::{CompileBudget, Compiler, LoadError, Sandbox, Settings, Verdict};

fn main() {
    if std::env::args().nth(1).as_deref() == Some("child") {
        std::process::exit(sandbox::compile_child());
    }
    let mut arguments = Arguments::from_args();
    // One of them measures how late others are.
    arguments.test_threads = Some(1);
    let trials = vec![
        trial("a_component_is_compiled_in_a_child_and_kept", a_component_is_compiled_in_a_child_and_kept),
        trial("a_component_that_does_not_validate_is_refused", a_component_that_does_not_validate_is_refused),
        trial("a_compiler_that_cannot_be_run_is_told_apart", a_compiler_that_cannot_be_run_is_told_apart),
        trial("a_compiler_that_is_killed_is_over_its_budget", a_compiler_that_is_killed_is_over_its_budget),
        trial(
            "a_bomb_ends_with_its_budget_and_is_not_tried_again",
            a_bomb_ends_with_its_budget_and_is_not_tried_again,
        ),
        trial("a_bomb_of_memory_ends_with_its_budget", a_bomb_of_memory_ends_with_its_budget),
    ];
    libtest_mimic::run(&arguments, trials).exit()
}

fn trial<F: Future<Output = ()> + 'static>(name: &str, test: fn() -> F) -> Trial {
    Trial::test(name, move || {
        tokio::runtime::Runtime::new().expect("a runtime").block_on(test());
        Ok(())
    })
}

fn sandbox(compiler: Compiler, cache: Option<&std::path::Path>) -> Sandbox {
    held(compiler, cache, CompileBudget::default())
}

fn held(compiler: Compiler, cache: Option<&std::path::Path>, compile_budget: CompileBudget) -> Sandbox {
    let network = net::Network::new(net::Settings::default()).expect("a network");
    let cache = cache.map(Into::into);
    let settings = Settings { compiler, cache, compile_budget, slots: 4, ..Settings::default() };
    Sandbox::new(settings, network).expect("a sandbox")
}

fn child() -> Compiler {
    let program = std::env::current_exe().expect("this program has a path");
    Compiler::Child { program, args: vec!["child".to_owned()] }
}

fn shell(script: &str) -> Compiler {
    Compiler::Child { program: "/bin/sh".into(), args: vec!["-c".to_owned(), script.to_owned()] }
}

async fn a_component_is_compiled_in_a_child_and_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let component = Guest::default().component();
    let first = sandbox(child(), Some(dir.path()));
    assert_eq!(first.load(&component).await.expect("it loads").description.name, "guest");
    // A second agent on the same directory needs no compiler any more.
    let second = sandbox(shell("exit 1"), Some(dir.path()));
    assert_eq!(second.load(&component).await.expect("it is in the cache").description.name, "guest");
    // A changed file is not run, but compiled again.
    let file = std::fs::read_dir(dir.path())
        .expect("the directory is there")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "cwasm"))
        .expect("the artifact was kept");
    let mut bytes = std::fs::read(&file).expect("it can be read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).expect("it can be changed");
    let third = sandbox(shell("exit 1"), Some(dir.path()));
    assert!(matches!(third.load(&component).await, Err(LoadError::Compiler(_))));
    let fourth = sandbox(child(), Some(dir.path()));
    assert_eq!(fourth.load(&component).await.expect("it is compiled again").description.name, "guest");
}

async fn a_component_that_does_not_validate_is_refused() {
    let sandbox = sandbox(child(), None);
    let mut component = Guest::default().component();
    component.truncate(component.len() / 2);
    let error = sandbox.load(&component).await.expect_err("half a component");
    assert!(matches!(error, LoadError::Compile(_)), "{error}");
    let again = sandbox.load(&component).await.expect_err("it is remembered");
    assert_eq!(error, again);
}

async fn a_compiler_that_cannot_be_run_is_told_apart() {
    let missing = Compiler::Child { program: "/nonexistent/compiler".into(), args: Vec::new() };
    let error = sandbox(missing, None).load(&Guest::default().component()).await.expect_err("no compiler");
    assert!(error.to_string().contains("/nonexistent/compiler"), "{error}");
}

async fn a_compiler_that_is_killed_is_over_its_budget() {
    let started = std::time::Instant::now();
    let error =
        sandbox(shell("kill -9 $$"), None).load(&Guest::default().component()).await.expect_err("killed");
    assert!(matches!(error, LoadError::CompileBudget { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(30));
}

/// What takes long to compile, with its name. The number makes it another component each time, because a refusal is remembered.
fn bombs(number: u32) -> Vec<(&'static str, String)> {
    let repeated = |times: u32, line: &dyn Fn(u32) -> String| (0..times).map(line).collect::<String>();
    let locals = 12_000;
    vec![
        (
            "a function without a branch",
            format!(
                "(func (param i64) (result i64) {} local.get 0)",
                repeated(250_000, &|n| format!("local.get 0 i64.const {n} i64.mul local.get 0 i64.rotl local.set 0 "))
            ),
        ),
        (
            "a function whose values all stay alive",
            format!(
                "(func $f (param i64) (result i64) local.get 0) (func (param i64) (result i64) (local {}) {} i64.const 0 {})",
                "i64 ".repeat(locals as usize),
                repeated(locals, &|n| format!("local.get {n} call $f i64.const {n} i64.add local.set {} ", n + 1)),
                repeated(locals, &|n| format!("local.get {} i64.add ", n + 1)),
            ),
        ),
        (
            "a hundred thousand functions",
            repeated(100_000, &|n| {
                format!("(func (param i32) (result i32) local.get 0 i32.const {n} i32.add i32.const {number} i32.mul) ")
            }),
        ),
        (
            "a nest of loops",
            format!(
                "(func (param i32) {} {} {})",
                "loop ".repeat(6000),
                repeated(6000, &|n| format!("local.get 0 i32.const {n} i32.eq br_if {n} ")),
                "end ".repeat(6000)
            ),
        ),
        (
            "a table of branches to everywhere",
            format!(
                "(func (param i32) {} local.get 0 br_table {} {} )",
                "block ".repeat(8000),
                repeated(60_000, &|n| format!("{} ", n * 7 % 8000)),
                repeated(8000, &|n| format!("end local.get 0 i32.const {n} i32.xor local.set 0 ")),
            ),
        ),
        (
            "vectors",
            format!(
                "(func (param v128) (result v128) {} local.get 0)",
                repeated(120_000, &|n| {
                    let lane = n % 32;
                    format!("local.get 0 local.get 0 i8x16.shuffle {lane} 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 local.get 0 i64x2.mul local.set 0 ")
                })
            ),
        ),
    ]
    .into_iter()
    .map(|(name, items)| (name, format!("{items} (func (result i32) i32.const {number})")))
    .collect()
}

/// Loads, and says how late runs beside it were: the 99th percentile, from when they were due to their end.
async fn load_beside_runs(sandbox: &Sandbox, component: &[u8]) -> (Result<(), LoadError>, Duration) {
    let quiet = sandbox.load(&Guest::default().component()).await.expect("a guest that behaves");
    let loading = {
        let (sandbox, component) = (sandbox.clone(), component.to_vec());
        tokio::spawn(async move { sandbox.load(&component).await.map(drop) })
    };
    let (begun, mut runs) = (Instant::now(), Vec::new());
    for n in 0.. {
        let due = begun + Duration::from_millis(20) * n;
        tokio::time::sleep_until(due.into()).await;
        if n > 10 && loading.is_finished() {
            break;
        }
        let (sandbox, quiet) = (sandbox.clone(), quiet.clone());
        runs.push(tokio::spawn(async move {
            let report = sandbox.run(&quiet, job(serde_json::json!({}), Duration::from_secs(10))).await;
            assert!(matches!(report.verdict, Verdict::Outcome(_)), "{report:?}");
            due.elapsed()
        }));
    }
    let mut late = Vec::new();
    for run in runs {
        late.push(run.await.expect("a run"));
    }
    late.sort();
    (loading.await.expect("a load"), late[late.len() * 99 / 100])
}

#[expect(clippy::print_stdout, reason = "people read the table")]
async fn a_bomb_ends_with_its_budget_and_is_not_tried_again() {
    let budget = CompileBudget { cpu: Duration::from_secs(1), ..CompileBudget::default() };
    let sandbox = held(child(), None, budget);
    let (mut table, mut exploded, mut slow) = (String::new(), 0, Vec::new());
    for bomb in 0..bombs(0).len() {
        let mut best = Duration::MAX;
        // A machine that does something else meanwhile is late by itself, now and then.
        for number in 0..4 {
            let (name, items) = bombs(number).swap_remove(bomb);
            let component = Guest { items: &items, ..Guest::default() }.component();
            let begun = Instant::now();
            let (loaded, late) = load_beside_runs(&sandbox, &component).await;
            let took = begun.elapsed();
            assert!(took < 2 * budget.cpu + Duration::from_secs(20), "{name}: {took:?}");
            match &loaded {
                Err(LoadError::CompileBudget { .. }) => {
                    let again = sandbox.load(&component).await.map(drop);
                    assert_eq!(again, loaded, "{name} is remembered");
                }
                Ok(()) | Err(LoadError::Compile(_)) => {}
                Err(other) => panic!("{name}: {other}"),
            }
            best = best.min(late);
            if best < Duration::from_millis(250) {
                exploded += usize::from(loaded.is_err());
                let _ = writeln!(
                    table,
                    "{:>8.1} ms  {name}: {} after {took:.1?}, {} KiB",
                    best.as_secs_f64() * 1e3,
                    loaded.map_or_else(|error| error.to_string(), |()| "compiled".to_owned()),
                    component.len() >> 10,
                );
                break;
            }
        }
        if best >= Duration::from_millis(250) {
            slow.push((bombs(0)[bomb].0, best));
        }
    }
    println!("How late runs were, 99th percentile, while the child compiled\n{table}");
    assert!(slow.is_empty(), "runs were late while the child compiled: {slow:?}");
    assert!(exploded >= 5, "too few of them are bombs:\n{table}");
}

async fn a_bomb_of_memory_ends_with_its_budget() {
    // Not even the engine of the compiler fits.
    let budget = CompileBudget { memory: 80 << 20, ..CompileBudget::default() };
    let sandbox = held(child(), None, budget);
    let (_, items) = bombs(9).swap_remove(1);
    let error = sandbox
        .load(&Guest { items: &items, ..Guest::default() }.component())
        .await
        .expect_err("it needs more memory");
    assert!(matches!(error, LoadError::CompileBudget { .. } | LoadError::Compiler(_)), "{error}");
}

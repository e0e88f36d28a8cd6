//! Compiling in a child process: this program is both the agent that asks and, with the word "child", the child.

use std::time::Duration;

use picket_hostile::Guest;
use sandbox::{Compiler, LoadError, Sandbox, Settings};

fn main() {
    if std::env::args().nth(1).as_deref() == Some("child") {
        std::process::exit(sandbox::compile_child());
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        a_component_is_compiled_in_a_child_and_kept().await;
        a_component_that_does_not_validate_is_refused().await;
        a_compiler_that_cannot_be_run_is_told_apart().await;
        a_compiler_that_is_killed_is_over_its_budget().await;
    });
}

fn sandbox(compiler: Compiler, cache: Option<&std::path::Path>) -> Sandbox {
    let network = net::Network::new(net::Settings::default()).expect("a network");
    let settings = Settings { compiler, cache: cache.map(Into::into), slots: 4, ..Settings::default() };
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

//! `picket plugin-compile`, hidden: the child process in which the sandbox compiles a component, bounded by the kernel.

use crate::failure::{Failure, exit};

/// The child's body; no runtime is started and nothing is logged.
pub(crate) fn run() -> Result<u8, Failure> {
    #[cfg(feature = "mimalloc")]
    without_reserve()?;
    Ok(u8::try_from(sandbox::compile_child()).unwrap_or(exit::GENERAL))
}

/// mimalloc reserves 1 GiB of addresses before `main`, which is all that the child may have. Only its environment can tell it not to,
/// and the child's is empty: so the process replaces itself once.
#[cfg(feature = "mimalloc")]
fn without_reserve() -> Result<(), Failure> {
    use std::os::unix::process::CommandExt as _;

    const RESERVE: &str = "MIMALLOC_ARENA_RESERVE";
    if std::env::var_os(RESERVE).is_some() {
        return Ok(());
    }
    let failed = |e: std::io::Error| Failure::new(exit::OS, e).context("cannot start the compiler");
    let program = std::env::current_exe().map_err(failed)?;
    Err(failed(std::process::Command::new(program).arg("plugin-compile").env(RESERVE, "0").exec()))
}

/// This program with the hidden subcommand.
pub(crate) fn compiler() -> Result<sandbox::Compiler, Failure> {
    let program = std::env::current_exe()
        .map_err(|e| Failure::new(exit::OS, e).context("cannot find this program's own file"))?;
    Ok(sandbox::Compiler::Child { program, args: vec!["plugin-compile".to_owned()] })
}

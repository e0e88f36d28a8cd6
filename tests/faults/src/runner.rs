//! Makes a test program of rows: each a test; at the end a table of what was counted. What a row is stands in `row`.
//!
//! `PICKET_SOAK=1` runs them whole, `ROW=P1,N11` only those, `SEED=7` with that seed.

use std::process::ExitCode;

use libtest_mimic::Arguments;

use crate::row::{Row, Summary};
use crate::rows;

/// Runs the rows that `which` wants, so many at a time unless the command line says how many.
///
/// # Panics
/// When `SEED` is no whole number.
pub fn run(program: &str, at_once: usize, which: impl Fn(&Row) -> bool) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(at_once);
    let soak = std::env::var_os("PICKET_SOAK").is_some_and(|v| !v.is_empty() && v != "0");
    let seed = match std::env::var("SEED") {
        Ok(text) if !text.is_empty() => text.parse().expect("SEED is a whole number"),
        _ => u64::from(rand::random::<u32>()),
    };
    let wanted = std::env::var("ROW").unwrap_or_default();
    let wanted: Vec<&str> = wanted.split(',').filter(|id| !id.is_empty()).collect();
    let summary = Summary::default();
    let trials: Vec<_> = rows::all()
        .into_iter()
        .filter(|row| which(row) && (soak || row.short > 0))
        .filter(|row| wanted.is_empty() || row.id.split(' ').any(|id| wanted.contains(&id)))
        .map(|row| row.trial(soak, seed, &summary))
        .filter(|trial| !arguments.is_filtered_out(trial))
        .collect();
    summary.expect(program, trials.len());
    libtest_mimic::run(&arguments, trials).exit_code()
}

//! Runs the rows: each a test, the longest first, few at a time; at the end a table of what was counted.
//!
//! `PICKET_SOAK=1` runs them whole, `ROW=P1,N11` only those, `SEED=7` with that seed.

use std::process::ExitCode;

use libtest_mimic::Arguments;
use picket_faults::row::Summary;
use picket_faults::rows;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // More would make each other late, and lateness is one of the things that are measured.
    arguments.test_threads.get_or_insert(3);
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
        .filter(|row| soak || row.short > 0)
        .filter(|row| wanted.is_empty() || row.id.split(' ').any(|id| wanted.contains(&id)))
        .map(|row| row.trial(soak, seed, &summary))
        .filter(|trial| !arguments.is_filtered_out(trial))
        .collect();
    summary.expect(trials.len());
    libtest_mimic::run(&arguments, trials).exit_code()
}

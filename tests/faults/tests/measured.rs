//! The rows that measure how quick something is, one after the other: `scripts/test` runs nothing else meanwhile.

use std::process::ExitCode;

fn main() -> ExitCode {
    picket_faults::runner::run("measured", 1, |row| row.alone)
}

//! Every row but those that measure, the longest first, few at a time.

use std::process::ExitCode;

fn main() -> ExitCode {
    // More would make each other late: agents give up what takes too long.
    picket_faults::runner::run("faults", 4, |row| !row.alone)
}

//! What Picket costs, as ratios: against the same probe written by hand (`native`), against blackbox_exporter, and against the targets
//! that it was designed for. `make bench` prints the table.
//!
//! Every figure of a [`Row`](row::Row) is taken in the same minutes on the same machine, the ways in turn; what travels to another
//! machine is a ratio, not a figure. A probing process is charged its user and system time, nobody else's.
//!
//! ```text
//! rows.rs      the table of rows with their targets
//! probe/       a process that makes probes one way: by hand, or through the sandbox
//! blackbox.rs  blackbox_exporter, and whoever asks it
//! agent.rs     a whole agent with many monitors: memory, lateness
//! disk.rs      the spool: recorded a second, opening again
//! control.rs   the control plane: taken in a second, a page of history
//! drain.rs     what waited, over a slow link
//! row.rs       figures, targets, whether they are met
//! report.rs    the table, and the same as JSON
//! ```

mod agent;
mod blackbox;
mod control;
mod cpu;
mod disk;
mod drain;
mod probe;
mod report;
mod row;
mod rows;

use std::process::ExitCode;

use clap::Parser;

/// Measure Picket against blackbox_exporter and a native floor
///
/// Takes about ten minutes. Leave the machine alone meanwhile; what others used of it is printed.
#[derive(Parser)]
#[command(name = "bench")]
struct Args {
    /// Only rows whose name contains one of these
    rows: Vec<String>,
    /// Print the rows and their targets, measure nothing
    #[arg(long)]
    list: bool,
    /// Times that each way is measured; the median is printed
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// Measures what the command line asks for. 0: measured, whether or not the targets are met; 1: something could not be measured.
pub fn main() -> ExitCode {
    // The children that this starts are this program again.
    if let Some(order) = std::env::var_os(probe::ORDER) {
        return probe::child(&order);
    }
    if let Some(directory) = std::env::var_os(disk::FILL) {
        return disk::child(directory.as_ref());
    }
    let args = Args::parse();
    let wanted = |name: &str| args.rows.is_empty() || args.rows.iter().any(|part| name.contains(part));
    let rows: Vec<_> = rows::all().into_iter().filter(|row| wanted(row.name)).collect();
    if args.list {
        rows.iter().for_each(report::listed);
        return ExitCode::SUCCESS;
    }
    if rows.is_empty() {
        eprintln!("bench: no row is called {}; --list prints them", args.rows.join(" or "));
        return ExitCode::from(2);
    }
    let effort = row::Effort { rounds: args.rounds, seconds: args.seconds };
    let mut failed = false;
    let mut measured = Vec::new();
    for row in rows {
        eprintln!("bench: {}", row.name);
        match (row.run)(&effort) {
            Ok(figures) => measured.push((row, figures)),
            Err(error) => {
                failed = true;
                eprintln!("bench: {} could not be measured: {error:#}", row.name);
            }
        }
    }
    match args.json {
        true => report::json(&measured),
        false => report::table(&measured),
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

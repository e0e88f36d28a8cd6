//! The real binary as a person runs it: processes in a directory of their own, on free ports, ended by their pid.
//!
//! Owns starting, waiting and ending. What is expected stands in the tests.

mod compiled;
pub mod field;
pub mod hook;
pub mod oracle;
pub mod process;
pub mod web;

pub use field::Field;
pub use process::{Finished, Process, pause, until};

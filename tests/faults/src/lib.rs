//! Faults against the real binary: kill, cut, forge, fill, damage, bend the clock, and count what is lost. It should be nothing.
//!
//! A [`Row`] is a row of the table in README.md, run in a short form by `make test` and whole by `make soak`. Its rows stand in
//! `rows`, one file a family. What they work with: a fault [`proxy`] between agent and control plane, a [`target`] that keeps its own
//! account of what was checked, a [`device`] that speaks as an agent and lies where it is told to, and the [`oracle`] that compares
//! the accounts afterwards. Every line that a row prints tells the seed and the commit; a row that fails keeps its directory.

pub mod busy;
pub mod damage;
pub mod device;
pub mod fill;
pub mod forger;
pub mod golden;
pub mod http;
pub mod image;
pub mod lanes;
pub mod loopdisk;
pub mod namespace;
pub mod oracle;
pub mod pagemodel;
pub mod preload;
pub mod proxy;
pub mod row;
pub mod rows;
pub mod runner;
pub mod stage;
pub mod target;
pub mod trace;
mod wrap;

pub use picket_e2e::{Finished, Process, pause, until};
pub use row::{Row, Run, Tally};
pub use stage::Stage;
pub(crate) use wrap::wrap;

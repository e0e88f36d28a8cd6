//! Cases of the checks: reading them, the servers that they name, and one run of one case. The harness in `tests/` finds the
//! files and reports; what a case may say stands in this folder's README.

mod again;
mod bench;
mod case;
mod databases;
mod led;
mod servers;

pub use again::{Again, Effort};
pub use bench::Bench;
pub use case::{Case, Expect, State, Table};
pub use servers::Fleet;

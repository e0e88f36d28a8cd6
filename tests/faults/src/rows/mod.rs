//! The rows, one file a family.

use crate::Row;

mod process;
mod token;

/// All rows, the longest first, so that none of them is alone at the end.
pub fn all() -> Vec<Row> {
    [process::ROWS, token::ROWS].concat()
}

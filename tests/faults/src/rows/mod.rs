//! The rows, one file a family.

use crate::Row;

mod damage;
mod disk;
mod process;
mod token;

/// All rows, the longest first, so that none of them is alone at the end.
pub fn all() -> Vec<Row> {
    [damage::ROWS, disk::ROWS, process::ROWS, token::ROWS].concat()
}

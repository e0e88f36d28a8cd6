//! The postgres check.

//! The dns check.

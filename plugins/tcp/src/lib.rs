//! The tcp check.

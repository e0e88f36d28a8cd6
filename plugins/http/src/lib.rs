//! The http check.

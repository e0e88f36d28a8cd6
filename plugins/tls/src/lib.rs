//! The tls check.

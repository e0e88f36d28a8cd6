//! picket-spool

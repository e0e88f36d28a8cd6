//! picket-control

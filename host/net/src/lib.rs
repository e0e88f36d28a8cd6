//! picket-net

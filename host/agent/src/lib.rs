//! picket-agent

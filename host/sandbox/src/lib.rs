//! picket-sandbox

//! A command under another one: strace, prlimit, unshare, env. What the other takes for itself stands before.

use std::process::Command;

/// Lets `outer` start `inner`: with its arguments, and in its environment beside what `outer` was given.
pub(crate) fn wrap(mut outer: Command, inner: &Command) -> Command {
    outer.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

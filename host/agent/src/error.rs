//! Why the agent ends, and with which exit status.

use std::path::PathBuf;

/// What ends the agent. Everything else is retried or becomes a result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings contradict themselves.
    #[error("{0}")]
    Usage(String),
    /// There is neither an identity nor a setup token.
    #[error(
        "{} holds no identity: set PICKET_SETUP_TOKEN or PICKET_SETUP_TOKEN_FILE to the token that `picket agents create` printed",
        .0.display()
    )]
    NoIdentity(PathBuf),
    /// The identity belongs to something else, is damaged, or was written by a newer version.
    #[error("{}: {problem}", path.display())]
    Damaged {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The control plane refuses the setup token for good.
    #[error("{control} refuses the setup token: {detail}")]
    Refused {
        /// Its address.
        control: String,
        /// In its words.
        detail: String,
    },
    /// Told to stop before the enrolment got an answer.
    #[error("not enrolled: {reason}")]
    NotEnrolled {
        /// Why the last attempt failed.
        reason: String,
    },
    /// Another process has the data directory.
    #[error("{} is in use by another agent{}", path.display(), pid.map(|p| format!(" (process {p})")).unwrap_or_default())]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// Who, when it is known.
        pid: Option<u32>,
    },
    /// The data directory cannot be written.
    #[error("cannot write to {}: {remedy}", path.display())]
    NotWritable {
        /// The data directory or what in it.
        path: PathBuf,
        /// The line that helps.
        remedy: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data directory is another user's.
    #[error("{} belongs to user {owner}, and this agent runs as user {user}: run `chown -R {user} {}` or run it as user {owner}", path.display(), path.display())]
    NotOwned {
        /// The data directory.
        path: PathBuf,
        /// Its owner's uid.
        owner: u32,
        /// Our effective uid.
        user: u32,
    },
    /// There is no spool to look at.
    #[error("{} holds no spool: give --data the data directory of an agent that has run", .0.display())]
    NoSpool(PathBuf),
    /// A part could not be started.
    #[error("cannot start the {part}")]
    Start {
        /// Which.
        part: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The spool's database hangs on a disk that works.
    #[error(
        "the spool's database has not answered for {seconds} s although its disk does: a new start opens it again"
    )]
    Stuck {
        /// For how long.
        seconds: u64,
    },
    /// A part ended although nobody told it to.
    #[error("the {part} ended by itself")]
    Stopped {
        /// Which.
        part: &'static str,
    },
    /// A part panicked again and again.
    #[error("the {part} panicked {times} times within {} s", within.as_secs())]
    Panicked {
        /// Which.
        part: &'static str,
        /// How often.
        times: usize,
        /// Within which time.
        within: std::time::Duration,
    },
}

impl Error {
    /// What lies in `path` has a format that only later versions read.
    pub(crate) fn newer(path: PathBuf, format: impl std::fmt::Display) -> Self {
        let (known, version) = (crate::slots::FORMAT, env!("CARGO_PKG_VERSION"));
        let problem = format!(
            "written by a newer version of picket, in format {format}; this is {version}, which reads up to {known}, and it has \
             changed nothing: run the version that wrote it, or a later one"
        );
        Self::Damaged { path, problem }
    }

    /// The exit status, after `sysexits.h`: 64 usage, 65 stored state damaged or too new, 66 no spool
    /// to look at, 69 the control plane refuses or was never reached,
    /// 70 a part does not start, ended by itself or panicked too often, 73 the data directory is in use, 77 it cannot be written, 78 it is another user's.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::NoIdentity(_) => 64,
            Self::Damaged { .. } => 65,
            Self::NoSpool(_) => 66,
            Self::Refused { .. } | Self::NotEnrolled { .. } => 69,
            Self::Start { .. } | Self::Stopped { .. } | Self::Stuck { .. } | Self::Panicked { .. } => 70,
            Self::InUse { .. } => 73,
            Self::NotWritable { .. } => 77,
            Self::NotOwned { .. } => 78,
        }
    }
}

//! How a command ends: the exit codes are a contract with scripts.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or acceptable: 0.
    Done,
    /// Refused, or failed: 1.
    Refused,
    /// Unreadable input, or bad usage: 2.
    Unreadable,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Refused => Self::from(1),
            Exit::Unreadable => Self::from(2),
        }
    }
}

/// Why a command could not do its work. What it printed before stands.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It was refused, or failed: exit code 1.
    #[error(transparent)]
    Failed(anyhow::Error),
    /// Its input cannot be read, or makes no sense: exit code 2.
    #[error(transparent)]
    Unreadable(anyhow::Error),
}

impl CommandError {
    /// A failure.
    pub fn failed(cause: impl Into<anyhow::Error>) -> Self {
        Self::Failed(cause.into())
    }

    /// Input that cannot be read.
    pub fn unreadable(cause: impl Into<anyhow::Error>) -> Self {
        Self::Unreadable(cause.into())
    }

    /// The exit code that it ends in.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Failed(_) => Exit::Refused,
            Self::Unreadable(_) => Exit::Unreadable,
        }
    }
}

/// Writing the output failed.
impl From<std::io::Error> for CommandError {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error)
    }
}

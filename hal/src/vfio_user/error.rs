//! What can go wrong with a board in another process.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::wire::Command;
use crate::ErrorKind;

/// An error of the connection to a board in another process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody listens there.
    #[error("cannot connect to {}", .socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The other process refused a request.
    #[error("{}: the board's process refused {command:?}", .socket.display())]
    Refused {
        /// The socket.
        socket: PathBuf,
        /// What was asked.
        command: Command,
        /// Its errno.
        source: io::Error,
    },
    /// The connection ended: the other process did, or the protocol was broken.
    #[error("{}: the board's process has gone ({reason})", .socket.display())]
    Gone {
        /// The socket.
        socket: PathBuf,
        /// What was seen.
        reason: String,
    },
    /// A request was not answered in time.
    #[error("{}: the board's process did not answer {command:?} in {limit:?}", .socket.display())]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// What was asked.
        command: Command,
        /// Deadline.
        limit: Duration,
    },
    /// An answer that makes no sense.
    #[error("{}: the board's process answered {command:?} with nonsense: {reason}", .socket.display())]
    Nonsense {
        /// The socket.
        socket: PathBuf,
        /// What was asked.
        command: Command,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Memory that another process can see could not be had.
    #[error("{}: {operation} failed", .socket.display())]
    System {
        /// The socket.
        socket: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// The family of hal errors this belongs to.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Connect { .. } | Error::System { .. } => ErrorKind::Host,
            Error::Refused { .. } | Error::Nonsense { .. } => ErrorKind::Device,
            Error::Gone { .. } => ErrorKind::Lost,
            Error::Silent { .. } => ErrorKind::TimedOut,
        }
    }

    /// What to do next, in one line.
    pub fn advice(&self) -> Cow<'static, str> {
        match self {
            Error::Connect { .. } => "start the board: akida-sim serve --socket SOCKET --board akd1000".into(),
            Error::Gone { .. } | Error::Silent { .. } => "look at the other process's log, and start it again".into(),
            Error::Refused { .. } | Error::Nonsense { .. } => {
                "use client and server of the same release of this project".into()
            }
            Error::System { .. } => "check free memory and the limit of open files (ulimit -n)".into(),
        }
    }
}

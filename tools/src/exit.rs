//! Exit codes and the one kind of error that ends a command.
//!
//! The table is the one of docs/exit-codes.md (a test compares them): the numbers of `sysexits.h`, so that service
//! managers and shell scripts can act on them, and 1 for "the comparison you asked for found a difference".

use std::error::Error;
use std::fmt;
use std::path::Path;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Everything asked for was done.
    Done = 0,
    /// Everything was done, and a comparison that was asked for (`--verify`) found a difference.
    Different = 1,
    /// The command line is wrong.
    Usage = 64,
    /// A model, an array or an image is damaged, unsupported, of the wrong shape or type, or made for another target.
    Data = 65,
    /// An input file is missing or cannot be opened.
    NoInput = 66,
    /// There is no such board, it cannot be driven, or it no longer answers.
    Unavailable = 69,
    /// A mistake in this software.
    Internal = 70,
    /// The operating system refused something (memory, VFIO, a limit).
    Os = 71,
    /// An output file cannot be created.
    CantCreate = 73,
    /// Reading or writing failed half-way. No output file is left behind.
    Io = 74,
    /// Nothing is wrong with what was asked, but not now: time-out or busy board.
    Retry = 75,
    /// The board answered with an error (DMA abort, refused packet, wrong answer).
    Board = 76,
    /// Not permitted.
    Permission = 77,
    /// The machine is not set up for the board: IOMMU, driver, limits. `akida-ctl doctor` says what to change.
    Config = 78,
    /// Standard output was closed by its reader (a pager, `head`), so not all of the text was delivered.
    BrokenPipe = 141,
}

impl Exit {
    /// All codes with their `sysexits.h` name and meaning, as printed in docs/exit-codes.md.
    pub const TABLE: [(Exit, &'static str, &'static str); 15] = [
        (Exit::Done, "EX_OK", "Everything asked for was done."),
        (
            Exit::Different,
            "-",
            "Everything was done, and a comparison that was asked for (`--verify`) found a difference.",
        ),
        (Exit::Usage, "EX_USAGE", "The command line is wrong."),
        (
            Exit::Data,
            "EX_DATAERR",
            "A model, an array or an image is damaged, unsupported, of the wrong shape or type, or made for another target.",
        ),
        (Exit::NoInput, "EX_NOINPUT", "An input file is missing or cannot be opened."),
        (Exit::Unavailable, "EX_UNAVAILABLE", "There is no such board, it cannot be driven, or it no longer answers."),
        (Exit::Internal, "EX_SOFTWARE", "A mistake in this software."),
        (Exit::Os, "EX_OSERR", "The operating system refused something (memory, VFIO, a limit)."),
        (Exit::CantCreate, "EX_CANTCREAT", "An output file cannot be created."),
        (Exit::Io, "EX_IOERR", "Reading or writing failed half-way. No output file is left behind."),
        (Exit::Retry, "EX_TEMPFAIL", "Nothing is wrong with what was asked, but not now: time-out or busy board."),
        (Exit::Board, "EX_PROTOCOL", "The board answered with an error (DMA abort, refused packet, wrong answer)."),
        (Exit::Permission, "EX_NOPERM", "Not permitted."),
        (
            Exit::Config,
            "EX_CONFIG",
            "The machine is not set up for the board: IOMMU, driver, limits. `akida-ctl doctor` says what to change.",
        ),
        (
            Exit::BrokenPipe,
            "128 + SIGPIPE",
            "Standard output was closed by its reader (a pager, `head`), so not all of the text was delivered.",
        ),
    ];

    /// The number.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// Why a command ended early, and what its user can do about it.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What is wrong, with the place (file, node, argument, board).
    pub message: String,
    /// One line: what to do next.
    pub help: String,
}

impl Failure {
    /// A failure with everything said.
    pub fn new(exit: Exit, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { exit, message: message.into(), help: help.into() }
    }

    /// From an error and the errors behind it: `what: error: cause: cause`.
    pub fn because(exit: Exit, what: impl fmt::Display, error: &dyn Error, help: impl Into<String>) -> Self {
        Self::new(exit, format!("{what}: {}", chain(error)), help)
    }

    /// An input file that cannot be opened or read.
    pub fn input(path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        let (exit, help) = match error.kind() {
            K::NotFound => (Exit::NoInput, "check the path"),
            K::PermissionDenied => (Exit::NoInput, "make the file readable for this user"),
            K::IsADirectory => (Exit::NoInput, "name a file, not a directory"),
            _ => (Exit::Io, "check the disk and try again"),
        };
        Self::because(exit, format_args!("cannot read {}", path.display()), error, help)
    }

    /// An output file that cannot be created.
    pub fn output(path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        let (exit, help) = match error.kind() {
            K::StorageFull | K::WriteZero | K::Interrupted | K::QuotaExceeded | K::FileTooLarge => {
                (Exit::Io, "make room on the disk and run again; no partial file was left behind")
            }
            K::NotFound => (Exit::CantCreate, "create the directory first"),
            _ => (Exit::CantCreate, "name a file in a directory this user can write to"),
        };
        Self::because(exit, format_args!("cannot write {}", path.display()), error, help)
    }

    /// Standard output could not be written.
    pub fn stdout(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::new(Exit::BrokenPipe, "", ""),
            _ => Self::because(Exit::Io, "cannot write to standard output", error, "check where the output goes"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nhelp: {}", self.message, self.help)
    }
}

/// An error with its causes, each once.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_table_is_the_one_in_the_code() {
        let doc = include_str!("../../docs/exit-codes.md");
        let mut rows = doc.lines().filter(|l| l.starts_with("| ") && l.as_bytes()[2].is_ascii_digit());
        for (exit, name, meaning) in Exit::TABLE {
            let row = rows.next().unwrap_or("");
            assert_eq!(row, format!("| {} | {name} | {meaning} |", exit.code()));
        }
        assert_eq!(rows.next(), None);
    }

    #[test]
    fn causes_are_named_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);
        #[derive(Debug, thiserror::Error)]
        #[error("repeats: inner")]
        struct Repeats(#[source] std::io::Error);
        let inner = || std::io::Error::other("inner");
        assert_eq!(chain(&Outer(inner())), "outer: inner");
        assert_eq!(chain(&Repeats(inner())), "repeats: inner");
    }
}

//! `--trace FILE`: what passed between driver and board (akida_hal::trace), in a file when the board is let go.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use akida_hal::Board;
use akida_hal::trace::{self, Comparison, TraceError, TracedBoard};

use crate::exit::{Exit, Failure};
use crate::files::write_whole;

/// A trace being written. Whoever fails drops it, and the file is there all the same: that is when it is wanted most.
pub struct Trace {
    path: PathBuf,
    /// Lines go here first; the named file appears whole.
    spool: File,
    board: Option<Arc<TracedBoard>>,
}

impl Trace {
    /// Puts itself between a board and its driver, when a file is named.
    pub fn start(path: Option<&Path>, board: Arc<dyn Board>) -> Result<(Arc<dyn Board>, Option<Self>), Failure> {
        let Some(path) = path else { return Ok((board, None)) };
        let (spool, sink) = tempfile::tempfile()
            .and_then(|file| Ok((file.try_clone()?, file)))
            .map_err(|e| Failure::because(Exit::Io, "--trace needs a temporary file", &e, "check TMPDIR"))?;
        let traced = Arc::new(TracedBoard::new(board, Box::new(sink))?);
        Ok((traced.clone(), Some(Self { path: path.into(), spool, board: Some(traced) })))
    }

    /// Writes the file. The driver must have let go of the board, else its last accesses are missing.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.write()
    }

    fn write(&mut self) -> Result<(), Failure> {
        let Some(board) = self.board.take() else { return Ok(()) };
        board.finish().and_then(|()| self.spool.rewind()).map_err(|e| Failure::output(&self.path, &e))?;
        write_whole(&self.path, |file| io::copy(&mut self.spool, file).map(|_| ()))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if let Err(failure) = self.write() {
            log::warn!("the trace is lost: {failure}");
        }
    }
}

/// Compares two trace files.
pub fn compare(first: &Path, second: &Path) -> Result<Comparison, Failure> {
    let open = |path: &Path| -> Result<Box<dyn BufRead>, Failure> {
        Ok(Box::new(BufReader::new(File::open(path).map_err(|e| Failure::input(path, &e))?)))
    };
    trace::compare(open(first)?, open(second)?).map_err(|error| {
        let exit = match &error {
            TraceError::Read(source) if source.kind() != io::ErrorKind::InvalidData => Exit::Io,
            _ => Exit::Data,
        };
        let what = format!("cannot compare {} and {}", first.display(), second.display());
        Failure::because(exit, what, &error, "name two files written by --trace")
    })
}

//! The Akida core behind a board: open, program, enqueue, fetch (hardware.md section 16).

mod options;

use std::sync::Arc;
use std::time::Duration;

pub use options::{Completion, DeviceOptions, JobId, JobTiming, Output, OutputValues, Statistics};

use crate::board::{Board, Identity};
use crate::mesh::{Mesh, NpAddress, Version};
use crate::packet::Uid;
use crate::program::Program;
use crate::{Error, Result};

/// An opened Akida device. One owner; move it to the thread that drives it.
pub struct Device {
    board: Arc<dyn Board>,
    mesh: Mesh,
    statistics: Statistics,
}

impl Device {
    /// Opens the device behind a board: translation, DMA engine, identification, resets, mesh scan.
    pub fn open(board: Arc<dyn Board>, _options: DeviceOptions) -> Result<Self> {
        let mesh = Mesh::of(board.identity().chip);
        Ok(Self { board, mesh, statistics: Statistics::default() })
    }

    /// Who the board is.
    pub fn identity(&self) -> &Identity {
        self.board.identity()
    }

    /// What is on the mesh: as scanned, or the chip's table.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Hardware version.
    pub fn version(&self) -> Version {
        self.mesh.version
    }

    /// Loads a program. A program for other hardware, for NPs that are not there or with malformed packets is refused
    /// before anything is written. The batch is 1 afterwards.
    pub fn program(&mut self, _program: &Program) -> Result<()> {
        self.none()
    }

    /// Asks for `jobs` in flight; returns what there is: at most 16 single pass, 1 multi-pass. No job may be pending.
    pub fn set_batch(&mut self, _jobs: usize) -> Result<usize> {
        self.none()
    }

    /// Starts a job on one byte per input element in (height, width, channels) order. `None`: the pipeline is full, fetch
    /// first.
    pub fn enqueue(&mut self, _input: &[u8]) -> Result<Option<JobId>> {
        self.none()
    }

    /// The oldest job's output, waiting for at most `wait`. `None` when it is not finished by then, or nothing is pending.
    pub fn fetch(&mut self, _wait: Duration) -> Result<Option<Output>> {
        self.none()
    }

    /// As [`fetch`](Self::fetch), into `values`, whose memory is reused.
    pub fn fetch_into(&mut self, _wait: Duration, _values: &mut OutputValues) -> Result<Option<(JobId, JobTiming)>> {
        self.none()
    }

    /// Jobs started and not fetched.
    pub fn pending(&self) -> usize {
        0
    }

    /// Reads `len` words of one of an NP's memories by config packets.
    pub fn read_np(&mut self, _np: NpAddress, _uid: Uid, _start: u16, _len: usize) -> Result<Vec<u32>> {
        self.none()
    }

    /// Writes words to one of an NP's memories by config packets.
    pub fn write_np(&mut self, _np: NpAddress, _uid: Uid, _start: u16, _words: &[u32]) -> Result<()> {
        self.none()
    }

    /// Takes the program away and resets core and mesh.
    pub fn unprogram(&mut self) -> Result<()> {
        Ok(())
    }

    /// Resets the whole function and opens it anew. The program is lost.
    pub fn recover(&mut self) -> Result<()> {
        Ok(())
    }

    /// What it did since it was opened.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    fn none<T>(&self) -> Result<T> {
        Err(Error::NotProgrammed { board: self.board.identity().to_string() })
    }
}

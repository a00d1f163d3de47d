//! The Akida core behind a board: open, program, enqueue, fetch (hardware.md section 16).
//!
//! ```text
//! open ──▶ idle ──program──▶ programmed ──enqueue/fetch──▶ …
//!            ▲                   │
//!            └────unprogram──────┘        a failure leads to idle, or where resets fail to quarantine;
//!                                         `recover` leads from anywhere to idle, or fails
//! ```

mod check;
mod config;
mod controller;
mod core;
mod jobs;
mod load;
mod loopback;
mod memory;
mod options;
mod scan;

use std::sync::Arc;
use std::time::Duration;

pub use options::{
    Completion, DeviceOptions, ELEMENT_BYTES, JobId, JobTiming, KERNEL_ELEMENT_BYTES, Output, OutputValues, Statistics,
    Verify,
};

use self::config::ConfigPort;
use self::controller::{CONFIG, EVENT, HRC, bytes};
use self::jobs::Jobs;
use self::load::Loader;
use self::memory::{DeviceMemory, Mark};
use crate::board::{Board, Identity};
use crate::mesh::{Mesh, NpAddress, Version};
use crate::packet::{PacketError, PacketHeader, Uid};
use crate::program::{InputPort, OutputPort, Program};
use crate::program_file::Encoding;
use crate::transport::{PcieTransport, Transport, TransportOptions};
use crate::{Error, ErrorKind, Result};

/// An opened Akida device. One owner; move it to the thread that drives it.
pub struct Device {
    transport: Arc<dyn Transport>,
    options: DeviceOptions,
    mesh: Mesh,
    /// The transport's generation this state belongs to.
    generation: u64,
    memory: DeviceMemory,
    config: ConfigPort,
    /// What is in use without a program.
    idle: Mark,
    loaded: Option<Loaded>,
    statistics: Statistics,
}

/// A program on the mesh.
struct Loaded {
    input: InputPort,
    output: OutputPort,
    passes: usize,
    /// In an encoding that this simulated board does not know.
    foreign: bool,
    /// Memory in use without jobs.
    mark: Mark,
    jobs: Option<Jobs>,
}

impl Device {
    /// Opens the device behind a board: translation, DMA engine, identification, resets, mesh scan.
    ///
    /// # Errors
    /// Those of [`PcieTransport::open`] and [`Device::over`].
    pub fn open(board: Arc<dyn Board>, options: DeviceOptions) -> Result<Self> {
        let transport = PcieTransport::open(
            board,
            TransportOptions {
                timeout: options.timeout,
                completion: options.completion,
                element_bytes: options.element_bytes,
                read_back: options.verify > Verify::Off,
            },
        )?;
        Self::over(Arc::new(transport), options)
    }

    /// Opens the device behind a transport that is ready.
    ///
    /// # Errors
    /// Register values that no Akida core has, and timeouts of the mesh scan.
    pub fn over(transport: Arc<dyn Transport>, options: DeviceOptions) -> Result<Self> {
        let state = State::start(&*transport, &options)?;
        Ok(Self {
            generation: transport.generation(),
            transport,
            options,
            mesh: state.mesh,
            memory: state.memory,
            config: state.config,
            idle: state.idle,
            loaded: None,
            statistics: Statistics::default(),
        })
    }

    /// Who the board is.
    pub fn identity(&self) -> &Identity {
        self.transport.identity()
    }

    /// What is on the mesh: as scanned, or the chip's table.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Hardware version.
    pub fn version(&self) -> Version {
        self.mesh.version
    }

    /// Access to device addresses, for diagnostics. What is written there is not known to the device.
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    /// Loads a program. A program for other hardware, for NPs that are not there or with malformed packets is refused
    /// before anything is written. The batch is 1 afterwards.
    ///
    /// # Errors
    /// Of kind [`Program`](ErrorKind::Program) when it does not fit; the device keeps its old program then. After any other
    /// error it has none.
    pub fn program(&mut self, program: &Program) -> Result<()> {
        self.ready()?;
        self.check(program)?;
        self.unprogram()?;
        let mut loader = Loader {
            transport: &*self.transport,
            memory: &mut self.memory,
            config: &self.config,
            mesh: &self.mesh,
            options: &self.options,
        };
        let result = loader.load(program);
        self.guard(result)?;
        self.loaded = Some(Loaded {
            input: program.input.clone(),
            output: program.output.clone(),
            passes: program.passes.len(),
            foreign: self.identity().simulated && Encoding::of(program) == Encoding::Silicon,
            mark: self.memory.mark(),
            jobs: None,
        });
        self.statistics.programs += 1;
        self.set_batch(1).map(|_| ())
    }

    /// Whether a program could be loaded here. Nothing is written.
    ///
    /// # Errors
    /// Of kind [`Program`](ErrorKind::Program) when it does not fit.
    pub fn check(&self, program: &Program) -> Result<()> {
        check::check(&self.identity().to_string(), &self.mesh, program)
    }

    /// Asks for so many `jobs` that are taken and not fetched; returns what there is: at most 32, 1 with [`Verify::Jobs`]. Of a program
    /// with several passes the device itself works on one at a time. Jobs that are pending are lost.
    pub fn set_batch(&mut self, jobs: usize) -> Result<usize> {
        self.ready()?;
        let Some(loaded) = &mut self.loaded else { return Err(self.no_program()) };
        loaded.jobs = None;
        self.memory.release(&loaded.mark);
        let result = Jobs::new(
            &*self.transport,
            &mut self.memory,
            self.mesh.version,
            (&loaded.input, &loaded.output),
            loaded.passes,
            jobs,
            &self.options,
        );
        let jobs = match result {
            Ok(jobs) => jobs,
            Err(error) => return self.guard(Err(error)),
        };
        let capacity = jobs.capacity();
        loaded.jobs = Some(jobs);
        Ok(capacity)
    }

    /// Starts a job on one byte per input element in (height, width, channels) order. `None`: the pipeline is full, fetch
    /// first.
    ///
    /// # Errors
    /// [`Error::UnknownEncoding`] on a simulated board with a program made for silicon.
    pub fn enqueue(&mut self, input: &[u8]) -> Result<Option<JobId>> {
        self.take(input, false)
    }

    /// As [`enqueue`](Self::enqueue), by a caller that has more jobs at hand: small ones are started together, the last by
    /// `enqueue` or by [`fetch`](Self::fetch).
    ///
    /// # Errors
    /// Those of [`enqueue`](Self::enqueue).
    pub fn enqueue_of_several(&mut self, input: &[u8]) -> Result<Option<JobId>> {
        self.take(input, true)
    }

    fn take(&mut self, input: &[u8], more: bool) -> Result<Option<JobId>> {
        self.ready()?;
        if self.loaded.as_ref().is_some_and(|l| l.foreign) {
            return Err(Error::UnknownEncoding { board: self.identity().to_string() });
        }
        let Some(jobs) = self.loaded.as_mut().and_then(|l| l.jobs.as_mut()) else { return Err(self.no_program()) };
        let result = jobs.enqueue(&*self.transport, input, more);
        self.guard(result)
    }

    /// The oldest job's output, waiting for at most `wait`. `None` when it is not finished by then, or nothing is pending.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when the device finished nothing for the deadline of its options: the device is reset then and
    /// has no program. So it is after every other error that the board caused.
    pub fn fetch(&mut self, wait: Duration) -> Result<Option<Output>> {
        let mut values = OutputValues::U8(Vec::new());
        let fetched = self.fetch_into(wait, &mut values)?;
        Ok(fetched.map(|(job, timing)| Output { job, values, timing }))
    }

    /// As [`fetch`](Self::fetch), into `values`, whose memory is reused.
    pub fn fetch_into(&mut self, wait: Duration, values: &mut OutputValues) -> Result<Option<(JobId, JobTiming)>> {
        self.ready()?;
        let Some(jobs) = self.loaded.as_mut().and_then(|l| l.jobs.as_mut()) else { return Err(self.no_program()) };
        let result = jobs.fetch(&*self.transport, wait, values);
        let fetched = self.guard(result)?;
        if let Some((_, timing)) = &fetched {
            let sum = &mut self.statistics.timing;
            self.statistics.jobs += 1;
            sum.copy_in += timing.copy_in;
            sum.run += timing.run;
            sum.copy_out += timing.copy_out;
        }
        Ok(fetched)
    }

    /// Jobs started and not fetched.
    pub fn pending(&self) -> usize {
        self.loaded.as_ref().and_then(|l| l.jobs.as_ref()).map_or(0, Jobs::pending)
    }

    /// Reads `len` words (at most 16382) of one of an NP's memories by config packets. Not while a multi-pass program
    /// runs: the config DMA is its own then.
    pub fn read_np(&mut self, np: NpAddress, uid: Uid, start: u16, len: usize) -> Result<Vec<u32>> {
        self.config_port()?;
        let result = self.config.read(&*self.transport, np, uid, start, len);
        self.guard(result)
    }

    /// Writes words to one of an NP's memories by config packets.
    pub fn write_np(&mut self, np: NpAddress, uid: Uid, start: u16, words: &[u32]) -> Result<()> {
        self.config_port()?;
        let board = self.identity().to_string();
        let packet = |source| Error::Packet { board: board.clone(), source };
        let len = u32::try_from(words.len()).unwrap_or(u32::MAX);
        let mut track = Vec::new();
        if len > u32::from(u16::MAX) - 2 {
            return Err(packet(PacketError::Length { len }));
        }
        PacketHeader { target: np.into(), uid, start, len }.push(words, &mut track).map_err(packet)?;
        let mark = self.memory.mark();
        let address = self.memory.allocate(&board, "a config packet", track.len() * 4)?;
        let written =
            controller::put(&*self.transport, address, &bytes(&track), self.options.verify >= Verify::Program);
        let result = written.and_then(|()| self.config.play(&*self.transport, address, track.len()));
        self.memory.release(&mark);
        self.guard(result)
    }

    /// Takes the program away and resets core and mesh.
    pub fn unprogram(&mut self) -> Result<()> {
        self.ready()?;
        let result = self.reset_core();
        self.guard(result)
    }

    /// Resets the whole function and opens it anew. The program is lost. Ends a quarantine.
    pub fn recover(&mut self) -> Result<()> {
        self.loaded = None;
        self.transport.reset()?;
        let state = State::start(&*self.transport, &self.options)?;
        self.generation = self.transport.generation();
        (self.mesh, self.memory, self.config, self.idle) = (state.mesh, state.memory, state.config, state.idle);
        Ok(())
    }

    /// Sends `words` words through the event DMA's loopback and compares. Takes the program away.
    pub fn self_test(&mut self, words: u16) -> Result<()> {
        self.unprogram()?;
        let result = loopback::run(&*self.transport, &mut self.memory, words);
        self.memory.release(&self.idle);
        self.guard(result)
    }

    /// What it did since it was opened.
    pub fn statistics(&self) -> Statistics {
        let counters = self.transport.counters();
        Statistics {
            bytes_in: counters.bytes_in,
            bytes_out: counters.bytes_out,
            transfers: counters.transfers,
            timeouts: self.statistics.timeouts + counters.timeouts,
            resets: counters.resets,
            ..self.statistics
        }
    }

    fn no_program(&self) -> Error {
        Error::NotProgrammed { board: self.identity().to_string() }
    }

    /// Why the board is refused, when it is: a failure it did not recover from. [`recover`](Self::recover) ends it or fails.
    pub fn quarantine(&self) -> Option<String> {
        self.transport.quarantine()
    }

    /// Whether the state here is still that of the board, and the board one to work with.
    fn ready(&self) -> Result<()> {
        if let Some(reason) = self.transport.quarantine() {
            return Err(Error::Quarantined { board: self.identity().to_string(), reason });
        }
        let generation = self.transport.generation();
        if generation == self.generation {
            return Ok(());
        }
        Err(Error::WasReset { board: self.identity().to_string(), generation, expected: self.generation })
    }

    /// Makes the config DMA ready for single descriptors.
    fn config_port(&mut self) -> Result<()> {
        self.ready()?;
        if self.loaded.as_ref().is_some_and(|l| l.passes > 1) {
            return Err(Error::ProgramLimit { what: "number of passes during config access", value: 2, limit: 1 });
        }
        let result = self.config.init(&*self.transport);
        self.guard(result)
    }

    /// hardware.md section 16.7.
    fn reset_core(&mut self) -> Result<()> {
        let multi_pass = self.loaded.take().is_some_and(|l| l.passes > 1);
        self.memory.release(&self.idle);
        let transport = &*self.transport;
        if multi_pass {
            self::core::set_multi_pass(transport, false, self.options.verify >= Verify::Program)?;
        }
        self::core::reset_core(transport)?;
        for controller in [CONFIG, EVENT, HRC] {
            controller.soft_reset(transport)?;
        }
        self::core::reset_epg(transport)?;
        self::core::reset_mesh(transport)
    }

    /// After a failure that the board caused, nothing of it may reach the next job: core and mesh are reset; where that
    /// fails, the function; where that fails too, the transport has put the board into quarantine.
    fn guard<T>(&mut self, result: Result<T>) -> Result<T> {
        let error = match result {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if matches!(error.kind(), ErrorKind::Usage | ErrorKind::Host | ErrorKind::Program) {
            return Err(error);
        }
        if matches!(error, Error::Quarantined { .. } | Error::WasReset { .. }) || self.ready().is_err() {
            self.loaded = None;
            return Err(error);
        }
        if matches!(error, Error::TimedOut { .. }) {
            self.statistics.timeouts += 1;
        }
        log::warn!("{error}; resetting the core");
        if let Err(reset) = self.reset_core() {
            log::warn!("{reset}; resetting the function");
            self.loaded = None;
            if let Err(lost) = self.recover() {
                log::error!("{lost}");
            }
        }
        Err(error)
    }
}

impl Drop for Device {
    /// The core is reset, so that it does not work on for nobody; the transport then stops the DMA engine.
    fn drop(&mut self) {
        if self.loaded.is_some()
            && self.ready().is_ok()
            && let Err(error) = self.reset_core()
        {
            log::debug!("{}: not reset: {error}", self.identity());
        }
    }
}

/// What opening finds out.
struct State {
    mesh: Mesh,
    memory: DeviceMemory,
    config: ConfigPort,
    idle: Mark,
}

impl State {
    /// hardware.md section 16.1 step 6, in the manner of the old engine.
    fn start(transport: &dyn Transport, options: &DeviceOptions) -> Result<Self> {
        let version = self::core::version(transport)?;
        self::core::reset_core(transport)?;
        for controller in [CONFIG, EVENT, HRC] {
            controller.soft_reset(transport)?;
        }
        self::core::reset_epg(transport)?;
        let mut memory = DeviceMemory::new(transport.memory());
        let config = ConfigPort::new(&transport.identity().to_string(), &mut memory, options)?;
        let mesh =
            if options.scan { scan::scan(transport, &config, version)? } else { scan::known(transport, version)? };
        self::core::reset_mesh(transport)?;
        Ok(Self { mesh, idle: memory.mark(), memory, config })
    }
}

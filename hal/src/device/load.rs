//! From a program in host memory to a configured mesh (hardware.md sections 13.3 and 16.4).

use super::check::tracks_per_pass;
use super::config::ConfigPort;
use super::controller::{self, CONFIG, End, Ring, bytes};
use super::memory::DeviceMemory;
use super::{DeviceOptions, Verify, core};
use crate::descriptor::ConfigDescriptor;
use crate::mesh::Mesh;
use crate::packet::{PacketHeader, Target, Uid, packets};
use crate::program::{InputKind, Program};
use crate::regs::dma::{self, Monitor, MonitorStatus, Replay};
use crate::regs::top::{self, InterruptSource};
use crate::transport::Transport;
use crate::wait::Wait;
use crate::{Error, Result};

/// What loading needs.
pub struct Loader<'a> {
    pub transport: &'a dyn Transport,
    pub memory: &'a mut DeviceMemory,
    pub config: &'a ConfigPort,
    pub mesh: &'a Mesh,
    pub options: &'a DeviceOptions,
}

/// Start delay of the config DMA between passes \[E\].
const MULTI_PASS_DELAY: u32 = 0x60;
/// Output descriptor buffers of the config DMA in multi-pass \[E\].
const MULTI_PASS_OUTPUTS: u32 = 2;
/// What starts the endless loop over passes: current and last differ, neither is a slot \[E\].
const MULTI_PASS_LAST: u32 = 0xFE;
const MULTI_PASS_CURRENT: u32 = 0xFF;

impl Loader<'_> {
    fn board(&self) -> String {
        self.transport.identity().to_string()
    }

    fn verifies(&self) -> bool {
        self.options.verify >= Verify::Program
    }

    fn put(&self, address: u32, bytes: &[u8]) -> Result<()> {
        controller::put(self.transport, address, bytes, self.verifies())
    }

    /// Loads a checked program.
    pub fn load(&mut self, program: &Program) -> Result<()> {
        let multi_pass = program.passes.len() > 1;
        core::set_multi_pass(self.transport, multi_pass, self.verifies())?;
        if multi_pass {
            self.load_passes(program)?
        } else {
            self.load_single(program)?
        }
        let source = match program.input.kind {
            InputKind::Dense => InterruptSource::HRC,
            InputKind::CnpEvents | InputKind::FnpEvents => InterruptSource::AEDMA,
        };
        core::write(self.transport, top::INTERRUPT_MASK, !source.bits())?;
        core::write(self.transport, top::INTERRUPT_ENABLE, 1)
    }

    /// One track after the other through one buffer.
    fn load_single(&mut self, program: &Program) -> Result<()> {
        self.config.init(self.transport)?;
        let pass = &program.passes[0];
        self.place_external(program)?;
        let mark = self.memory.mark();
        let longest = pass.tracks.iter().map(|t| t.words.len()).max().unwrap_or(0);
        let buffer = self.memory.allocate(&self.board(), "the longest track", longest * 4)?;
        for track in &pass.tracks {
            self.put(buffer, &bytes(&track.words))?;
            self.config.play(self.transport, buffer, track.words.len())?;
        }
        self.memory.release(&mark);
        if self.verifies() {
            for track in &pass.tracks {
                self.verify(&track.words)?;
            }
        }
        self.write_epg(program)
    }

    /// All tracks stay in device memory; the config DMA plays them pass after pass, for ever.
    fn load_passes(&mut self, program: &Program) -> Result<()> {
        let per_pass = tracks_per_pass(program);
        let slots = (program.passes.len() * per_pass) as u32;
        let base = self.memory.allocate(&self.board(), "the config ring", CONFIG.ring_bytes(slots))?;
        let ring = Ring { base, slots: slots.max(dma::MIN_SLOTS) };
        let dummy = self.dummy()?;
        let mut descriptors = Vec::new();
        for pass in &program.passes {
            for track in &pass.tracks {
                let address = self.memory.allocate(&self.board(), "the tracks of all passes", track.words.len() * 4)?;
                self.put(address, &bytes(&track.words))?;
                let descriptor = ConfigDescriptor::write(address, track.words.len())
                    .map_err(|source| Error::Descriptor { board: self.board(), source })?;
                descriptors.extend(bytes(&descriptor.encode()));
            }
            for _ in pass.tracks.len()..per_pass {
                descriptors.extend(bytes(&dummy.encode()));
            }
        }
        self.place_external(program)?;
        self.put(base, &descriptors)?;
        self.init_passes(ring, per_pass as u32)?;
        self.write_epg(program)?;
        self.start_passes()
    }

    /// A read of one register that nobody looks at: pads passes to the same number of descriptors. The engine pads with the
    /// header stored in a program, all zero in those seen; an identity register is read here, which every NP has (ours).
    fn dummy(&mut self) -> Result<ConfigDescriptor> {
        let board = self.board();
        let header = self.memory.allocate(&board, "the dummy header", 8)?;
        let output = self.memory.allocate(&board, "the dummy output", 64)?;
        let target = self.mesh.nps.first().map_or(Target::Hrc, |(np, _)| (*np).into());
        let words = PacketHeader { target, uid: Uid::Registers, start: 0, len: 1 }
            .encode()
            .map_err(|source| Error::Packet { board, source })?;
        self.put(header, &bytes(&words))?;
        Ok(ConfigDescriptor::read(header, output))
    }

    /// hardware.md section 8.4, "config DMA for a program", multi-pass.
    fn init_passes(&self, ring: Ring, per_pass: u32) -> Result<()> {
        let t = self.transport;
        CONFIG.init(t, ring, End::Burst, Monitor::TIMER, self.verifies())?;
        for (register, value) in [
            (dma::REPLAY_CONTROL, Replay::BURST_MODE.bits()),
            (dma::REPLAY_BURST, dma::BURST_DESCRIPTORS.of(per_pass)),
            (dma::DELAYS, dma::START_DELAY.of(MULTI_PASS_DELAY)),
            (dma::EXTRA_DESCRIPTORS, dma::EXTRA_LAST.of(ring.slots - 1)),
            (dma::REPLAY_MAX_OUTPUTS, dma::MAX_OUTPUT_DESCRIPTORS.of(MULTI_PASS_OUTPUTS)),
        ] {
            CONFIG.set(t, register, value, self.verifies())?;
        }
        Ok(())
    }

    /// Starts the loop and waits until the first pass is in place.
    fn start_passes(&self) -> Result<()> {
        let t = self.transport;
        CONFIG.write(t, dma::DESCRIPTOR, dma::LAST.of(MULTI_PASS_LAST) | dma::CURRENT.of(MULTI_PASS_CURRENT))?;
        CONFIG.run(t, true)?;
        let end = MonitorStatus::BURST_INTERRUPT.bits();
        Wait::new(t, format_args!("the first pass to be programmed"), self.options.timeout)
            .until(|| CONFIG.read(t, dma::MONITOR_STATUS), |status| status & end != 0)?;
        CONFIG.clear(t)
    }

    /// FNP2 weights stay in device memory, where the NP finds them through a register per NP id.
    fn place_external(&mut self, program: &Program) -> Result<()> {
        for external in program.passes.iter().flat_map(|p| &p.external) {
            let address = self.memory.allocate(&self.board(), "external weights", external.words.len() * 4)?;
            self.put(address, &bytes(&external.words))?;
            core::set(self.transport, top::fnp2_address(external.np.id), address, self.verifies())?;
        }
        Ok(())
    }

    fn write_epg(&self, program: &Program) -> Result<()> {
        for write in &program.epg {
            core::set(self.transport, top::EPG + write.offset, write.value, self.verifies())?;
        }
        Ok(())
    }

    /// Reads back what a track wrote. Register 0 is an identity and cannot be written.
    fn verify(&self, track: &[u32]) -> Result<()> {
        for packet in packets(track) {
            let packet = packet.map_err(|source| Error::Packet { board: self.board(), source })?;
            let PacketHeader { uid, start, .. } = packet.header;
            for np in packet.header.target.addresses() {
                for (part, wrote) in packet.payload.chunks(READ_WORDS).enumerate() {
                    let start = usize::from(start) + part * READ_WORDS / unit(uid);
                    let address = u16::try_from(start).map_err(|_| Error::ProgramLimit {
                        what: "packet start address",
                        value: start as u64,
                        limit: u16::MAX.into(),
                    })?;
                    let read = self.config.read(self.transport, np, uid, address, wrote.len())?;
                    let identity = |i: usize| uid == Uid::Registers && start + i == 0;
                    let mut pairs = wrote.iter().zip(&read).enumerate();
                    if let Some((i, (&wrote, &read))) = pairs.find(|(i, (w, r))| w != r && !identity(*i)) {
                        let what = format!("{np} {uid:?} from {start:#x}");
                        return Err(Error::ReadBack { board: self.board(), what, offset: i as u64, wrote, read });
                    }
                }
            }
        }
        Ok(())
    }
}

/// Most words of one read back: below the XL limit, and whole address units.
const READ_WORDS: usize = 8192;

/// Words in one address unit of a memory: 16 for filters \[D\], taken for FNP weights too (ours); 1 for registers, taken for
/// the other memories too.
fn unit(uid: Uid) -> usize {
    if matches!(uid, Uid::CnpFilter | Uid::FnpWeights) { crate::np::sram::UNIT_WORDS } else { 1 }
}

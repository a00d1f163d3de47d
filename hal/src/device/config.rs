//! Config packets through the config DMA: tracks in, NP memories back (hardware.md sections 9 and 8.4).

use super::controller::{CONFIG, End, Ring, bytes};
use crate::descriptor::ConfigDescriptor;
use crate::mesh::NpAddress;
use crate::packet::{PacketError, PacketHeader, Uid, XL_FROM};
use crate::regs::dma::{self, Monitor, MonitorStatus};
use crate::transport::Transport;
use crate::wait::Wait;
use crate::{Error, Result};

use std::time::Duration;

use super::memory::DeviceMemory;
use super::options::{DeviceOptions, Verify};

/// Slots of the ring for single descriptors.
const SLOTS: u32 = dma::MIN_SLOTS;
/// Bytes kept for one header and the words it reads.
const READ_BYTES: usize = 64 + XL_FROM as usize * 4;

/// The config DMA in its one-descriptor-at-a-time use.
#[derive(Clone, Copy, Debug)]
pub struct ConfigPort {
    ring: Ring,
    /// Header of a read; the words read go 64 bytes further.
    scratch: u32,
    timeout: Duration,
    /// Whether set-up is read back.
    check: bool,
}

impl ConfigPort {
    /// Takes memory for ring and reads.
    pub fn new(board: &str, memory: &mut DeviceMemory, options: &DeviceOptions) -> Result<Self> {
        let base = memory.allocate(board, "the config ring", CONFIG.ring_bytes(SLOTS))?;
        let scratch = memory.allocate(board, "config reads", READ_BYTES)?;
        let check = options.verify >= Verify::Program;
        Ok(Self { ring: Ring { base, slots: SLOTS }, scratch, timeout: options.timeout, check })
    }

    /// Makes the controller ready: reset, ring, header off, outbound end unmasked, timer on.
    pub fn init(&self, transport: &dyn Transport) -> Result<()> {
        CONFIG.init(transport, self.ring, End::Outbound, Monitor::TIMER, self.check)
    }

    /// Runs one descriptor to its end.
    pub fn run(&self, transport: &dyn Transport, descriptor: &ConfigDescriptor) -> Result<()> {
        let end = MonitorStatus::OUTBOUND_INTERRUPT;
        if self.check {
            CONFIG.check_cleared(transport, end)?;
        }
        let (before, slot, address) = CONFIG.next_slot(transport, self.ring)?;
        transport.write(address, &bytes(&descriptor.encode()))?;
        CONFIG.hand_over(transport, before, slot)?;
        CONFIG.run(transport, true)?;
        let waited = Wait::new(transport, format_args!("end of a config descriptor"), self.timeout)
            .until(|| CONFIG.read(transport, dma::MONITOR_STATUS), |status| status & end.bits() != 0);
        CONFIG.clear(transport)?;
        CONFIG.run(transport, false)?;
        waited.map(|_| ())
    }

    /// Plays a track that lies at `address`.
    pub fn play(&self, transport: &dyn Transport, address: u32, words: usize) -> Result<()> {
        let descriptor = ConfigDescriptor::write(address, words)
            .map_err(|source| Error::Descriptor { board: transport.identity().to_string(), source })?;
        self.run(transport, &descriptor)
    }

    /// Reads `len` words, at most 16382: reads have no XL lengths.
    pub fn read(&self, transport: &dyn Transport, np: NpAddress, uid: Uid, start: u16, len: usize) -> Result<Vec<u32>> {
        let packet = |source| Error::Packet { board: transport.identity().to_string(), source };
        let words = u32::try_from(len).unwrap_or(u32::MAX);
        if words >= XL_FROM {
            return Err(packet(PacketError::Length { len: words }));
        }
        let header = PacketHeader { target: np.into(), uid, start, len: words }.encode().map_err(packet)?;
        let output = self.scratch + 64;
        transport.write(self.scratch, &bytes(&header))?;
        self.run(transport, &ConfigDescriptor::read(self.scratch, output))?;
        let mut data = vec![0; len * 4];
        transport.read(output, &mut data)?;
        Ok(data.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect())
    }
}

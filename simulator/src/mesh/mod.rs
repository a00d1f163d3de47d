//! The mesh: NP registers and memories as config packets see them, and the network that registers and memories describe.
//!
//! A packet writes ([`Mesh::write`]) or reads ([`Mesh::read`]) words. Nothing else tells the mesh about a network: from
//! registers and SRAM alone [`Mesh::network`] works out which NP does what, checks that it can be done, and prepares it
//! to run (docs/np-program.md).

mod error;
mod io;
mod memory;
mod network;

use std::sync::Arc;

use akida_hal::mesh::{self as topology, NpAddress, NpTypes};
use akida_hal::np::{registers, sram};
use akida_hal::packet::{self, PacketHeader, Uid};
use akida_hal::regs;

pub use error::MeshError;
pub use io::{Elements, Fetch, Inputs, MemoryFault, MeshInput, MeshOutput, OutputSource, Port, ReadMemory};
pub use network::{Network, TOGETHER};

use network::Workspaces;

use memory::Memory;

/// Register words of the skip DMA block: cores from 0, interfaces from 0x4000, 0x400 bytes a channel (hardware.md 10.1).
const SKIP_WORDS: usize = (0x4000 + 4 * 0x400) / 4;

/// Registers and memories of one NP.
#[derive(Clone, Debug)]
struct Np {
    address: NpAddress,
    types: NpTypes,
    registers: [u32; registers::COUNT],
    /// C0 of a CNP, Fw of an FNP.
    filter: Memory,
    /// C3.
    packet: Memory,
    /// C4.
    parameter: Memory,
    /// C5.
    lut: Memory,
}

impl Np {
    fn new(address: NpAddress, types: NpTypes, sram: &topology::SramSizes, generation: u8) -> Self {
        let lut = if generation == 1 { 0 } else { sram.lut };
        Self {
            address,
            types,
            registers: [0; registers::COUNT],
            filter: Memory::new("filter SRAM", address, sram.filter),
            packet: Memory::new("packet SRAM", address, sram.packet),
            parameter: Memory::new("parameter SRAM", address, sram.parameter),
            lut: Memory::new("look-up table", address, lut),
        }
    }

    /// Register 0: what is installed (hardware.md 10 and 11). Bit 8 for a temporal NP is ours.
    fn identity(&self) -> u32 {
        let fnp = if self.types.contains(NpTypes::FNP3) {
            3
        } else if self.types.contains(NpTypes::FNP2) {
            2
        } else {
            0
        };
        let cnp = if self.types.contains(NpTypes::CNP2) { 2 } else { u32::from(self.types.contains(NpTypes::CNP1)) };
        let NpAddress { column, row, id } = self.address;
        regs::np::FNP_INSTALLED.of(fnp)
            | regs::np::CNP_INSTALLED.of(cnp)
            | u32::from(self.types.contains(NpTypes::TNP_B)) << 8
            | regs::np::NP_INDEX.of(id.into())
            | regs::np::NP_COLUMN.of(column.into())
            | regs::np::NP_ROW.of(row.into())
    }
}

/// Which memory of which component a packet means.
enum Target {
    NpRegisters(usize),
    NpMemory(usize, Kind),
    HrcRegisters,
    HrcMemory,
    Skip,
}

#[derive(Clone, Copy)]
enum Kind {
    Filter,
    Packet,
    Parameter,
    Lut,
}

/// Everything config packets reach.
#[derive(Debug)]
pub struct Mesh {
    topology: topology::Mesh,
    nps: Vec<Np>,
    hrc_registers: [u32; registers::COUNT],
    hrc_memory: Memory,
    skip: Vec<u32>,
    network: Option<Arc<Network>>,
    /// Memory for tensors, of all networks that are ever made here: so those of one pass are where those of the last were.
    workspaces: Workspaces,
    /// Counts writes: who knows what was here at one of them knows it until the next.
    writes: u64,
}

impl Mesh {
    /// A mesh after power-on: all registers and memories zero.
    pub fn new(topology: topology::Mesh) -> Self {
        let generation = topology.version.generation();
        let nps = topology.nps.iter().map(|&(a, t)| Np::new(a, t, &topology.sram, generation)).collect();
        Self {
            nps,
            hrc_registers: [0; registers::COUNT],
            hrc_memory: Memory::new("HRC SRAM", NpAddress::HRC, topology.sram.hrc),
            skip: vec![0; if topology.skip_channels > 0 { SKIP_WORDS } else { 0 }],
            network: None,
            workspaces: Workspaces::default(),
            writes: 0,
            topology,
        }
    }

    /// Another one of the same topology after power-on, with the same memory for tensors.
    pub fn another(&self) -> Self {
        Self { workspaces: self.workspaces.clone(), ..Self::new(self.topology.clone()) }
    }

    /// What is where.
    pub fn topology(&self) -> &topology::Mesh {
        &self.topology
    }

    /// Back to power-on.
    pub fn reset(&mut self) {
        *self = self.another();
    }

    /// Plays a packet that writes. Nothing is written when any of it cannot be.
    pub fn write(&mut self, header: &PacketHeader, payload: &[u32]) -> Result<(), MeshError> {
        if payload.len() != header.len as usize {
            return Err(MeshError::Payload { expected: header.len as usize, got: payload.len() });
        }
        let targets = self.targets(header)?;
        for target in &targets {
            self.check(target, header)?;
        }
        self.network = None;
        self.writes += 1;
        let start = usize::from(header.start);
        for target in targets {
            match target {
                Target::NpRegisters(np) => write_registers(&mut self.nps[np].registers, start, payload),
                Target::HrcRegisters => write_registers(&mut self.hrc_registers, start, payload),
                Target::NpMemory(np, kind) => self.memory_mut(np, kind).write(start * unit(kind), payload),
                Target::HrcMemory => self.hrc_memory.write(start * sram::UNIT_WORDS, payload),
                Target::Skip => self.skip[start..][..payload.len()].copy_from_slice(payload),
            }
        }
        Ok(())
    }

    /// Plays a packet that reads `header.len` words of one component.
    pub fn read(&self, header: &PacketHeader) -> Result<Vec<u32>, MeshError> {
        let targets = self.targets(header)?;
        let [target] = targets.as_slice() else {
            return Err(MeshError::ReadOfSeveral { target: header.target });
        };
        self.check(target, header)?;
        let (start, len) = (usize::from(header.start), header.len as usize);
        Ok(match *target {
            Target::NpRegisters(np) => {
                let mut words = self.nps[np].registers;
                words[0] = self.nps[np].identity();
                words[start..][..len].to_vec()
            }
            Target::HrcRegisters => self.hrc_registers[start..][..len].to_vec(),
            Target::NpMemory(np, kind) => self.memory(np, kind).read(start * unit(kind), len).to_vec(),
            Target::HrcMemory => self.hrc_memory.read(start * sram::UNIT_WORDS, len).to_vec(),
            Target::Skip => self.skip[start..][..len].to_vec(),
        })
    }

    /// The network that registers and memories describe now. Worked out once, and again after a write.
    pub fn network(&mut self) -> Result<Arc<Network>, MeshError> {
        self.network_behind(None)
    }

    /// The same for what another network gives.
    pub fn network_behind(&mut self, before: Option<&Network>) -> Result<Arc<Network>, MeshError> {
        let positive = before.is_some_and(Network::never_negative);
        if let Some(network) = &self.network
            && (positive || !network.takes_positive())
        {
            return Ok(network.clone());
        }
        let network = Arc::new(Network::decode(self, positive)?);
        self.network = Some(network.clone());
        Ok(network)
    }

    /// Bytes of all memories.
    pub fn bytes(&self) -> usize {
        let words = |np: &Np| np.filter.len() + np.packet.len() + np.parameter.len() + np.lut.len();
        (self.nps.iter().map(words).sum::<usize>() + self.hrc_memory.len() + self.skip.len()) * 4
    }

    /// How often it was written to since it was made or reset.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// Whether a network that was worked out here keeps something from job to job.
    pub fn keeps_frames(&self) -> bool {
        self.network.as_ref().is_some_and(|n| n.keeps_frames())
    }

    fn targets(&self, header: &PacketHeader) -> Result<Vec<Target>, MeshError> {
        let no_memory = |np| MeshError::NoSuchMemory { np, uid: header.uid };
        if header.target == packet::Target::Hrc {
            if !self.topology.hrc {
                return Err(MeshError::NoSuchNp { np: NpAddress::HRC });
            }
            return match header.uid {
                Uid::CnpFilter => Ok(vec![Target::HrcMemory]),
                Uid::Registers => Ok(vec![Target::HrcRegisters]),
                _ => Err(no_memory(NpAddress::HRC)),
            };
        }
        header.target.addresses().map(|np| self.target(np, header.uid).ok_or_else(|| no_memory(np))?).collect()
    }

    /// None: no such memory.
    fn target(&self, np: NpAddress, uid: Uid) -> Option<Result<Target, MeshError>> {
        if self.is_skip(np) && uid == Uid::Registers {
            return Some(Ok(Target::Skip));
        }
        let Some(index) = self.topology.nps.iter().position(|&(address, _)| address == np) else {
            return Some(Err(MeshError::NoSuchNp { np }));
        };
        let fnp3 = self.nps[index].types.contains(NpTypes::FNP3);
        let memory = match uid {
            Uid::Registers => return Some(Ok(Target::NpRegisters(index))),
            Uid::CnpFilter => Kind::Filter,
            Uid::FnpWeights if fnp3 => Kind::Filter,
            Uid::PacketSram => Kind::Packet,
            Uid::Thresholds => Kind::Parameter,
            Uid::Lut if self.topology.version.generation() > 1 => Kind::Lut,
            _ => return None,
        };
        Some(Ok(Target::NpMemory(index, memory)))
    }

    /// The skip DMA is id 3 of the DMA node (targets.md 4.2).
    fn is_skip(&self, np: NpAddress) -> bool {
        self.topology.skip_channels > 0 && np == NpAddress { id: 3, ..self.topology.dma_event }
    }

    fn check(&self, target: &Target, header: &PacketHeader) -> Result<(), MeshError> {
        let (memory, np, size, unit) = match *target {
            Target::NpRegisters(np) => ("registers", self.nps[np].address, registers::COUNT, 1),
            Target::HrcRegisters => ("registers", NpAddress::HRC, registers::COUNT, 1),
            Target::Skip => {
                let np = NpAddress { id: 3, ..self.topology.dma_event };
                ("skip DMA registers", np, self.skip.len(), 1)
            }
            Target::NpMemory(np, kind) => {
                let memory = self.memory(np, kind);
                (memory.name(), self.nps[np].address, memory.len(), unit(kind))
            }
            Target::HrcMemory => (self.hrc_memory.name(), NpAddress::HRC, self.hrc_memory.len(), sram::UNIT_WORDS),
        };
        let (start, length) = (usize::from(header.start) * unit, header.len as usize);
        if length == 0 || start + length > size {
            return Err(MeshError::OutOfRange { memory, np, start, length, size });
        }
        Ok(())
    }

    fn memory(&self, np: usize, kind: Kind) -> &Memory {
        let np = &self.nps[np];
        match kind {
            Kind::Filter => &np.filter,
            Kind::Packet => &np.packet,
            Kind::Parameter => &np.parameter,
            Kind::Lut => &np.lut,
        }
    }

    fn memory_mut(&mut self, np: usize, kind: Kind) -> &mut Memory {
        let np = &mut self.nps[np];
        match kind {
            Kind::Filter => &mut np.filter,
            Kind::Packet => &mut np.packet,
            Kind::Parameter => &mut np.parameter,
            Kind::Lut => &mut np.lut,
        }
    }
}

fn unit(kind: Kind) -> usize {
    if matches!(kind, Kind::Filter) { sram::UNIT_WORDS } else { 1 }
}

/// Register 0 is read-only; the soft reset bit clears the registers and itself (deduced from its name).
fn write_registers(registers: &mut [u32; registers::COUNT], start: usize, payload: &[u32]) {
    registers[start..][..payload.len()].copy_from_slice(payload);
    registers[0] = 0;
    if regs::np::SOFT_RESET.any(registers[regs::np::index(regs::np::RESET)]) {
        *registers = [0; registers::COUNT];
    }
}

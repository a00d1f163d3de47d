//! The config DMA's part: descriptors, tracks of packets, and the passes of a multi-pass job (hardware.md 8.4, 9.4).

use std::sync::{Arc, Mutex};

use akida_hal::descriptor::{ConfigDescriptor, Direction};
use akida_hal::packet::{self, PacketError, PacketHeader};
use akida_hal::regs::dma;

use super::output::{header_bytes, sum};
use super::{CoreWork, JobError};
use crate::chip::bus::Bus;
use crate::chip::controller::Completed;
use crate::chip::memory::lock;
use crate::chip::passes::{Networks, PassStore, Place, Source};
use crate::chip::regmap::RegMap;
use crate::mesh::{Mesh, MeshError};

/// The config DMA as a multi-pass job drives it.
pub struct Passes {
    /// Where its descriptors are.
    pub ring: u32,
    /// Bytes of one.
    pub slot: u32,
    /// Descriptors of one pass.
    pub descriptors: u8,
    /// Bytes of the header it writes before what it reads.
    pub header: usize,
    /// Whether the mesh is reset between passes.
    pub reset_mesh: bool,
    /// Passes that were played before.
    pub store: Arc<Mutex<PassStore>>,
}

impl Passes {
    /// The config DMA as its registers say.
    pub fn of(registers: &RegMap, reset_mesh: bool, store: Arc<Mutex<PassStore>>) -> Self {
        Self {
            ring: registers.get(dma::RING_BASE),
            slot: dma::SLOT_SIZE.get(registers.get(dma::RING_SIZE)).max(1) * 32,
            descriptors: (dma::BURST_DESCRIPTORS.get(registers.get(dma::REPLAY_BURST)) as u8).max(1),
            header: header_bytes(registers.get(dma::CONTROL)),
            reset_mesh,
            store,
        }
    }

    /// Networks of a job with so many passes, whose meshes are known.
    pub fn networks(&self, count: usize, mesh: &mut Mesh, bus: &Bus) -> Option<Arc<Networks>> {
        let places: Vec<Place> = (0..count).map(|pass| self.place(pass)).collect();
        self.reset_mesh.then(|| lock(&self.store).networks(&places, mesh, bus))?
    }

    fn place(&self, pass: usize) -> Place {
        Place { ring: self.ring, slot: self.slot, descriptors: self.descriptors, header: self.header, pass }
    }

    fn descriptor(&self, index: usize) -> u32 {
        self.ring.wrapping_add((index as u32).wrapping_mul(self.slot))
    }

    fn indices(&self, pass: usize) -> std::ops::Range<usize> {
        let count = usize::from(self.descriptors);
        pass * count..(pass + 1) * count
    }
}

impl CoreWork {
    /// One config descriptor. What it takes from memory is noted, where a list is given and that is all there is to it.
    pub(super) fn config(&self, slot: u32, sources: &mut Option<Vec<Source>>) -> Result<Completed, JobError> {
        let descriptor = ConfigDescriptor::decode(&self.descriptor(slot)?)?;
        let (at, len, output) = (descriptor.input, usize::from(descriptor.input_words), descriptor.output);
        let reads = descriptor.direction == Direction::Read;
        // A read before it may have seen what this changes.
        if !reads && sources.as_ref().is_some_and(|noted| noted.iter().any(Source::is_read)) {
            *sources = None;
        }
        let source = if sources.is_some() { Some(Source::new(&self.reach.bus, slot, at, len)?) } else { None };
        let mut words = match &source {
            Some(source) => source.words().to_vec(),
            None => self.reach.bus.read_words(at, len)?,
        };
        if !reads {
            if let Some((at, bits)) = self.tamper.packet
                && !words.is_empty()
            {
                let at = at as usize % words.len();
                words[at] ^= bits;
            }
            self.play(&words)?;
            if let (Some(noted), Some(source)) = (sources, source) {
                noted.push(source);
            }
            // What the mesh got counts, not what was in memory.
            return Ok(self.completed(at, descriptor.input_words.into(), sum(&words), output, &[]));
        }
        let read = self.read_back(&words)?;
        let gives = if read.is_empty() { Vec::new() } else { self.framed_read_back(&read) };
        if !gives.is_empty() {
            self.live()?;
            self.reach.bus.write(output, &gives)?;
        }
        if let (Some(noted), Some(source)) = (sources, source) {
            noted.push(source.giving(output, gives));
        }
        let bytes: Vec<u8> = read.iter().flat_map(|w| w.to_le_bytes()).collect();
        Ok(self.completed(at, descriptor.input_words.into(), sum(&words), output, &bytes))
    }

    /// Gives the packets of a track to the mesh, up to the first one that is wrong.
    fn play(&self, words: &[u32]) -> Result<(), JobError> {
        for packet in packet::packets(words) {
            let packet = packet?;
            let mut mesh = lock(&self.reach.mesh);
            self.live()?;
            mesh.write(&packet.header, packet.payload)?;
        }
        Ok(())
    }

    /// What a config read gives. The dummy descriptors of multi-pass rings have a header of zeros and read nothing
    /// (hardware.md 9.4). An NP that does not exist reads as zeros (ours), which a mesh scan takes for "empty".
    fn read_back(&self, header: &[u32]) -> Result<Vec<u32>, JobError> {
        if header.iter().all(|w| *w == 0) {
            return Ok(Vec::new());
        }
        let Some(words) = header.first_chunk::<2>() else {
            return Err(PacketError::HeaderTruncated { offset: 0 }.into());
        };
        let header = PacketHeader::decode(*words)?;
        match lock(&self.reach.mesh).read(&header) {
            Ok(words) => Ok(words),
            Err(MeshError::NoSuchNp { .. }) => Ok(vec![0; header.len as usize]),
            Err(error) => Err(error.into()),
        }
    }

    /// With the output header on, the older engine finds the length in bits 15..0 of its first word.
    fn framed_read_back(&self, words: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; self.passes.as_ref().map_or(self.header_bytes(), |passes| passes.header)];
        if let Some(first) = bytes.first_chunk_mut::<4>() {
            *first = (words.len() as u32 & 0xffff).to_le_bytes();
        }
        bytes.extend(words.iter().flat_map(|w| w.to_le_bytes()));
        bytes
    }

    /// Plays one pass's descriptors.
    pub(super) fn burst(
        &self,
        passes: &Passes,
        pass: usize,
        sources: &mut Option<Vec<Source>>,
    ) -> Result<Completed, JobError> {
        let mut done = Completed::default();
        for index in passes.indices(pass) {
            done = Completed { index: index as u8, ..self.config(passes.descriptor(index), sources)? };
        }
        Ok(Completed { burst: true, ..done })
    }

    /// The mesh goes to another pass: its tracks are played, unless they are what they were the last time and the mesh they
    /// made is still there.
    pub(super) fn next_pass(&self, passes: &Passes, pass: usize) -> Result<(), JobError> {
        if !passes.reset_mesh {
            return self.burst(passes, pass, &mut None).map(drop);
        }
        let place = passes.place(pass);
        // A descriptor that the fault plan changes is to be seen.
        let mut sources = self.tamper.descriptor.is_none().then(Vec::new);
        {
            let mut mesh = lock(&self.reach.mesh);
            self.live()?;
            let mut store = lock(&passes.store);
            if sources.is_some() && store.bring(place, &mut mesh, &self.reach.bus)? {
                return Ok(());
            }
            store.clear_mesh(&mut mesh);
        }
        self.burst(passes, pass, &mut sources)?;
        if let Some(sources) = sources {
            let mesh = lock(&self.reach.mesh);
            lock(&passes.store).note(place, sources, &mesh);
        }
        Ok(())
    }
}

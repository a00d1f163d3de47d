//! The config DMA's part: descriptors, tracks of packets, and the passes of a multi-pass job (hardware.md 8.4, 9.4).

use std::sync::{Arc, Mutex};

use akida_hal::descriptor::{ConfigDescriptor, Direction};
use akida_hal::packet::{self, PacketError, PacketHeader};
use akida_hal::regs::dma;

use super::output::sum;
use super::{CoreWork, JobError};
use crate::chip::controller::Completed;
use crate::chip::memory::lock;
use crate::chip::passes::{PassStore, Place, Source};
use crate::chip::regmap::RegMap;
use crate::mesh::MeshError;

/// The config DMA as a multi-pass job drives it.
pub struct Passes {
    /// Where its descriptors are.
    pub ring: u32,
    /// Bytes of one.
    pub slot: u32,
    /// Descriptors of one pass.
    pub descriptors: u8,
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
            reset_mesh,
            store,
        }
    }

    fn place(&self, pass: usize) -> Place {
        Place { ring: self.ring, slot: self.slot, descriptors: self.descriptors, pass }
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
        let (at, len) = (descriptor.input, usize::from(descriptor.input_words));
        let mut words = match (descriptor.direction, sources.as_mut()) {
            (Direction::Write, Some(noted)) => {
                // A read before it may have seen what this changes.
                let reads = noted.iter().any(Source::is_read);
                let source = Source::track(&self.bus, slot, at, len)?;
                let words = source.words().to_vec();
                if reads {
                    *sources = None
                } else {
                    noted.push(source)
                }
                words
            }
            (Direction::Read, Some(noted)) => {
                noted.push(Source::read(&self.bus, slot)?);
                self.bus.read_words(at, len)?
            }
            (_, None) => self.bus.read_words(at, len)?,
        };
        let checksum = sum(&words);
        let read = match descriptor.direction {
            Direction::Write => {
                if let Some((at, bits)) = self.tamper.packet
                    && !words.is_empty()
                {
                    let at = at as usize % words.len();
                    words[at] ^= bits;
                }
                self.play(&words)?;
                Vec::new()
            }
            Direction::Read => self.read_back(&words)?,
        };
        if descriptor.direction == Direction::Read && !read.is_empty() {
            self.write_read_back(descriptor.output, &read)?;
        }
        // What the mesh got counts, not what was in memory.
        let checksum = if descriptor.direction == Direction::Write { sum(&words) } else { checksum };
        let bytes: Vec<u8> = read.iter().flat_map(|w| w.to_le_bytes()).collect();
        Ok(self.completed(descriptor.input, descriptor.input_words.into(), checksum, descriptor.output, &bytes))
    }

    /// Gives the packets of a track to the mesh, up to the first one that is wrong.
    fn play(&self, words: &[u32]) -> Result<(), JobError> {
        for packet in packet::packets(words) {
            let packet = packet?;
            let mut mesh = lock(&self.mesh);
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
        match lock(&self.mesh).read(&header) {
            Ok(words) => Ok(words),
            Err(MeshError::NoSuchNp { .. }) => Ok(vec![0; header.len as usize]),
            Err(error) => Err(error.into()),
        }
    }

    /// With the output header on, the older engine finds the length in bits 15..0 of its first word.
    fn write_read_back(&self, output: u32, words: &[u32]) -> Result<(), JobError> {
        let header = self.header_bytes();
        let mut bytes = vec![0; header];
        if let Some(first) = bytes.first_chunk_mut::<4>() {
            *first = (words.len() as u32 & 0xffff).to_le_bytes();
        }
        bytes.extend(words.iter().flat_map(|w| w.to_le_bytes()));
        self.live()?;
        Ok(self.bus.write(output, &bytes)?)
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
            let mut mesh = lock(&self.mesh);
            self.live()?;
            let mut store = lock(&passes.store);
            if sources.is_some()
                && let Some(reads) = store.bring(place, &mut mesh, &self.bus)
            {
                drop((mesh, store));
                return reads.into_iter().try_for_each(|slot| self.config(slot, &mut None).map(drop));
            }
            store.clear_mesh(&mut mesh);
        }
        self.burst(passes, pass, &mut sources)?;
        if let Some(sources) = sources {
            let mesh = lock(&self.mesh);
            lock(&passes.store).note(place, sources, &mesh);
        }
        Ok(())
    }
}

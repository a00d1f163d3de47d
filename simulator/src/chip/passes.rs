//! The passes of a multi-pass program that were played before.
//!
//! Between passes the config DMA resets the mesh and plays the next pass's tracks. What they make of it depends on nothing else,
//! so a mesh is set aside when another pass takes its place, with what was worked out of it, and put back when its tracks have
//! to be played again: as long as nothing was written to where its descriptors and tracks are. Memory that cannot be watched is
//! read and compared.

use std::collections::HashMap;
use std::sync::Arc;

use akida_hal::descriptor;

use super::bus::{Bus, BusError};
use super::memory::Watch;
use crate::mesh::Mesh;

/// Bytes of meshes that are set aside at most; passes beyond are played anew each time.
const MOST_BYTES: usize = 256 << 20;

/// Which pass of which ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Device address of the config DMA's ring.
    pub ring: u32,
    /// Bytes of a slot.
    pub slot: u32,
    /// Descriptors of a pass.
    pub descriptors: u8,
    /// From 0.
    pub pass: usize,
}

/// What one config descriptor took from memory.
#[derive(Debug)]
pub struct Source {
    slot: u32,
    /// The descriptor, and the track of one that writes.
    taken: Vec<Taken>,
}

#[derive(Debug)]
struct Taken {
    address: u32,
    words: Vec<u32>,
    /// `None`: memory that cannot be watched.
    watch: Option<Arc<Watch>>,
}

impl Taken {
    fn new(bus: &Bus, address: u32, len: usize) -> Result<Self, BusError> {
        let watch = bus.memory.watch(address, len * 4);
        Ok(Self { address, words: bus.read_words(address, len)?, watch })
    }

    fn holds(&mut self, bus: &Bus) -> bool {
        if self.watch.as_ref().is_some_and(|w| w.untouched()) {
            return true;
        }
        match Self::new(bus, self.address, self.words.len()) {
            Ok(now) if now.words == self.words => {
                self.watch = now.watch;
                true
            }
            _ => false,
        }
    }
}

impl Source {
    /// Reads a descriptor's track of `len` words.
    pub fn track(bus: &Bus, slot: u32, address: u32, len: usize) -> Result<Self, BusError> {
        Ok(Self { slot, taken: vec![Taken::new(bus, address, len)?, Taken::new(bus, slot, descriptor::WORDS)?] })
    }

    /// A descriptor that reads: it is to be run again each time.
    pub fn read(bus: &Bus, slot: u32) -> Result<Self, BusError> {
        Ok(Self { slot, taken: vec![Taken::new(bus, slot, descriptor::WORDS)?] })
    }

    /// Whether its descriptor reads.
    pub fn is_read(&self) -> bool {
        self.taken.len() == 1
    }

    /// The track, or the descriptor of one that reads.
    pub fn words(&self) -> &[u32] {
        &self.taken[0].words
    }
}

#[derive(Debug)]
struct Played {
    sources: Vec<Source>,
    /// `None` while it is the chip's.
    mesh: Option<Mesh>,
}

/// Meshes that are set aside.
#[derive(Debug, Default)]
pub struct PassStore {
    played: HashMap<Place, Played>,
    /// Whose mesh the chip's is, as long as it was written to so often.
    current: Option<(Place, u64)>,
}

impl PassStore {
    /// Puts a pass's mesh into the chip's place, if it was set aside and its tracks are what they were. The slots of descriptors
    /// that read are returned: these are to be run.
    pub fn bring(&mut self, place: Place, mesh: &mut Mesh, bus: &Bus) -> Option<Vec<u32>> {
        let current = self.current(mesh);
        let played = self.played.get_mut(&place)?;
        let there = current == Some(place) || played.mesh.is_some();
        if !there || !played.sources.iter_mut().flat_map(|s| &mut s.taken).all(|t| t.holds(bus)) {
            self.played.remove(&place);
            return None;
        }
        let reads = played.sources.iter().filter(|s| s.is_read()).map(|s| s.slot).collect();
        if let Some(next) = played.mesh.take() {
            self.replace(mesh, next, current);
        }
        self.current = Some((place, mesh.writes()));
        Some(reads)
    }

    /// Sets the chip's mesh aside for a new one.
    pub fn clear_mesh(&mut self, mesh: &mut Mesh) {
        let (current, next) = (self.current(mesh), Mesh::new(mesh.topology().clone()));
        self.replace(mesh, next, current);
        self.current = None;
    }

    /// Remembers what made the chip's mesh.
    pub fn note(&mut self, place: Place, sources: Vec<Source>, mesh: &Mesh) {
        let kept: usize = self.played.keys().filter(|p| **p != place).count();
        if (kept + 1) * mesh.bytes() > MOST_BYTES {
            return;
        }
        self.played.insert(place, Played { sources, mesh: None });
        self.current = Some((place, mesh.writes()));
    }

    /// The pass whose mesh the chip's still is. One that keeps frames is no longer what its tracks make.
    fn current(&self, mesh: &Mesh) -> Option<Place> {
        self.current.filter(|(_, writes)| *writes == mesh.writes() && !mesh.keeps_frames()).map(|(place, _)| place)
    }

    fn replace(&mut self, mesh: &mut Mesh, next: Mesh, current: Option<Place>) {
        let old = std::mem::replace(mesh, next);
        if let Some(played) = current.and_then(|place| self.played.get_mut(&place)) {
            played.mesh = Some(old);
        }
    }
}

//! The passes of a multi-pass program that were played before.
//!
//! Between passes the config DMA resets the mesh and plays the next pass's tracks. What they make of it depends on nothing else,
//! so a mesh is set aside when another pass takes its place, with what was worked out of it, and put back when its tracks have
//! to be played again: as long as nothing was written to where its descriptors and tracks are. Memory that cannot be watched is
//! read and compared.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use akida_hal::descriptor;
use akida_kernels::Bytes;

use super::bus::{Bus, BusError};
use super::job::JobError;
use super::memory::{Watch, lock};
use crate::mesh::{Inputs, Mesh, MeshOutput, Network, ReadMemory, TOGETHER};

/// Bytes of meshes that are set aside at most; passes beyond are played anew each time.
const MOST_BYTES: usize = 256 << 20;

/// Bytes of weights of which a second-level cache does not keep many beside tensors.
const MANY_WEIGHTS: usize = 512 << 10;

/// Which pass of which ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Device address of the config DMA's ring.
    pub ring: u32,
    /// Bytes of a slot.
    pub slot: u32,
    /// Descriptors of a pass.
    pub descriptors: u8,
    /// Bytes of the header before what they read.
    pub header: usize,
    /// From 0.
    pub pass: usize,
}

/// Networks of the passes of a job.
#[derive(Debug)]
pub struct Networks {
    /// One after another, one at least.
    pub passes: Vec<Arc<Network>>,
    /// Device memory that they were made of, or that making them again would write to.
    pub sources: Vec<Range<u32>>,
    /// Memory between passes that nobody uses.
    spare: Mutex<Vec<[Bytes; 2]>>,
}

impl Networks {
    /// Of one pass or several.
    pub fn new(passes: Vec<Arc<Network>>, sources: Vec<Range<u32>>) -> Self {
        Self { passes, sources, spare: Mutex::default() }
    }

    /// Computes so many jobs, pass by pass. `load` gets the input of a job, by its number, to where it is computed; `take` gets the
    /// outputs from there, in order.
    ///
    /// # Errors
    /// The first that any of them has.
    pub fn run(
        &self,
        jobs: usize,
        mut load: impl FnMut(usize, &mut [u8]) -> Result<(), JobError>,
        memory: &dyn ReadMemory,
        mut take: impl FnMut(usize, MeshOutput<'_>),
    ) -> Result<(), JobError> {
        let [inner @ .., last] = &self.passes[..] else { return Ok(()) };
        if let Some(pass) = inner.iter().position(|network| network.output().bits > 8) {
            return Err(JobError::Potentials { pass });
        }
        let Some((head, inner)) = inner.split_first() else {
            return last.run_batch(Inputs::Fetched(jobs, &mut load), memory, take);
        };
        let mut room = lock(&self.spare).pop().unwrap_or_default();
        let [made, next] = &mut room;
        let together = self.between();
        for first in (0..jobs).step_by(together) {
            let count = together.min(jobs - first);
            head.run_into(Inputs::Fetched(count, &mut |job, into| load(first + job, into)), memory, made)?;
            for network in inner {
                network.run_into::<JobError>(Inputs::Here(made), memory, next)?;
                std::mem::swap(made, next);
            }
            last.run_batch::<JobError>(Inputs::Here(made), memory, |job, output| take(first + job, output))?;
        }
        lock(&self.spare).push(room);
        Ok(())
    }

    /// How many jobs are best computed together: as many as find room for their tensors in a second-level cache.
    pub fn at_once(&self) -> usize {
        self.passes.iter().map(|network| network.at_once()).min().unwrap_or(1).min(self.between())
    }

    /// How many a thread takes at least where several work, if they are faster together: enough of them to make up for reading weights
    /// that no second-level cache keeps from one turn to the next, but not so many that others have nothing to do meanwhile.
    pub fn at_least(&self) -> usize {
        let weights: usize = self.passes.iter().map(|network| network.weights()).sum();
        if weights > MANY_WEIGHTS { 8 } else { 4 }
    }

    /// How many go from pass to pass together.
    fn between(&self) -> usize {
        let between =
            self.passes[..self.passes.len() - 1].iter().map(|network| TOGETHER / network.output().len().max(1));
        between.min().unwrap_or(usize::MAX).max(1)
    }

    /// Whether these are the same networks, not only equal ones.
    pub fn same(&self, other: &Self) -> bool {
        self.passes.len() == other.passes.len() && self.passes.iter().zip(&other.passes).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    /// The first pass's.
    pub fn first(&self) -> &Arc<Network> {
        &self.passes[0]
    }

    /// The last pass's.
    pub fn last(&self) -> &Arc<Network> {
        &self.passes[self.passes.len() - 1]
    }
}

/// What one config descriptor took from memory, and gave to it.
#[derive(Debug)]
pub struct Source {
    descriptor: Taken,
    /// The track of one that writes, the header of one that reads.
    words: Taken,
    /// What one that reads puts where. It depends on nothing but the pass's tracks before it.
    gives: Option<(u32, Vec<u8>)>,
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
    /// Reads the `len` words that a descriptor refers to.
    pub fn new(bus: &Bus, slot: u32, address: u32, len: usize) -> Result<Self, BusError> {
        let (words, descriptor) = (Taken::new(bus, address, len)?, Taken::new(bus, slot, descriptor::WORDS)?);
        Ok(Self { descriptor, words, gives: None })
    }

    /// With what its descriptor, which reads, puts to an address.
    pub fn giving(self, address: u32, bytes: Vec<u8>) -> Self {
        Self { gives: Some((address, bytes)), ..self }
    }

    /// Whether its descriptor reads.
    pub fn is_read(&self) -> bool {
        self.gives.is_some()
    }

    /// What the descriptor refers to.
    pub fn words(&self) -> &[u32] {
        &self.words.words
    }

    fn holds(&mut self, bus: &Bus) -> bool {
        self.descriptor.holds(bus) && self.words.holds(bus)
    }

    /// Puts what it reads to where it goes, unless it is there.
    fn give(&self, bus: &Bus) -> Result<(), BusError> {
        let Some((address, bytes)) = &self.gives else { return Ok(()) };
        let mut there = [0; FEW];
        if let Some(there) = there.get_mut(..bytes.len())
            && bus.memory.read(*address, there).is_ok()
            && there == bytes
        {
            return Ok(());
        }
        bus.write(*address, bytes)
    }

    /// Memory it depends on and writes to.
    fn ranges(&self) -> impl Iterator<Item = Range<u32>> {
        let range = |address: u32, len: usize| address..address.saturating_add(len as u32);
        let gives = self.gives.as_ref().map(|(address, bytes)| range(*address, bytes.len()));
        let taken = [&self.descriptor, &self.words].map(|t| range(t.address, t.words.len() * 4));
        taken.into_iter().chain(gives)
    }
}

/// Bytes of a register that is read, with an output header.
const FEW: usize = 64;

/// Sorted, neighbours as one.
fn joined(mut ranges: Vec<Range<u32>>) -> Vec<Range<u32>> {
    ranges.sort_by_key(|r| r.start);
    let mut joined: Vec<Range<u32>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
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
    /// Networks of jobs with these passes, as long as all hold.
    networks: Option<(Vec<Place>, Arc<Networks>)>,
}

impl PassStore {
    /// Does what playing a pass would do, if its mesh was set aside and its tracks are what they were: that is put into the chip's
    /// place, and what its descriptors read to where it goes.
    ///
    /// # Errors
    /// Where that does not answer.
    pub fn bring(&mut self, place: Place, mesh: &mut Mesh, bus: &Bus) -> Result<bool, BusError> {
        let current = self.current(mesh);
        if !self.holds(place, current, bus) {
            return Ok(false);
        }
        if let Some(next) = self.played.get_mut(&place).and_then(|played| played.mesh.take()) {
            self.replace(mesh, next, current);
        }
        self.current = Some((place, mesh.writes()));
        self.played.get(&place).into_iter().flat_map(|p| &p.sources).try_for_each(|source| source.give(bus))?;
        Ok(true)
    }

    /// Whether a pass was played, its mesh is here and its tracks are what they were; else it is forgotten.
    fn holds(&mut self, place: Place, current: Option<Place>, bus: &Bus) -> bool {
        let Some(played) = self.played.get_mut(&place) else { return false };
        let there = current == Some(place) || played.mesh.is_some();
        let holds = there && played.sources.iter_mut().all(|source| source.holds(bus));
        if !holds {
            self.forget(place);
        }
        holds
    }

    /// Does what playing all passes of a job and then the first one again would do, where that is known and leaves the chip's mesh as
    /// it is; gives the networks they make.
    pub fn networks(&mut self, places: &[Place], mesh: &mut Mesh, bus: &Bus) -> Option<Arc<Networks>> {
        let current = self.current(mesh)?;
        if places.first() != Some(&current) || !places.iter().all(|place| self.holds(*place, Some(current), bus)) {
            return None;
        }
        let played = |place| self.played.get(place).into_iter().flat_map(|p| &p.sources);
        places.iter().flat_map(played).try_for_each(|source| source.give(bus)).ok()?;
        if let Some((of, networks)) = &self.networks
            && of == places
        {
            return Some(networks.clone());
        }
        let mut passes: Vec<Arc<Network>> = Vec::with_capacity(places.len());
        for place in places {
            let played = self.played.get_mut(place)?;
            let mesh = played.mesh.as_mut().unwrap_or(&mut *mesh);
            let network = mesh.network_behind(passes.last().map(|before| &**before)).ok()?;
            passes.push(Some(network).filter(|n| !n.keeps_frames())?);
        }
        let sources = self.played.values().flat_map(|p| &p.sources).flat_map(Source::ranges).collect();
        let networks = Arc::new(Networks::new(passes, joined(sources)));
        self.networks = Some((places.to_vec(), networks.clone()));
        Some(networks)
    }

    fn forget(&mut self, place: Place) {
        self.played.remove(&place);
        self.networks = None;
    }

    /// Sets the chip's mesh aside for a new one.
    pub fn clear_mesh(&mut self, mesh: &mut Mesh) {
        let (current, next) = (self.current(mesh), mesh.another());
        self.replace(mesh, next, current);
        self.current = None;
    }

    /// Remembers what made the chip's mesh.
    pub fn note(&mut self, place: Place, sources: Vec<Source>, mesh: &Mesh) {
        let kept: usize = self.played.keys().filter(|p| **p != place).count();
        if (kept + 1) * mesh.bytes() > MOST_BYTES {
            return;
        }
        self.networks = None;
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

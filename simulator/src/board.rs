//! The simulated board as a [`Board`]: plays the host's part (assigning BARs and the interrupt message as a kernel does,
//! mapping memory, waiting) around a [`Chip`].

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use akida_hal::board::{Bar, Identity, Wake};
use akida_hal::dma::{DmaBuffer, DmaMemory};
use akida_hal::regs::pci;
use akida_hal::{Board, Error, Result};

use crate::chip::bus::HostMemory;
use crate::chip::job::{Begun, Computed, CoreDone, CoreWork, Foreseen};
use crate::chip::memory::lock;
use crate::chip::{Chip, CoreBatch, Counters};
use crate::clock::{ACCESS, Clock, Time, cycles};
use crate::faults::{FaultPlan, Fired};
use crate::interrupt::Vector;
use crate::iommu::{DmaMap, HostAccess};
use crate::spec::SimSpec;
use crate::team::Team;

/// PCI address of BAR 0; the others follow, 256 MiB apart.
const BAR_ADDRESS: u64 = 0x38_0000_0000;
const BAR_APART: u64 = 256 << 20;
/// The interrupt message a kernel would have chosen.
const MSI_ADDRESS: u64 = 0xfee0_1000;
const MSI_DATA: u32 = 0x4031;
/// Bytes the PCIe DMA engine moves inside one access; the rest waits for the next.
const SLICE: u64 = 64 << 20;
/// Jobs of the core done inside one access.
const JOBS: usize = 256;
/// Virtual nanoseconds per KiB on the link: about 400 MB/s, Gen2 x1. Ours.
const LINK_NS_PER_KIB: u64 = 2500;

/// A PCI function made of software.
pub struct SimBoard {
    identity: Identity,
    spec: SimSpec,
    shared: Arc<Shared>,
    generation: AtomicU64,
    worker: Option<JoinHandle<()>>,
}

struct Shared {
    chip: Mutex<Chip>,
    /// Jobs that were taken from their rings and wait for the core's thread. Locked after the chip.
    taken: Mutex<VecDeque<CoreWork>>,
    /// Told when there are any.
    work: Condvar,
    /// Computes jobs side by side where accesses do the work.
    team: Option<Arc<Team>>,
    stop: AtomicBool,
    map: Arc<DmaMap>,
    host: Arc<dyn HostMemory>,
    vector: Vector,
    time: Time,
}

/// What a board did, for tests and reports.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Accesses, transfers, jobs.
    pub counters: Counters,
    /// Host memory the device read and wrote.
    pub host_accesses: Vec<HostAccess>,
    /// Host memory it wanted and did not get.
    pub host_refused: Vec<HostAccess>,
    /// Live DMA mappings: (IOVA, bytes).
    pub mappings: Vec<(u64, usize)>,
    /// Bytes of host memory that stand for device memory.
    pub resident_bytes: usize,
}

impl SimBoard {
    /// Plugs a board in: BARs have addresses and are decoded, MSI is enabled; bus mastering and translation are the
    /// driver's business.
    ///
    /// # Errors
    /// [`Error::System`] for BAR lengths that are no powers of two from 4 KiB to 256 MiB, when no thread can be had, and when
    /// `AKIDA_KERNELS` asks for a kernel set that this machine does not have.
    pub fn open(spec: &SimSpec) -> Result<Self> {
        let name = format!("sim:{spec}");
        let system =
            |operation: &str, source| Error::System { board: name.clone(), operation: operation.into(), source };
        akida_kernels::forced()
            .map_err(|e| system("choosing kernels", io::Error::new(io::ErrorKind::InvalidInput, e)))?;
        if !spec.bar_len.iter().all(|len| len.is_power_of_two() && (4096..=BAR_APART).contains(len)) {
            let operation = format!("making BARs of {:#x?} bytes", spec.bar_len);
            return Err(system(&operation, io::ErrorKind::InvalidInput.into()));
        }
        let chip = spec.model.chip();
        let map = Arc::new(DmaMap::new());
        let shared = Arc::new(Shared {
            chip: Mutex::new(Chip::new(spec)),
            taken: Mutex::default(),
            work: Condvar::new(),
            team: match spec.clock {
                Clock::Stepped => {
                    let team = Team::new(&spec.to_string(), spec.threads.max(1));
                    Some(Arc::new(team.map_err(|e| system("starting threads", e))?))
                }
                Clock::Threaded => None,
            },
            stop: AtomicBool::new(false),
            host: map.clone(),
            map,
            vector: Vector::default(),
            time: Time::new(spec.clock),
        });
        plug(&mut lock(&shared.chip));
        let worker = match spec.clock {
            Clock::Stepped => None,
            Clock::Threaded => {
                let shared = shared.clone();
                let thread = std::thread::Builder::new().name(format!("{spec} core"));
                Some(thread.spawn(move || shared.compute()).map_err(|e| system("starting the core's thread", e))?)
            }
        };
        let identity = Identity { name, vendor: pci::VENDOR, device: pci::device_id(chip), chip, simulated: true };
        Ok(Self { identity, spec: spec.clone(), shared, generation: AtomicU64::new(0), worker })
    }

    /// What it was made from.
    pub fn spec(&self) -> &SimSpec {
        &self.spec
    }

    /// Faults of the plan that happened so far.
    pub fn faults_fired(&self) -> Vec<Fired> {
        lock(&self.shared.chip).fired().to_vec()
    }

    /// Replaces what is left of the fault plan; occasions are counted from now on. Reports are kept.
    pub fn arm(&self, plan: &FaultPlan) {
        lock(&self.shared.chip).arm(plan);
    }

    /// What the board did so far.
    pub fn inspect(&self) -> Inspection {
        let mut chip = lock(&self.shared.chip);
        chip.catch_up();
        Inspection {
            counters: chip.counters().clone(),
            host_accesses: self.shared.map.accesses(),
            host_refused: self.shared.map.refused(),
            mappings: self.shared.map.mappings(),
            resident_bytes: chip.memory().resident(),
        }
    }

    fn access<T>(&self, access: impl FnOnce(&mut Chip) -> T) -> T {
        let mut chip = lock(&self.shared.chip);
        let result = access(&mut chip);
        self.shared.time.advance(ACCESS);
        self.shared.work(&mut chip);
        result
    }

    fn check(&self, space: &'static str, offset: u64, limit: u64) -> Result<()> {
        if offset.is_multiple_of(4) && offset < limit {
            return Ok(());
        }
        Err(Error::Access { board: self.identity.to_string(), space, offset, limit })
    }

    fn check_bar(&self, bar: Bar, offset: u64) -> Result<()> {
        let space = match bar {
            Bar::Bar0 => "BAR0",
            Bar::Bar2 => "BAR2",
            Bar::Bar4 => "BAR4",
        };
        self.check(space, offset, self.bar_len(bar))
    }
}

/// What firmware and kernel do before a driver sees a function.
fn plug(chip: &mut Chip) {
    let bars = [0, 1, 2].map(|i| BAR_ADDRESS + i * BAR_APART);
    chip.plug(bars, MSI_ADDRESS, MSI_DATA);
}

/// Jobs that a thread takes at once. Together they are faster: weights are read once for all.
const TOGETHER: usize = 16;

impl Shared {
    /// Does what an access started, as far as it is to be done inside it.
    fn work(&self, chip: &mut Chip) {
        let mut moved = 0;
        while moved < SLICE
            && let Some(mut work) = chip.link_work(true)
        {
            moved += u64::from(work.len());
            let result = work.run(&*self.host);
            chip.link_done(work, result);
        }
        self.time.advance(Duration::from_nanos(moved * LINK_NS_PER_KIB / 1024));
        match self.time {
            Time::Virtual(_) => {
                let mut jobs = 0;
                while jobs < JOBS
                    && let Some(done) = self.compute_now(chip)
                {
                    jobs += done;
                }
            }
            Time::Real(_) => {
                // A chip takes a descriptor at once, whenever the thread may get to run: the ring must show it.
                while chip.core_waits()
                    && let Some(work) = chip.core_work(&self.host)
                {
                    lock(&self.taken).push_back(work);
                    self.work.notify_one();
                }
            }
        }
        self.deliver(chip);
    }

    /// Does the next job, or several that are computed side by side; how many, `None` when there is none.
    fn compute_now(&self, chip: &mut Chip) -> Option<usize> {
        let threads = self.team.as_ref().map_or(1, |team| team.threads());
        let CoreBatch { works, networks } = chip.core_batch(&self.host, threads * TOGETHER)?;
        let count = works.len();
        let done = |chip: &mut Chip, done: CoreDone| {
            let refused = done.outcome.is_err();
            self.time.advance(cycles(chip.core_done(done)));
            !refused
        };
        let (Some(team), Some(networks)) = (&self.team, networks) else {
            works.into_iter().map(CoreWork::run).all(|d| done(chip, d));
            return Some(count);
        };
        let several_passes = networks.passes.len() > 1;
        let begun: Vec<Begun> = works.into_iter().map(|work| work.begin(networks.clone())).collect();
        if chip.read_too_early(&begun) || Begun::depend(&begun) {
            chip.catch_up();
            begun.into_iter().map(Begun::run).all(|d| done(chip, d));
            return Some(count);
        }
        let foreseen: Option<Vec<Foreseen>> = begun.iter().map(Begun::foresee).collect();
        match foreseen.filter(|_| chip.foresees()) {
            Some(foreseen) => {
                chip.end_early(team, begun, foreseen).into_iter().for_each(|n| self.time.advance(cycles(n)))
            }
            // What is refused between two passes leaves the mesh to the next.
            None if several_passes => {
                chip.catch_up();
                begun.into_iter().map(Begun::run).all(|d| done(chip, d));
            }
            None => {
                chip.catch_up();
                team.run(begun).into_iter().map(Computed::finish).all(|d| done(chip, d));
            }
        }
        Some(count)
    }

    /// Messages to the interrupt vector, anything else to host memory.
    fn deliver(&self, chip: &mut Chip) {
        for sent in chip.messages() {
            if sent.msi {
                self.vector.raise(self.time.now() + sent.late);
            } else if let Err(refused) = self.host.write(sent.message.address, &sent.message.data.to_le_bytes()) {
                log::debug!(target: "akida::sim::dma", "interrupt message: {refused}");
            }
        }
    }

    /// The core's own thread: does jobs outside the lock, takes the next one before it lets go of it.
    fn compute(&self) {
        let mut chip = lock(&self.chip);
        while !self.stop.load(Ordering::SeqCst) {
            let taken = lock(&self.taken).pop_front();
            match taken.or_else(|| chip.core_work(&self.host)) {
                Some(work) => {
                    drop(chip);
                    let done = work.run();
                    chip = lock(&self.chip);
                    chip.core_done(done);
                    self.deliver(&mut chip);
                }
                None => chip = self.work.wait(chip).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Board for SimBoard {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn config_read(&self, offset: u16) -> Result<u32> {
        self.check("configuration space", offset.into(), pci::CONFIG_LEN.into())?;
        Ok(self.access(|chip| chip.config_read(offset)))
    }

    fn config_write(&self, offset: u16, value: u32) -> Result<()> {
        self.check("configuration space", offset.into(), pci::CONFIG_LEN.into())?;
        self.access(|chip| chip.config_write(offset, value, u32::MAX));
        Ok(())
    }

    fn bar_len(&self, bar: Bar) -> u64 {
        self.spec.bar_len[bar.index() / 2]
    }

    fn read(&self, bar: Bar, offset: u64) -> Result<u32> {
        self.check_bar(bar, offset)?;
        Ok(self.access(|chip| chip.bar_read(bar, offset)))
    }

    fn write(&self, bar: Bar, offset: u64, value: u32) -> Result<()> {
        self.check_bar(bar, offset)?;
        self.access(|chip| chip.bar_write(bar, offset, value));
        Ok(())
    }

    fn allocate(&self, len: usize) -> Result<DmaBuffer> {
        if lock(&self.shared.chip).refuse_allocation() {
            return Err(Error::HostMemory { len, source: io::ErrorKind::OutOfMemory.into() });
        }
        let memory = Arc::new(DmaMemory::new(len)?);
        let iova = self.shared.map.map(memory.clone());
        Ok(DmaBuffer::new(memory, iova, self.generation(), self.shared.map.clone()))
    }

    fn wait_interrupt(&self, timeout: Duration) -> Result<Wake> {
        self.shared.work(&mut lock(&self.shared.chip));
        Ok(self.shared.vector.wait(&self.shared.time, timeout))
    }

    /// As a kernel resets a function: what it had assigned is restored, bus mastering and translation are not.
    fn reset(&self) -> Result<()> {
        let mut chip = lock(&self.shared.chip);
        chip.reset();
        plug(&mut chip);
        self.shared.vector.clear();
        self.generation.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    fn now(&self) -> Duration {
        self.shared.time.now()
    }

    fn pause(&self, time: Duration) {
        self.shared.time.pause(time);
        self.shared.work(&mut lock(&self.shared.chip));
    }
}

impl Drop for SimBoard {
    fn drop(&mut self) {
        {
            // Under the lock, so that the thread is either waiting or about to look.
            let _chip = lock(&self.shared.chip);
            self.shared.stop.store(true, Ordering::SeqCst);
            self.shared.work.notify_all();
        }
        if let Some(worker) = self.worker.take()
            && worker.join().is_err()
        {
            log::error!(target: "akida::sim", "{}: the core's thread panicked", self.identity);
        }
    }
}

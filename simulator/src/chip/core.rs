//! The Akida core: resets, interrupt block, and which job is next.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use akida_hal::regs::dma;
use akida_hal::regs::top::{GeneralControl, InterruptSource};

use super::bus::{Bus, HostMemory};
use super::controller::{Controller, Kind};
use super::job::{CoreDone, CoreWork, JobError, Passes, Reach, Setup, Tamper};
use super::memory::lock;
use super::passes::Networks;
use super::{Chip, JobRecord, Presence};
use crate::faults::{FaultKind, Occasion};

/// Reports kept for inspection.
const RECORDS_MAX: usize = 4096;

/// Jobs that were taken from a ring.
pub struct CoreBatch {
    /// One at least.
    pub works: Vec<CoreWork>,
    /// What all go through, where they can be computed at the same time.
    pub networks: Option<Arc<Networks>>,
}

impl Chip {
    /// Resets act when their bits are set; releasing them is the other write (hardware.md 7.2).
    pub(super) fn general_control(&mut self, old: GeneralControl, new: GeneralControl) {
        self.catch_up();
        let core = GeneralControl::CORE_RESET;
        let np = GeneralControl::LOGIC_RESET | GeneralControl::MESH_RESET;
        let resets = core | np | GeneralControl::SCC_RESET;
        if old.intersects(resets) && !new.intersects(resets) {
            let stuck = self.faults.on(Occasion::Release).any(|f| f == FaultKind::StuckReset);
            if stuck {
                return self.top.set_control(new | old & resets);
            }
        }
        if new.contains(core) {
            self.controllers.iter_mut().for_each(Controller::reset);
        }
        if new.intersects(np) {
            // Config jobs that are out must not write into the mesh after it.
            self.controllers[Kind::Config.index()].epoch().fetch_add(1, Ordering::SeqCst);
            self.controllers[Kind::Config.index()].busy = false;
            self.reset_mesh();
        }
    }

    /// Clears the mesh. Passes that were played belong to the program that is gone.
    pub(super) fn reset_mesh(&mut self) {
        self.passes = Arc::default();
        lock(&self.mesh).reset();
    }

    /// Whether the core is held in reset.
    fn held(&self) -> bool {
        self.top
            .control()
            .intersects(GeneralControl::CORE_RESET | GeneralControl::LOGIC_RESET | GeneralControl::MESH_RESET)
    }

    /// The Akida interrupt controller. Nothing public routes it to the host (hardware.md section 15), so it is only read.
    pub(super) fn interrupt_source(&self) -> InterruptSource {
        let mut source = InterruptSource::empty();
        for (kind, bit) in [
            (Kind::Event, InterruptSource::AEDMA),
            (Kind::Hrc, InterruptSource::HRC),
            (Kind::Config, InterruptSource::CONFIG_DMA),
        ] {
            source.set(bit, self.controllers[kind.index()].interrupting());
        }
        source
    }

    /// The next job of the Akida core: config before input, so that a program is complete before it runs.
    pub fn core_work(&mut self, host: &Arc<dyn HostMemory>) -> Option<CoreWork> {
        if !self.attention || self.presence != Presence::Here || self.held() {
            return None;
        }
        let work = self.first_work(host);
        self.attention = work.is_some();
        work
    }

    /// The next job, and those behind it in its ring that can be computed at the same time, as many as are late counted, `most`
    /// at the most. They are to be finished in this order, and given back one by one; after one that was refused those behind
    /// it never were.
    pub fn core_batch(&mut self, host: &Arc<dyn HostMemory>, most: usize) -> Option<CoreBatch> {
        if self.late_jobs() >= most {
            // What nobody computes meanwhile is computed while its inputs are still in the processor's caches.
            if !self.core_waits() && !self.late_alone() {
                return None;
            }
            self.catch_up();
        }
        let most = most - self.late_jobs();
        let first = self.core_work(host)?;
        let kind = first.kind;
        let networks = first.networks();
        let mut works = vec![first];
        let Some(networks) = networks else {
            self.catch_up();
            return Some(CoreBatch { works, networks: None });
        };
        self.catch_up_with_others(&networks);
        while works.len() < most {
            self.controllers[kind.index()].busy = false;
            match self.start(kind, host, Some(&works[0].reach)) {
                Some(work) => works.push(work),
                None => break,
            }
        }
        self.controllers[kind.index()].busy = true;
        Some(CoreBatch { works, networks: Some(networks) })
    }

    fn first_work(&mut self, host: &Arc<dyn HostMemory>) -> Option<CoreWork> {
        [Kind::Config, Kind::Event, Kind::Hrc].into_iter().find_map(|kind| self.start(kind, host, None))
    }

    /// `reach`: that of a job which is taken together with this one.
    fn start(&mut self, kind: Kind, host: &Arc<dyn HostMemory>, reach: Option<&Arc<Reach>>) -> Option<CoreWork> {
        let controller = &self.controllers[kind.index()];
        let index = controller.pending()?;
        let config = &self.controllers[Kind::Config.index()];
        let replaying = controller.replaying();
        // An input waits for its program: for the config DMA to be done, and in multi-pass for its first pass.
        if kind != Kind::Config && (config.busy || replaying && !config.primed) {
            return None;
        }
        if !replaying && !controller.last_in_ring() {
            let last = dma::LAST.get(controller.registers.get(dma::DESCRIPTOR));
            self.refuse(kind, &JobError::Ring { last });
            return None;
        }
        let mut tamper = Tamper::default();
        let occasion = if kind == Kind::Config { Occasion::ConfigJob } else { Occasion::InputJob };
        for fault in self.faults.on(occasion) {
            match fault {
                FaultKind::StallConfig | FaultKind::StallInput => {
                    self.controllers[kind.index()].stalled = true;
                    return None;
                }
                FaultKind::WrongJobId => tamper.job_id = true,
                FaultKind::TruncateHeader => tamper.header = true,
                _ => {}
            }
        }
        for fault in self.faults.on(Occasion::Descriptor) {
            if let FaultKind::FlipDescriptor { word, bits } = fault {
                tamper.descriptor = Some((word, bits));
            }
        }
        if kind == Kind::Config {
            for fault in self.faults.on(Occasion::Track) {
                if let FaultKind::CorruptPacket { word, bits } = fault {
                    tamper.packet = Some((word, bits));
                }
            }
        }
        let config = &self.controllers[Kind::Config.index()].registers;
        let reset_mesh = self.top.control().contains(GeneralControl::MULTI_PASS);
        let passes = replaying.then(|| Passes::of(config, reset_mesh, self.passes.clone()));
        let reach = reach.cloned().unwrap_or_else(|| Arc::new(self.reach(kind, host)));
        let controller = &mut self.controllers[kind.index()];
        controller.take(index);
        Some(CoreWork {
            kind,
            index,
            started: controller.epoch().load(Ordering::SeqCst),
            setup: Setup::of(&controller.registers),
            slot: controller.slot(index),
            passes,
            tamper,
            reach,
        })
    }

    fn reach(&self, kind: Kind, host: &Arc<dyn HostMemory>) -> Reach {
        Reach {
            epoch: self.controllers[kind.index()].epoch().clone(),
            bus: Bus {
                memory: self.memory.clone(),
                outbound: self.config.bus_master().then(|| self.iatu.clone()),
                host: host.clone(),
            },
            mesh: self.mesh.clone(),
            fnp2: self.top.fnp2_addresses(),
            spare: self.spare.clone(),
        }
    }

    /// Gives a job back; the clock cycles it took.
    pub fn core_done(&mut self, done: CoreDone) -> u32 {
        self.attention = true;
        let controller = &mut self.controllers[done.kind.index()];
        if controller.epoch().load(Ordering::SeqCst) != done.started {
            return 0;
        }
        match done.outcome {
            Ok(completed) => {
                if done.kind == Kind::Config && completed.burst {
                    controller.primed = true;
                }
                controller.complete(&completed);
                log::trace!(target: "akida::sim::dma", "{:?} job {} done: {completed:x?}", done.kind, completed.job);
                self.record(JobRecord { kind: done.kind, outcome: Ok(completed.job) });
                completed.cycles
            }
            Err(error) => {
                // Others behind it may have been taken to be computed with it.
                controller.current(done.index);
                self.refuse(done.kind, &error);
                0
            }
        }
    }

    pub(super) fn refuse(&mut self, kind: Kind, error: &JobError) {
        log::debug!(target: "akida::sim::dma", "{kind:?} job refused: {error}");
        self.controllers[kind.index()].halt(matches!(error, JobError::Bus(_)));
        self.record(JobRecord { kind, outcome: Err(error.to_string()) });
    }

    fn record(&mut self, record: JobRecord) {
        if self.counters.jobs.len() == RECORDS_MAX {
            self.counters.jobs.drain(..RECORDS_MAX / 2);
        }
        self.counters.jobs.push(record);
    }
}

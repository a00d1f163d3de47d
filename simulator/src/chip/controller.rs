//! Registers and ring of one Akida DMA controller (hardware.md section 8).
//!
//! Deduced: the current index is read-only, which fits all three uses that are known (keeping it as read, writing 0 to
//! run descriptor 0, writing 0xFE/0xFF to loop). Ours: the checksum (a wrapping sum of words), and that a descriptor the
//! controller cannot make sense of stops it until a soft or core reset.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use akida_hal::regs::dma::{self, Control, Monitor, MonitorStatus, Replay};

use super::regmap::{RegMap, Register};

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Input events.
    Event,
    /// Dense input.
    Hrc,
    /// Config packets.
    Config,
}

impl Kind {
    /// Where the controller is among the chip's three.
    pub const fn index(self) -> usize {
        self as usize
    }

    const fn block(self) -> &'static str {
        match self {
            Kind::Event => "event_dma",
            Kind::Hrc => "hrc_dma",
            Kind::Config => "config_dma",
        }
    }
}

/// What a finished job leaves in registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Completed {
    /// Ring index of the (last) descriptor.
    pub index: u8,
    /// Job id.
    pub job: u16,
    /// Address the input was read from.
    pub input: u32,
    /// Words read there.
    pub input_words: u32,
    /// Address the output was written to.
    pub output: u32,
    /// Words written there, header not counted.
    pub output_words: u32,
    /// Sum of the words read.
    pub checksum_in: u32,
    /// Sum of the words written.
    pub checksum_out: u32,
    /// Clock cycles it took.
    pub cycles: u32,
    /// Whether this ended a burst of descriptors (multi-pass).
    pub burst: bool,
    /// Interrupts the descriptor does not want, as latched status bits.
    pub quiet: u32,
}

/// Entries the job id FIFO keeps.
const FIFO_LEN: usize = 255;
/// Latched interrupt bits are this far above the status bits, and masks as far above them in the control register.
const LATCHED: u32 = 16;
const ENDS: u32 = 0xf;

/// One controller.
pub struct Controller {
    kind: Kind,
    /// Its registers.
    pub registers: RegMap,
    /// Counts soft resets; a job that started before the last one must not finish.
    epoch: Arc<AtomicU64>,
    /// A job is being worked on.
    pub busy: bool,
    /// A descriptor or packet was refused; nothing runs until a reset.
    pub halted: bool,
    /// The fault plan's stall: a job was taken and does not end.
    pub stalled: bool,
    /// Multi-pass: the first burst was played and the next one waits for the input.
    pub primed: bool,
    fifo: VecDeque<u16>,
}

impl Controller {
    /// A controller after reset.
    pub fn new(kind: Kind) -> Self {
        let special = [
            Register::rw(dma::CONTROL, "").reset(0x8300_0002).mask(!0xf & !Control::SOFT_RESET.bits()),
            Register::rw(dma::DESCRIPTOR, "").reset(0x00ff_00ff).mask(dma::LAST.mask() | dma::CHAINED.mask()),
            Register::ro(dma::DESCRIPTOR_STATUS, ""),
            Register::ro(dma::INPUT_ADDRESS, ""),
            Register::ro(dma::OUTPUT_ADDRESS, ""),
            Register::ro(dma::OUTPUT_WORDS, ""),
            Register::ro(dma::INPUT_WORDS, ""),
            Register::rw(dma::MONITOR_CONTROL, "").mask(0x000f_7300),
            Register::ro(dma::MONITOR_STATUS, ""),
            Register::ro(dma::BUFFER_COUNTER, ""),
            Register::ro(dma::BUFFER_TIMER, ""),
            Register::ro(dma::JOB_FIFO, ""),
            Register::ro(dma::DEBUG_0, ""),
            Register::ro(dma::DEBUG_1, ""),
            Register::ro(dma::DEBUG_2, ""),
            Register::ro(dma::REPLAY_STATUS, ""),
            Register::ro(dma::RESET, ""),
            Register::rw(dma::DEBUG_CONTROL, "").mask(0xc700_0011),
            Register::ro(dma::DEBUG_AXI, ""),
            Register::ro(dma::CHECKSUM_IN, ""),
            Register::ro(dma::CHECKSUM_OUT, ""),
        ];
        Self {
            kind,
            registers: RegMap::of(kind.block(), dma::NAMES, &special),
            epoch: Arc::default(),
            busy: false,
            halted: false,
            stalled: false,
            primed: false,
            fifo: VecDeque::new(),
        }
    }

    /// Which of the three this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The reset counter, shared with jobs that are out.
    pub fn epoch(&self) -> &Arc<AtomicU64> {
        &self.epoch
    }

    /// Soft reset: registers, ring position, and whatever job is out is forgotten.
    pub fn reset(&mut self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.registers.reset();
        self.busy = false;
        self.halted = false;
        self.stalled = false;
        self.primed = false;
        self.fifo.clear();
    }

    /// Reads a register. Reading the job id FIFO takes its oldest entry (ours).
    pub fn read(&mut self, offset: u32) -> u32 {
        if offset != dma::JOB_FIFO {
            return self.registers.get(offset);
        }
        let count = dma::FIFO_COUNT.of(self.fifo.len() as u32);
        self.fifo.pop_front().map_or(count, |job| count | dma::FIFO_VALID.mask() | dma::FIFO_OUTPUT.of(job.into()))
    }

    /// Writes a register.
    pub fn write(&mut self, offset: u32, value: u32) {
        if offset == dma::CONTROL && value & Control::SOFT_RESET.bits() != 0 {
            return self.reset();
        }
        self.registers.write(offset, value);
        match offset {
            dma::MONITOR_CONTROL => {
                let command = Monitor::from_bits_truncate(value);
                if command.contains(Monitor::STATUS_CLEAR) {
                    self.registers.set(dma::MONITOR_STATUS, 0);
                }
                if command.contains(Monitor::COUNTER_CLEAR) {
                    self.registers.set(dma::BUFFER_COUNTER, 0);
                }
                if command.contains(Monitor::FIFO_CLEAR) {
                    self.fifo.clear();
                }
            }
            dma::DEBUG_CONTROL => {
                if dma::CHECKSUM_RESET.any(value) {
                    self.registers.set(dma::CHECKSUM_IN, 0);
                    self.registers.set(dma::CHECKSUM_OUT, 0);
                }
                if dma::FORCE_INTERRUPT.any(value) {
                    self.registers.update(dma::MONITOR_STATUS, MonitorStatus::OUTBOUND_INTERRUPT.bits(), 0);
                }
            }
            _ => {}
        }
    }

    /// Whether the interrupt controller sees this controller.
    pub fn interrupting(&self) -> bool {
        self.registers.get(dma::CONTROL) & Control::INTERRUPT.bits() != 0
            && self.registers.get(dma::MONITOR_STATUS) & ENDS << LATCHED != 0
    }

    /// Multi-pass mode.
    pub fn replaying(&self) -> bool {
        self.registers.get(dma::REPLAY_CONTROL) & Replay::BURST_MODE.bits() != 0
    }

    /// Ring index to process next, when the controller may.
    pub fn pending(&self) -> Option<u8> {
        let descriptor = self.registers.get(dma::DESCRIPTOR);
        let running = self.registers.get(dma::CONTROL) & Control::RUN.bits() != 0;
        let (current, last) = (dma::CURRENT.get(descriptor), dma::LAST.get(descriptor));
        (running && !self.busy && !self.halted && !self.stalled && !self.primed && current != last)
            .then(|| self.after(current as u8))
    }

    /// The index after another one: 0 after the last slot, and after the 0xFF of a reset.
    pub fn after(&self, index: u8) -> u8 {
        let max = dma::MAX_INDEX.get(self.registers.get(dma::RING_SIZE));
        if u32::from(index) >= max { 0 } else { index + 1 }
    }

    /// Whether the last index lies in the ring. Outside, the ring is looped for ever, which only multi-pass wants.
    pub fn last_in_ring(&self) -> bool {
        dma::LAST.get(self.registers.get(dma::DESCRIPTOR)) <= dma::MAX_INDEX.get(self.registers.get(dma::RING_SIZE))
    }

    /// Device address of a slot and its length in bytes.
    pub fn slot(&self, index: u8) -> (u32, u32) {
        let bytes = dma::SLOT_SIZE.get(self.registers.get(dma::RING_SIZE)).max(1) * 32;
        (self.registers.get(dma::RING_BASE).wrapping_add(u32::from(index) * bytes), bytes)
    }

    /// Takes slot `index`: from now on it is the current one. A ring of n slots can so be filled again with n jobs while
    /// one of them is worked on, as the engine does (deduced).
    pub fn take(&mut self, index: u8) {
        self.busy = true;
        self.current(index);
    }

    /// Says that slot `index` is the current one.
    pub fn current(&mut self, index: u8) {
        let descriptor = self.registers.get(dma::DESCRIPTOR);
        self.registers.set(dma::DESCRIPTOR, dma::CURRENT.set(descriptor, index.into()));
    }

    /// A job ended well.
    pub fn complete(&mut self, done: &Completed) {
        self.busy = false;
        let r = &mut self.registers;
        r.set(dma::DESCRIPTOR, dma::CURRENT.set(r.get(dma::DESCRIPTOR), done.index.into()));
        r.set(dma::DESCRIPTOR_STATUS, dma::STATUS_VERSION.of(1) | dma::STATUS_JOB.of(done.job.into()));
        r.set(dma::INPUT_ADDRESS, done.input);
        r.set(dma::INPUT_WORDS, done.input_words & 0xffff);
        r.set(dma::OUTPUT_ADDRESS, done.output);
        r.set(dma::OUTPUT_WORDS, done.output_words);
        r.set(dma::DEBUG_0, done.job.into());
        let monitor = Monitor::from_bits_truncate(r.get(dma::MONITOR_CONTROL));
        if monitor.contains(Monitor::COUNTER) {
            r.set(dma::BUFFER_COUNTER, r.get(dma::BUFFER_COUNTER).wrapping_add(1));
        }
        if monitor.contains(Monitor::TIMER) {
            r.set(dma::BUFFER_TIMER, done.cycles);
        }
        if monitor.contains(Monitor::JOB_FIFO) && self.fifo.len() < FIFO_LEN {
            self.fifo.push_back(done.job);
        }
        if dma::CHECKSUM_ENABLE.any(r.get(dma::DEBUG_CONTROL)) {
            r.set(dma::CHECKSUM_IN, r.get(dma::CHECKSUM_IN).wrapping_add(done.checksum_in));
            r.set(dma::CHECKSUM_OUT, r.get(dma::CHECKSUM_OUT).wrapping_add(done.checksum_out));
        }
        let mut ends = MonitorStatus::OUTBOUND | MonitorStatus::INBOUND | MonitorStatus::EXTERNAL;
        ends.set(MonitorStatus::BURST, done.burst);
        let masked = r.get(dma::MONITOR_CONTROL) >> 16 & ENDS;
        let latched = (ends.bits() & !masked) << LATCHED & !done.quiet;
        r.update(dma::MONITOR_STATUS, ends.bits() | latched, 0);
    }

    /// A job was refused: no completion, no further job, an AXI error in the debug register when a bus said no.
    pub fn halt(&mut self, bus_error: bool) {
        self.busy = false;
        self.halted = true;
        if bus_error {
            self.registers.set(dma::DEBUG_AXI, 0x0001_0001);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(slots: u32) -> Controller {
        let mut c = Controller::new(Kind::Config);
        c.write(dma::CONTROL, Control::SOFT_RESET.bits());
        c.write(dma::RING_BASE, 0x2000_1000);
        c.write(dma::RING_SIZE, dma::SLOT_SIZE.of(1) | dma::MAX_INDEX.of(slots - 1));
        c.write(dma::CONTROL, Control::RUN.bits());
        c
    }

    fn enqueue(c: &mut Controller) -> u32 {
        let value = c.read(dma::DESCRIPTOR);
        let last = (dma::LAST.get(value) + 1) & 0xff;
        let last = if last > dma::MAX_INDEX.get(c.read(dma::RING_SIZE)) { 0 } else { last };
        c.write(dma::DESCRIPTOR, dma::LAST.set(value, last));
        last
    }

    #[test]
    fn the_ring_starts_from_0xff_and_wraps() {
        let mut c = ring(3);
        assert_eq!(dma::LAST.get(c.read(dma::DESCRIPTOR)), 0xff);
        assert_eq!(c.pending(), None);
        for slot in [0u8, 1, 2, 0, 1] {
            assert_eq!(enqueue(&mut c), u32::from(slot));
            assert_eq!(c.pending(), Some(slot));
            assert_eq!(c.slot(slot), (0x2000_1000 + 32 * u32::from(slot), 32));
            c.complete(&Completed { index: slot, job: 7, ..Default::default() });
            assert_eq!(c.pending(), None);
        }
    }

    #[test]
    fn several_descriptors_wait_in_order() {
        let mut c = ring(4);
        for _ in 0..3 {
            enqueue(&mut c);
        }
        for slot in 0..3u8 {
            assert_eq!(c.pending(), Some(slot));
            c.complete(&Completed { index: slot, ..Default::default() });
        }
        assert_eq!(c.pending(), None);
    }

    /// As many jobs as slots: the index of the newest equals that of one already done, not of the one worked on.
    #[test]
    fn a_full_ring_is_not_an_empty_one() {
        let mut c = ring(2);
        enqueue(&mut c);
        enqueue(&mut c);
        c.take(0);
        c.complete(&Completed::default());
        c.take(1);
        assert_eq!(enqueue(&mut c), 0);
        c.complete(&Completed { index: 1, ..Default::default() });
        assert_eq!(c.pending(), Some(0));
    }

    #[test]
    fn writing_zero_runs_descriptor_zero_and_fe_ff_loops() {
        let mut c = ring(2);
        c.write(dma::DESCRIPTOR, 0);
        assert_eq!(c.pending(), Some(0));
        let mut c = ring(2);
        c.write(dma::DESCRIPTOR, dma::LAST.of(0xfe) | dma::CURRENT.of(0xff));
        assert_eq!(c.pending(), Some(0));
        assert!(!c.last_in_ring());
    }

    #[test]
    fn masks_decide_what_is_latched() {
        let mut c = ring(2);
        c.write(dma::MONITOR_CONTROL, (Monitor::MASK_INBOUND | Monitor::MASK_EXTERNAL | Monitor::MASK_BURST).bits());
        c.complete(&Completed { burst: true, ..Default::default() });
        assert_eq!(c.read(dma::MONITOR_STATUS), 0x0001_000f);
        assert!(!c.interrupting(), "interrupt enable is off");
        c.write(dma::CONTROL, Control::INTERRUPT.bits());
        assert!(c.interrupting());
        c.write(dma::MONITOR_CONTROL, Monitor::STATUS_CLEAR.bits());
        assert_eq!(c.read(dma::MONITOR_STATUS), 0);
        let quiet = MonitorStatus::INBOUND_INTERRUPT.bits();
        c.complete(&Completed { quiet, ..Default::default() });
        assert_eq!(c.read(dma::MONITOR_STATUS), 0x0005_0007);
    }

    #[test]
    fn soft_reset_forgets_everything() {
        let mut c = ring(2);
        enqueue(&mut c);
        c.halt(true);
        assert_eq!(c.pending(), None);
        let epoch = c.epoch().load(Ordering::SeqCst);
        c.write(dma::CONTROL, dma::CONTROL_TEST_RESET);
        assert!(c.epoch().load(Ordering::SeqCst) > epoch && !c.halted);
        assert_eq!(c.read(dma::RING_BASE), 0);
        assert_eq!(c.read(dma::DEBUG_AXI), 0);
    }

    #[test]
    fn the_job_fifo_gives_ids_in_order() {
        let mut c = ring(2);
        c.write(dma::MONITOR_CONTROL, Monitor::JOB_FIFO.bits());
        for job in [5, 6] {
            c.complete(&Completed { job, ..Default::default() });
        }
        assert_eq!([c.read(dma::JOB_FIFO), c.read(dma::JOB_FIFO), c.read(dma::JOB_FIFO)], [0x5_0102, 0x6_0101, 0]);
    }
}

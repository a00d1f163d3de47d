//! A bare-handed driver for tests: registers by number, no `Device`, so that what is tested is the board.
#![allow(dead_code)] // Each test file uses its part.

use akida_hal::Board;
use akida_hal::board::{Bar, Chip};
use akida_hal::dma::DmaBuffer;
use akida_hal::memory_map::{DBI, MEMORY, TOP};
use akida_hal::regs::{dma, edma, hdma, iatu, pci, top};
use akida_simulator::{Clock, FaultPlan, Model, SimBoard, SimSpec};

pub const LISTS: u32 = 0x4_0000;

/// A board with translation programmed and bus mastering on.
pub struct Bench {
    pub board: SimBoard,
}

impl Bench {
    pub fn new(model: Model) -> Self {
        Self::with(SimSpec::new(model))
    }

    pub fn faulty(model: Model, faults: &str) -> Self {
        Self::with(SimSpec::new(model).with_faults(faults.parse::<FaultPlan>().expect("a fault plan")))
    }

    pub fn threaded(model: Model) -> Self {
        Self::with(SimSpec::new(model).with_clock(Clock::Threaded))
    }

    pub fn with(spec: SimSpec) -> Self {
        let bench = Self { board: SimBoard::open(&spec).expect("a board") };
        bench.bring_up();
        bench
    }

    pub fn bring_up(&self) {
        self.config_write(pci::COMMAND_STATUS, 0x6);
        if self.board.identity().chip == Chip::Akd1500 {
            for (region, bar, target) in [(1, 2, TOP), (2, 4, MEMORY)] {
                let at = |register| u64::from(iatu::unrolled::inbound(region, register));
                self.write(Bar::Bar0, at(iatu::unrolled::CONTROL1), 0);
                self.write(Bar::Bar0, at(iatu::unrolled::CONTROL2), iatu::bar_match(bar));
                self.write(Bar::Bar0, at(iatu::unrolled::TARGET_LOW), target);
            }
        } else {
            for (region, bar, target) in [(0, 0, TOP), (1, 2, DBI), (2, 4, MEMORY)] {
                self.config_write(0x900, 0x8000_0000 | region);
                self.config_write(0x904, 0);
                self.config_write(0x918, target);
                self.config_write(0x908, iatu::bar_match(bar));
            }
        }
    }

    pub fn config_read(&self, offset: u16) -> u32 {
        self.board.config_read(offset).expect("in configuration space")
    }

    pub fn config_write(&self, offset: u16, value: u32) {
        self.board.config_write(offset, value).expect("in configuration space");
    }

    pub fn read(&self, bar: Bar, offset: u64) -> u32 {
        self.board.read(bar, offset).expect("inside the BAR")
    }

    pub fn write(&self, bar: Bar, offset: u64, value: u32) {
        self.board.write(bar, offset, value).expect("inside the BAR");
    }

    fn top_bar(&self) -> Bar {
        if self.board.identity().chip == Chip::Akd1500 { Bar::Bar2 } else { Bar::Bar0 }
    }

    pub fn top(&self, offset: u32) -> u32 {
        self.read(self.top_bar(), offset.into())
    }

    pub fn set_top(&self, offset: u32, value: u32) {
        self.write(self.top_bar(), offset.into(), value);
    }

    /// Device memory through BAR 4.
    pub fn poke(&self, address: u32, words: &[u32]) {
        for (i, word) in words.iter().enumerate() {
            self.write(Bar::Bar4, u64::from(address - MEMORY) + 4 * i as u64, *word);
        }
    }

    pub fn peek(&self, address: u32, words: usize) -> Vec<u32> {
        (0..words).map(|i| self.read(Bar::Bar4, u64::from(address - MEMORY) + 4 * i as u64)).collect()
    }

    pub fn edma(&self, register: u32) -> u32 {
        self.read(Bar::Bar2, u64::from(edma::BAR2_BASE + register))
    }

    pub fn set_edma(&self, register: u32, value: u32) {
        self.write(Bar::Bar2, u64::from(edma::BAR2_BASE + register), value);
    }

    /// Points the engine's messages at the MSI capability, as the published driver does.
    pub fn route_interrupts(&self) {
        let (address, data) = (self.config_read(0x54), self.config_read(0x5c) & 0xffff);
        for side in [edma::WRITE, edma::READ] {
            for low in [side.done_address, side.abort_address] {
                self.set_edma(low, address);
                self.set_edma(low + 4, 0);
            }
            self.set_edma(side.data, data << 16 | data);
        }
    }

    /// Puts a list at the channel's place: data elements, then the closing link.
    pub fn list(&self, at: u32, elements: &[(u32, u64, u64)]) {
        let mut words = Vec::new();
        for (i, (size, source, destination)) in elements.iter().enumerate() {
            let control = if i + 1 == elements.len() { 0x19 } else { 0x01 };
            let halves = |a: u64| [a as u32, (a >> 32) as u32];
            words.extend([control, *size]);
            words.extend(halves(*source));
            words.extend(halves(*destination));
        }
        words.extend([0x6, 0, at, 0]);
        self.poke(at, &words);
    }

    /// Starts an eDMA channel on the list at `at` and gives its interrupt status bits.
    pub fn run_edma(&self, side: edma::Side, channel: u32, at: u32) -> u32 {
        self.set_edma(side.enable, 1);
        self.set_edma(side.mask, 0);
        self.set_edma(side.list_error, 1 << channel);
        self.set_edma(edma::VIEWPORT, side.viewport | channel);
        self.set_edma(edma::CHANNEL_CONTROL1, 0x300);
        self.set_edma(edma::CHANNEL_LIST_LOW, at);
        self.set_edma(edma::CHANNEL_LIST_HIGH, 0);
        self.set_edma(side.doorbell, channel);
        self.edma(side.status)
    }

    /// Host to device over read channel 0.
    pub fn to_device(&self, buffer: &DmaBuffer, len: u32, address: u32) -> u32 {
        self.list(MEMORY, &[(len, buffer.iova(), address.into())]);
        self.run_edma(edma::READ, 0, MEMORY)
    }

    /// Starts HDMA channel 0 of one direction on a list; gives its status and interrupt status.
    pub fn run_hdma(&self, read: bool, at: u32) -> (u32, u32) {
        let block =
            |register| u64::from(if read { hdma::read_channel(0, register) } else { hdma::write_channel(0, register) });
        for (register, value) in [
            (hdma::ENABLE, 1),
            (hdma::INTERRUPT_SETUP, hdma::Interrupt::START.bits()),
            (hdma::CONTROL1, 1),
            (hdma::LIST_LOW, at),
            (hdma::LIST_HIGH, 0),
            (hdma::CYCLE, hdma::CYCLE_START),
            (hdma::DOORBELL, 1),
        ] {
            self.write(Bar::Bar0, block(register), value);
        }
        (self.read(Bar::Bar0, block(hdma::STATUS)), self.read(Bar::Bar0, block(hdma::INTERRUPT_STATUS)))
    }

    /// Prepares a ring of one of the Akida DMAs.
    pub fn ring(&self, base: u32, address: u32, slots: u32, slot_size: u32, control: u32) {
        self.set_top(base + dma::CONTROL, 0x200);
        self.set_top(base + dma::RING_BASE, address);
        self.set_top(base + dma::RING_SIZE, slot_size | (slots - 1) << 16);
        self.set_top(base + dma::MONITOR_CONTROL, 0x000e_0000);
        self.set_top(base + dma::CONTROL, control | 0x500);
    }

    /// Writes a descriptor in the next slot and hands it over; the slot's index.
    pub fn enqueue(&self, base: u32, descriptor: &[u32]) -> u32 {
        self.enqueue_all(base, &[descriptor])
    }

    /// Writes descriptors in the next slots and hands all over with one write; the last one's index.
    pub fn enqueue_all(&self, base: u32, descriptors: &[&[u32]]) -> u32 {
        let value = self.top(base + dma::DESCRIPTOR);
        let size = self.top(base + dma::RING_SIZE);
        let mut last = dma::LAST.get(value);
        for descriptor in descriptors {
            last = (last + 1) & 0xff;
            last = if last > dma::MAX_INDEX.get(size) { 0 } else { last };
            let slot = self.top(base + dma::RING_BASE) + last * 32 * dma::SLOT_SIZE.get(size);
            self.poke(slot, descriptor);
        }
        self.set_top(base + dma::DESCRIPTOR, dma::LAST.set(value, last));
        last
    }

    /// Plays packets through a fresh config ring; the monitor status.
    pub fn configure(&self, words: &[u32]) -> u32 {
        self.ring(top::CONFIG_DMA, MEMORY + 0x10_0000, 2, 1, 0);
        self.configure_more(words)
    }

    /// The same, through the ring that is there.
    pub fn configure_more(&self, words: &[u32]) -> u32 {
        let track = MEMORY + 0x10_1000;
        self.poke(track, words);
        self.enqueue(top::CONFIG_DMA, &[1 << 28 | 1, track, words.len() as u32, 0, 0, 0, 0, 0]);
        self.top(top::CONFIG_DMA + dma::MONITOR_STATUS)
    }

    /// Config read of `words` words.
    pub fn read_back(&self, header: [u32; 2], words: usize) -> Vec<u32> {
        let (ring, at, out) = (MEMORY + 0x10_0000, MEMORY + 0x10_1000, MEMORY + 0x10_2000);
        self.ring(top::CONFIG_DMA, ring, 2, 1, 0);
        self.poke(at, &header);
        self.enqueue(top::CONFIG_DMA, &[1, at, 2, out, 0, 0, 0, 0]);
        assert_eq!(self.top(top::CONFIG_DMA + dma::MONITOR_STATUS) & 0x1_0000, 0x1_0000, "the read is done");
        self.peek(out, words)
    }
}

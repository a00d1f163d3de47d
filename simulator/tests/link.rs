//! The PCIe DMA engines: lists in device memory, host memory through the DMA map, interrupts.

mod bench;

use std::time::Duration;

use akida_hal::Board;
use akida_hal::board::{Bar, Wake};
use akida_hal::dma::PAGE;
use akida_hal::memory_map::{MEMORY, TOP};
use akida_hal::regs::{edma, hdma, pci, top};
use akida_simulator::{HostAccess, Model};
use bench::{Bench, LISTS};

const SECOND: Duration = Duration::from_secs(1);

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

#[test]
fn bytes_go_to_the_device_and_come_back() {
    for model in [Model::Akd1000, Model::Akida2SixNodes] {
        let bench = Bench::new(model);
        let (up, down) = (bench.board.allocate(1 << 20).unwrap(), bench.board.allocate(1 << 20).unwrap());
        let data = pattern(300_001, 7);
        up.write(3, &data).unwrap();
        let at = MEMORY + 0x40_0001;
        bench.list(MEMORY + 2 * LISTS, &[(data.len() as u32, up.iova() + 3, at.into())]);
        assert_eq!(bench.run_edma(edma::READ, 0, MEMORY + 2 * LISTS), 1);
        bench.list(MEMORY + LISTS, &[(data.len() as u32, at.into(), down.iova() + 5)]);
        assert_eq!(bench.run_edma(edma::WRITE, 1, MEMORY + LISTS), 2);
        let mut back = vec![0; data.len()];
        down.read(5, &mut back).unwrap();
        assert!(back == data, "{model}");
        bench.set_edma(edma::VIEWPORT, 1);
        assert_eq!(edma::CHANNEL_STATUS.get(bench.edma(edma::CHANNEL_CONTROL1)), edma::STOPPED);
        bench.set_edma(edma::WRITE_CLEAR, 2);
        assert_eq!(bench.edma(edma::WRITE_STATUS), 0);
    }
}

#[test]
fn long_lists_scatter_and_gather() {
    let bench = Bench::new(Model::Akd1000);
    let buffer = bench.board.allocate(1 << 20).unwrap();
    let data = pattern(1000 * 7, 1);
    buffer.write(0, &data).unwrap();
    // Back to front, 7 bytes each.
    let elements: Vec<_> =
        (0..1000u64).map(|i| (7, buffer.iova() + 7 * i, u64::from(MEMORY) + 0x40_0000 + 7 * (999 - i))).collect();
    bench.list(MEMORY, &elements);
    assert_eq!(bench.run_edma(edma::READ, 0, MEMORY), 1);
    bench.list(MEMORY, &[(7000, u64::from(MEMORY) + 0x40_0000, buffer.iova() + 0x1_0000)]);
    assert_eq!(bench.run_edma(edma::WRITE, 0, MEMORY), 1);
    let mut back = vec![0; 7000];
    buffer.read(0x1_0000, &mut back).unwrap();
    let expected: Vec<u8> = data.chunks(7).rev().flatten().copied().collect();
    assert!(back == expected);
}

/// The kernel driver's read test reads mesh info 1 by DMA.
#[test]
fn registers_are_reached_by_dma_in_whole_words() {
    let bench = Bench::new(Model::Akd1000);
    let buffer = bench.board.allocate(64).unwrap();
    bench.list(MEMORY, &[(4, u64::from(TOP + top::MESH_INFO_1), buffer.iova())]);
    assert_eq!(bench.run_edma(edma::WRITE, 0, MEMORY), 1);
    let mut word = [0; 4];
    buffer.read(0, &mut word).unwrap();
    assert_eq!(u32::from_le_bytes(word), bench.top(top::MESH_INFO_1));
    buffer.write(0, &0x2468_0000u32.to_le_bytes()).unwrap();
    assert_eq!(bench.to_device(&buffer, 4, TOP + top::FNP2_ADDRESS_1), 1);
    assert_eq!(bench.top(top::FNP2_ADDRESS_1), 0x2468_0000);
    bench.list(MEMORY, &[(3, u64::from(TOP), buffer.iova())]);
    assert_eq!(bench.run_edma(edma::WRITE, 0, MEMORY) >> 16, 1, "three bytes abort");
}

/// Host memory the device was never given is neither read nor written, and says so.
#[test]
fn an_unmapped_address_aborts_and_moves_nothing() {
    let bench = Bench::new(Model::Akd1000);
    bench.route_interrupts();
    let good = bench.board.allocate(PAGE).unwrap();
    let gone = bench.board.allocate(PAGE).unwrap();
    let stale = gone.iova();
    drop(gone);
    bench.poke(MEMORY + 0x1_0000, &[0x5555_5555; 2]);
    let before = bench.board.inspect().host_accesses;
    for iova in [0, 0xdead_0000, stale, good.iova() - 1, good.iova() + PAGE as u64 - 7, good.iova() & 0xffff_ffff] {
        bench.list(MEMORY, &[(8, iova, u64::from(MEMORY) + 0x1_0000), (8, good.iova(), u64::from(MEMORY) + 0x1_0000)]);
        assert_eq!(bench.run_edma(edma::READ, 0, MEMORY), 0x1_0000, "{iova:#x}");
        assert_eq!(bench.edma(edma::READ_ERROR_HIGH), 1);
        bench.set_edma(edma::READ_CLEAR, 0x1_0001);
        assert_eq!(bench.edma(edma::READ_ERROR_HIGH), 0);
        bench.list(MEMORY, &[(8, u64::from(MEMORY), iova)]);
        assert_eq!(bench.run_edma(edma::WRITE, 1, MEMORY), 0x2_0000, "{iova:#x}");
        bench.set_edma(edma::WRITE_CLEAR, 0x2_0002);
    }
    let report = bench.board.inspect();
    assert_eq!(report.host_accesses, before, "nothing was touched");
    assert_eq!(report.host_refused.len(), 12);
    assert_eq!(report.mappings, [(good.iova(), PAGE)]);
    assert_eq!(bench.peek(MEMORY + 0x1_0000, 2), [0x5555_5555; 2]);
}

#[test]
fn without_bus_mastering_there_is_no_dma() {
    let bench = Bench::new(Model::Akd1000);
    let buffer = bench.board.allocate(64).unwrap();
    bench.config_write(pci::COMMAND_STATUS, 0x2);
    assert_eq!(bench.to_device(&buffer, 8, MEMORY + 0x1000), 0x1_0000);
    assert!(bench.board.inspect().host_accesses.is_empty());
}

#[test]
fn what_the_device_did_is_on_record() {
    let bench = Bench::new(Model::Akd1000);
    let buffer = bench.board.allocate(1 << 20).unwrap();
    bench.to_device(&buffer, 200_000, MEMORY + 0x1_0000);
    let report = bench.board.inspect();
    assert_eq!(report.host_accesses, [HostAccess { iova: buffer.iova(), len: 200_000, write: false }]);
    assert_eq!(report.counters.transferred_bytes, 200_000);
}

#[test]
fn done_and_abort_send_the_message() {
    let bench = Bench::new(Model::Akd1000);
    let buffer = bench.board.allocate(64).unwrap();
    bench.to_device(&buffer, 8, MEMORY + 0x1000);
    assert_eq!(bench.board.wait_interrupt(SECOND).unwrap(), Wake::TimedOut, "no address was programmed");
    bench.route_interrupts();
    bench.to_device(&buffer, 8, MEMORY + 0x1000);
    assert_eq!(bench.board.wait_interrupt(SECOND).unwrap(), Wake::Interrupt);
    assert_eq!(bench.board.wait_interrupt(SECOND).unwrap(), Wake::TimedOut);
    bench.list(MEMORY, &[(8, 0, u64::from(MEMORY))]);
    bench.run_edma(edma::READ, 0, MEMORY);
    assert_eq!(bench.board.wait_interrupt(SECOND).unwrap(), Wake::Interrupt);
    // MSI mask: pending until it is lifted.
    bench.config_write(0x60, 1);
    bench.to_device(&buffer, 8, MEMORY + 0x1000);
    assert_eq!(bench.board.wait_interrupt(SECOND).unwrap(), Wake::TimedOut);
    bench.config_write(0x60, 0);
    assert_eq!(bench.board.wait_interrupt(SECOND).unwrap(), Wake::Interrupt);
    // MSI disabled.
    bench.config_write(0x50, 0);
    bench.to_device(&buffer, 8, MEMORY + 0x1000);
    assert_eq!(bench.board.wait_interrupt(SECOND).unwrap(), Wake::TimedOut);
}

/// A message that is not the MSI is a write like any other: it needs a mapping.
#[test]
fn a_message_elsewhere_is_a_write() {
    let bench = Bench::new(Model::Akd1000);
    let (buffer, target) = (bench.board.allocate(64).unwrap(), bench.board.allocate(64).unwrap());
    bench.set_edma(edma::READ_DONE_LOW, target.iova() as u32 + 8);
    bench.set_edma(edma::READ_DONE_HIGH, (target.iova() >> 32) as u32);
    bench.set_edma(edma::READ_DATA_01, 0x77);
    bench.to_device(&buffer, 8, MEMORY + 0x1000);
    let mut word = [0; 4];
    target.read(8, &mut word).unwrap();
    assert_eq!(word, [0x77, 0, 0, 0]);
}

#[test]
fn lists_that_do_not_end_abort() {
    let bench = Bench::new(Model::Akd1000);
    bench.poke(MEMORY, &[0x4, 0, MEMORY, 0, 0, 0]);
    assert_eq!(bench.run_edma(edma::READ, 0, MEMORY), 0x1_0000);
    assert_eq!(bench.edma(edma::READ_ERROR_LOW), 1 << 16);
    assert_eq!(bench.run_edma(edma::READ, 1, 0x9000_0000) >> 16, 3, "a list that is not in memory");
}

/// An endless list of real transfers stays bounded inside each access and stops when the engine is switched off.
#[test]
fn an_endless_list_can_be_switched_off() {
    let bench = Bench::new(Model::Akd1000);
    let buffer = bench.board.allocate(1 << 20).unwrap();
    let halves = |a: u64| [a as u32, (a >> 32) as u32];
    let [low, high] = halves(buffer.iova());
    bench.poke(MEMORY, &[0x1, 1 << 20, low, high, MEMORY + 0x40_0000, 0, 0x4, 0, MEMORY, 0]);
    let before = bench.board.now();
    assert_eq!(bench.run_edma(edma::READ, 0, MEMORY), 0);
    bench.set_edma(edma::VIEWPORT, 1 << 31);
    assert_eq!(edma::CHANNEL_STATUS.get(bench.edma(edma::CHANNEL_CONTROL1)), edma::RUNNING);
    assert!(bench.board.now() - before > Duration::from_millis(100), "time passes meanwhile");
    bench.set_edma(edma::READ_ENABLE, 0);
    assert_eq!(edma::CHANNEL_STATUS.get(bench.edma(edma::CHANNEL_CONTROL1)), edma::STOPPED);
    bench.set_edma(edma::READ_ENABLE, 1);
    assert_eq!(bench.to_device(&buffer, 8, MEMORY + 0x1000), 1);
}

#[test]
fn the_akd1500_moves_bytes_with_its_hdma() {
    let bench = Bench::new(Model::Akd1500);
    let (up, down) = (bench.board.allocate(1 << 16).unwrap(), bench.board.allocate(1 << 16).unwrap());
    let data = pattern(50_000, 3);
    up.write(0, &data).unwrap();
    bench.list(MEMORY + 0x80, &[(25_000, up.iova(), u64::from(MEMORY) + 0x1000)]);
    assert_eq!(bench.run_hdma(true, MEMORY + 0x80), (hdma::STOPPED, 1));
    bench.list(MEMORY, &[(25_000, u64::from(MEMORY) + 0x1000, down.iova())]);
    assert_eq!(bench.run_hdma(false, MEMORY), (hdma::STOPPED, 1));
    let mut back = vec![0; 25_000];
    down.read(0, &mut back).unwrap();
    assert!(back == data[..25_000]);
    bench.list(MEMORY, &[(8, u64::from(MEMORY), 0x6666)]);
    let (status, interrupt) = bench.run_hdma(false, MEMORY);
    assert!(status != hdma::STOPPED && status != hdma::RUNNING && interrupt & 4 != 0);
}

/// The host window: outbound translation makes host memory a device address, and only while it is mapped.
#[test]
fn the_akd1500_reaches_the_host_through_its_window() {
    let bench = Bench::new(Model::Akd1500);
    let window = bench.board.allocate(1 << 20).unwrap();
    for (offset, value) in [
        (0x404, 0),
        (0x400, 0),
        (0x408, 0xc000_0000),
        (0x40c, 0),
        (0x410, 0xc00f_ffff),
        (0x414, window.iova() as u32),
        (0x418, (window.iova() >> 32) as u32),
        (0x404, 0x8000_0000),
    ] {
        bench.write(Bar::Bar0, offset, value);
    }
    let data: Vec<u8> = pattern(64, 9);
    window.write(0x100, &data).unwrap();
    // The event DMA copies from the window to the window.
    let base = top::EVENT_DMA;
    bench.ring(base, MEMORY + 0x1000, 2, 1, 0x8300_0000);
    bench.set_top(base + 0xb0, 1);
    bench.enqueue(base, &[0, 0xc000_0100, 16, 0xc000_0200]);
    assert_eq!(bench.top(base + 0x28) & 3, 3);
    let mut back = vec![0; 64];
    window.read(0x220, &mut back).unwrap();
    assert!(back == data);
    drop(window);
    bench.enqueue(base, &[0, 0xc000_0100, 16, 0xc000_0200]);
    assert!(!bench.board.inspect().host_refused.is_empty());
}

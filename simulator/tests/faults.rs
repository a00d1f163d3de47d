//! Every fault of the plan: fires at its occasion, shows as silicon would show it, is reported, and ends with its cure.

mod bench;

use std::time::Duration;

use akida_hal::board::{Bar, Wake};
use akida_hal::memory_map::MEMORY;
use akida_hal::regs::{dma, edma, top};
use akida_hal::{Board, Error, ErrorKind};
use akida_simulator::Model;
use bench::Bench;

const SECOND: Duration = Duration::from_secs(1);
const AT: u32 = MEMORY + 0x20_0000;

fn bench(faults: &str) -> Bench {
    Bench::faulty(Model::Akd1000, faults)
}

fn fired(bench: &Bench) -> Vec<(&'static str, u64)> {
    bench.board.faults_fired().iter().map(|f| (f.fault.kind.name(), f.occurrence)).collect()
}

#[test]
fn an_interrupt_is_dropped_or_late() {
    let b = bench("drop-interrupt@2; late-interrupt@3:us=2000000");
    b.route_interrupts();
    let buffer = b.board.allocate(64).unwrap();
    let mut wakes = Vec::new();
    for _ in 0..4 {
        assert_eq!(b.to_device(&buffer, 8, AT), 1, "the transfer itself is well");
        b.set_edma(edma::READ_CLEAR, 1);
        wakes.push(b.board.wait_interrupt(SECOND).unwrap());
    }
    // The late one arrives during the fourth wait, if not the fourth itself.
    assert_eq!(wakes, [Wake::Interrupt, Wake::TimedOut, Wake::TimedOut, Wake::Interrupt]);
    assert_eq!(fired(&b), [("drop-interrupt", 2), ("late-interrupt", 3)]);
}

#[test]
fn a_link_channel_stalls_until_its_engine_is_switched_off() {
    let b = bench("stall-link@2");
    let buffer = b.board.allocate(64).unwrap();
    assert_eq!(b.to_device(&buffer, 8, AT), 1);
    b.set_edma(edma::READ_CLEAR, 1);
    assert_eq!(b.to_device(&buffer, 8, AT), 0);
    b.board.pause(10 * SECOND);
    b.set_edma(edma::VIEWPORT, 1 << 31);
    assert_eq!(edma::CHANNEL_STATUS.get(b.edma(edma::CHANNEL_CONTROL1)), edma::RUNNING);
    b.set_edma(edma::READ_ENABLE, 0);
    assert_eq!(b.to_device(&buffer, 8, AT), 1, "after off and on");
    assert_eq!(fired(&b), [("stall-link", 2)]);
}

#[test]
fn a_link_channel_aborts() {
    let b = bench("abort-link@1");
    let buffer = b.board.allocate(64).unwrap();
    assert_eq!(b.to_device(&buffer, 8, AT), 0x1_0000);
    assert_eq!(b.edma(edma::READ_ERROR_HIGH), 0x100);
    b.set_edma(edma::READ_CLEAR, 0x1_0000);
    assert_eq!(b.to_device(&buffer, 8, AT), 1);
}

#[test]
fn a_list_element_is_flipped() {
    // The source address of the second element loses its mapping.
    let b = bench("flip-element@2:word=3,bits=0x100");
    let buffer = b.board.allocate(64).unwrap();
    b.list(MEMORY, &[(8, buffer.iova(), AT.into()), (8, buffer.iova() + 8, u64::from(AT) + 8)]);
    assert_eq!(b.run_edma(edma::READ, 0, MEMORY), 0x1_0000);
    assert_eq!(b.run_edma(edma::READ, 0, MEMORY) & 1, 1);
    // The cycle bit: the element is not taken, nothing is moved and nothing is announced.
    let b = bench("flip-element@1:bits=0x1");
    let buffer = b.board.allocate(64).unwrap();
    b.poke(AT, &[5]);
    assert_eq!(b.to_device(&buffer, 4, AT), 0);
    assert_eq!(b.peek(AT, 1), [5]);
}

#[test]
fn akida_dmas_stall_until_reset() {
    let b = bench("stall-config@2; stall-input@1");
    let track = [0x0303_0108, 1 << 16 | 4, 9];
    assert_eq!(b.configure(&track), 0x1_0007);
    assert_eq!(b.configure(&track), 0, "taken and never finished");
    assert_eq!(b.configure(&track), 0x1_0007, "after a soft reset");
    let base = top::EVENT_DMA;
    b.ring(base, AT - 0x1000, 2, 1, 0x8300_0000);
    b.set_top(base + dma::DEBUG_CONTROL, 1);
    assert_eq!(b.configure(&track), 0x1_0007);
    b.enqueue(base, &[0, MEMORY, 1, MEMORY + 0x1000]);
    assert_eq!(b.top(base + dma::MONITOR_STATUS), 0);
    b.set_top(top::GENERAL_CONTROL, 0x200);
    b.set_top(top::GENERAL_CONTROL, 0);
    assert_eq!(fired(&b), [("stall-config", 2), ("stall-input", 1)]);
}

#[test]
fn a_descriptor_is_flipped() {
    // Version 1 becomes 0, an address leaves memory.
    for faults in ["flip-descriptor@1:bits=0x1", "flip-descriptor@1:word=1,bits=0x80000000"] {
        let b = bench(faults);
        let track = [0x0303_0108, 1 << 16 | 4, 9];
        assert_eq!(b.configure(&track), 0, "{faults}");
        assert!(b.board.inspect().counters.jobs[0].outcome.is_err());
        assert_eq!(b.configure(&track), 0x1_0007);
    }
}

#[test]
fn a_track_is_corrupted_and_the_checksum_or_a_read_back_tells() {
    let b = bench("corrupt-packet@1:word=2,bits=0x4");
    let track = [0x0303_0108, 1 << 16 | 4, 9];
    assert_eq!(b.configure(&track), 0x1_0007);
    assert_eq!(b.read_back([0x0303_0108, 1 << 16 | 4], 1), [9 ^ 4]);
    let b = bench("corrupt-packet@1:word=0,bits=0x7");
    assert_eq!(b.configure(&track), 0, "UID 15 does not exist");
}

#[test]
fn accesses_read_all_ones_for_a_while() {
    let b = Bench::faulty(Model::Akd1000, "all-ones@16x3");
    let mut read = Vec::new();
    for _ in 0..10 {
        read.push(b.top(top::IP_VERSION));
    }
    assert_eq!(read.iter().filter(|v| **v == u32::MAX).count(), 3, "{read:x?}");
    assert_eq!(read[9], 0);
    assert_eq!(fired(&b).len(), 3);
}

#[test]
fn a_device_is_lost_until_reset_or_for_good() {
    for (faults, returns) in [("lose-device@40", true), ("lose-device@40:forever", false)] {
        let b = bench(faults);
        for _ in 0..40 {
            b.top(top::MESH_INFO_1);
        }
        assert_eq!((b.top(top::MESH_INFO_1), b.config_read(0)), (u32::MAX, u32::MAX), "{faults}");
        let buffer = b.board.allocate(64).unwrap();
        b.to_device(&buffer, 8, AT);
        assert!(b.board.inspect().host_accesses.is_empty(), "no DMA either");
        b.board.reset().unwrap();
        b.bring_up();
        assert_eq!(b.config_read(0) == 0xbca1_1e7c, returns, "{faults}");
        assert_eq!(b.to_device(&buffer, 8, AT) == 1, returns, "{faults}");
        assert_eq!(fired(&b), [("lose-device", 40)]);
    }
}

#[test]
fn reset_bits_stay_stuck_once() {
    let b = bench("stuck-reset@1");
    b.set_top(top::GENERAL_CONTROL, 0x1200);
    b.set_top(top::GENERAL_CONTROL, 0);
    assert_eq!(b.top(top::GENERAL_CONTROL), 0x1200);
    assert_eq!(b.configure(&[0x0303_0108, 1 << 16 | 4, 9]), 0, "the core is held in reset");
    b.set_top(top::GENERAL_CONTROL, 0);
    assert_eq!(b.top(top::GENERAL_CONTROL), 0);
    assert_eq!(b.configure(&[0x0303_0108, 1 << 16 | 4, 9]), 0x1_0007);
}

#[test]
fn host_memory_is_refused() {
    let b = bench("refuse-allocation@2");
    let first = b.board.allocate(4096).unwrap();
    let error = b.board.allocate(8192).unwrap_err();
    assert!(matches!(error, Error::HostMemory { len: 8192, .. }) && error.kind() == ErrorKind::Host);
    assert!(b.board.allocate(4096).is_ok());
    drop(first);
    assert_eq!(b.board.inspect().mappings, []);
    // Reading a BAR still works: nothing else is touched.
    assert_ne!(b.read(Bar::Bar0, 0x50), u32::MAX);
}

//! The Akida core's DMAs: rings, loopback, config packets.

mod bench;

use akida_hal::Board;
use akida_hal::memory_map::MEMORY;
use akida_hal::regs::{dma, top};
use akida_simulator::{Clock, Model, SimSpec};
use bench::Bench;

const RING: u32 = MEMORY + 0x10_0000;
const IN: u32 = MEMORY + 0x11_0000;
const OUT: u32 = MEMORY + 0x12_0000;

fn on(model: Model) -> Bench {
    // The AKD1500 shows 1 MiB through BAR 4; these tests want a little more room.
    Bench::new(if model == Model::Akd1500 { Model::Akd1000 } else { model })
}

/// The kernel driver's own test (hardware.md 8.2), on each of the three.
#[test]
fn loopback_copies_behind_a_header() {
    let bench = on(Model::Akd1000);
    for base in [top::EVENT_DMA, top::HRC_DMA, top::CONFIG_DMA] {
        let data: Vec<u32> = (0..100).map(|i| i * 0x0101 + base).collect();
        bench.poke(IN, &data);
        for (register, value) in
            [(dma::CONTROL, 0x8300_0200), (dma::CONTROL, 0x8300_0502), (dma::DEBUG_CONTROL, 1), (dma::RING_BASE, RING)]
        {
            bench.set_top(base + register, value);
        }
        bench.poke(RING, &[0, IN, 100, OUT]);
        bench.set_top(base + dma::DESCRIPTOR, 0);
        assert_eq!(bench.top(base + dma::MONITOR_STATUS) & 3, 3);
        assert_eq!(bench.peek(OUT, 8), [0xf000_0064, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bench.peek(OUT + 32, 100), data);
        assert_eq!(
            [dma::INPUT_ADDRESS, dma::INPUT_WORDS, dma::OUTPUT_ADDRESS, dma::OUTPUT_WORDS].map(|r| bench.top(base + r)),
            [IN, 100, OUT, 100]
        );
    }
}

#[test]
fn a_ring_wraps_and_takes_several_descriptors() {
    let bench = on(Model::Akd1000);
    let base = top::EVENT_DMA;
    bench.ring(base, RING, 3, 1, 0x8300_0000);
    bench.set_top(base + dma::DEBUG_CONTROL, 1);
    bench.poke(IN, &[0x1111, 0x2222, 0x3333]);
    // Two while it does not run, then run; then one at a time around the ring.
    bench.set_top(base + dma::CONTROL, 0x8300_0000);
    for i in 0..2 {
        assert_eq!(bench.enqueue(base, &[0, IN + 4 * i, 1, OUT + 64 * i]), i);
    }
    assert_eq!(bench.top(base + dma::MONITOR_STATUS), 0);
    bench.set_top(base + dma::CONTROL, 0x8300_0500);
    assert_eq!([bench.peek(OUT + 32, 1)[0], bench.peek(OUT + 96, 1)[0]], [0x1111, 0x2222]);
    for i in 2..8 {
        assert_eq!(bench.enqueue(base, &[0, IN + 4 * (i % 3), 1, OUT + 64 * i]), i % 3);
        assert_eq!(bench.peek(OUT + 64 * i + 32, 1)[0], 0x1111 * (i % 3 + 1));
        assert_eq!(dma::CURRENT.get(bench.top(base + dma::DESCRIPTOR)), i % 3);
    }
}

#[test]
fn config_packets_reach_registers_and_memories_and_read_back() {
    for model in [Model::Akd1000, Model::Akida2TwoNodes, Model::Akida2SixNodes] {
        let bench = on(model);
        let np = model.mesh().nps.iter().map(|(np, _)| *np).find(|np| np.id == 2).expect("an NP with id 2");
        let place = u32::from(np.column) << 24 | u32::from(np.row) << 16 | 1 << (8 + np.id);
        // Two packets in one track: registers 4..8, and 20 words of packet SRAM.
        let mut track = vec![place | 0x8, 4 << 16 | 4, 0xa, 0xb, 0xc, 0xd];
        track.extend([place | 0x3, 20 << 16 | 7]);
        track.extend(100..120);
        assert_eq!(bench.configure(&track), 0x1_0007, "{model}");
        assert_eq!(bench.read_back([place | 0x8, 4 << 16 | 4], 4), [0xa, 0xb, 0xc, 0xd]);
        assert_eq!(bench.read_back([place | 0x3, 20 << 16 | 7], 20), (100..120).collect::<Vec<u32>>());
        let identity = bench.read_back([place | 0x8, 1 << 16], 1)[0];
        assert_eq!(identity >> 12, u32::from(np.row) << 12 | u32::from(np.column) << 4 | u32::from(np.id));
        // NP reset.
        bench.set_top(top::GENERAL_CONTROL, 0x500);
        bench.set_top(top::GENERAL_CONTROL, 0);
        assert_eq!(bench.read_back([place | 0x8, 4 << 16 | 4], 4), [0; 4]);
    }
}

/// The older engine reads config words behind a header that counts them.
#[test]
fn a_config_read_may_have_a_header() {
    let bench = on(Model::Akd1000);
    bench.poke(IN, &[0x0303_0108, 1 << 16]);
    bench.ring(top::CONFIG_DMA, RING, 2, 1, 0x8300_0000);
    bench.enqueue(top::CONFIG_DMA, &[1, IN, 2, OUT]);
    assert_eq!(bench.peek(OUT, 1), [1]);
    assert_ne!(bench.peek(OUT + 32, 1), [0]);
}

/// An NP that does not exist is empty; the dummy descriptor of multi-pass rings reads nothing.
#[test]
fn reads_of_nothing_end() {
    let bench = on(Model::Akd1000);
    assert_eq!(bench.read_back([0x0101_0108, 1 << 16], 1), [0]);
    bench.poke(MEMORY + 0x10_2000, &[0x7777]);
    assert_eq!(bench.read_back([0, 0], 1), [0x7777]);
}

/// What is wrong with a track stops the DMA, is reported, and a core reset brings it back.
#[test]
fn malformed_tracks_stop_the_config_dma() {
    let good = [0x0303_0108, 2 << 16 | 4, 1, 2];
    for (track, what) in [
        (&[0x0303_0108][..], "ends inside the packet header"),
        (&[0x0303_0108, 9 << 16, 1], "announces 9 words"),
        (&[0x0303_0107, 1 << 16, 1], "names target memory"),
        (&[0x0303_0108, 1 << 16 | 0x4000, 1], "not inside"),
        (&[0x0909_0108, 1 << 16, 1], "does not exist"),
        (&[0x0303_0108, 0, 1], "0 words"),
    ] {
        let bench = on(Model::Akd1000);
        let words: Vec<u32> = good.iter().chain(track).copied().collect();
        assert_eq!(bench.configure(&words), 0, "{what}");
        let jobs = bench.board.inspect().counters.jobs;
        let error = jobs.last().and_then(|j| j.outcome.clone().err()).unwrap_or_default();
        assert!(error.contains(what), "{error:?} does not say {what:?}");
        assert_eq!(bench.enqueue(top::CONFIG_DMA, &[1, IN, 2, OUT]), 1);
        assert_eq!(bench.top(top::CONFIG_DMA + dma::MONITOR_STATUS), 0, "nothing runs any more");
        bench.set_top(top::GENERAL_CONTROL, 0x200);
        bench.set_top(top::GENERAL_CONTROL, 0);
        assert_eq!(bench.configure(&good), 0x1_0007, "after a core reset");
        assert_eq!(bench.read_back([0x0303_0108, 2 << 16 | 4], 2), [1, 2]);
    }
}

#[test]
fn addresses_that_do_not_answer_stop_a_dma() {
    let bench = on(Model::Akd1000);
    for descriptor in
        [[1 << 28 | 1, 0x9000_0000, 4, 0], [1, 0xffff_fffc, 2, OUT], [2, IN, 2, OUT], [0x5000_0001, IN, 2, OUT]]
    {
        bench.ring(top::CONFIG_DMA, RING, 2, 1, 0);
        bench.enqueue(top::CONFIG_DMA, &descriptor);
        assert_eq!(bench.top(top::CONFIG_DMA + dma::MONITOR_STATUS), 0, "{descriptor:x?}");
    }
    assert_ne!(bench.board.inspect().counters.jobs.len(), 0);
}

#[test]
fn the_interrupt_block_follows_the_dmas() {
    let bench = on(Model::Akd1000);
    assert_eq!(bench.top(top::INTERRUPT_SOURCE), 0);
    bench.configure(&[0x0303_0108, 1 << 16 | 4, 1]);
    assert_eq!(bench.top(top::INTERRUPT_SOURCE), 1 << 2);
    let control = bench.top(top::CONFIG_DMA + dma::MONITOR_CONTROL);
    bench.set_top(top::CONFIG_DMA + dma::MONITOR_CONTROL, control | 1);
    assert_eq!(bench.top(top::INTERRUPT_SOURCE), 0);
}

/// With its own thread the core works while registers are read, and stops when the board is dropped.
#[test]
fn a_threaded_core_does_the_same() {
    let bench = Bench::with(SimSpec::new(Model::Akd1000).with_clock(Clock::Threaded));
    let base = top::EVENT_DMA;
    bench.ring(base, RING, 4, 1, 0x8300_0000);
    bench.set_top(base + dma::DEBUG_CONTROL, 1);
    bench.poke(IN, &[1, 2, 3, 4]);
    for i in 0..3 {
        bench.enqueue(base, &[0, IN, 4, OUT + 64 * i]);
    }
    let deadline = bench.board.now() + std::time::Duration::from_secs(60);
    while dma::CURRENT.get(bench.top(base + dma::DESCRIPTOR)) != 2 {
        assert!(bench.board.now() < deadline);
        std::thread::yield_now();
    }
    assert_eq!(bench.peek(OUT + 128 + 32, 4), [1, 2, 3, 4]);
}

//! Whatever a host does, a board answers: no panic, no hang, bounded memory, and no host memory but what it was given.

mod bench;

use akida_hal::Board;
use akida_hal::board::Bar;
use akida_hal::memory_map::MEMORY;
use akida_hal::regs::{dma, edma, hdma, top};
use akida_simulator::{FaultPlan, Model, SimSpec};
use bench::Bench;
use proptest::prelude::*;

/// An access, biased towards registers that start something.
#[derive(Clone, Debug)]
enum Access {
    ConfigRead(u16),
    ConfigWrite(u16, u32),
    Read(usize, u32),
    Write(usize, u32, u32),
    Top(u32, u32),
    Edma(u32, u32),
    Hdma(u32, u32),
    Memory(u32, Vec<u32>),
    Reset,
    Wait,
}

/// Values that mean something more often than random bits do.
fn value() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        0u32..16,
        (0u32..32).prop_map(|b| 1 << b),
        (0u32..0x1000).prop_map(|o| MEMORY + 4 * o),
        Just(0xffff_ffff),
        Just(0x8300_0502),
        Just(0x2000_0001),
        Just(0xc000_0000),
    ]
}

fn access() -> impl Strategy<Value = Access> {
    let block = prop::sample::select(vec![0, top::EVENT_DMA, top::HRC_DMA, top::CONFIG_DMA, top::EPG, top::INTERRUPTS]);
    prop_oneof![
        1 => (0u16..1024).prop_map(|o| Access::ConfigRead(4 * o)),
        1 => (0u16..1024, value()).prop_map(|(o, v)| Access::ConfigWrite(4 * o, v)),
        2 => (0usize..3, any::<u32>()).prop_map(|(b, o)| Access::Read(b, o)),
        2 => (0usize..3, any::<u32>(), value()).prop_map(|(b, o, v)| Access::Write(b, o, v)),
        6 => (block, 0u32..0x30, value()).prop_map(|(b, o, v)| Access::Top(b + 4 * o, v)),
        6 => (0u32..edma::LEN / 4, value()).prop_map(|(o, v)| Access::Edma(4 * o, v)),
        4 => (0u32..2 * hdma::PAIR / 4, value()).prop_map(|(o, v)| Access::Hdma(4 * o, v)),
        6 => (0u32..0x1000, prop::collection::vec(value(), 1..16)).prop_map(|(o, v)| Access::Memory(MEMORY + 4 * o, v)),
        1 => Just(Access::Reset),
        1 => Just(Access::Wait),
    ]
}

fn play(bench: &Bench, access: &Access) {
    let place = |bar: usize, offset: u32| {
        let bar = Bar::ALL[bar];
        (bar, (u64::from(offset) % bench.board.bar_len(bar)) & !3)
    };
    match access {
        Access::ConfigRead(offset) => {
            bench.config_read(*offset);
        }
        Access::ConfigWrite(offset, value) => bench.config_write(*offset, *value),
        Access::Read(bar, offset) => {
            let (bar, offset) = place(*bar, *offset);
            bench.read(bar, offset);
        }
        Access::Write(bar, offset, value) => {
            let (bar, offset) = place(*bar, *offset);
            bench.write(bar, offset, *value);
        }
        Access::Top(offset, value) => bench.set_top(*offset, *value),
        Access::Edma(offset, value) if bench.board.spec().model != Model::Akd1500 => bench.set_edma(*offset, *value),
        Access::Edma(offset, value) | Access::Hdma(offset, value) => bench.write(Bar::Bar0, (*offset).into(), *value),
        Access::Memory(address, words) => bench.poke(*address, words),
        Access::Reset => {
            bench.board.reset().expect("a reset cannot fail");
            bench.bring_up();
        }
        Access::Wait => {
            bench.board.wait_interrupt(std::time::Duration::from_millis(1)).expect("a wait cannot fail");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_accesses_are_survived(
        model in prop::sample::select(&Model::ALL[..]),
        faulty: bool,
        accesses in prop::collection::vec(access(), 1..200),
    ) {
        let plan = if faulty { "flip-element@3x2; stall-input@2; corrupt-packet@2; all-ones@50x3; late-interrupt@1" } else { "" };
        let spec = SimSpec::new(model).with_faults(plan.parse::<FaultPlan>().expect("a fault plan"));
        let bench = Bench::with(spec);
        let given = bench.board.allocate(4096).expect("memory");
        for access in &accesses {
            play(&bench, access);
        }
        let report = bench.board.inspect();
        for access in &report.host_accesses {
            let end = access.iova + access.len;
            prop_assert!(access.iova >= given.iova() && end <= given.iova() + 4096, "{access:x?}");
        }
        prop_assert!(report.resident_bytes <= 257 << 20);
    }

    /// Engines running over memory full of noise and small numbers.
    #[test]
    fn any_memory_is_survived(
        words in prop::collection::vec(value(), 64..512),
        doorbells in prop::collection::vec((0u32..4, 0u32..0x200), 1..6),
        rings in prop::collection::vec((0usize..3, 0u32..0x200, 0u32..5, value()), 1..6),
    ) {
        let bench = Bench::new(Model::Akd1000);
        bench.poke(MEMORY, &words);
        for (channel, at) in doorbells {
            let side = if channel < 2 { edma::WRITE } else { edma::READ };
            bench.run_edma(side, channel % 2, MEMORY + 4 * at);
        }
        for (which, at, last, debug) in rings {
            let base = [top::EVENT_DMA, top::HRC_DMA, top::CONFIG_DMA][which];
            bench.ring(base, MEMORY + 4 * at, 4, 1, 0x8300_0000);
            bench.set_top(base + dma::DEBUG_CONTROL, debug & 1);
            bench.set_top(base + dma::DESCRIPTOR, dma::LAST.of(last));
            bench.top(base + dma::MONITOR_STATUS);
        }
        prop_assert!(bench.board.inspect().host_accesses.is_empty());
    }
}

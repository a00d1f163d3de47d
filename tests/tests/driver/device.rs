//! The driver over simulated boards: bring-up, DMA of all sizes, config packets, self-test, and what must be refused.

use std::sync::Arc;
use std::time::Duration;

use akida_hal::board::{Bar, Board, Chip};
use akida_hal::device::{Completion, Device, DeviceOptions};
use akida_hal::memory_map::{self, ListLayout};
use akida_hal::mesh::{Mesh, NpAddress, Version};
use akida_hal::packet::Uid;
use akida_hal::program::{InputKind, InputPort, OutputKind, OutputPort, Pass, Program, Track};
use akida_hal::regs::top;
use akida_hal::transport::{PcieTransport, Segment, Transport, TransportOptions};
use akida_hal::{Error, ErrorKind};
use akida_simulator::{Model, SimBoard, SimSpec};

fn board(model: Model) -> Arc<SimBoard> {
    Arc::new(SimBoard::open(&SimSpec::new(model)).expect("a simulated board opens"))
}

fn faulty(model: Model, plan: &str) -> Arc<SimBoard> {
    let plan = plan.parse().expect("a plan");
    Arc::new(SimBoard::open(&SimSpec::new(model).with_faults(plan)).expect("a simulated board opens"))
}

fn device(board: &Arc<SimBoard>) -> Device {
    Device::open(board.clone(), DeviceOptions::default()).expect("the device opens")
}

fn transport(board: &Arc<SimBoard>, completion: Completion) -> PcieTransport {
    let options = TransportOptions {
        timeout: Duration::from_secs(2),
        completion,
        element_bytes: 1024,
        ..TransportOptions::default()
    };
    PcieTransport::open(board.clone(), options).expect("the transport opens")
}

/// Bytes that differ at every position of any power-of-two distance.
fn pattern(len: usize, seed: u64) -> Vec<u8> {
    (0..len as u64).map(|i| ((i ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48) as u8).collect()
}

#[test]
fn every_board_opens_and_its_scan_finds_the_known_mesh() {
    for model in Model::ALL {
        for scan in [true, false] {
            let options = DeviceOptions { scan, ..DeviceOptions::default() };
            let device = Device::open(board(model), options).expect("opens");
            let expected = model.mesh();
            assert_eq!(device.version(), expected.version, "{model}");
            assert_eq!(device.mesh(), &expected, "{model}, scan {scan}");
            assert!(device.identity().simulated);
        }
    }
}

#[test]
fn what_is_written_anywhere_reads_back() {
    for model in Model::ALL {
        let transport = transport(&board(model), Completion::Poll);
        let region = transport.memory()[0];
        let largest = if region.len > 16 << 20 { 8 << 20 } else { 512 << 10 };
        let sizes = [1, 2, 3, 4, 5, 7, 8, 31, 63, 64, 65, 1023, 1024, 1025, 4097, 65_536, 262_145, largest];
        for (i, len) in sizes.into_iter().enumerate() {
            for offset in [0, 1, 2, 3, 61] {
                let sent = pattern(len, i as u64);
                let at = region.base + 0x100 + offset;
                transport.write(at, &sent).expect("written");
                let mut read = vec![0; len];
                transport.read(at, &mut read).expect("read");
                assert!(read == sent, "{model}: {len} bytes at +{offset}");
            }
        }
    }
}

/// The neighbours of a write stay as they are.
#[test]
fn transfers_end_where_they_should() {
    let transport = transport(&board(Model::Akd1000), Completion::Poll);
    let base = transport.memory()[0].base;
    for len in [1, 5, 1024, 5000] {
        transport.write(base, &vec![0xAA; len + 64]).expect("written");
        transport.write(base + 32, &vec![0x55; len]).expect("written");
        let mut read = vec![0; len + 64];
        transport.read(base, &mut read).expect("read");
        let inside = 32..32 + len;
        assert!(read.iter().enumerate().all(|(i, b)| *b == if inside.contains(&i) { 0x55 } else { 0xAA }), "{len}");
    }
}

/// Zero-copy segments of odd sizes go in one list; more elements than a list holds go in several, with both cycle bits.
#[test]
fn lists_longer_than_one_element_and_longer_than_a_region() {
    for model in [Model::Akd1000, Model::Akd1500] {
        let transport = transport(&board(model), Completion::Poll);
        let base = transport.memory()[0].base;
        let buffer = transport.allocate(1 << 20).expect("host memory");
        let sent = pattern(1 << 20, 5);
        buffer.write(0, &sent).expect("inside");
        let before = transport.counters().transfers;
        let pieces = [(0, 0, 3), (5, 100, 2049), (9000, 8192, 1), (100, 20_000, 4096)];
        let segment =
            |&(offset, to, len): &(usize, u32, usize)| Segment { buffer: &buffer, offset, address: base + to, len };
        let segments: Vec<_> = pieces.iter().map(segment).collect();
        transport.write_from(&segments).expect("written");
        assert_eq!(transport.counters().transfers - before, 1, "{model}");
        for (offset, to, len) in pieces {
            let mut read = vec![0; len];
            transport.read(base + to, &mut read).expect("read");
            assert_eq!(read, sent[offset..offset + len], "{model}");
        }
        // One byte an element.
        let small =
            TransportOptions { timeout: Duration::from_secs(2), element_bytes: 1, ..TransportOptions::default() };
        drop((segments, transport));
        let board = self::board(model);
        let transport = PcieTransport::open(board, small).expect("opens");
        let len = 25_000;
        let capacity = akida_hal::regs::lists::capacity(ListLayout::of(model.chip()).len) as usize;
        transport.write(base, &sent[..len]).expect("written");
        assert_eq!(transport.counters().transfers as usize, len.div_ceil(capacity), "{model}");
        let mut read = vec![0; len];
        transport.read(base, &mut read).expect("read");
        assert!(read == sent[..len], "{model}");
    }
}

#[test]
fn interrupts_end_transfers_and_a_lost_one_costs_only_time() {
    for plan in ["", "drop-interrupt@1x3"] {
        let board = if plan.is_empty() { board(Model::Akd1000) } else { faulty(Model::Akd1000, plan) };
        let transport = transport(&board, Completion::Interrupt);
        let base = transport.memory()[0].base;
        for i in 0..5 {
            let sent = pattern(3000, i);
            transport.write(base, &sent).expect("written");
            let mut read = vec![0; 3000];
            transport.read(base, &mut read).expect("read");
            assert!(read == sent);
        }
        assert_eq!(board.faults_fired().len(), if plan.is_empty() { 0 } else { 3 });
    }
}

#[test]
fn both_channels_of_a_direction_run_at_once() {
    let transport = transport(&board(Model::Akd1000), Completion::Poll);
    let base = transport.memory()[0].base;
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let transport = &transport;
            scope.spawn(move || {
                for i in 0..20 {
                    let sent = pattern(10_000, u64::from(thread * 100 + i));
                    let at = base + thread * 0x10_0000;
                    transport.write(at, &sent).expect("written");
                    let mut read = vec![0; sent.len()];
                    transport.read(at, &mut read).expect("read");
                    assert!(read == sent, "thread {thread}");
                }
            });
        }
    });
}

#[test]
fn impossible_accesses_are_refused_before_the_board_is_touched() {
    let board = board(Model::Akd1000);
    let transport = transport(&board, Completion::Poll);
    let other = self::board(Model::Akd1000);
    let buffer = transport.allocate(4096).expect("host memory");
    let before = transport.counters();
    let layout = ListLayout::LARGE;
    for (address, len) in
        [(layout.base, 1), (layout.base + layout.reserved - 1, 2), (layout.base - 1, 2), (u32::MAX, 2)]
    {
        let result = transport.write(address, &vec![0; len]);
        assert!(matches!(result, Err(Error::DeviceRange { .. })), "{address:#x}+{len}: {result:?}");
    }
    for address in [memory_map::SCRATCH, memory_map::TOP + 2, 0] {
        assert!(matches!(transport.read32(address), Err(Error::DeviceRange { .. })), "{address:#x}");
    }
    let base = memory_map::SCRATCH;
    let segment = Segment { buffer: &buffer, offset: 4000, address: base, len: 97 };
    assert!(matches!(transport.write_from(&[segment]), Err(Error::BufferRange { .. })));
    assert_eq!(transport.counters(), before);
    drop(other);
}

#[test]
fn a_buffer_from_before_a_reset_is_refused() {
    let board = board(Model::Akd1000);
    let transport = transport(&board, Completion::Poll);
    let buffer = transport.allocate(4096).expect("host memory");
    transport.reset().expect("reset");
    let segment = Segment { buffer: &buffer, offset: 0, address: memory_map::SCRATCH, len: 16 };
    let Err(Error::StaleBuffer { buffer: old, generation, .. }) = transport.write_from(&[segment]) else {
        panic!("a stale buffer was taken");
    };
    assert_eq!(old + 1, generation);
    transport.write(memory_map::SCRATCH, &[1; 100]).expect("bounce memory is mapped anew");
}

/// The board stops; the error names the place; the next transfer works.
#[test]
fn aborts_and_stalls_are_typed_errors_that_are_recovered_from() {
    for (plan, kind) in [("abort-link@2", ErrorKind::Device), ("stall-link@2", ErrorKind::TimedOut)] {
        let board = faulty(Model::Akd1000, plan);
        let transport = transport(&board, Completion::Poll);
        let base = memory_map::SCRATCH;
        transport.write(base, &[1; 100]).expect("written");
        let error = transport.write(base, &[2; 100]).expect_err("the fault fires");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains("sim:akd1000"), "{error}");
        transport.write(base, &[3; 100]).expect("written");
        let mut read = [0; 100];
        transport.read(base, &mut read).expect("read");
        assert_eq!(read, [3; 100]);
        assert_eq!(transport.generation(), 0, "the channel's reset was enough");
    }
}

#[test]
fn a_lost_device_is_named_and_quarantined_until_a_reset_brings_it_back() {
    let board = faulty(Model::Akd1000, "lose-device@30000");
    let mut device = device(&board);
    let np = device.mesh().nps[0].0;
    let error = loop {
        if let Err(error) = device.read_np(np, Uid::Registers, 0, 1) {
            break error;
        }
    };
    assert!(matches!(error.kind(), ErrorKind::Lost | ErrorKind::TimedOut), "{error:?}");
    device.recover().expect("a reset brings it back");
    device.read_np(np, Uid::Registers, 0, 1).expect("works again");

    let board = faulty(Model::Akd1000, "lose-device@30000:forever");
    let mut device = self::device(&board);
    while device.read_np(np, Uid::Registers, 0, 1).is_ok() {}
    let error = device.recover().expect_err("gone for good");
    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
    let refused = device.read_np(np, Uid::Registers, 0, 1).expect_err("refused");
    assert!(matches!(refused, Error::Quarantined { .. } | Error::WasReset { .. }), "{refused}");
}

#[test]
fn np_memories_keep_what_config_packets_write() {
    for model in Model::ALL {
        let mut device = device(&board(model));
        for np in [device.mesh().nps[0].0, device.mesh().nps[device.mesh().nps.len() - 1].0] {
            for (uid, start, len) in [(Uid::CnpFilter, 0, 400), (Uid::CnpFilter, 8, 32), (Uid::Thresholds, 0, 100)] {
                let words: Vec<u32> = (0..len).map(|i: u32| i.wrapping_mul(0x0101_0101) ^ start).collect();
                device.write_np(np, uid, start as u16, &words).expect("written");
                let read = device.read_np(np, uid, start as u16, len as usize).expect("read");
                assert_eq!(read, words, "{model} {np} {uid:?}");
            }
            let identity = device.read_np(np, Uid::Registers, 0, 1).expect("read")[0];
            assert_eq!(akida_hal::regs::np::NP_COLUMN.get(identity), u32::from(np.column));
        }
    }
}

#[test]
fn the_loopback_self_test_passes_on_every_board() {
    for model in Model::ALL {
        let mut device = device(&board(model));
        for words in [1, 100, 10_000] {
            device.self_test(words).unwrap_or_else(|e| panic!("{model}, {words} words: {e}"));
        }
    }
}

fn program(mesh: &Mesh, tracks: Vec<Vec<u32>>) -> Program {
    let tracks = tracks.into_iter().map(|words| Track { words }).collect();
    Program {
        version: mesh.version,
        input: InputPort { shape: [4, 4, 1], bits: 8, signed: false, kind: InputKind::Dense, window: [4, 4] },
        output: OutputPort { shape: [1, 1, 4], bits: 8, signed: false, kind: OutputKind::Dense },
        passes: vec![Pass { tracks, external: Vec::new() }],
        epg: Vec::new(),
    }
}

#[test]
fn programs_that_do_not_fit_are_refused_before_anything_is_written() {
    let board = board(Model::Akd1000);
    let mut device = device(&board);
    let mesh = device.mesh().clone();
    let good = vec![0x0103_0108, 0x0001_0001, 0];
    let base = program(&mesh, vec![good.clone()]);
    let with = |change: &dyn Fn(&mut Program)| {
        let mut program = base.clone();
        change(&mut program);
        program
    };
    let cases = [
        ("version", with(&|p| p.version = Version::AKD1500)),
        ("no pass", with(&|p| p.passes.clear())),
        ("no such NP", program(&mesh, vec![good.clone(), vec![0x0901_0108, 0x0001_0001, 0]])),
        ("truncated", program(&mesh, vec![vec![0x0103_0108, 0x0002_0001, 0]])),
        ("empty track", program(&mesh, vec![vec![]])),
        ("input bits", with(&|p| p.input.bits = 3)),
        ("shape", with(&|p| p.output.shape = [0, 1, 1])),
        ("EPG offset", with(&|p| p.epg.push(akida_hal::program::EpgWrite { offset: 0x1000, value: 0 }))),
    ];
    let before = board.inspect().counters.clone();
    for (name, program) in cases {
        let error = device.program(&program).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Program, "{name}: {error}");
        assert!(!error.advice().is_empty());
    }
    assert_eq!(format!("{:?}", board.inspect().counters), format!("{before:?}"), "the board was not touched");
    assert!(matches!(device.enqueue(&[0; 16]), Err(Error::NotProgrammed { .. })));
}

#[test]
fn translation_is_programmed_as_the_kernel_driver_does() {
    let board = board(Model::Akd1000);
    let transport = transport(&board, Completion::Poll);
    assert_eq!(board.identity().chip, Chip::Akd1000);
    let mesh = transport.read32(memory_map::TOP + top::MESH_INFO_1).expect("read");
    assert_eq!(mesh, board.read(Bar::Bar0, top::MESH_INFO_1.into()).expect("read"));
    assert_eq!((top::COLUMNS.get(mesh), top::ROWS.get(mesh)), (5, 5));
}

#[test]
fn closing_leaves_nothing_mapped_and_bus_mastering_off() {
    let board = board(Model::Akd1500);
    let device = device(&board);
    assert!(!board.inspect().mappings.is_empty(), "the host window is mapped");
    drop(device);
    assert!(board.inspect().mappings.is_empty());
    assert_eq!(board.config_read(0x04).expect("read") & 4, 0);
}

/// A host address the device was never given is not touched.
#[test]
fn nothing_outside_the_mappings_is_ever_asked_for() {
    let board = board(Model::Akd1000);
    let mut device = device(&board);
    device.self_test(1000).expect("passes");
    let np: NpAddress = device.mesh().nps[3].0;
    device.read_np(np, Uid::Registers, 0, 50).expect("read");
    assert_eq!(board.inspect().host_refused, []);
}

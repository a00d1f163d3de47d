//! The vendor's node as a road to a board, over a stand-in: a simulated board behind the documented manners of the vendor's
//! kernel module (hardware.md section 4).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use akida_converter::import::{ImportOptions, import};
use akida_converter::onnx;
use akida_hal::board::Wake;
use akida_hal::device::{Device, DeviceOptions};
use akida_hal::memory_map;
use akida_hal::node::{self, NodeFile, NodeTransport};
use akida_hal::transport::{PcieTransport, Transport, TransportOptions};
use akida_hal::{Board, Error, ErrorKind};
use akida_runtime::session::{Batch, Session, SessionOptions};
use akida_simulator::{Model, SimBoard, SimSpec};
use akida_tests::conformance::Case;

/// What the module does besides its work.
#[derive(Clone, Copy, Default)]
struct Manners {
    /// Each call but every N-th is interrupted by a signal.
    interrupted: u64,
    /// Most bytes a call moves.
    short: Option<usize>,
    /// Registers can be mapped.
    maps: bool,
    /// Every call fails so.
    errno: Option<i32>,
}

/// The stand-in.
struct Module {
    board: Arc<SimBoard>,
    dma: PcieTransport,
    manners: Manners,
    calls: AtomicU64,
    /// A transfer has timed out: the channel is taken for busy ever after.
    hangs: Arc<AtomicBool>,
}

fn errno(number: nix::errno::Errno) -> io::Error {
    io::Error::from_raw_os_error(number as i32)
}

impl Module {
    fn call(&self, address: u64, len: usize) -> io::Result<usize> {
        use nix::errno::Errno::{EINTR, EINVAL, ETIMEDOUT};
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        if let Some(number) = self.manners.errno {
            return Err(io::Error::from_raw_os_error(number));
        }
        // Allowed: the end below the reserved range, or the start behind it.
        if address + len as u64 >= 0x2000_0000 && address < 0x2000_0100 {
            return Err(errno(EINVAL));
        }
        if self.hangs.load(Ordering::SeqCst) {
            return Err(errno(ETIMEDOUT));
        }
        if self.manners.interrupted > 0 && !call.is_multiple_of(self.manners.interrupted) {
            return Err(errno(EINTR));
        }
        Ok(self.manners.short.map_or(len, |s| len.min(s)))
    }

    fn ended(&self, result: akida_hal::Result<()>, len: usize) -> io::Result<usize> {
        match result {
            Ok(()) => Ok(len),
            Err(Error::TimedOut { .. }) => {
                self.hangs.store(true, Ordering::SeqCst);
                Err(errno(nix::errno::Errno::ETIMEDOUT))
            }
            // The published module reports an abort as success.
            Err(Error::DmaAbort { .. }) => Ok(len),
            Err(_) => Err(errno(nix::errno::Errno::EIO)),
        }
    }
}

impl NodeFile for Module {
    fn read_at(&self, bytes: &mut [u8], address: u64) -> io::Result<usize> {
        let len = self.call(address, bytes.len())?;
        let result = self.dma.read(address as u32, &mut bytes[..len]);
        self.ended(result, len)
    }

    fn write_at(&self, bytes: &[u8], address: u64) -> io::Result<usize> {
        let len = self.call(address, bytes.len())?;
        self.ended(self.dma.write(address as u32, &bytes[..len]), len)
    }

    fn maps_registers(&self) -> bool {
        self.manners.maps
    }

    fn read_register(&self, offset: usize) -> io::Result<u32> {
        self.dma.read32(memory_map::TOP + offset as u32).map_err(io::Error::other)
    }

    fn write_register(&self, offset: usize, value: u32) -> io::Result<()> {
        self.dma.write32(memory_map::TOP + offset as u32, value).map_err(io::Error::other)
    }

    fn now(&self) -> Duration {
        self.board.now()
    }

    fn pause(&self, time: Duration) {
        self.board.pause(time);
    }
}

struct Opened {
    board: Arc<SimBoard>,
    hangs: Arc<AtomicBool>,
    node: Arc<NodeTransport>,
}

fn open(model: Model, manners: Manners) -> akida_hal::Result<Opened> {
    let board = Arc::new(SimBoard::open(&SimSpec::new(model)).expect("opens"));
    let timeout = Duration::from_secs(2);
    let options = TransportOptions { timeout, element_bytes: 1024, ..TransportOptions::default() };
    let dma = PcieTransport::open(board.clone(), options).expect("the module probes");
    let hangs = Arc::new(AtomicBool::new(false));
    let identity = akida_hal::board::Identity { name: "node:/dev/akida0".into(), ..board.identity().clone() };
    let module = Module { board: board.clone(), dma, manners, calls: AtomicU64::new(0), hangs: hangs.clone() };
    let node = Arc::new(NodeTransport::over(Box::new(module), identity)?);
    Ok(Opened { board, hangs, node })
}

fn device(node: &Arc<NodeTransport>) -> Device {
    Device::over(node.clone(), DeviceOptions::default()).expect("the device opens")
}

/// Plain, through signals and pieces, with registers mapped and without: the same bytes.
#[test]
fn what_is_written_reads_back_whatever_the_calls_do() {
    for model in Model::ALL {
        for manners in [
            Manners { maps: true, ..Manners::default() },
            Manners::default(),
            Manners { interrupted: 3, ..Manners::default() },
            Manners { short: Some(100), maps: true, ..Manners::default() },
            Manners { interrupted: 7, short: Some(4096), ..Manners::default() },
        ] {
            let node = open(model, manners).expect("opens").node;
            let base = node.memory()[0].base;
            for len in [1usize, 4, 1023, 4096, 300_001] {
                let sent: Vec<u8> = (0..len as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
                let mut read = vec![0; len];
                node.write(base + 8, &sent).expect("written");
                node.read(base + 8, &mut read).expect("read");
                assert!(sent == read, "{model}: {len} bytes");
            }
            let mut device = device(&node);
            assert_eq!(device.mesh(), &model.mesh());
            device.self_test(100).expect("loopback");
        }
    }
}

#[test]
fn a_whole_network_gives_the_stored_vectors() {
    let case = Case::find("mnist_cnn").expect("part of the repository");
    let graph = onnx::load(&case.path("quantized.onnx")).expect("loads");
    let options = ImportOptions { allow_float_tail: true, ..ImportOptions::default() };
    let model = Arc::new(import(&graph, options).expect("imports").model);
    let opened = open(Model::Akida2SixNodes, Manners { maps: true, ..Manners::default() }).expect("opens");
    let mut session = Session::open(model, device(&opened.node), SessionOptions::default()).expect("maps");
    let outputs = session.infer(Batch::Float(case.inputs().view())).expect("runs");
    let mut stored = case.npz("quantized_outputs.npz").expect("outputs");
    assert_eq!(outputs.raw[0].mapv(i64::from), stored.integers("raw0"));
    assert_eq!(outputs.floats[0], stored.floats("out0"));
    assert!(outputs.raw[0].shape()[0] >= 2000);
}

#[test]
fn the_reserved_range_is_refused_before_the_module_sees_it() {
    let node = open(Model::Akd1000, Manners::default()).expect("opens").node;
    for (address, len, allowed) in [
        (0x2000_0000u32, 4usize, false),
        (0x2000_00fc, 4, false),
        (0x1fff_fffc, 4, false), // ends at the base: the module's rule is strict
        (0x2000_0100, 4, true),
        (0xffff_fffc, 8, false),
    ] {
        match node.write(address, &vec![0; len]) {
            Err(Error::DeviceRange { .. }) => assert!(!allowed, "{address:#x}"),
            Ok(()) | Err(Error::Node(_)) => assert!(allowed, "{address:#x}"),
            other => panic!("{address:#x}: {other:?}"),
        }
    }
    assert!(matches!(node.read32(memory_map::TOP + 2), Err(Error::DeviceRange { .. })));
}

/// The module leaves its channel running: nothing more is sent, and the error says what helps.
#[test]
fn a_time_out_ends_the_use_of_the_node() {
    let opened = open(Model::Akd1000, Manners { maps: true, ..Manners::default() }).expect("opens");
    let mut device = device(&opened.node);
    opened.hangs.store(true, Ordering::SeqCst);
    let base = opened.node.memory()[0].base;
    let error = opened.node.write(base, &[0; 2048]).expect_err("the module gives up");
    assert!(matches!(error, Error::Node(node::Error::TimedOut { operation: "write", .. })), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.advice().contains("load the vendor's module"), "{}", error.advice());
    // As a hung module: even if it answered again, the memory it writes to is not its own.
    opened.hangs.store(false, Ordering::SeqCst);
    let reason = opened.node.quarantine().expect("quarantined");
    for result in
        [opened.node.write(base, &[0; 4]), opened.node.read32(memory_map::TOP).map(|_| ()), device.self_test(4)]
    {
        assert!(matches!(&result, Err(Error::Quarantined { reason: r, .. }) if *r == reason), "{result:?}");
    }
    assert!(matches!(device.recover(), Err(Error::Node(node::Error::NoReset { .. }))));
    assert_eq!(opened.node.counters().timeouts, 1);
}

#[test]
fn a_stalled_transfer_is_a_time_out_not_a_hang() {
    let opened = open(Model::Akd1000, Manners { maps: true, ..Manners::default() }).expect("opens");
    opened.board.arm(&"stall-link@2".parse().expect("a plan"));
    let base = opened.node.memory()[0].base;
    let error = opened.node.write(base, &[7; 100_000]).expect_err("it stalls");
    assert!(matches!(error, Error::Node(node::Error::TimedOut { .. })), "{error:?}");
}

#[test]
fn errors_of_the_module_are_typed() {
    use nix::errno::Errno::{EFAULT, EINTR, EINVAL, ENODEV, ENOMEM};
    for (number, kind) in [
        (EINVAL, ErrorKind::Host),
        (ENOMEM, ErrorKind::Host),
        (EFAULT, ErrorKind::Host),
        (ENODEV, ErrorKind::Lost),
        (EINTR, ErrorKind::Host), // for ever
    ] {
        let manners = Manners { errno: Some(number as i32), maps: true, ..Manners::default() };
        let node = open(Model::Akd1500, manners).expect("registers are mapped").node;
        let error = node.write(node.memory()[0].base, &[0; 64]).expect_err("refused");
        let Error::Node(node::Error::Io { source, len: 64, .. }) = &error else { panic!("{error:?}") };
        assert_eq!((source.raw_os_error(), error.kind()), (Some(number as i32), kind), "{error}");
        assert_eq!(node.quarantine(), None);
    }
}

/// What the node has not got is an error with its name, not a silent substitute.
#[test]
fn no_interrupts_and_no_function_reset() {
    let opened = open(Model::Akd1000, Manners { maps: true, ..Manners::default() }).expect("opens");
    assert!(matches!(opened.node.wait_interrupt(Duration::ZERO), Err::<Wake, _>(Error::Interrupts { .. })));
    let generation = opened.board.generation();
    let stale = opened.node.allocate(64).expect("memory");
    let mut device = device(&opened.node);
    device.recover().expect("the core is reset");
    assert_eq!(opened.board.generation(), generation, "the function was not");
    let segment = akida_hal::transport::Segment { buffer: &stale, offset: 0, address: 0x2400_0000, len: 4 };
    assert!(matches!(opened.node.write_from(&[segment]), Err(Error::StaleBuffer { .. })));
    device.self_test(16).expect("and works");
}

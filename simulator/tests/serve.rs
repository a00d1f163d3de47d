//! The board in another process (here: another thread, through a real socket) is the same board.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use akida_hal::board::{Bar, Wake};
use akida_hal::selftest::{self, Verdict};
use akida_hal::vfio_user::{Dma as ClientDma, RemoteBoard};
use akida_hal::{Board, Error, ErrorKind};
use akida_simulator::serve::{Dma, Server, Stopper};
use akida_simulator::{Model, SimSpec};

/// A served board; stopped when dropped.
struct Served {
    path: PathBuf,
    stopper: Stopper,
    thread: Option<JoinHandle<std::io::Result<()>>>,
    _folder: tempfile::TempDir,
}

impl Served {
    fn new(model: Model, dma: Dma) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("board.sock");
        let server = Server::bind(&path, &SimSpec::new(model), dma).expect("listens");
        let stopper = server.stopper();
        let thread = std::thread::spawn(move || server.run());
        Self { path, stopper, thread: Some(thread), _folder: folder }
    }

    fn connect(&self, dma: ClientDma) -> RemoteBoard {
        RemoteBoard::connect(&self.path, dma).expect("connects")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stopper.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(Ok(())))), "{ended:?}");
            assert!(!self.path.exists(), "the socket is taken away");
        }
    }
}

#[test]
fn self_test_passes_on_every_board_by_files_and_by_messages() {
    for (model, server, client) in [
        (Model::Akd1000, Dma::Files, ClientDma::Files),
        (Model::Akd1000, Dma::Messages, ClientDma::Files),
        (Model::Akd1500, Dma::Files, ClientDma::Messages),
        (Model::Akida2SixNodes, Dma::Files, ClientDma::Files),
    ] {
        let served = Served::new(model, server);
        let board = Arc::new(served.connect(client));
        assert_eq!(board.identity().chip, model.chip());
        for outcome in selftest::run(board.clone()) {
            assert!(matches!(outcome.verdict, Verdict::Passed(_)), "{model} {server:?} {client:?} {outcome:?}");
        }
        assert_eq!(selftest::interrupt(board.clone()).expect("runs"), Some(Wake::Interrupt));
        assert_eq!(board.mappings(), 0, "nothing stays mapped");
    }
}

#[test]
fn accesses_outside_are_refused_on_this_side() {
    let served = Served::new(Model::Akd1500, Dma::Files);
    let board = served.connect(ClientDma::Files);
    assert_eq!(Bar::ALL.map(|b| board.bar_len(b)), Model::Akd1500.bar_len());
    for (bar, offset) in [(Bar::Bar0, 2), (Bar::Bar0, 64 << 10), (Bar::Bar2, 1 << 20), (Bar::Bar4, u64::MAX - 3)] {
        assert!(matches!(board.read(bar, offset), Err(Error::Access { .. })));
        assert!(matches!(board.write(bar, offset, 0), Err(Error::Access { .. })));
    }
    assert!(matches!(board.config_read(4096), Err(Error::Access { .. })));
    assert_eq!(board.wait_interrupt(Duration::from_millis(1)).expect("waits"), Wake::TimedOut);
}

#[test]
fn the_next_host_finds_a_reset_function() {
    let served = Served::new(Model::Akd1000, Dma::Files);
    for _ in 0..3 {
        let board = served.connect(ClientDma::Files);
        let kept = board.allocate(4096).expect("memory");
        board.config_write(0x908, 0x8000_0000).expect("some translation");
        drop(board);
        drop(kept); // outlives the board without harm
    }
    let board = served.connect(ClientDma::Files);
    assert_eq!(board.config_read(0x908).expect("readable"), 0, "translation is gone");
}

#[test]
fn a_server_that_dies_is_a_lost_board() {
    let served = Served::new(Model::Akd1000, Dma::Files);
    let board = served.connect(ClientDma::Files);
    let buffer = board.allocate(4096).expect("memory");
    drop(served);
    let error = board.read(Bar::Bar0, 0).expect_err("gone");
    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
    assert!(board.allocate(4096).is_err() && board.reset().is_err());
    drop(buffer);
    assert_eq!(board.mappings(), 0);
    let error = RemoteBoard::connect("/nonexistent/socket", ClientDma::Files).err().expect("nobody there");
    assert_eq!(error.kind(), ErrorKind::Host);
}

#[test]
fn a_socket_in_use_is_not_taken_away() {
    let served = Served::new(Model::Akd1000, Dma::Files);
    let second = Server::bind(&served.path, &SimSpec::new(Model::Akd1500), Dma::Files).err().expect("refused");
    assert_eq!(second.kind(), std::io::ErrorKind::AddrInUse);
}

/// Kernels write addresses of list elements as 64-bit words, configuration space by bytes and halves: one message each.
#[test]
fn accesses_of_all_widths_mean_the_same_bytes() {
    use akida_hal::vfio_user::socket::Socket;
    use akida_hal::vfio_user::wire::{self, Command, Header};
    let served = Served::new(Model::Akd1000, Dma::Files);
    let socket = Socket::new(std::os::unix::net::UnixStream::connect(&served.path).expect("connects"));
    let ask = |command: Command, body: &[u8]| -> Vec<u8> {
        let header = Header { id: 7, command: command as u16, ..Header::default() };
        socket.send(header, body, &[]).expect("sent");
        let reply = socket.receive().expect("received").expect("not the end");
        assert_eq!(reply.header.flags & wire::ERROR, 0, "{command:?}: errno {}", reply.header.errno);
        reply.body
    };
    let write = |region: u32, offset: u64, bytes: &[u8]| {
        let access = wire::RegionAccess { offset, region, count: bytes.len() as u32 };
        ask(Command::RegionWrite, &wire::body(&access, bytes));
    };
    let read = |region: u32, offset: u64, count: u32| -> Vec<u8> {
        let access = wire::RegionAccess { offset, region, count };
        let body = ask(Command::RegionRead, &wire::body(&access, &[]));
        wire::head::<wire::RegionAccess>(&body).expect("an access").1.to_vec()
    };
    ask(Command::Version, &wire::body(&wire::Version { major: 0, minor: 1 }, wire::CAPABILITIES.as_bytes()));
    // Memory decoding by the low byte of the command register, then BAR 4 onto memory, by halves where a half will do.
    write(wire::REGION_CONFIG, 0x04, &[0x06]);
    write(wire::REGION_CONFIG, 0x900, &0x8000_0002u32.to_le_bytes());
    write(wire::REGION_CONFIG, 0x904, &[0, 0]);
    write(wire::REGION_CONFIG, 0x918, &0x2000_0000u32.to_le_bytes());
    write(wire::REGION_CONFIG, 0x908, &0xc008_0400u32.to_le_bytes());
    let address = 0x0123_4567_89ab_cdefu64.to_le_bytes();
    write(4, 8, &address);
    assert_eq!(read(4, 8, 8), address);
    assert_eq!((read(4, 8, 4), read(4, 12, 4)), (address[..4].to_vec(), address[4..].to_vec()));
    write(4, 10, &[0x11, 0x22]);
    write(4, 15, &[0x33]);
    assert_eq!(read(4, 8, 8), [0xef, 0xcd, 0x11, 0x22, 0x67, 0x45, 0x23, 0x33]);
    assert_eq!(read(wire::REGION_CONFIG, 0x02, 2), [0xa1, 0xbc]);
}

/// A board that was taken away comes back when somebody pushes it in again, even one that no reset brings back.
#[test]
fn a_lost_board_is_reconnected() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("board.sock");
    let server = Arc::new(Server::bind(&path, &SimSpec::new(Model::Akd1000), Dma::Files).expect("listens"));
    let (stopper, serving) = (server.stopper(), server.clone());
    let thread = std::thread::spawn(move || serving.run());
    let board = RemoteBoard::connect(&path, ClientDma::Files).expect("connects");
    server.arm(&"lose-device@1:forever".parse().expect("a plan"));
    assert!(matches!(board.config_read(0), Err(Error::DeviceLost { .. }) | Ok(u32::MAX)));
    let _ = board.reset(); // no reset helps
    assert!(matches!(board.config_read(0), Err(Error::DeviceLost { .. }) | Ok(u32::MAX)));
    server.arm(&"".parse().expect("a plan"));
    server.reconnect();
    assert_eq!(board.config_read(0).expect("answers"), 0xbca1_1e7c);
    drop(board);
    stopper.stop();
    thread.join().expect("no panic").expect("ends");
}

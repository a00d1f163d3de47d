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

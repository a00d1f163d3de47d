//! The suite of boards (tests/src/suite.rs) on simulated boards: in this process, and through a socket. tests/vm runs it
//! behind a real kernel.

use std::sync::Arc;

use akida_hal::Board;
use akida_hal::vfio_user::{Dma as ClientDma, RemoteBoard};
use akida_simulator::serve::{Dma, Server, Stopper};
use akida_simulator::{Clock, Model, SimBoard, SimSpec};
use akida_tests::suite;

fn all_pass(what: &str, board: Arc<dyn Board>) {
    for outcome in suite::run(&board) {
        assert!(outcome.result.is_ok(), "{what}: {}: {:?}", outcome.case.name, outcome.result);
    }
}

/// Ends a server when it goes out of scope.
struct End(Stopper);

impl Drop for End {
    fn drop(&mut self) {
        self.0.stop();
    }
}

#[test]
fn in_process() {
    for model in Model::ALL {
        let board = Arc::new(SimBoard::open(&SimSpec::new(model)).expect("opens"));
        all_pass(&format!("{model}"), board.clone());
        assert_eq!(board.inspect().mappings, [], "{model}: nothing stays mapped");
    }
}

#[test]
fn in_process_in_real_time() {
    let spec = SimSpec::new(Model::Akd1000).with_clock(Clock::Threaded);
    all_pass("akd1000 in real time", Arc::new(SimBoard::open(&spec).expect("opens")));
}

#[test]
fn through_a_socket() {
    for (model, dma) in [(Model::Akd1000, Dma::Messages), (Model::Akd1500, Dma::Files)] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("board");
        let server = Server::bind(&path, &SimSpec::new(model), dma).expect("listens");
        let stopper = server.stopper();
        std::thread::scope(|scope| {
            let serving = scope.spawn(|| server.run());
            // Also when a case panics: the scope waits for the server.
            let end = End(stopper);
            let board = Arc::new(RemoteBoard::connect(&path, ClientDma::Files).expect("connects"));
            all_pass(&format!("{model} by {dma:?}"), board.clone());
            assert_eq!(board.mappings(), 0, "{model}: nothing stays mapped");
            drop(board);
            drop(end);
            serving.join().expect("no panic").expect("ends");
        });
    }
}

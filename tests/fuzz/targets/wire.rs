//! What a host sends to a served board: any bytes, on a connection of its own. The board must answer or hang up, and
//! take the next connection.
#![no_main]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::OnceLock;

use akida_simulator::serve::{Dma, Server};
use akida_simulator::{Model, SimSpec};

fn server() -> &'static PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("akida-fuzz-{}.socket", std::process::id()));
        let server = Server::bind(&path, &SimSpec::new(Model::Akd1500), Dma::Messages).expect("a socket");
        std::thread::spawn(move || server.run().expect("the server goes on"));
        path
    })
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut stream = UnixStream::connect(server()).expect("the server listens");
    // A board that has hung up already is an answer.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
});

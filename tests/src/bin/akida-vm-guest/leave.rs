//! Boards that are taken away: by the end of their process, by who unbinds or unplugs them.

use std::fs;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use akida_hal::device::KERNEL_ELEMENT_BYTES;
use akida_hal::transport::{PcieTransport, Transport, TransportOptions};
use akida_hal::vfio::{self, VfioBoard};
use akida_hal::{Board, Error};

use crate::{ctl, quick};

/// The kernel wants the board back while it is open: our own tool refuses to ask for that, an administrator who does it all
/// the same gets it as soon as the driver lets go, and the driver is told to.
pub fn asked_back(address: &str) -> Result<String, String> {
    let board = VfioBoard::open(address).map_err(|e| e.to_string())?;
    ctl(&["unbind", address], 75)?;
    let path = format!("/sys/bus/pci/devices/{address}/driver/unbind");
    let asking = std::thread::spawn({
        let address = address.to_string();
        move || fs::write(path, address)
    });
    let told = match board.wait_interrupt(Duration::from_secs(20)) {
        Err(e @ Error::Vfio(vfio::Error::Released { .. })) => e.to_string(),
        other => return Err(format!("instead of Released: {other:?}")),
    };
    drop(board);
    asking.join().map_err(|_| "panicked")?.map_err(|e| format!("unbind: {e}"))?;
    match VfioBoard::open(address).map(|_| ()) {
        Err(Error::Vfio(vfio::Error::WrongDriver { driver: None, .. })) => {}
        other => return Err(format!("after unbinding: {other:?}")),
    }
    ctl(&["bind", address], 0)?;
    Ok(told)
}

/// The function leaves the bus while it is open: the driver is told, lets go, and what is found again works.
pub fn unplugged(address: &str) -> Result<String, String> {
    let board = VfioBoard::open(address).map_err(|e| e.to_string())?;
    let buffer = board.allocate(64 << 10).map_err(|e| e.to_string())?;
    let path = format!("/sys/bus/pci/devices/{address}/remove");
    let leaving = std::thread::spawn(move || fs::write(path, "1"));
    let told = match board.wait_interrupt(Duration::from_secs(20)) {
        Err(e @ Error::Vfio(vfio::Error::Released { .. })) => e.to_string(),
        other => return Err(format!("instead of Released: {other:?}")),
    };
    drop((buffer, board));
    leaving.join().map_err(|_| "panicked")?.map_err(|e| format!("remove: {e}"))?;
    match VfioBoard::open(address).map(|_| ()) {
        Err(Error::Vfio(vfio::Error::NoSuchFunction { .. })) => {}
        other => return Err(format!("after it left: {other:?}")),
    }
    fs::write("/sys/bus/pci/rescan", "1").map_err(|e| format!("rescan: {e}"))?;
    ctl(&["bind", address], 0)?;
    let board: Arc<dyn Board> = Arc::new(VfioBoard::open(address).map_err(|e| format!("found again: {e}"))?);
    let outcomes = akida_hal::selftest::run(board);
    match outcomes.iter().find(|o| !matches!(o.verdict, akida_hal::selftest::Verdict::Passed(_))) {
        None => Ok(format!("{told}; found again, it passes {} tests", outcomes.len())),
        Some(bad) => Err(format!("found again: {bad:?}")),
    }
}

/// A process that dies while the board reads its memory: the kernel takes board and memory back, the next process opens
/// the board and is right.
pub fn killed(address: &str) -> Result<String, String> {
    let this = std::env::current_exe().map_err(|e| e.to_string())?;
    let rounds = if quick() { 1 } else { 3 };
    for round in 0..rounds {
        let mut child = Command::new(&this)
            .args(["crash", address])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("starting: {e}"))?;
        // It says a line when transfers run.
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            use std::io::BufRead;
            std::io::BufReader::new(out).read_line(&mut line).map_err(|e| e.to_string())?;
        }
        child.kill().map_err(|e| e.to_string())?;
        child.wait().map_err(|e| e.to_string())?;
        if line != "moving\n" {
            return Err(format!("round {round}: the process said {line:?}"));
        }
        let board: Arc<dyn Board> = Arc::new(VfioBoard::open(address).map_err(|e| format!("round {round}: {e}"))?);
        let failed: Vec<String> = akida_hal::selftest::run(board)
            .into_iter()
            .filter(|o| !matches!(o.verdict, akida_hal::selftest::Verdict::Passed(_)))
            .map(|o| format!("{o:?}"))
            .collect();
        if !failed.is_empty() {
            return Err(format!("round {round}: {failed:?}"));
        }
    }
    Ok(format!("{rounds} times, and right afterwards"))
}

/// Moves memory until it is killed.
pub fn crash(address: &str) -> ExitCode {
    let run = || -> akida_hal::Result<()> {
        let board = Arc::new(VfioBoard::open(address)?);
        let options = TransportOptions { element_bytes: KERNEL_ELEMENT_BYTES, ..TransportOptions::default() };
        let transport = PcieTransport::open(board, options)?;
        let base = transport.memory().first().map_or(0, |r| r.base).next_multiple_of(4096);
        let bytes = vec![0xa5; 256 << 10];
        transport.write(base, &bytes)?;
        println!("moving");
        loop {
            transport.write(base, &bytes)?;
        }
    };
    if let Err(error) = run() {
        eprintln!("crash: {error}");
    }
    ExitCode::from(1)
}

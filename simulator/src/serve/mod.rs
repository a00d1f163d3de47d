//! The simulated board as a process of its own: a vfio-user server on a UNIX socket.
//!
//! Who connects plays the host: QEMU, whose guest kernel then finds a PCI function, or
//! [`RemoteBoard`](akida_hal::vfio_user::RemoteBoard). The device model is the same [`Chip`] as
//! in [`SimBoard`](crate::SimBoard); here its registers are answered by the connection's thread, and what moves memory or
//! computes is done by another, so that registers answer while a transfer waits for the host.

mod engine;
mod memory;
mod session;

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use akida_hal::vfio_user::socket::Socket;

use crate::chip::Chip;
use crate::chip::memory::lock;
use crate::faults::{FaultPlan, Fired};
use crate::spec::SimSpec;

/// How the device reaches the host's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dma {
    /// Through the files that the host hands over; by messages where it hands over none.
    #[default]
    Files,
    /// By messages, each translated and checked by the host's own IOMMU.
    Messages,
}

/// A board at a socket.
pub struct Server {
    path: PathBuf,
    listener: UnixListener,
    dma: Dma,
    chip: Arc<Mutex<Chip>>,
    stop: Arc<Stop>,
}

/// Ends a server from another thread.
#[derive(Debug, Default)]
struct Stop {
    now: AtomicBool,
    session: Mutex<Option<Arc<Socket>>>,
}

/// Ends a server from another thread, or from a signal's.
#[derive(Clone, Debug)]
pub struct Stopper {
    path: PathBuf,
    stop: Arc<Stop>,
}

impl Stopper {
    /// Ends the connection there is, and [`Server::run`].
    pub fn stop(&self) {
        self.stop.now.store(true, Ordering::SeqCst);
        if let Some(socket) = lock(&self.stop.session).as_ref() {
            socket.shutdown();
        }
        // Wakes `accept`; when nobody listens any more there is nothing to wake.
        drop(UnixStream::connect(&self.path));
    }
}

impl Server {
    /// Makes a board and listens. A socket of a server that is gone is replaced; one that is in use is not.
    pub fn bind(path: &Path, spec: &SimSpec, dma: Dma) -> io::Result<Self> {
        if fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket()) {
            match UnixStream::connect(path) {
                Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process serves this socket")),
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
                Err(e) => return Err(e),
            }
        }
        Ok(Self {
            path: path.into(),
            listener: UnixListener::bind(path)?,
            dma,
            chip: Arc::new(Mutex::new(Chip::new(spec))),
            stop: Arc::default(),
        })
    }

    /// The handle that ends it.
    pub fn stopper(&self) -> Stopper {
        Stopper { path: self.path.clone(), stop: self.stop.clone() }
    }

    /// Replaces what is left of the fault plan; occasions are counted from now on. Reports are kept.
    pub fn arm(&self, plan: &FaultPlan) {
        lock(&self.chip).arm(plan);
    }

    /// Brings a board back that `lose-device` has taken away, for good or until a reset.
    pub fn reconnect(&self) {
        lock(&self.chip).reconnect();
    }

    /// Faults of the plan that happened so far.
    pub fn faults_fired(&self) -> Vec<Fired> {
        lock(&self.chip).fired().to_vec()
    }

    /// Serves one host after the other, until stopped. Between hosts the function is reset, as a kernel does when a driver
    /// lets go; memory on the board keeps its content.
    pub fn run(&self) -> io::Result<()> {
        loop {
            let (stream, _) = self.listener.accept()?;
            if self.stop.now.load(Ordering::SeqCst) {
                return Ok(());
            }
            let socket = Arc::new(Socket::new(stream));
            *lock(&self.stop.session) = Some(socket.clone());
            log::info!("{}: a host has connected", self.path.display());
            let ended = session::run(&socket, &self.chip, self.dma);
            *lock(&self.stop.session) = None;
            lock(&self.chip).reset();
            match ended {
                Ok(()) => log::info!("{}: the host has gone", self.path.display()),
                Err(e) => log::warn!("{}: connection ended: {e}", self.path.display()),
            }
            if self.stop.now.load(Ordering::SeqCst) {
                return Ok(());
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ours as long as we listened; if it is gone already, all the better.
        let _ = fs::remove_file(&self.path);
    }
}

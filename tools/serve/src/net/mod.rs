//! Listeners: sockets, connections, limits, TLS and callers. What is said on a connection is [`crate::rest`]'s and
//! [`crate::grpc`]'s; both are spoken on one port where they are given the same.

pub mod access;
pub mod body;
mod connection;
mod counters;
mod io;
pub mod memory;
pub mod options;
mod socket;
mod timer;
mod tls;

use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_rustls::rustls;

pub use access::{Access, Caller, Peer, Role};
pub use counters::Counters;
pub use io::Stream;
pub use memory::Memory;
pub use options::{Limits, Options, TlsFiles};
pub use socket::{Listener, Serves, Socket};
pub(crate) use tls::certificates;

use crate::service::Service;

/// What all connections share.
pub struct Shared {
    /// Who runs the models.
    pub service: Arc<dyn Service>,
    /// Limits and what is allowed.
    pub options: Options,
    /// Memory of bodies.
    pub memory: Memory,
    /// Counters.
    pub counters: Counters,
    /// True: no new connections, and those that are there end with their requests. Whoever subscribes is waited for.
    stop: watch::Sender<bool>,
    access: RwLock<Option<Arc<Access>>>,
    tls: RwLock<Option<Arc<rustls::ServerConfig>>>,
}

impl Shared {
    /// Reads the files that the options name.
    ///
    /// # Errors
    ///
    /// Names the limit, or file and line.
    pub fn new(service: Arc<dyn Service>, options: Options) -> Result<Self, String> {
        options.limits.check()?;
        let memory = Memory::new(options.limits.memory_bytes);
        let (access, tls) = read(&options)?;
        let (access, tls) = (RwLock::new(access), RwLock::new(tls));
        let stop = watch::Sender::new(false);
        Ok(Self { service, options, memory, counters: Counters::default(), stop, access, tls })
    }

    /// For work that could go on for ever: turns to true when it is to end.
    pub fn stopped(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    fn access(&self) -> Option<Arc<Access>> {
        self.access.read().unwrap_or_else(|e| e.into_inner()).clone()
    }

    fn tls(&self) -> Option<Arc<rustls::ServerConfig>> {
        self.tls.read().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

type Secrets = (Option<Arc<Access>>, Option<Arc<rustls::ServerConfig>>);

fn read(options: &Options) -> Result<Secrets, String> {
    let access = options.access.as_deref().map(Access::read).transpose()?;
    let tokens = access.as_ref().is_some_and(Access::has_tokens);
    let tls = options.tls.as_ref().map(|files| tls::read(files, tokens)).transpose()?;
    Ok((access.map(Arc::new), tls))
}

/// Listeners at work, on threads of their own.
pub struct Server {
    runtime: Runtime,
    shared: Arc<Shared>,
}

impl Server {
    /// Starts to listen. Sockets are open already, so that nothing is lost between a readiness that was announced and
    /// the first accept, and so that a service manager can hand them over.
    ///
    /// # Errors
    ///
    /// Names limit, file, or what the operating system refused.
    pub fn start(
        service: Arc<dyn Service>,
        listeners: impl IntoIterator<Item = Listener>,
        options: Options,
    ) -> Result<Self, String> {
        let shared = Arc::new(Shared::new(service, options)?);
        // Arithmetic is the boards'; two threads move more bytes than eight boards take.
        let threads = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("listener")
            .enable_all()
            .build()
            .map_err(|e| format!("cannot start threads for listeners: {e}"))?;
        for listener in listeners {
            let guard = runtime.enter();
            let socket = socket::Accepting::new(listener.socket).map_err(|e| format!("cannot listen: {e}"))?;
            drop(guard);
            let handler = connection::Handler::new(shared.clone(), listener.serves);
            runtime.spawn(socket::accept(socket, handler, shared.stopped()));
        }
        Ok(Self { runtime, shared })
    }

    /// Reads certificates, keys and callers again. Connections that are open keep the certificate they began with;
    /// their next requests are held to the new callers.
    ///
    /// # Errors
    ///
    /// Names file and line; everything stays as it was.
    pub fn reload(&self) -> Result<(), String> {
        let (access, tls) = read(&self.shared.options)?;
        *self.shared.access.write().unwrap_or_else(|e| e.into_inner()) = access;
        *self.shared.tls.write().unwrap_or_else(|e| e.into_inner()) = tls;
        Ok(())
    }

    /// Takes no more connections, and tells clients that those they have end with what they carry now.
    pub fn stop(&self) {
        // Every connection, every stream and every accept loop holds a receiver.
        self.shared.stop.send_replace(true);
    }

    /// [`Server::stop`], then waits until all answers are sent, but not longer than `limit`.
    /// Gives the number of connections that were cut.
    pub fn drain(self, limit: Duration) -> usize {
        self.stop();
        let left = self.runtime.block_on(async {
            match tokio::time::timeout(limit, self.shared.stop.closed()).await {
                Ok(()) => 0,
                Err(_) => self.shared.stop.receiver_count(),
            }
        });
        self.runtime.shutdown_timeout(Duration::from_millis(100));
        left
    }

    /// What listeners counted.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }
}

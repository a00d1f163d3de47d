//! Sockets: TCP and Unix, opened here or handed over by a service manager.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use super::connection::Handler;
use super::io::Stream;

/// A socket that listens.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// Unix.
    Unix(std::os::unix::net::UnixListener),
}

impl Socket {
    /// Listens on `ADDRESS:PORT`.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn tcp(address: std::net::SocketAddr) -> io::Result<Self> {
        std::net::TcpListener::bind(address).map(Socket::Tcp)
    }

    /// Listens on a Unix socket. A socket that is left from a process that ended is replaced; nothing else is.
    ///
    /// # Errors
    ///
    /// The operating system's; [`io::ErrorKind::AddrInUse`] when somebody listens there.
    pub fn unix(path: &Path) -> io::Result<Self> {
        use std::os::unix::net::{UnixListener, UnixStream};
        match UnixListener::bind(path) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                let left = std::fs::symlink_metadata(path)?.file_type().is_socket();
                let refused = |e: io::Error| e.kind() == io::ErrorKind::ConnectionRefused;
                if !left || !UnixStream::connect(path).is_err_and(refused) {
                    return Err(e);
                }
                std::fs::remove_file(path)?;
                UnixListener::bind(path)
            }
            bound => bound,
        }
        .map(Socket::Unix)
    }

    /// Where it listens, for logs.
    pub fn name(&self) -> String {
        match self {
            Socket::Tcp(socket) => socket.local_addr().map_or_else(|_| "tcp".into(), |a| a.to_string()),
            Socket::Unix(socket) => {
                let address = socket.local_addr().ok();
                let path = address.as_ref().and_then(|a| a.as_pathname());
                path.map_or_else(|| "unix".into(), |p| format!("unix:{}", p.display()))
            }
        }
    }
}

/// What is spoken on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// HTTP/REST.
    Http,
    /// gRPC.
    Grpc,
    /// Both.
    Both,
    /// `/metrics` and the status page: never TLS, no callers. For an address that only operators reach.
    Status,
}

/// A socket and what is spoken on it. TLS is for TCP; a Unix socket is guarded by its file's permissions.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: Socket,
    /// What is spoken.
    pub serves: Serves,
}

/// A socket within the runtime.
pub enum Accepting {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Accepting {
    pub fn new(socket: Socket) -> io::Result<Self> {
        Ok(match socket {
            Socket::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                Accepting::Tcp(tokio::net::TcpListener::from_std(socket)?)
            }
            Socket::Unix(socket) => {
                socket.set_nonblocking(true)?;
                Accepting::Unix(tokio::net::UnixListener::from_std(socket)?)
            }
        })
    }

    /// The next connection, who is there, and whether TLS is spoken where there is TLS.
    async fn next(&self) -> io::Result<(Box<dyn Stream>, String, bool)> {
        match self {
            Accepting::Tcp(socket) => {
                let (stream, address) = socket.accept().await?;
                // Answers are single writes; waiting for more to send only makes them late.
                stream.set_nodelay(true)?;
                Ok((Box::new(stream), address.ip().to_canonical().to_string(), true))
            }
            Accepting::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                let user = stream.peer_cred().map_or_else(|_| "unix".into(), |c| format!("uid:{}", c.uid()));
                Ok((Box::new(stream), user, false))
            }
        }
    }
}

/// Takes connections until told to stop.
pub async fn accept(socket: Accepting, handler: Handler, mut stop: watch::Receiver<bool>) {
    let counters = |f: fn(&super::Counters) -> &std::sync::atomic::AtomicU64| f(&handler.shared.counters);
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|&stop| stop) => return,
            accepted = socket.next() => accepted,
        };
        let (stream, peer, tls) = match accepted {
            Ok(connection) => connection,
            Err(e) => {
                // Out of descriptors, mostly: those that are open must end first.
                log::warn!("cannot take a connection: {e}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let limit = handler.shared.options.limits.connections as u64;
        if counters(|c| &c.open).fetch_add(1, Ordering::Relaxed) >= limit {
            counters(|c| &c.open).fetch_sub(1, Ordering::Relaxed);
            counters(|c| &c.refused).fetch_add(1, Ordering::Relaxed);
            log::debug!("closed a connection of {peer}: limits.connections ({limit}) are open");
            continue;
        }
        counters(|c| &c.connections).fetch_add(1, Ordering::Relaxed);
        let (handler, stop) = (handler.clone(), stop.clone());
        tokio::spawn(async move {
            let open = Open(handler.shared.clone());
            handler.connection(stream, peer, tls, stop).await;
            drop(open);
        });
    }
}

/// Counts a connection as open until it is dropped, also when a task ends in a panic.
struct Open(std::sync::Arc<super::Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}

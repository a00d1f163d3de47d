//! A board in another process, over a UNIX socket: the client's side of vfio-user.
//!
//! [`RemoteBoard`] plays the part of firmware and kernel for it: gives BARs addresses, an interrupt message, and lets
//! the device reach memory, either by handing over the memory's file, or by answering the device's requests one by one.

mod error;
pub mod socket;
pub mod wire;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use zerocopy::{FromBytes, Immutable, KnownLayout};

pub use error::Error;

use crate::Result;
use crate::board::{Bar, Board, Identity, Wake};
use crate::dma::{DmaBuffer, DmaMemory, Unmap};
use crate::regs::pci::{self, Command as PciCommand, Msi};
use crate::transport::find_capability;
use socket::{Message, Socket};
use wire::{Command, Header};

/// How long the other process may take to answer.
const LIMIT: Duration = Duration::from_secs(10);
/// PCI address of BAR 0; the others follow, 256 MiB apart.
const BAR_ADDRESS: u64 = 0x38_0000_0000;
const BAR_APART: u64 = 256 << 20;
/// The interrupt message that the board gets; no more than a name, since the interrupt arrives as an eventfd.
const MESSAGE: (u64, u32) = (0xfee0_0000, 0x4021);
/// First IOVA, and unmapped bytes after each mapping.
const FIRST: u64 = 0x10_0000;
const GUARD: u64 = crate::dma::PAGE as u64;

/// How the device reaches this process's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dma {
    /// The other process maps the memory's file.
    #[default]
    Files,
    /// The other process asks for every piece.
    Messages,
}

/// A board in another process.
pub struct RemoteBoard {
    identity: Identity,
    lens: [u64; 3],
    interrupt: EventFd,
    started: Instant,
    generation: AtomicU64,
    link: Arc<Link>,
    reader: Option<JoinHandle<()>>,
}

/// The connection and what is mapped through it.
struct Link {
    path: PathBuf,
    socket: Socket,
    dma: Dma,
    next: AtomicU16,
    /// One request at a time; the reader hands its reply over.
    replies: Mutex<Receiver<Message>>,
    mappings: Mutex<Mappings>,
}

#[derive(Default)]
struct Mappings {
    live: BTreeMap<u64, Arc<DmaMemory>>,
    next: u64,
}

impl RemoteBoard {
    /// Connects to the board served at a socket.
    pub fn connect(path: impl AsRef<Path>, dma: Dma) -> Result<Self> {
        let path = path.as_ref();
        let stream = UnixStream::connect(path).map_err(|source| Error::Connect { socket: path.into(), source })?;
        let (replies, received) = channel();
        let link = Arc::new(Link {
            path: path.into(),
            socket: Socket::new(stream),
            dma,
            next: AtomicU16::new(0),
            replies: Mutex::new(received),
            mappings: Mutex::new(Mappings { next: FIRST, ..Mappings::default() }),
        });
        let reader = {
            let link = link.clone();
            std::thread::Builder::new()
                .name("vfio-user".into())
                .spawn(move || read(&link, &replies))
                .map_err(|source| link_error(path, "starting a thread", source))?
        };
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let interrupt = EventFd::from_value_and_flags(0, flags).map_err(|e| link_error(path, "eventfd", e.into()))?;
        let mut board = Self {
            identity: Identity {
                name: format!("vfio-user:{}", path.display()),
                vendor: 0,
                device: 0,
                chip: crate::board::Chip::Akd1000,
                simulated: true,
            },
            lens: [0; 3],
            interrupt,
            started: Instant::now(),
            generation: AtomicU64::new(0),
            link,
            reader: Some(reader),
        };
        board.introduce()?;
        Ok(board)
    }

    /// Number of DMA mappings that exist.
    pub fn mappings(&self) -> usize {
        self.link.mappings().live.len()
    }

    fn introduce(&mut self) -> Result<()> {
        let link = &self.link;
        let version = wire::Version { major: 0, minor: 1 };
        let data = wire::body(&version, wire::CAPABILITIES.as_bytes());
        let theirs: wire::Version = link.ask_for(Command::Version, &data)?;
        if theirs.major != 0 {
            return Err(link.nonsense(Command::Version, "another major version").into());
        }
        let info = wire::DeviceInfo { argsz: 16, flags: 0, regions: 0, irqs: 0 };
        let info: wire::DeviceInfo = link.ask_for(Command::DeviceInfo, &wire::body(&info, &[]))?;
        if info.flags & wire::DEVICE_PCI == 0 || info.regions <= wire::REGION_CONFIG {
            return Err(link.nonsense(Command::DeviceInfo, "no PCI function").into());
        }
        for bar in Bar::ALL {
            let ask = wire::RegionInfo { argsz: 32, index: bar.index() as u32, ..wire::zeroed() };
            let region: wire::RegionInfo = link.ask_for(Command::RegionInfo, &wire::body(&ask, &[]))?;
            self.lens[bar.index() / 2] = region.size;
        }
        let id = self.config_read(pci::ID)?;
        let (vendor, device) = (id as u16, (id >> 16) as u16);
        let name = self.identity.name.clone();
        let chip = pci::chip(vendor, device).ok_or(crate::Error::NotAkida { board: name, vendor, device })?;
        self.identity = Identity { vendor, device, chip, ..self.identity.clone() };

        let set = wire::SetIrqs {
            argsz: 20,
            flags: wire::IRQ_DATA_EVENTFD | wire::IRQ_ACTION_TRIGGER,
            index: wire::IRQ_MSI,
            start: 0,
            count: 1,
        };
        self.link.ask(Command::SetIrqs, &wire::body(&set, &[]), &[self.interrupt.as_fd()])?;
        self.plug()
    }

    /// What firmware and kernel do to a function before its driver.
    fn plug(&self) -> Result<()> {
        for (bar, i) in Bar::ALL.into_iter().zip(0..) {
            let at = pci::BAR0 + 4 * bar.index() as u16;
            let address = BAR_ADDRESS + i * BAR_APART;
            self.config_write(at, address as u32)?;
            self.config_write(at + 4, (address >> 32) as u32)?;
        }
        if let Some(at) = find_capability(self, pci::CAP_MSI)? {
            let control = self.config_read(at)?;
            let wide = Msi::from_bits_truncate(control).contains(Msi::ADDRESS64);
            self.config_write(at + pci::MSI_ADDRESS_LOW, MESSAGE.0 as u32)?;
            if wide {
                self.config_write(at + pci::MSI_ADDRESS_HIGH, (MESSAGE.0 >> 32) as u32)?;
            }
            self.config_write(at + if wide { pci::MSI_DATA_64 } else { pci::MSI_DATA_32 }, MESSAGE.1)?;
            self.config_write(at, control | Msi::ENABLE.bits())?;
        }
        self.config_write(pci::COMMAND_STATUS, PciCommand::MEMORY.bits())
    }

    fn region_read(&self, region: u32, offset: u64) -> Result<u32> {
        let access = wire::RegionAccess { offset, region, count: 4 };
        let reply = self.link.ask(Command::RegionRead, &wire::body(&access, &[]), &[])?;
        let Some((_, data)) = wire::head::<wire::RegionAccess>(&reply.body) else {
            return Err(self.link.nonsense(Command::RegionRead, "too short").into());
        };
        match data.try_into() {
            Ok(bytes) => Ok(u32::from_le_bytes(bytes)),
            Err(_) => Err(self.link.nonsense(Command::RegionRead, "not as many bytes as asked for").into()),
        }
    }

    /// Posted, as on PCIe: the socket keeps the order, and the next read waits for it.
    fn region_write(&self, region: u32, offset: u64, value: u32) -> Result<()> {
        let access = wire::RegionAccess { offset, region, count: 4 };
        let body = wire::body(&access, &value.to_le_bytes());
        self.link.send(Command::RegionWrite, wire::NO_REPLY, &body, &[]).map(|_| ()).map_err(Into::into)
    }

    fn check(&self, space: &'static str, offset: u64, limit: u64) -> Result<()> {
        if offset.is_multiple_of(4) && offset < limit {
            return Ok(());
        }
        Err(crate::Error::Access { board: self.identity.name.clone(), space, offset, limit })
    }

    fn check_bar(&self, bar: Bar, offset: u64) -> Result<()> {
        self.check(["BAR0", "BAR2", "BAR4"][bar.index() / 2], offset, self.bar_len(bar))
    }
}

impl Board for RemoteBoard {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn config_read(&self, offset: u16) -> Result<u32> {
        self.check("configuration space", offset.into(), pci::CONFIG_LEN.into())?;
        self.region_read(wire::REGION_CONFIG, offset.into())
    }

    fn config_write(&self, offset: u16, value: u32) -> Result<()> {
        self.check("configuration space", offset.into(), pci::CONFIG_LEN.into())?;
        self.region_write(wire::REGION_CONFIG, offset.into(), value)
    }

    fn bar_len(&self, bar: Bar) -> u64 {
        self.lens[bar.index() / 2]
    }

    fn read(&self, bar: Bar, offset: u64) -> Result<u32> {
        self.check_bar(bar, offset)?;
        self.region_read(bar.index() as u32, offset)
    }

    fn write(&self, bar: Bar, offset: u64, value: u32) -> Result<()> {
        self.check_bar(bar, offset)?;
        self.region_write(bar.index() as u32, offset, value)
    }

    fn allocate(&self, len: usize) -> Result<DmaBuffer> {
        let (memory, file) = DmaMemory::shared(len)?;
        let memory = Arc::new(memory);
        let iova = {
            let mut mappings = self.link.mappings();
            let iova = mappings.next;
            mappings.next += (memory.len() as u64).next_multiple_of(GUARD) + GUARD;
            mappings.live.insert(iova, memory.clone());
            iova
        };
        let map = wire::DmaMap {
            argsz: 32,
            flags: wire::DMA_READABLE | wire::DMA_WRITABLE,
            offset: 0,
            address: iova,
            size: memory.len() as u64,
        };
        let fds: &[BorrowedFd<'_>] = match self.link.dma {
            Dma::Files => &[file.as_fd()],
            Dma::Messages => &[],
        };
        if let Err(error) = self.link.ask(Command::DmaMap, &wire::body(&map, &[]), fds) {
            self.link.mappings().live.remove(&iova);
            return Err(error.into());
        }
        Ok(DmaBuffer::new(memory, iova, self.generation(), self.link.clone()))
    }

    fn wait_interrupt(&self, timeout: Duration) -> Result<Wake> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let end = Instant::now() + timeout;
        loop {
            match self.interrupt.read() {
                Ok(_) => return Ok(Wake::Interrupt),
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(link_error(&self.link.path, "reading the interrupt's eventfd", e.into()).into()),
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Wake::TimedOut);
            }
            let ms = i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
            let timeout = PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.interrupt.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(link_error(&self.link.path, "poll", e.into()).into()),
            }
        }
    }

    fn reset(&self) -> Result<()> {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.link.ask(Command::Reset, &[], &[])?;
        let _ = self.interrupt.read(); // an interrupt of before means nothing any more
        self.plug()
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

impl Drop for RemoteBoard {
    fn drop(&mut self) {
        // Stop the device's DMA first; a process that is gone has stopped.
        let _ = self.config_write(pci::COMMAND_STATUS, 0);
        self.link.socket.shutdown();
        if let Some(reader) = self.reader.take()
            && reader.join().is_err()
        {
            log::error!("{}: the receiving thread panicked", self.identity);
        }
    }
}

impl Link {
    fn mappings(&self) -> MutexGuard<'_, Mappings> {
        self.mappings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nonsense(&self, command: Command, reason: &'static str) -> Error {
        Error::Nonsense { socket: self.path.clone(), command, reason }
    }

    fn gone(&self, reason: impl ToString) -> Error {
        Error::Gone { socket: self.path.clone(), reason: reason.to_string() }
    }

    fn send(&self, command: Command, flags: u32, body: &[u8], fds: &[BorrowedFd<'_>]) -> Result<u16, Error> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let header = Header { id, command: command as u16, flags, ..Header::default() };
        self.socket.send(header, body, fds).map_err(|e| self.gone(e))?;
        Ok(id)
    }

    /// Sends a command and waits for its reply.
    fn ask(&self, command: Command, body: &[u8], fds: &[BorrowedFd<'_>]) -> Result<Message, Error> {
        let replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
        let id = self.send(command, 0, body, fds)?;
        let end = Instant::now() + LIMIT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let reply = replies.recv_timeout(left).map_err(|e| match e {
                RecvTimeoutError::Timeout => Error::Silent { socket: self.path.clone(), command, limit: LIMIT },
                RecvTimeoutError::Disconnected => self.gone("end of the connection"),
            })?;
            match reply.header {
                // The late answer to a request that was given up.
                Header { id: other, .. } if other != id => {}
                Header { flags, errno, .. } if flags & wire::ERROR != 0 => {
                    let source = io::Error::from_raw_os_error(errno as i32);
                    return Err(Error::Refused { socket: self.path.clone(), command, source });
                }
                _ => return Ok(reply),
            }
        }
    }

    fn ask_for<T: FromBytes + KnownLayout + Immutable>(&self, command: Command, body: &[u8]) -> Result<T, Error> {
        let reply = self.ask(command, body, &[])?;
        wire::head(&reply.body).map(|(head, _)| head).ok_or_else(|| self.nonsense(command, "too short"))
    }

    /// Answers the device's request for memory.
    fn serve(&self, message: &Message) -> Result<Vec<u8>, nix::errno::Errno> {
        use nix::errno::Errno;
        let (access, data) = wire::head::<wire::DmaAccess>(&message.body).ok_or(Errno::EINVAL)?;
        let count = usize::try_from(access.count).ok().filter(|n| *n <= wire::MAX_DATA).ok_or(Errno::E2BIG)?;
        let mappings = self.mappings();
        let (base, memory) = mappings.live.range(..=access.address).next_back().ok_or(Errno::EFAULT)?;
        let offset = usize::try_from(access.address - base).map_err(|_| Errno::EFAULT)?;
        match Command::new(message.header.command) {
            Some(Command::DmaRead) => {
                let mut bytes = vec![0; count];
                memory.read(offset, &mut bytes).map_err(|_| Errno::EFAULT)?;
                Ok(wire::body(&access, &bytes))
            }
            Some(Command::DmaWrite) if data.len() == count => {
                memory.write(offset, data).map_err(|_| Errno::EFAULT)?;
                Ok(wire::body(&access, &[]))
            }
            _ => Err(Errno::EINVAL),
        }
    }
}

impl Unmap for Link {
    fn unmap(&self, iova: u64, len: usize) {
        let unmap = wire::DmaUnmap { argsz: 24, flags: 0, address: iova, size: len as u64 };
        // A process that is gone has nothing mapped any more.
        if let Err(error) = self.ask(Command::DmaUnmap, &wire::body(&unmap, &[]), &[]) {
            log::debug!("unmapping {iova:#x}: {error}");
        }
        self.mappings().live.remove(&iova);
    }
}

/// The receiving thread: replies go to who waits, requests of the device are answered here. Ends with the connection.
fn read(link: &Link, replies: &Sender<Message>) {
    loop {
        let message = match link.socket.receive() {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(error) => {
                log::warn!("{}: {error}", link.path.display());
                return;
            }
        };
        if message.header.flags & wire::REPLY != 0 {
            if replies.send(message).is_err() {
                return;
            }
            continue;
        }
        let answer = link.serve(&message);
        if message.header.flags & wire::NO_REPLY != 0 {
            continue;
        }
        let mut header = Header { flags: wire::REPLY, errno: 0, ..message.header };
        let body = answer.unwrap_or_else(|errno| {
            (header.flags, header.errno) = (wire::REPLY | wire::ERROR, errno as u32);
            Vec::new()
        });
        if link.socket.send(header, &body, &[]).is_err() {
            return;
        }
    }
}

fn link_error(path: &Path, operation: &'static str, source: io::Error) -> Error {
    Error::System { socket: path.into(), operation, source }
}

//! The host's memory as the device may reach it: what the host has mapped, and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use akida_hal::dma::{DmaMemory, PAGE};
use akida_hal::vfio_user::socket::{Message, Socket};
use akida_hal::vfio_user::wire::{self, Command, Header};

use super::Dma;
use crate::chip::bus::{HostMemory, Unmapped};
use crate::chip::memory::lock;

/// How long the host may take to answer a DMA request. QEMU gives up after 5 s itself.
const LIMIT: Duration = Duration::from_secs(4);

/// A mapping.
struct Mapping {
    len: u64,
    readable: bool,
    writable: bool,
    /// The file's memory, and where in it the mapping starts; `None` for memory that is reached by messages.
    file: Option<(Arc<DmaMemory>, u64)>,
}

#[derive(Default)]
struct Table {
    mappings: BTreeMap<u64, Mapping>,
    /// A file is mapped once and whole, however many pieces of it are named: QEMU names a machine's memory page by page.
    files: HashMap<(u64, u64), Arc<DmaMemory>>,
}

/// The host's memory.
pub struct Host {
    socket: Arc<Socket>,
    dma: Dma,
    /// Held for reading while bytes are copied, so that nothing is copied any more once an unmap has been answered.
    table: RwLock<Table>,
    next: AtomicU16,
    /// Replies to requests of ours; one request at a time.
    replies: Mutex<Receiver<Message>>,
}

impl Host {
    /// Behind a connection whose replies come through `replies`.
    pub fn new(socket: Arc<Socket>, dma: Dma, replies: Receiver<Message>) -> Self {
        Self { socket, dma, table: RwLock::default(), next: AtomicU16::new(0), replies: Mutex::new(replies) }
    }

    /// Lets the device reach memory.
    pub fn map(&self, map: &wire::DmaMap, file: Option<File>) -> io::Result<()> {
        let invalid = |reason: &str| io::Error::new(io::ErrorKind::InvalidInput, reason.to_string());
        let last = map.address.checked_add(map.size.checked_sub(1).ok_or_else(|| invalid("no bytes"))?);
        let last = last.ok_or_else(|| invalid("the range wraps"))?;
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let before = table.mappings.range(..=last).next_back();
        if before.is_some_and(|(at, m)| at + (m.len - 1) >= map.address) {
            return Err(invalid("overlaps another mapping"));
        }
        let file = match file {
            Some(file) if self.dma == Dma::Files => {
                let meta = file.metadata()?;
                let end = map.offset.checked_add(map.size).ok_or_else(|| invalid("the offset wraps"))?;
                if end > meta.len() {
                    return Err(invalid("the file is shorter"));
                }
                let key = (meta.dev(), meta.ino());
                let known = table.files.get(&key).filter(|m| m.len() as u64 >= end).cloned();
                let memory = match known {
                    Some(memory) => memory,
                    None => {
                        let len = usize::try_from(meta.len()).map_err(io::Error::other)?;
                        Arc::new(DmaMemory::of_file(&file, len)?)
                    }
                };
                table.files.insert(key, memory.clone());
                Some((memory, map.offset))
            }
            _ => None,
        };
        let mapping = Mapping {
            len: map.size,
            readable: map.flags & wire::DMA_READABLE != 0,
            writable: map.flags & wire::DMA_WRITABLE != 0,
            file,
        };
        log::trace!(target: "akida::sim::dma", "map {:#x}+{:#x} flags {:#x}", map.address, map.size, map.flags);
        table.mappings.insert(map.address, mapping);
        Ok(())
    }

    /// Takes memory away from the device. A host may name a range of several mappings, or of none.
    pub fn unmap(&self, unmap: &wire::DmaUnmap) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        log::trace!(target: "akida::sim::dma", "unmap {:#x}+{:#x}", unmap.address, unmap.size);
        if unmap.flags & wire::UNMAP_ALL != 0 {
            *table = Table::default();
            return;
        }
        let last = unmap.address.saturating_add(unmap.size.saturating_sub(1));
        table.mappings.retain(|at, mapping| *at < unmap.address || at.saturating_add(mapping.len - 1) > last);
        if table.mappings.values().all(|m| m.file.is_none()) {
            table.files.clear();
        }
    }

    /// Splits an access into pieces of one mapping each and does them; by files all are checked before the first.
    fn access(
        &self,
        iova: u64,
        len: usize,
        write: bool,
        mut copy: impl FnMut(Piece<'_>) -> bool,
    ) -> Result<(), Unmapped> {
        let refused = Unmapped { iova, len };
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut pieces = Vec::new();
        let mut done = 0;
        while done < len {
            let at = iova.checked_add(done as u64).ok_or(refused)?;
            let (base, mapping) = table.mappings.range(..=at).next_back().ok_or(refused)?;
            let into = at - base;
            if into >= mapping.len || !(if write { mapping.writable } else { mapping.readable }) {
                return Err(refused);
            }
            let n = (len - done).min(usize::try_from(mapping.len - into).unwrap_or(usize::MAX));
            let Some((memory, start)) = &mapping.file else { return Err(refused) };
            let offset = usize::try_from(start + into).map_err(|_| refused)?;
            pieces.push(Piece { memory, offset, range: done..done + n });
            done += n;
        }
        if pieces.into_iter().all(&mut copy) { Ok(()) } else { Err(refused) }
    }

    fn by_messages(&self, iova: u64) -> bool {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let nearest = table.mappings.range(..=iova).next_back();
        self.dma == Dma::Messages || nearest.is_some_and(|(at, m)| m.file.is_none() && iova - at < m.len)
    }

    /// One request to the host, inside one page, so that a refusal names its page.
    fn ask(&self, command: Command, address: u64, count: usize, data: &[u8]) -> Result<Vec<u8>, Unmapped> {
        let refused = Unmapped { iova: address, len: count };
        let replies = lock(&self.replies);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let header = Header { id, command: command as u16, ..Header::default() };
        let body = wire::body(&wire::DmaAccess { address, count: count as u64 }, data);
        self.socket.send(header, &body, &[]).map_err(|_| refused)?;
        let end = Instant::now() + LIMIT;
        loop {
            match replies.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(reply) if reply.header.id != id => {} // the late answer to a request that was given up
                Ok(reply) if reply.header.flags & wire::ERROR != 0 => {
                    let why = io::Error::from_raw_os_error(reply.header.errno as i32);
                    log::debug!(target: "akida::sim::dma", "the host refuses {command:?} at {address:#x}: {why}");
                    return Err(refused);
                }
                Ok(reply) => {
                    let bytes = wire::head::<wire::DmaAccess>(&reply.body).map(|(_, data)| data.to_vec());
                    return bytes.ok_or(refused);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    log::warn!("no answer to {command:?} at {address:#x}");
                    return Err(refused);
                }
            }
        }
    }
}

/// Part of an access: bytes `range` of it are at `offset` of `memory`.
struct Piece<'a> {
    memory: &'a DmaMemory,
    offset: usize,
    range: std::ops::Range<usize>,
}

/// Pieces that do not cross a page.
fn pages(iova: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        (done < len).then(|| {
            let at = iova.wrapping_add(done as u64);
            let n = (len - done).min(PAGE - (at % PAGE as u64) as usize);
            done += n;
            (at, done - n..done)
        })
    })
}

impl HostMemory for Host {
    fn read(&self, iova: u64, bytes: &mut [u8]) -> Result<(), Unmapped> {
        let refused = Unmapped { iova, len: bytes.len() };
        if !self.by_messages(iova) {
            return self.access(iova, bytes.len(), false, |p| p.memory.read(p.offset, &mut bytes[p.range]).is_ok());
        }
        for (at, range) in pages(iova, bytes.len()) {
            let got = self.ask(Command::DmaRead, at, range.len(), &[])?;
            bytes[range.clone()].copy_from_slice(got.get(..range.len()).ok_or(refused)?);
        }
        Ok(())
    }

    fn write(&self, iova: u64, bytes: &[u8]) -> Result<(), Unmapped> {
        if !self.by_messages(iova) {
            return self.access(iova, bytes.len(), true, |p| p.memory.write(p.offset, &bytes[p.range]).is_ok());
        }
        for (at, range) in pages(iova, bytes.len()) {
            self.ask(Command::DmaWrite, at, range.len(), &bytes[range])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::channel;

    fn host() -> (Host, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        (Host::new(Arc::new(Socket::new(ours)), Dma::Files, channel().1), theirs)
    }

    fn map(address: u64, size: u64, offset: u64, flags: u32) -> wire::DmaMap {
        wire::DmaMap { argsz: 32, flags, offset, address, size }
    }

    #[test]
    fn only_what_is_mapped_can_be_reached() {
        let (host, _theirs) = host();
        let (memory, file) = DmaMemory::shared(4 * 4096).expect("shared memory");
        let file = || Some(file.try_clone().expect("a second handle"));
        // Two neighbours from the far ends of one file, and a page that may only be read.
        host.map(&map(0x10000, 4096, 3 * 4096, 3), file()).expect("maps");
        host.map(&map(0x11000, 4096, 0, 3), file()).expect("maps");
        host.map(&map(0x20000, 4096, 4096, wire::DMA_READABLE), file()).expect("maps");
        for (what, bad, with) in [
            ("overlap", map(0x10fff, 4096, 0, 3), true),
            ("overlap from below", map(0xf000, 4097, 0, 3), true),
            ("past the file's end", map(0x90000, 4096, memory.len() as u64, 3), true),
            ("wrapping offset", map(0x90000, 4096, u64::MAX, 3), true),
            ("wrapping range", map(u64::MAX, 2, 0, 3), false),
            ("nothing", map(0x90000, 0, 0, 3), false),
        ] {
            assert!(host.map(&bad, if with { file() } else { None }).is_err(), "{what}");
        }

        let sent: Vec<u8> = (0..200u8).collect();
        host.write(0x10000 + 4096 - 100, &sent).expect("across two mappings");
        let (mut a, mut b) = ([0; 100], [0; 100]);
        memory.read(4 * 4096 - 100, &mut a).expect("inside");
        memory.read(0, &mut b).expect("inside");
        assert_eq!([a, b].concat(), sent);
        let mut back = vec![0; 200];
        host.read(0x10000 + 4096 - 100, &mut back).expect("across two mappings");
        assert_eq!(back, sent);

        assert!(host.write(0x20000, &[1]).is_err(), "read only");
        assert!(host.read(0x20000, &mut [0]).is_ok());
        assert!(host.read(0xffff, &mut [0]).is_err() && host.read(0x12000, &mut [0]).is_err());
        assert!(host.write(0x11000 + 4000, &sent).is_err(), "runs over the end");
        let mut tail = [0; 96];
        memory.read(4000, &mut tail).expect("inside");
        assert_eq!(tail, [0; 96], "all or nothing");

        host.unmap(&wire::DmaUnmap { argsz: 24, flags: 0, address: 0x11000, size: 4096 });
        assert!(host.read(0x11000, &mut [0]).is_err() && host.read(0x10000, &mut [0]).is_ok());
        host.unmap(&wire::DmaUnmap { argsz: 24, flags: wire::UNMAP_ALL, address: 0, size: 0 });
        assert!(host.read(0x10000, &mut [0]).is_err());
    }
}

//! One host's connection: answers its messages until it goes.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};

use akida_hal::board::Bar;
use akida_hal::vfio_user::socket::{Message, Socket};
use akida_hal::vfio_user::wire::{self, Command, Header};

use super::Dma;
use super::engine::Shared;
use super::memory::Host;
use crate::chip::Chip;
use crate::chip::memory::lock;

const CONFIG_LEN: u64 = 4096;

/// A refusal, as an errno.
struct Refused(i32);

const EINVAL: Refused = Refused(22);
const ENOSYS: Refused = Refused(38);

/// Answers one host until it goes.
pub fn run(socket: &Arc<Socket>, chip: &Arc<Mutex<Chip>>, dma: Dma) -> io::Result<()> {
    let (to_host, replies) = channel();
    let host = Arc::new(Host::new(socket.clone(), dma, replies));
    let shared = Shared {
        chip: chip.clone(),
        host: host.clone(),
        work: Condvar::new(),
        interrupt: Mutex::new(None),
        ended: AtomicBool::new(false),
    };
    let session = Session { shared: &shared, host: &host };
    std::thread::scope(|scope| {
        let engine = std::thread::Builder::new().name("board".into()).spawn_scoped(scope, || shared.run())?;
        let ended = loop {
            match socket.receive() {
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
                Ok(Some(message)) if message.header.flags & wire::REPLY != 0 => {
                    // The engine may have given up waiting; then the reply is of no interest.
                    let _ = to_host.send(message);
                }
                Ok(Some(message)) => {
                    if let Err(error) = session.answer(socket, message) {
                        break Err(error);
                    }
                }
            }
        };
        // A request of the engine's must not wait for a host that is gone.
        drop(to_host);
        {
            let _chip = lock(chip);
            shared.ended.store(true, Ordering::SeqCst);
            shared.work.notify_all();
        }
        if engine.join().is_err() {
            return Err(io::Error::other("the board's thread panicked"));
        }
        ended
    })
}

struct Session<'a> {
    shared: &'a Shared,
    host: &'a Host,
}

impl Session<'_> {
    fn answer(&self, socket: &Socket, message: Message) -> io::Result<()> {
        let header = message.header;
        let result = match Command::new(header.command) {
            Some(command) => self.act(command, &message.body, message.fds),
            None => Err(ENOSYS),
        };
        if header.flags & wire::NO_REPLY != 0 {
            return Ok(());
        }
        match result {
            Ok(body) => socket.send(Header { flags: wire::REPLY, errno: 0, ..header }, &body, &[]),
            Err(Refused(errno)) => {
                log::debug!("command {} refused: errno {errno}", header.command);
                let header = Header { flags: wire::REPLY | wire::ERROR, errno: errno as u32, ..header };
                socket.send(header, &[], &[])
            }
        }
    }

    fn act(&self, command: Command, body: &[u8], fds: Vec<OwnedFd>) -> Result<Vec<u8>, Refused> {
        match command {
            Command::Version => {
                let (theirs, _) = wire::head::<wire::Version>(body).ok_or(EINVAL)?;
                if theirs.major != 0 {
                    return Err(EINVAL);
                }
                let ours = wire::Version { major: 0, minor: theirs.minor.min(1) };
                Ok(wire::body(&ours, wire::CAPABILITIES.as_bytes()))
            }
            Command::DeviceInfo => {
                let flags = wire::DEVICE_PCI | wire::DEVICE_RESETTABLE;
                let info = wire::DeviceInfo { argsz: 16, flags, regions: wire::REGIONS, irqs: wire::IRQS };
                Ok(wire::body(&info, &[]))
            }
            Command::RegionInfo => {
                let (ask, _) = wire::head::<wire::RegionInfo>(body).ok_or(EINVAL)?;
                if ask.index >= wire::REGIONS {
                    return Err(EINVAL);
                }
                let size = self.region_len(ask.index);
                let flags = if size > 0 { wire::REGION_READ_WRITE } else { 0 };
                let info = wire::RegionInfo { argsz: 32, flags, index: ask.index, capabilities: 0, size, offset: 0 };
                Ok(wire::body(&info, &[]))
            }
            Command::IrqInfo => {
                let (ask, _) = wire::head::<wire::IrqInfo>(body).ok_or(EINVAL)?;
                let (flags, count) = match ask.index {
                    wire::IRQ_MSI => (wire::IRQ_EVENTFD_NORESIZE, 1),
                    index if index < wire::IRQS => (0, 0),
                    _ => return Err(EINVAL),
                };
                Ok(wire::body(&wire::IrqInfo { argsz: 16, flags, index: ask.index, count }, &[]))
            }
            Command::SetIrqs => self.set_irqs(body, fds),
            Command::DmaMap => {
                let (map, _) = wire::head::<wire::DmaMap>(body).ok_or(EINVAL)?;
                let file = fds.into_iter().next().map(File::from);
                self.host.map(&map, file).map_err(|error| {
                    log::warn!("mapping {:#x}+{:#x} refused: {error}", map.address, map.size);
                    Refused(error.raw_os_error().unwrap_or(EINVAL.0))
                })?;
                Ok(Vec::new())
            }
            Command::DmaUnmap => {
                let (unmap, _) = wire::head::<wire::DmaUnmap>(body).ok_or(EINVAL)?;
                self.host.unmap(&unmap);
                Ok(wire::body(&unmap, &[]))
            }
            Command::RegionRead => {
                let (access, _) = wire::head::<wire::RegionAccess>(body).ok_or(EINVAL)?;
                let mut data = vec![0; self.checked(&access)?];
                self.read(access.region, access.offset, &mut data);
                self.shared.work.notify_one();
                Ok(wire::body(&access, &data))
            }
            Command::RegionWrite => {
                let (access, data) = wire::head::<wire::RegionAccess>(body).ok_or(EINVAL)?;
                if data.len() != self.checked(&access)? {
                    return Err(EINVAL);
                }
                self.write(access.region, access.offset, data);
                self.shared.work.notify_one();
                Ok(wire::body(&access, &[]))
            }
            Command::Reset => {
                lock(&self.shared.chip).reset();
                log::info!("reset by the host");
                Ok(Vec::new())
            }
            Command::DmaRead | Command::DmaWrite => Err(ENOSYS),
        }
    }

    fn set_irqs(&self, body: &[u8], fds: Vec<OwnedFd>) -> Result<Vec<u8>, Refused> {
        let (set, _) = wire::head::<wire::SetIrqs>(body).ok_or(EINVAL)?;
        // Indexes without vectors can only be switched off.
        if set.index != wire::IRQ_MSI {
            return if set.count == 0 && set.index < wire::IRQS { Ok(Vec::new()) } else { Err(EINVAL) };
        }
        if set.flags & wire::IRQ_ACTION_TRIGGER == 0 || set.start != 0 || set.count > 1 {
            return Err(EINVAL);
        }
        let event = fds.into_iter().next().map(File::from);
        let off = set.flags & wire::IRQ_DATA_NONE != 0 && set.count == 0;
        if set.flags & wire::IRQ_DATA_EVENTFD == 0 && !off {
            return Err(EINVAL);
        }
        *lock(&self.shared.interrupt) = event;
        Ok(Vec::new())
    }

    fn region_len(&self, region: u32) -> u64 {
        match region {
            wire::REGION_CONFIG => CONFIG_LEN,
            _ => bar(region).map_or(0, |bar| lock(&self.shared.chip).bar_len(bar)),
        }
    }

    fn checked(&self, access: &wire::RegionAccess) -> Result<usize, Refused> {
        let end = access.offset.checked_add(access.count.into()).ok_or(EINVAL)?;
        let count = access.count as usize;
        if end > self.region_len(access.region) || count > wire::MAX_DATA {
            return Err(EINVAL);
        }
        Ok(count)
    }

    /// Word by word, as the function decodes accesses; `data` lies inside the region.
    fn read(&self, region: u32, offset: u64, data: &mut [u8]) {
        let mut chip = lock(&self.shared.chip);
        for (at, range) in words(offset, data.len()) {
            let word = match bar(region) {
                Some(bar) => chip.bar_read(bar, at & !3),
                None => chip.config_read((at & !3) as u16),
            };
            let skip = (at & 3) as usize;
            let n = range.len();
            data[range].copy_from_slice(&word.to_le_bytes()[skip..skip + n]);
        }
    }

    fn write(&self, region: u32, offset: u64, data: &[u8]) {
        let mut chip = lock(&self.shared.chip);
        for (at, range) in words(offset, data.len()) {
            let (mut bytes, mut mask) = ([0u8; 4], [0u8; 4]);
            let skip = (at & 3) as usize;
            bytes[skip..skip + range.len()].copy_from_slice(&data[range.clone()]);
            mask[skip..skip + range.len()].fill(0xff);
            let (value, mask) = (u32::from_le_bytes(bytes), u32::from_le_bytes(mask));
            match bar(region) {
                None => chip.config_write((at & !3) as u16, value, mask),
                Some(bar) if mask == u32::MAX => chip.bar_write(bar, at, value),
                // Registers decode words. Memory behind a BAR can take less: what is beside stays.
                Some(bar) => {
                    let old = chip.bar_read(bar, at & !3);
                    chip.bar_write(bar, at & !3, value & mask | old & !mask);
                }
            }
        }
    }
}

/// The BAR that a region index means.
fn bar(region: u32) -> Option<Bar> {
    Bar::ALL.into_iter().find(|b| b.index() as u32 == region)
}

/// The parts of an access inside one word each: address, and which bytes of the data.
fn words(offset: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        (done < len).then(|| {
            let at = offset + done as u64;
            let n = (len - done).min(4 - (at & 3) as usize);
            done += n;
            (at, done - n..done)
        })
    })
}

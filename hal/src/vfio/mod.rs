//! A board behind the Linux kernel's vfio-pci: the real thing.
//!
//! The kernel confines the board's DMA to what this process maps, so a wrong address is a fault in the kernel's log, not
//! a corrupted machine. Without an IOMMU that is not so: no-IOMMU mode is refused unless [`Interface::NoIommu`] asks for it, and such
//! a board bears it in its name.
//!
//! Built on vfio-ioctls (pinned: it breaks its API each release) where that crate is sound, and on our own calls where
//! it hides a failure. The whole crate is named in `group` and `iommufd` only.
//!
//! | need | from | why not the crate |
//! |---|---|---|
//! | open container, group, device; map and unmap DMA | vfio-ioctls | |
//! | region information | `ioctl::region` | the crate's list shifts by one after a region it cannot query |
//! | region access | `bar` | `region_read`/`region_write` log a failure and return nothing |
//! | interrupts | `ioctl::signal` | errors lose their errno |
//! | reset | `ioctl::reset` | returns nothing |
//! | allowed IOVA ranges | `ioctl::iova_ranges` | not offered |
//! | closing | `group::Group`'s `Drop` | the crate's panics after an unplug |
//! | no-IOMMU mode | `noiommu`, `physical` | not offered |
//!
//! Teardown order, as code in the `Drop`s below: stop bus mastering, silence the interrupt, unmap the BARs, unmap DMA
//! when the last buffer is gone, close device, group, container.

mod bar;
mod error;
mod group;
mod interrupt;
mod ioctl;
#[cfg(feature = "iommufd")]
mod iommufd;
mod iova;
mod kernel;
mod memlock;
mod memory;
mod noiommu;
mod physical;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{io, thread};

pub(crate) use bar::BarMap;
pub use error::Error;
pub(crate) use ioctl::Region;
pub use memlock::Locked;
pub use physical::free_huge_pages;

use interrupt::{Event, Events};
use kernel::{Confined, Kernel, index};
use memory::{Mapped, Memory};
use noiommu::NoIommu;
use physical::Physical;

use crate::Result;
use crate::board::{Bar, Board, Identity, Wake};
use crate::dma::{DmaBuffer, Unmap};
use crate::regs::pci::{CLASS_REVISION, COMMAND_STATUS, Command};
use crate::sysfs::{PciBoard, Sysfs};

/// The bits of the command register a board needs: memory decoding, and bus mastering for DMA and MSI.
const NEEDED: u32 = Command::MEMORY.union(Command::BUS_MASTER).bits();
/// The status half of that word is write-one-to-clear: never write back what was read.
const COMMAND_MASK: u32 = 0xffff;

/// What the name of a board begins with that no IOMMU confines: `vfio-noiommu:0000:03:00.0`.
pub const UNCONFINED: &str = "vfio-noiommu:";

/// Which kernel interface to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interface {
    /// iommufd where this build and the kernel have it and both of its nodes are open to this process, else the group.
    #[default]
    Auto,
    /// `/dev/vfio/GROUP` and a container.
    Group,
    /// `/dev/vfio/devices/vfioN` and `/dev/iommu` (feature `iommufd`, Linux 6.6).
    Iommufd,
    /// `/dev/vfio/noiommu-GROUP`: VFIO's no-IOMMU mode. **Nothing confines the board**, so a mistake of it or of its driver overwrites
    /// any memory of the machine. DMA memory is huge pages, by physical address. Never chosen by `Auto`.
    NoIommu,
}

/// How to open a board.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which kernel interface.
    pub interface: Interface,
    /// Highest address to give the board: an I/O virtual one, or in no-IOMMU mode a physical one. The default, 4 GiB, is what both boards' DMA engines reach whatever their
    /// descriptors hold (hardware.md 1: 64-bit mask with a 32-bit fall back).
    pub iova_limit: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { interface: Interface::Auto, iova_limit: u32::MAX.into() }
    }
}

/// A board driven through vfio-pci.
pub struct VfioBoard {
    identity: Identity,
    started: Instant,
    config: Region,
    /// Which interrupt index [`Events`] hangs on.
    vector: Option<u32>,
    decodes: AtomicBool,
    /// Unmapped before the device is closed: fields drop in this order.
    bars: [BarMap; 3],
    events: Events,
    core: Arc<Core>,
}

/// What must outlive the last DMA buffer: the open device and its memory.
struct Core {
    generation: AtomicU64,
    /// Closed before its memory goes: without an IOMMU nothing else ends what a board may still do.
    kernel: Arc<dyn Kernel>,
    memory: Box<dyn Memory>,
}

impl VfioBoard {
    /// Opens the board at a PCI address (`0000:03:00.0`) of this machine.
    pub fn open(address: &str) -> Result<Self> {
        Self::open_with(&Sysfs::system(), address, &Options::default())
    }

    /// Opens a board, with a choice.
    pub fn open_with(sysfs: &Sysfs, address: &str, options: &Options) -> Result<Self> {
        let found = sysfs.board(address).map_err(|_| Error::NoSuchFunction { board: address.into() })?;
        let identity = check(&found, options)?;
        let (kernel, memory) = open_resettable(|| open_kernel(sysfs, &found, &identity.name, options), &identity.name)?;
        log::info!("{}: opened through {}", identity.name, kernel.interface());
        if options.interface == Interface::NoIommu {
            log::warn!("{identity}: no IOMMU confines its DMA: it can overwrite any memory of this machine");
        }
        Ok(Self::with_kernel(identity, kernel, memory)?)
    }

    /// The kernel interface in use, for reports: `group 12`.
    pub fn interface(&self) -> String {
        self.core.kernel.interface()
    }

    /// Number of DMA buffers that exist, for leak tests and reports.
    pub fn mappings(&self) -> usize {
        self.core.memory.in_use()
    }

    fn with_kernel(identity: Identity, kernel: Arc<dyn Kernel>, memory: Box<dyn Memory>) -> Result<Self, Error> {
        let name = identity.name.clone();
        let failed = |call| {
            let board = name.clone();
            move |source| Error::Kernel { board, call, source }
        };
        let config =
            kernel.region(index::CONFIG).map_err(failed("VFIO_DEVICE_GET_REGION_INFO (configuration space)"))?;

        // BARs can be mapped only with memory decoding on: the kernel answers an access to an undecoded one with SIGBUS.
        let command = bar::read_word(kernel.device(), config.offset + u64::from(COMMAND_STATUS))
            .map_err(failed("pread of the command register"))?;
        let on = (command & COMMAND_MASK) | NEEDED;
        bar::write_word(kernel.device(), config.offset + u64::from(COMMAND_STATUS), on)
            .map_err(failed("pwrite of the command register"))?;

        let map = |bar: Bar| -> Result<BarMap, Error> {
            let region = kernel.region(bar.index() as u32).map_err(failed("VFIO_DEVICE_GET_REGION_INFO"))?;
            BarMap::new(kernel.device(), region).map_err(failed("mmap of a BAR"))
        };
        let bars = [map(Bar::Bar0)?, map(Bar::Bar2)?, map(Bar::Bar4)?];

        let events = Events::new().map_err(failed("eventfd"))?;
        let vector = [index::MSI, index::MSIX].into_iter().find(|&i| kernel.vectors(i).is_ok_and(|n| n > 0));
        match vector {
            Some(i) => kernel.signal(i, Some(events.interrupt())).map_err(failed("VFIO_DEVICE_SET_IRQS"))?,
            None => log::warn!("{name}: neither MSI nor MSI-X; waiting for interrupts is not possible"),
        }
        // Absent before Linux 4.0 and for other device kinds; a board that cannot hear the request still works.
        if kernel.vectors(index::RELEASE).is_ok_and(|n| n > 0) {
            kernel.signal(index::RELEASE, Some(events.release())).map_err(failed("VFIO_DEVICE_SET_IRQS (release)"))?;
        }

        let core = Core { generation: AtomicU64::new(0), kernel, memory };
        Ok(Self {
            identity,
            started: Instant::now(),
            config,
            vector,
            decodes: AtomicBool::new(true),
            bars,
            events,
            core: Arc::new(core),
        })
    }

    fn bar(&self, bar: Bar) -> &BarMap {
        &self.bars[bar.index() / 2]
    }

    fn name(&self) -> String {
        self.identity.name.clone()
    }

    fn failed(&self, call: &'static str) -> impl FnOnce(io::Error) -> Error {
        let board = self.name();
        move |source| Error::Kernel { board, call, source }
    }

    fn check_word(&self, bar: Bar, offset: u64) -> Result<()> {
        if !self.bar(bar).has(offset) {
            let space = ["BAR0", "BAR2", "BAR4"][bar.index() / 2];
            return Err(crate::Error::Access { board: self.name(), space, offset, limit: self.bar(bar).len() });
        }
        if !self.decodes.load(Ordering::Acquire) {
            return Err(Error::DecodeOff { board: self.name() }.into());
        }
        Ok(())
    }

    fn config_at(&self, offset: u16) -> Result<u64> {
        let limit = self.config.size;
        if !offset.is_multiple_of(4) || u64::from(offset) + 4 > limit {
            let (board, space) = (self.name(), "configuration space");
            return Err(crate::Error::Access { board, space, offset: offset.into(), limit });
        }
        Ok(self.config.offset + u64::from(offset))
    }

    /// All ones may be a value or a board that is gone: configuration space decides.
    fn believe(&self, bar: Bar, offset: u64) -> Result<()> {
        if self.answers() {
            return Ok(());
        }
        Err(crate::Error::DeviceLost { board: self.name(), register: format!("BAR{} + {offset:#x}", bar.index()) })
    }

    /// The kernel tries one method after the other. For a board that does not answer that ends with a reset of its slot, which
    /// Linux 7.3 reports as "no method" when the port does not show an active link 100 ms later, although the board is back by
    /// then (docs/boards.md has the log). A board that answers can be reset in the ordinary way, so the kernel is asked again.
    fn reset_by_kernel(&self) -> io::Result<()> {
        match self.core.kernel.reset() {
            Err(e) if no_method(&e) && self.answers() => {
                log::warn!("{}: reset: {e}, yet it answers; resetting once more", self.identity);
                self.core.kernel.reset()
            }
            other => other,
        }
    }

    /// Whether the function is there: its class is never all ones. (Vendor and device id tell nothing: vfio-pci answers for them itself,
    /// from what it read when the function was opened.)
    fn answers(&self) -> bool {
        let at = self.config.offset + u64::from(CLASS_REVISION);
        bar::read_word(self.core.kernel.device(), at).is_ok_and(|class| class != u32::MAX)
    }

    fn reset_function(&self) -> Result<()> {
        // Whatever comes of it: buffers of before must not be submitted any more.
        self.core.generation.fetch_add(1, Ordering::AcqRel);
        self.reset_by_kernel().map_err(|source| match no_method(&source) {
            // Nobody there to be reset: that is the reason, whatever the kernel says of its methods.
            _ if !self.answers() => {
                let register = format!("its class, after a reset that the kernel refused ({source})");
                crate::Error::DeviceLost { board: self.name(), register }
            }
            true => Error::NoReset { board: self.name() }.into(),
            false => self.failed("VFIO_DEVICE_RESET")(source).into(),
        })?;
        self.events.clear();
        // The kernel puts configuration space back as it was; say what we need all the same.
        let at = self.config.offset + u64::from(COMMAND_STATUS);
        let command =
            bar::read_word(self.core.kernel.device(), at).map_err(self.failed("pread of the command register"))?;
        if !self.answers() {
            return Err(crate::Error::DeviceLost { board: self.name(), register: "its class after reset".into() });
        }
        let on = (command & COMMAND_MASK) | NEEDED;
        bar::write_word(self.core.kernel.device(), at, on).map_err(self.failed("pwrite of the command register"))?;
        self.decodes.store(true, Ordering::Release);
        Ok(())
    }
}

impl Board for VfioBoard {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn config_read(&self, offset: u16) -> Result<u32> {
        let at = self.config_at(offset)?;
        Ok(bar::read_word(self.core.kernel.device(), at).map_err(self.failed("pread of configuration space"))?)
    }

    fn config_write(&self, offset: u16, value: u32) -> Result<()> {
        let at = self.config_at(offset)?;
        if offset == COMMAND_STATUS && value & Command::MEMORY.bits() == 0 {
            self.decodes.store(false, Ordering::Release); // before the write: no access may follow it
        }
        bar::write_word(self.core.kernel.device(), at, value).map_err(self.failed("pwrite of configuration space"))?;
        if offset == COMMAND_STATUS && value & Command::MEMORY.bits() != 0 {
            self.decodes.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn bar_len(&self, bar: Bar) -> u64 {
        self.bar(bar).len()
    }

    fn read(&self, bar: Bar, offset: u64) -> Result<u32> {
        self.check_word(bar, offset)?;
        let value = self.bar(bar).read(self.core.kernel.device(), offset).map_err(self.failed("read of a BAR"))?;
        if value == u32::MAX {
            self.believe(bar, offset)?;
        }
        Ok(value)
    }

    fn write(&self, bar: Bar, offset: u64, value: u32) -> Result<()> {
        self.check_word(bar, offset)?;
        Ok(self.bar(bar).write(self.core.kernel.device(), offset, value).map_err(self.failed("write of a BAR"))?)
    }

    fn allocate(&self, len: usize) -> Result<DmaBuffer> {
        let (memory, iova) = self.core.memory.take(len)?;
        let generation = self.core.generation.load(Ordering::Acquire);
        Ok(DmaBuffer::new(memory, iova, generation, self.core.clone()))
    }

    fn wait_interrupt(&self, timeout: Duration) -> Result<Wake> {
        if self.vector.is_none() {
            return Err(crate::Error::Interrupts {
                board: self.name(),
                reason: "the function offers neither MSI nor MSI-X",
            });
        }
        match self.events.wait(timeout).map_err(self.failed("poll of the interrupt"))? {
            Event::Interrupt => Ok(Wake::Interrupt),
            Event::TimedOut => Ok(Wake::TimedOut),
            Event::Release => Err(Error::Released { board: self.name() }.into()),
        }
    }

    fn reset(&self) -> Result<()> {
        self.reset_function()
    }

    fn generation(&self) -> u64 {
        self.core.generation.load(Ordering::Acquire)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn pause(&self, time: Duration) {
        thread::sleep(time);
    }
}

impl Drop for VfioBoard {
    fn drop(&mut self) {
        // Stop: without bus mastering the function cannot start another DMA. Then silence. Both may fail on a board that
        // is gone, which is as quiet as it gets. BARs and device follow by field order.
        let device = self.core.kernel.device();
        let at = self.config.offset + u64::from(COMMAND_STATUS);
        let stopped = bar::read_word(device, at)
            .and_then(|command| bar::write_word(device, at, command & COMMAND_MASK & !Command::BUS_MASTER.bits()));
        let silenced = self.vector.map_or(Ok(()), |index| self.core.kernel.signal(index, None));
        for result in [stopped, silenced] {
            if let Err(e) = result {
                log::debug!("{}: closing: {e}", self.identity.name);
            }
        }
    }
}

impl Unmap for Core {
    fn unmap(&self, iova: u64, len: usize) {
        self.memory.give(iova, len);
    }
}

/// The kernel's words for "none of my methods resets this function".
fn no_method(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::EINVAL | nix::libc::ENOTTY))
}

/// Everything that sysfs can tell before a node is opened, with a better error than the open would give.
fn check(found: &PciBoard, options: &Options) -> Result<Identity> {
    let unconfined = options.interface == Interface::NoIommu;
    // Whatever is said of such a board says so.
    let board = if unconfined { format!("{UNCONFINED}{}", found.address) } else { found.address.clone() };
    let Some(chip) = found.chip else {
        return Err(crate::Error::NotAkida { board, vendor: found.vendor, device: found.device });
    };
    if found.driver.as_deref() != Some("vfio-pci") {
        return Err(Error::WrongDriver { board, driver: found.driver.clone() }.into());
    }
    let Some(group) = &found.group else { return Err(Error::NoIommu { board }.into()) };
    match (group.unconfined, unconfined) {
        (true, false) => return Err(Error::Unconfined { board }.into()),
        (false, true) => return Err(Error::Confined { board, group: group.number }.into()),
        _ => {}
    }
    let others: Vec<String> = group.blocking().map(ToString::to_string).collect();
    if !others.is_empty() {
        return Err(Error::SharedGroup { board, group: group.number, others }.into());
    }
    let simulated = found.simulated;
    Ok(Identity { name: board, vendor: found.vendor, device: found.device, chip, simulated })
}

type Opened = (Arc<dyn Kernel>, Box<dyn Memory>);

/// vfio-pci resets a function when it is opened, and when that fails offers no reset until it is opened again. A board that was lost
/// meanwhile is brought back by the very attempt that failed (docs/boards.md), so a second opening finds it in order.
fn open_resettable(open: impl Fn() -> Result<Opened, Error>, board: &str) -> Result<Opened, Error> {
    let opened = open()?;
    if opened.0.resettable().unwrap_or(true) {
        return Ok(opened);
    }
    log::warn!("{board}: the kernel offers no reset for it; opening it once more");
    drop(opened);
    open()
}

/// Opens the function, named `board` in errors, and what it gets its memory from.
fn open_kernel(sysfs: &Sysfs, found: &PciBoard, board: &str, options: &Options) -> Result<Opened, Error> {
    let number = found.group.as_ref().map_or(0, |g| g.number);
    let folder = sysfs.folder(&found.address);
    let by_group = || -> Result<Arc<dyn Confined>, Error> { Ok(Arc::new(group::Group::open(board, number, &folder)?)) };
    #[cfg(feature = "iommufd")]
    let by_iommufd = || -> Result<Arc<dyn Confined>, Error> { Ok(Arc::new(iommufd::Iommufd::open(board, &folder)?)) };
    #[cfg(not(feature = "iommufd"))]
    let by_iommufd = || {
        let source = io::Error::new(io::ErrorKind::Unsupported, "this build lacks the feature `iommufd`");
        Err(Error::Kernel { board: board.to_string(), call: "opening through iommufd", source })
    };
    let kernel = match options.interface {
        Interface::Group => by_group()?,
        Interface::Iommufd => by_iommufd()?,
        Interface::Auto if cfg!(feature = "iommufd") && sysfs.may_use_iommufd(found) => by_iommufd()?,
        Interface::Auto => by_group()?,
        Interface::NoIommu => {
            // Its memory first: what cannot give any is not worth the kernel's taint.
            let memory = Physical::new(board, options.iova_limit)?;
            let kernel = NoIommu::open(board, &found.address, number)?;
            return Ok((Arc::new(kernel), Box::new(memory)));
        }
    };
    let memory = Mapped::new(board, kernel.clone(), options.iova_limit)?;
    Ok((kernel, Box::new(memory)))
}

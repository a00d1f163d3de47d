//! From a reset function to one whose BARs show what they should (hardware.md sections 2, 16.1, 16.2).

use super::io::Io;
use super::msi::find_capability;
use crate::board::{Bar, Chip};
use crate::dma::DmaBuffer;
use crate::regs::iatu::{self, unrolled};
use crate::regs::pci::{self, Command};
use crate::regs::{edma, hdma, top};
use crate::{Error, Result, memory_map};

/// The window that shows a device address range: where, and how far it reaches.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub bar: Bar,
    pub base: u32,
    pub len: u64,
}

/// Checks identity and BAR sizes; nothing is written.
pub fn check(io: &Io) -> Result<()> {
    let identity = io.board.identity();
    if io.board.config_read(pci::CLASS_REVISION)? == u32::MAX {
        return Err(Error::DeviceLost { board: io.name(), register: "PCI class".into() });
    }
    let id = io.board.config_read(pci::ID)?;
    let (vendor, device) = (id as u16, (id >> 16) as u16);
    if pci::chip(vendor, device) != Some(identity.chip) {
        return Err(Error::NotAkida { board: io.name(), vendor, device });
    }
    let needed = match identity.chip {
        Chip::Akd1500 => [unrolled::BASE + unrolled::SLOT * unrolled::REGIONS, top::INTERRUPTS + 0x10, 0x1000],
        _ => [top::INTERRUPTS + 0x10, edma::BAR2_BASE + edma::LEN, memory_map::ListLayout::LARGE.reserved],
    };
    for (bar, needed) in Bar::ALL.into_iter().zip(needed.map(u64::from)) {
        let len = io.board.bar_len(bar);
        if len < needed {
            return Err(Error::BarTooSmall { board: io.name(), bar: bar.index(), len, needed });
        }
    }
    if let Some(express) = find_capability(&*io.board, pci::CAP_EXPRESS)? {
        let link = io.board.config_read(express + pci::EXPRESS_LINK_CONTROL)?;
        if pci::ASPM.any(link) {
            log::warn!(
                "{identity}: ASPM is on (link control {link:#06x}); the device is known to stop working with it"
            );
        }
    }
    Ok(())
}

/// Memory decoding and bus mastering on.
pub fn enable(io: &Io) -> Result<()> {
    let command = io.board.config_read(pci::COMMAND_STATUS)? & 0xFFFF;
    let wanted = command | (Command::MEMORY | Command::BUS_MASTER).bits();
    // The upper half is write-1-to-clear status: written as zero, it stays.
    io.board.config_write(pci::COMMAND_STATUS, wanted)
}

/// Bus mastering off: whatever the DMA engine still does, it cannot reach host memory any more.
pub fn disable_bus_master(io: &Io) -> Result<()> {
    let command = io.board.config_read(pci::COMMAND_STATUS)? & 0xFFFF;
    io.board.config_write(pci::COMMAND_STATUS, command & !Command::BUS_MASTER.bits())
}

/// Programs address translation and lets it settle. `host` is the AKD1500's window on host memory.
pub fn translate(io: &Io, host: Option<&DmaBuffer>) -> Result<()> {
    match io.board.identity().chip {
        Chip::Akd1500 => unrolled_regions(io, host)?,
        chip => viewport_regions(io, chip)?,
    }
    io.board.pause(iatu::SETTLE);
    Ok(())
}

/// The 12 configuration writes of hardware.md section 2.1.
fn viewport_regions(io: &Io, chip: Chip) -> Result<()> {
    for (region, bar) in (0u32..).zip(Bar::ALL) {
        let Some(target) = memory_map::bar_target(chip, bar) else { continue };
        let words = [
            (iatu::VIEWPORT, iatu::VIEWPORT_INBOUND.mask() | iatu::VIEWPORT_REGION.of(region)),
            (iatu::VIEWPORT_CONTROL1, 0),
            (iatu::VIEWPORT_TARGET_LOW, target),
            (iatu::VIEWPORT_CONTROL2, iatu::bar_match(bar.index() as u32)),
        ];
        for (offset, value) in words {
            io.board.config_write(offset as u16, value)?;
        }
    }
    Ok(())
}

/// The steps of hardware.md section 2.2.
fn unrolled_regions(io: &Io, host: Option<&DmaBuffer>) -> Result<()> {
    for (region, bar) in [(1, Bar::Bar2), (2, Bar::Bar4)] {
        let Some(target) = memory_map::bar_target(Chip::Akd1500, bar) else { continue };
        io.write(Bar::Bar0, unrolled::inbound(region, unrolled::CONTROL1), 0)?;
        let control2 = iatu::bar_match(bar.index() as u32);
        io.write(Bar::Bar0, unrolled::inbound(region, unrolled::CONTROL2), control2)?;
        io.write(Bar::Bar0, unrolled::inbound(region, unrolled::TARGET_LOW), target)?;
    }
    let Some(buffer) = host else { return Ok(()) };
    let limit = memory_map::HOST_WINDOW + (buffer.len() - 1) as u32;
    for (register, value) in [
        (unrolled::CONTROL2, 0),
        (unrolled::CONTROL1, 0),
        (unrolled::BASE_LOW, memory_map::HOST_WINDOW),
        (unrolled::BASE_HIGH, 0),
        (unrolled::LIMIT, limit),
        (unrolled::TARGET_LOW, buffer.iova() as u32),
        (unrolled::TARGET_HIGH, (buffer.iova() >> 32) as u32),
        (unrolled::CONTROL2, iatu::CONTROL2_ENABLE.mask()),
    ] {
        io.write(Bar::Bar0, unrolled::outbound(0, register), value)?;
    }
    Ok(())
}

/// The windows that translation opened.
pub fn windows(io: &Io) -> Vec<Window> {
    let chip = io.board.identity().chip;
    let window = |bar| {
        let base = memory_map::bar_target(chip, bar)?;
        Some(Window { bar, base, len: io.board.bar_len(bar) })
    };
    Bar::ALL.into_iter().filter_map(window).collect()
}

/// Reads what must be plausible now, and remembers a register of known value for [`Io`]'s check.
pub fn sanity(io: &Io) -> Result<()> {
    let chip = io.board.identity().chip;
    let core = if chip == Chip::Akd1500 { Bar::Bar2 } else { Bar::Bar0 };
    let register = |register, value, expected: &str| Error::Register {
        board: io.name(),
        register,
        value,
        expected: expected.into(),
    };
    let mesh = io.board.read(core, top::MESH_INFO_1.into())?;
    if mesh == u32::MAX {
        return Err(Error::DeviceLost { board: io.name(), register: "TOP MESH_INFO_1".into() });
    }
    let (rows, columns) = (top::ROWS.get(mesh), top::COLUMNS.get(mesh));
    if !(1..=MAX_SIDE).contains(&rows) || !(1..=MAX_SIDE).contains(&columns) {
        return Err(register("TOP MESH_INFO_1", mesh, "1 to 16 rows and columns"));
    }
    if chip == Chip::Akd1500 {
        let version = io.read(core, top::IP_VERSION)?;
        let expected = top::version_word(crate::mesh::Version::AKD1500);
        if version != expected {
            return Err(register("TOP IP_VERSION", version, &format!("{expected:#010x}")));
        }
    } else {
        let control = io.read(Bar::Bar2, edma::BAR2_BASE + edma::CONTROL)?;
        let enough = edma::CHANNELS as u32;
        if edma::WRITE_CHANNELS.get(control) < enough || edma::READ_CHANNELS.get(control) < enough {
            return Err(register("eDMA CONTROL", control, "at least 2 write and 2 read channels"));
        }
    }
    io.set_known(core, top::MESH_INFO_1, mesh);
    Ok(())
}

/// Coordinates have 8 bits, known meshes 5; more than this is a misread.
const MAX_SIDE: u32 = 16;

const _: () = assert!(hdma::CHANNELS as u32 * hdma::PAIR <= unrolled::BASE);

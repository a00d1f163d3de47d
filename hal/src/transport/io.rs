//! Register access that does not believe all ones: a device that fell off the bus answers them everywhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::board::{Bar, Board};
use crate::regs::pci;
use crate::{Error, Result};

/// A board's BARs and configuration space, with the check.
pub struct Io {
    /// The board.
    pub board: Arc<dyn Board>,
    /// A register of known value: bar index, offset and value, packed; 0 while there is none.
    known: AtomicU64,
}

/// Where the register of known value is: one word, so that it can be swapped whole.
const KNOWN_SET: u64 = 1 << 63;
const KNOWN_BAR_SHIFT: u32 = 60;
const KNOWN_OFFSET_SHIFT: u32 = 32;
const KNOWN_OFFSET_MASK: u64 = 0x0FFF_FFFF;

impl Io {
    pub fn new(board: Arc<dyn Board>) -> Self {
        Self { board, known: AtomicU64::new(0) }
    }

    /// Board name for messages.
    pub fn name(&self) -> String {
        self.board.identity().to_string()
    }

    /// Remembers a register that always reads `value`, which is not all ones.
    pub fn set_known(&self, bar: Bar, offset: u32, value: u32) {
        let bar = match bar {
            Bar::Bar0 => 0u64,
            Bar::Bar2 => 1,
            Bar::Bar4 => 2,
        };
        let place = KNOWN_SET | bar << KNOWN_BAR_SHIFT | u64::from(offset) << KNOWN_OFFSET_SHIFT;
        self.known.store(place | u64::from(value), Ordering::Release);
    }

    /// Forgets it, before translation is programmed anew.
    pub fn clear_known(&self) {
        self.known.store(0, Ordering::Release);
    }

    /// Reads a BAR register.
    pub fn read(&self, bar: Bar, offset: u32) -> Result<u32> {
        let value = self.board.read(bar, offset.into())?;
        log::trace!(target: "akida::reg", "{} BAR{}+{offset:#x} -> {value:#010x}", self.board.identity(), bar.index());
        if value == u32::MAX {
            self.check_alive(bar, offset)?;
            // The device is there. Registers that hold all ones hold them twice.
            let again = self.board.read(bar, offset.into())?;
            if again != value {
                return Err(Error::Register {
                    board: self.name(),
                    register: "a BAR register",
                    value,
                    expected: format!("BAR{} + {offset:#x} to read the same twice, not {again:#010x}", bar.index()),
                });
            }
        }
        Ok(value)
    }

    /// Writes a BAR register.
    pub fn write(&self, bar: Bar, offset: u32, value: u32) -> Result<()> {
        log::trace!(target: "akida::reg", "{} BAR{}+{offset:#x} <- {value:#010x}", self.board.identity(), bar.index());
        self.board.write(bar, offset.into(), value)
    }

    /// Whether the device still answers: its class (vfio-pci answers for its ids itself), and the register of known value once there is one.
    pub fn check_alive(&self, bar: Bar, offset: u32) -> Result<()> {
        let lost = || Error::DeviceLost { board: self.name(), register: format!("BAR{} + {offset:#x}", bar.index()) };
        if self.board.config_read(pci::CLASS_REVISION)? == u32::MAX {
            return Err(lost());
        }
        let known = self.known.load(Ordering::Acquire);
        if known & KNOWN_SET == 0 {
            return Ok(());
        }
        let bar = Bar::ALL[(known >> KNOWN_BAR_SHIFT & 3) as usize % 3];
        match self.board.read(bar, known >> KNOWN_OFFSET_SHIFT & KNOWN_OFFSET_MASK)? {
            u32::MAX => Err(lost()),
            value if value == known as u32 => Ok(()),
            value => Err(Error::Register {
                board: self.name(),
                register: "the register of known value",
                value,
                expected: format!("{:#010x}: address translation is lost", known as u32),
            }),
        }
    }
}

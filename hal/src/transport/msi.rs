//! Where the device has to write for the host to see an interrupt: what the MSI capability holds (hardware.md section 15).

use crate::board::Board;
use crate::regs::pci::{self, Msi, Status};
use crate::{Error, Result};

/// An MSI message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    pub address: u64,
    pub data: u16,
}

/// More capabilities than fit in 192 bytes mean a loop.
const MAX_CAPABILITIES: usize = 48;

/// The offset of a capability in configuration space.
pub fn find_capability(board: &dyn Board, id: u8) -> Result<Option<u16>> {
    if !Status::from_bits_truncate(board.config_read(pci::COMMAND_STATUS)?).contains(Status::CAPABILITIES) {
        return Ok(None);
    }
    let mut offset = (board.config_read(pci::CAPABILITIES)? & 0xFC) as u16;
    for _ in 0..MAX_CAPABILITIES {
        if offset < 0x40 {
            break;
        }
        let word = board.config_read(offset)?;
        if word as u8 == id {
            return Ok(Some(offset));
        }
        offset = (word >> 8 & 0xFC) as u16;
    }
    Ok(None)
}

/// The message the host put into the MSI capability.
///
/// # Errors
/// [`Error::Interrupts`] when there is no capability, it is not enabled or holds no address. Under VFIO a kernel may
/// answer reads of it with made-up values; then no interrupt arrives and every wait falls back on looking.
pub fn message(board: &dyn Board) -> Result<Message> {
    let error = |reason| Error::Interrupts { board: board.identity().to_string(), reason };
    let capability = find_capability(board, pci::CAP_MSI)?.ok_or_else(|| error("there is no MSI capability"))?;
    let control = Msi::from_bits_truncate(board.config_read(capability)?);
    if !control.contains(Msi::ENABLE) {
        return Err(error("MSI is not enabled by the host"));
    }
    let low = board.config_read(capability + pci::MSI_ADDRESS_LOW)?;
    let (high, data) = if control.contains(Msi::ADDRESS64) {
        (board.config_read(capability + pci::MSI_ADDRESS_HIGH)?, board.config_read(capability + pci::MSI_DATA_64)?)
    } else {
        (0, board.config_read(capability + pci::MSI_DATA_32)?)
    };
    match u64::from(high) << 32 | u64::from(low) {
        0 => Err(error("the MSI capability holds no message address")),
        address => Ok(Message { address, data: data as u16 }),
    }
}

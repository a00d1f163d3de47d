//! Where the device has to write for the host to see an interrupt: what the MSI capability holds (hardware.md section 15).

use crate::board::{Bar, Board, Chip};
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
/// Under VFIO the kernel shows a made-up MSI capability in configuration space. On chips with the AKD1000's host interface
/// BAR 2 shows the endpoint's registers from the inside (DBI, hardware.md section 2.1), which in a DesignWare endpoint begin
/// with the function's own configuration space: there the true message is found. Deduced; believed only if the ids agree.
///
/// # Errors
/// [`Error::Interrupts`] when there is no capability, it is not enabled or holds no address by either road; then only
/// polling is possible.
pub fn message(board: &dyn Board) -> Result<Message> {
    let error = |reason| Error::Interrupts { board: board.identity().to_string(), reason };
    let capability = find_capability(board, pci::CAP_MSI)?.ok_or_else(|| error("there is no MSI capability"))?;
    let config = |offset: u16| board.config_read(offset);
    let inside = |offset: u16| board.read(Bar::Bar2, offset.into());
    if let Some(message) = read(capability, &config)? {
        return Ok(message);
    }
    let has_inside = board.identity().chip != Chip::Akd1500 && inside(pci::ID)? == config(pci::ID)?;
    let found = if has_inside { read(capability, &inside)? } else { None };
    found.ok_or_else(|| error("MSI is not enabled by the host, or the kernel hides its message"))
}

fn read(capability: u16, word: &dyn Fn(u16) -> Result<u32>) -> Result<Option<Message>> {
    let control = word(capability)?;
    if control as u8 != pci::CAP_MSI || !Msi::from_bits_truncate(control).contains(Msi::ENABLE) {
        return Ok(None);
    }
    let low = word(capability + pci::MSI_ADDRESS_LOW)?;
    let (high, data) = if Msi::from_bits_truncate(control).contains(Msi::ADDRESS64) {
        (word(capability + pci::MSI_ADDRESS_HIGH)?, word(capability + pci::MSI_DATA_64)?)
    } else {
        (0, word(capability + pci::MSI_DATA_32)?)
    };
    let address = u64::from(high) << 32 | u64::from(low);
    Ok((address != 0).then_some(Message { address, data: data as u16 }))
}

//! Top-level registers of the core: identification and resets (hardware.md section 7).

use crate::board::Chip;
use crate::memory_map::TOP;
use crate::mesh::Version;
use crate::regs::top::{self, GeneralControl};
use crate::regs::{epg, top::RESET_TIME};
use crate::transport::Transport;
use crate::{Error, Result};

/// Reads a register of the top-level block.
pub fn read(transport: &dyn Transport, offset: u32) -> Result<u32> {
    transport.read32(TOP + offset)
}

/// Writes a register of the top-level block.
pub fn write(transport: &dyn Transport, offset: u32, value: u32) -> Result<()> {
    transport.write32(TOP + offset, value)
}

/// Writes a register that holds what it is given, and where asked for reads it back.
pub fn set(transport: &dyn Transport, offset: u32, value: u32, check: bool) -> Result<()> {
    write(transport, offset, value)?;
    let now = if check { read(transport, offset)? } else { value };
    if now == value {
        return Ok(());
    }
    let (board, what) = (transport.identity().to_string(), format!("TOP register {offset:#x}"));
    Err(Error::ReadBack { board, what, offset: 0, wrote: value, read: now })
}

/// The hardware version: what the register says; where it says 0, an AKD1000 (hardware.md section 7.1).
pub fn version(transport: &dyn Transport) -> Result<Version> {
    let word = read(transport, top::IP_VERSION)?;
    match (top::version(word), transport.identity().chip) {
        (Some(version), _) if version.vendor == Version::AKD1000.vendor => Ok(version),
        (None, Chip::Akd1000) => Ok(Version::AKD1000),
        _ => Err(Error::Register {
            board: transport.identity().to_string(),
            register: "TOP IP_VERSION",
            value: word,
            expected: "a version of vendor 0xBC (0 on the AKD1000 only)".into(),
        }),
    }
}

/// All reset bits.
const RESETS: GeneralControl = GeneralControl::LOGIC_RESET
    .union(GeneralControl::CORE_RESET)
    .union(GeneralControl::MESH_RESET)
    .union(GeneralControl::SCC_RESET);

/// Sets bits of general control, waits, clears them, waits.
fn pulse(transport: &dyn Transport, bits: GeneralControl) -> Result<()> {
    // No reset bit of an earlier failure may stay set.
    let old = read(transport, top::GENERAL_CONTROL)? & !RESETS.bits();
    write(transport, top::GENERAL_CONTROL, old | bits.bits())?;
    transport.pause(RESET_TIME);
    write(transport, top::GENERAL_CONTROL, old)?;
    transport.pause(RESET_TIME);
    let now = read(transport, top::GENERAL_CONTROL)?;
    if now & RESETS.bits() == 0 {
        return Ok(());
    }
    let expected = format!("the reset bits {:#x} to be clear after a reset", RESETS.bits());
    let board = transport.identity().to_string();
    Err(Error::Register { board, register: "TOP GENERAL_CONTROL", value: now, expected })
}

/// Resets the core with its DMAs. Timers of the DMAs are off afterwards.
pub fn reset_core(transport: &dyn Transport) -> Result<()> {
    pulse(transport, GeneralControl::CORE_RESET | GeneralControl::SCC_RESET)
}

/// Resets NP logic and configuration. NPs need 2560 clocks for their inbound SRAM first.
pub fn reset_mesh(transport: &dyn Transport) -> Result<()> {
    transport.pause(RESET_TIME);
    pulse(transport, GeneralControl::LOGIC_RESET | GeneralControl::MESH_RESET)
}

/// Resets the event packet generator.
pub fn reset_epg(transport: &dyn Transport) -> Result<()> {
    write(transport, top::EPG + epg::CONTROL, epg::RESET)
}

/// Partial reconfiguration on for multi-pass programs, off for others.
pub fn set_multi_pass(transport: &dyn Transport, on: bool, check: bool) -> Result<()> {
    let mut control = GeneralControl::from_bits_retain(read(transport, top::GENERAL_CONTROL)?);
    control.set(GeneralControl::MULTI_PASS, on);
    set(transport, top::GENERAL_CONTROL, control.bits(), check)
}

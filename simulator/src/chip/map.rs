//! Which register or memory an address is: BARs, the endpoint's own registers, the internal bus.

use std::sync::Arc;

use akida_hal::board::{Bar, Chip as ChipKind};
use akida_hal::memory_map::{DBI, MEMORY, TOP};
use akida_hal::regs::edma::BAR2_BASE;
use akida_hal::regs::top::{self as top_registers, GeneralControl};
use akida_hal::regs::{self, dma, epg};

use super::config::Effect;
use super::controller::Kind;
use super::iatu::UNROLLED_END;
use super::{Chip, Message};

/// What a dead or undecoded access reads.
pub(super) const ONES: u32 = u32::MAX;
/// Bytes of TOP that are decoded.
pub(super) const TOP_LEN: u32 = 0x10_0000;
/// Bytes of the endpoint's registers that are decoded.
pub(super) const DBI_LEN: u32 = 0x1000;
/// Bytes of one controller's registers.
const CONTROLLER_LEN: u32 = 0x100;

impl Chip {
    pub(super) fn decode(&self, bar: Bar, offset: u64) -> Place {
        if self.kind == ChipKind::Akd1500 && bar == Bar::Bar0 {
            return Place::Controller(offset as u32);
        }
        let bus = self.config.bar_address(bar).wrapping_add(offset);
        Place::Device(self.iatu.inbound(bar, offset, bus).unwrap_or_else(|| {
            // Nothing matches: the raw bus address reaches memory (hardware.md 1.1; which byte is ours).
            let len = self.memory.room(MEMORY);
            u64::from(MEMORY) + bus % u64::from(len)
        }))
    }

    /// The endpoint's registers: configuration space and port logic. Reached by configuration accesses and, on chips
    /// with the AKD1000's host interface, at the DBI address.
    pub(super) fn endpoint_read(&mut self, offset: u32) -> u32 {
        match self.endpoint(offset) {
            Endpoint::Iatu(register) => Arc::make_mut(&mut self.iatu).viewport_read(register),
            Endpoint::Link(register) => self.link.read(register),
            Endpoint::Config => self.config.read(offset),
        }
    }

    pub(super) fn endpoint_write(&mut self, offset: u32, value: u32, bytes: u32) {
        match self.endpoint(offset) {
            Endpoint::Iatu(register) => {
                let old = if bytes == ONES { 0 } else { Arc::make_mut(&mut self.iatu).viewport_read(register) };
                Arc::make_mut(&mut self.iatu).viewport_write(register, value & bytes | old & !bytes);
            }
            Endpoint::Link(register) => self.link.write(register, value),
            Endpoint::Config => match self.config.write(offset, value, bytes) {
                Effect::None => {}
                Effect::Reset => self.reset(),
                Effect::Message => {
                    let (address, data) = self.config.msi();
                    self.send(Message { address, data }, true);
                }
            },
        }
    }

    pub(super) fn endpoint(&self, offset: u32) -> Endpoint {
        const VIEWPORT: u32 = regs::iatu::VIEWPORT;
        const VIEWPORT_END: u32 = regs::iatu::VIEWPORT_TARGET_HIGH;
        const LINK_END: u32 = BAR2_BASE + regs::edma::LEN - 1;
        match offset {
            _ if self.kind == ChipKind::Akd1500 => Endpoint::Config,
            VIEWPORT..=VIEWPORT_END => Endpoint::Iatu(offset - VIEWPORT),
            BAR2_BASE..=LINK_END => Endpoint::Link(offset - BAR2_BASE),
            _ => Endpoint::Config,
        }
    }

    /// The AKD1500's BAR 0: HDMA and unrolled translation.
    pub(super) fn controller_read(&mut self, offset: u32) -> u32 {
        match offset {
            regs::iatu::unrolled::BASE..UNROLLED_END => Arc::make_mut(&mut self.iatu).unrolled_read(offset),
            _ => self.link.read(offset),
        }
    }

    pub(super) fn controller_write(&mut self, offset: u32, value: u32) {
        match offset {
            regs::iatu::unrolled::BASE..UNROLLED_END => Arc::make_mut(&mut self.iatu).unrolled_write(offset, value),
            _ => self.link.write(offset, value),
        }
    }

    /// A 32-bit read on the internal bus. Nothing there: all ones, as the endpoint answers with an error.
    pub(super) fn device_read(&mut self, address: u64) -> u32 {
        let Ok(address) = u32::try_from(address) else { return ONES };
        if let Some(offset) = within(address, TOP, TOP_LEN) {
            let value = self.top_read(offset);
            self.trace("top", "read", offset, value);
            return value;
        }
        if let Some(offset) = within(address, DBI, DBI_LEN)
            && self.kind != ChipKind::Akd1500
        {
            let value = self.endpoint_read(offset);
            self.trace("dbi", "read", offset, value);
            return value;
        }
        let mut bytes = [0; 4];
        self.reads(address.into(), 4);
        self.memory.read(address, &mut bytes).map_or(ONES, |()| u32::from_le_bytes(bytes))
    }

    pub(super) fn device_write(&mut self, address: u64, value: u32) {
        let Ok(address) = u32::try_from(address) else { return };
        self.writes(address.into(), 4);
        if let Some(offset) = within(address, TOP, TOP_LEN) {
            self.trace("top", "write", offset, value);
            self.top_write(offset, value);
        } else if let Some(offset) = within(address, DBI, DBI_LEN)
            && self.kind != ChipKind::Akd1500
        {
            self.trace("dbi", "write", offset, value);
            self.endpoint_write(offset, value, ONES);
        } else if self.memory.write(address, &value.to_le_bytes()).is_err() {
            log::trace!(target: "akida::sim::reg", "write to nothing at {address:#010x}");
        }
    }

    fn top_read(&mut self, offset: u32) -> u32 {
        match block(offset) {
            Block::Dma(kind, register) => self.controllers[kind.index()].read(register),
            Block::Epg(register) => self.epg.get(register),
            Block::Top(top_registers::INTERRUPT_SOURCE) => self.interrupt_source().bits(),
            Block::Top(register) => self.top.read(register),
        }
    }

    fn top_write(&mut self, offset: u32, value: u32) {
        match block(offset) {
            Block::Dma(kind, register) => {
                if register == dma::CONTROL {
                    // A job that is out when its controller is reset writes nothing any more.
                    self.catch_up();
                }
                self.controllers[kind.index()].write(register, value);
            }
            Block::Epg(epg::CONTROL) if value & epg::RESET != 0 => self.epg.reset(),
            Block::Epg(register) => {
                self.epg.write(register, value);
            }
            Block::Top(register) => {
                // Where weights lie may change.
                self.catch_up();
                let Some(written) = self.top.write(register, value) else { return };
                if register == top_registers::GENERAL_CONTROL {
                    self.general_control(
                        GeneralControl::from_bits_truncate(written.old),
                        GeneralControl::from_bits_truncate(written.new),
                    );
                }
            }
        }
    }
}

/// Where a BAR access goes.
pub(super) enum Place {
    /// A register of the PCIe controller itself (AKD1500 BAR 0).
    Controller(u32),
    /// The internal bus.
    Device(u64),
}

/// What an endpoint register belongs to.
pub(super) enum Endpoint {
    Iatu(u32),
    Link(u32),
    Config,
}

/// A block inside TOP and the offset inside it.
pub(super) enum Block {
    Top(u32),
    Dma(Kind, u32),
    Epg(u32),
}

pub(super) fn block(offset: u32) -> Block {
    for (base, kind) in [
        (top_registers::EVENT_DMA, Kind::Event),
        (top_registers::HRC_DMA, Kind::Hrc),
        (top_registers::CONFIG_DMA, Kind::Config),
    ] {
        if let Some(register) = within(offset, base, CONTROLLER_LEN) {
            return Block::Dma(kind, register);
        }
    }
    match within(offset, top_registers::EPG, 0x100) {
        Some(register) => Block::Epg(register),
        None => Block::Top(offset),
    }
}

pub(super) fn within(address: u32, base: u32, len: u32) -> Option<u32> {
    address.checked_sub(base).filter(|offset| *offset < len)
}

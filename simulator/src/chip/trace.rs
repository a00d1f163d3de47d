//! Every register access in the log, by name.

use akida_hal::regs;

use super::Chip;
use super::iatu::UNROLLED_END;
use super::map::{Block, Endpoint, block};

impl Chip {
    /// Every register access, by name.
    pub(super) fn trace(&self, road: &str, what: &str, offset: u32, value: u32) {
        if !log::log_enabled!(target: "akida::sim::reg", log::Level::Trace) {
            return;
        }
        let (block, name) = match road {
            "top" => match block(offset) {
                Block::Dma(kind, register) => {
                    let registers = &self.controllers[kind.index()].registers;
                    (registers.block(), registers.name(register))
                }
                Block::Epg(register) => ("epg", self.epg.name(register)),
                Block::Top(register) => ("top", self.top.name(register)),
            },
            "bar0" if (regs::iatu::unrolled::BASE..UNROLLED_END).contains(&offset) => ("iatu", "REGION"),
            "bar0" => self.link.name(offset),
            _ => match self.endpoint(offset) {
                Endpoint::Iatu(_) => ("iatu", regs::name(regs::iatu::NAMES, offset).unwrap_or("reserved")),
                Endpoint::Link(register) => self.link.name(register),
                Endpoint::Config => ("config", self.config.name(offset)),
            },
        };
        log::trace!(target: "akida::sim::reg", "{what} {block}.{name} ({offset:#x}) = {value:#010x}");
    }
}

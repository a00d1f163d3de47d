//! Configuration space: header, BARs with sizing, PM, MSI, PCIe and AER capabilities (hardware.md section 1).
//!
//! Known: ids, three 64-bit prefetchable BARs, one MSI vector, 4096 bytes. Capability offsets, class code, AER and the
//! serial number are ours (a DesignWare endpoint's usual places).

use akida_hal::board::Bar;
use akida_hal::regs::pci;

use super::regmap::{RegMap, Register};

const COMMAND: u32 = 0x04;
const BAR0: u32 = 0x10;
const PMCSR: u32 = 0x44;
const MSI_CONTROL: u32 = 0x50;
const MSI_ADDRESS: u32 = 0x54;
const MSI_ADDRESS_HIGH: u32 = 0x58;
const MSI_DATA: u32 = 0x5c;
const MSI_MASK: u32 = 0x60;
const MSI_PENDING: u32 = 0x64;
const DEVICE_CONTROL: u32 = 0x78;

const MEMORY_ENABLE: u32 = 1 << 1;
const BUS_MASTER: u32 = 1 << 2;
const MSI_ENABLE: u32 = 1 << 16;
const START_FLR: u32 = 1 << 15;

/// What a configuration write asks of the rest of the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Function level reset, or return from D3hot, which resets as well (hardware.md section 20, trap 1).
    Reset,
    /// The MSI mask was lifted while a message was pending.
    Message,
}

/// Configuration space of one function.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    registers: RegMap,
    bar_len: [u64; 3],
}

impl ConfigSpace {
    /// For a function with these ids, BAR lengths (powers of two) and link width.
    pub fn new(vendor: u16, device: u16, bar_len: [u64; 3], lanes: u32) -> Self {
        let id = (device as u32) << 16 | vendor as u32;
        let mut table = vec![
            Register::ro(0x00, "ID").reset(id),
            Register::rw(COMMAND, "COMMAND_STATUS").reset(0x0010_0000).mask(0x0000_0546).w1c(0xf900_0000),
            // Processing accelerator, revision 1.
            Register::ro(0x08, "CLASS").reset(0x1200_0001),
            Register::rw(0x0c, "CACHE_LINE").mask(0xff),
        ];
        const BARS: [[&str; 2]; 3] = [["BAR0", "BAR1"], ["BAR2", "BAR3"], ["BAR4", "BAR5"]];
        for (i, (len, [low, high])) in bar_len.iter().zip(BARS).enumerate() {
            let (at, mask) = (BAR0 + 8 * i as u32, !(len - 1));
            // 64 bits, prefetchable.
            table.push(Register::rw(at, low).reset(0xc).mask(mask as u32 & !0xf));
            table.push(Register::rw(at + 4, high).mask((mask >> 32) as u32));
        }
        table.extend([
            Register::ro(0x2c, "SUBSYSTEM").reset((pci::SUBSYSTEM_SIMULATED as u32) << 16 | vendor as u32),
            Register::ro(0x34, "CAPABILITIES").reset(0x40),
            Register::rw(0x3c, "INTERRUPT").mask(0xff),
            // Power management, version 3; D0 and D3hot, state is lost in D3hot.
            Register::ro(0x40, "PM_CAPABILITY").reset(0x0003_5001),
            Register::rw(PMCSR, "PM_CONTROL_STATUS").mask(0x0000_0003),
            // MSI: one vector, 64-bit address, per-vector mask.
            Register::rw(MSI_CONTROL, "MSI_CONTROL").reset(0x0180_7005).mask(0x0071_0000),
            Register::rw(MSI_ADDRESS, "MSI_ADDRESS").mask(!3),
            Register::rw(MSI_ADDRESS_HIGH, "MSI_ADDRESS_HIGH"),
            Register::rw(MSI_DATA, "MSI_DATA").mask(0xffff),
            Register::rw(MSI_MASK, "MSI_MASK").mask(1),
            Register::ro(MSI_PENDING, "MSI_PENDING"),
            // PCIe endpoint, version 2; FLR, payload up to 256 bytes, Gen2, ASPM L0s and L1 claimed (and to be kept
            // off, hardware.md section 20, trap 3).
            Register::ro(0x70, "PCIE_CAPABILITY").reset(0x0002_0010),
            Register::ro(0x74, "PCIE_DEVICE_CAPABILITIES").reset(0x1000_8001),
            Register::rw(DEVICE_CONTROL, "PCIE_DEVICE_CONTROL").reset(0x2810).mask(0xffff).w1c(0x000f_0000),
            Register::ro(0x7c, "PCIE_LINK_CAPABILITIES").reset(0x0000_0c02 | lanes << 4),
            Register::rw(0x80, "PCIE_LINK_CONTROL").reset(0x0002_0000 | lanes << 20).mask(0x0000_0fdb),
            Register::ro(0x94, "PCIE_DEVICE_CAPABILITIES2").reset(0x1f),
            Register::rw(0x98, "PCIE_DEVICE_CONTROL2").mask(0x1f),
            Register::ro(0x9c, "PCIE_LINK_CAPABILITIES2").reset(0x6),
            Register::rw(0xa0, "PCIE_LINK_CONTROL2").reset(2).mask(0x1f8f),
            // Extended: AER, then serial number.
            Register::ro(0x100, "AER_CAPABILITY").reset(0x1481_0001 | 1 << 17),
            Register::rw(0x104, "AER_UNCORRECTABLE_STATUS").mask(0).w1c(0x003f_f030),
            Register::rw(0x108, "AER_UNCORRECTABLE_MASK").mask(0x003f_f030),
            Register::rw(0x10c, "AER_UNCORRECTABLE_SEVERITY").reset(0x0006_2030).mask(0x003f_f030),
            Register::rw(0x110, "AER_CORRECTABLE_STATUS").mask(0).w1c(0x31c1),
            Register::rw(0x114, "AER_CORRECTABLE_MASK").reset(0x2000).mask(0x31c1),
            Register::rw(0x118, "AER_CONTROL").mask(0x140),
            Register::ro(0x148, "SERIAL_CAPABILITY").reset(0x0001_0003),
            Register::ro(0x14c, "SERIAL_LOW").reset(1),
            Register::ro(0x150, "SERIAL_HIGH").reset(vendor as u32),
        ]);
        Self { registers: RegMap::new("CONFIG", table), bar_len }
    }

    /// A register's name.
    pub fn name(&self, offset: u32) -> &'static str {
        self.registers.name(offset)
    }

    /// Reads 32 bits.
    pub fn read(&self, offset: u32) -> u32 {
        self.registers.get(offset)
    }

    /// Writes the bytes of a 32-bit word that `bytes` selects (bit mask 0xff per byte).
    pub fn write(&mut self, offset: u32, value: u32, bytes: u32) -> Effect {
        let old = self.registers.get(offset);
        // Bytes that are not written must not clear write-1-to-clear bits: those are written as 0, others as they are.
        let w1c = match offset {
            COMMAND => 0xf900_0000,
            DEVICE_CONTROL => 0x000f_0000,
            0x104 => 0x003f_f030,
            0x110 => 0x31c1,
            _ => 0,
        };
        let Some(written) = self.registers.write(offset, value & bytes | old & !bytes & !w1c) else {
            return Effect::None;
        };
        match offset {
            PMCSR if written.old & 3 == 3 && written.new & 3 == 0 => Effect::Reset,
            DEVICE_CONTROL if written.new & START_FLR != 0 => {
                self.registers.update(offset, 0, START_FLR);
                Effect::Reset
            }
            MSI_MASK | MSI_CONTROL if self.registers.get(MSI_PENDING) != 0 && self.msi_open() => {
                self.registers.set(MSI_PENDING, 0);
                Effect::Message
            }
            _ => Effect::None,
        }
    }

    /// As after a function level reset.
    pub fn reset(&mut self) {
        self.registers.reset();
    }

    /// What firmware and kernel write: BAR addresses, the interrupt message and its enable bit, memory decoding.
    pub fn plug(&mut self, bars: [u64; 3], msi_address: u64, msi_data: u32) {
        for (i, address) in bars.into_iter().enumerate() {
            let at = BAR0 + 8 * i as u32;
            self.registers.write(at, address as u32);
            self.registers.write(at + 4, (address >> 32) as u32);
        }
        self.registers.write(MSI_ADDRESS, msi_address as u32);
        self.registers.write(MSI_ADDRESS_HIGH, (msi_address >> 32) as u32);
        self.registers.write(MSI_DATA, msi_data);
        self.registers.write(MSI_CONTROL, MSI_ENABLE);
        self.registers.write(COMMAND, MEMORY_ENABLE);
    }

    /// Whether BARs answer.
    pub fn memory_enabled(&self) -> bool {
        self.registers.get(COMMAND) & MEMORY_ENABLE != 0 && self.registers.get(PMCSR) & 3 == 0
    }

    /// Whether the function may read and write host memory and send messages.
    pub fn bus_master(&self) -> bool {
        self.registers.get(COMMAND) & BUS_MASTER != 0 && self.registers.get(PMCSR) & 3 == 0
    }

    /// Length of a BAR.
    pub fn bar_len(&self, bar: Bar) -> u64 {
        self.bar_len[bar.index() / 2]
    }

    /// PCI address of a BAR's first byte.
    pub fn bar_address(&self, bar: Bar) -> u64 {
        let at = BAR0 + 4 * bar.index() as u32;
        (self.registers.get(at + 4) as u64) << 32 | (self.registers.get(at) & !0xf) as u64
    }

    /// Asks to send the MSI. `Some((address, data))` when it may be sent now; a masked one becomes pending.
    pub fn message(&mut self) -> Option<(u64, u32)> {
        if self.registers.get(MSI_CONTROL) & MSI_ENABLE == 0 || !self.bus_master() {
            return None;
        }
        if self.registers.get(MSI_MASK) & 1 != 0 {
            self.registers.set(MSI_PENDING, 1);
            return None;
        }
        Some(self.msi())
    }

    /// Address and data of the MSI capability.
    pub fn msi(&self) -> (u64, u32) {
        let address = (self.registers.get(MSI_ADDRESS_HIGH) as u64) << 32 | self.registers.get(MSI_ADDRESS) as u64;
        (address, self.registers.get(MSI_DATA))
    }

    fn msi_open(&self) -> bool {
        self.registers.get(MSI_CONTROL) & MSI_ENABLE != 0 && self.registers.get(MSI_MASK) & 1 == 0 && self.bus_master()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> ConfigSpace {
        ConfigSpace::new(0x1e7c, 0xbca1, [4 << 20; 3], 1)
    }

    #[test]
    fn bars_answer_sizing_as_64_bit_prefetchable() {
        let mut config = space();
        for bar in Bar::ALL {
            let at = BAR0 + 4 * bar.index() as u32;
            config.write(at, !0, !0);
            config.write(at + 4, !0, !0);
            assert_eq!((config.read(at), config.read(at + 4)), (0xffc0_000c, 0xffff_ffff), "{bar:?}");
            config.write(at, 0x8000_0000, !0);
            config.write(at + 4, 0x12, !0);
            assert_eq!(config.bar_address(bar), 0x12_8000_0000);
        }
    }

    /// Every capability is found by walking the list, as a kernel does.
    #[test]
    fn capability_lists_end() {
        let config = space();
        let (mut at, mut found) = (config.read(0x34) & 0xff, Vec::new());
        while at != 0 {
            let header = config.read(at);
            found.push(header & 0xff);
            at = header >> 8 & 0xff;
        }
        assert_eq!(found, [0x01, 0x05, 0x10]);
        let (mut at, mut found) = (0x100, Vec::new());
        while at != 0 {
            let header = config.read(at);
            found.push(header & 0xffff);
            at = header >> 20;
        }
        assert_eq!(found, [0x0001, 0x0003]);
    }

    #[test]
    fn partial_writes_leave_the_other_bytes() {
        let mut config = space();
        config.write(COMMAND, 0x0006, 0x0000_ffff);
        assert!(config.memory_enabled() && config.bus_master());
        config.write(COMMAND, 0x0000, 0x0000_00ff);
        assert!(!config.memory_enabled());
        config.write(MSI_DATA, 0x12, 0x0000_00ff);
        config.write(MSI_DATA, 0x3400, 0x0000_ff00);
        assert_eq!(config.msi().1, 0x3412);
    }

    #[test]
    fn reset_is_asked_by_flr_and_by_leaving_d3() {
        let mut config = space();
        assert_eq!(config.write(DEVICE_CONTROL, START_FLR, 0xffff), Effect::Reset);
        assert_eq!(config.read(DEVICE_CONTROL) & START_FLR, 0);
        assert_eq!(config.write(PMCSR, 3, 0xff), Effect::None);
        assert!(!config.memory_enabled());
        assert_eq!(config.write(PMCSR, 0, 0xff), Effect::Reset);
    }

    #[test]
    fn a_masked_message_waits() {
        let mut config = space();
        assert_eq!(config.message(), None, "DISABLED");
        config.write(COMMAND, BUS_MASTER, !0);
        config.write(MSI_ADDRESS, 0xfee0_0000, !0);
        config.write(MSI_DATA, 0x41, !0);
        config.write(MSI_CONTROL, MSI_ENABLE, !0);
        assert_eq!(config.message(), Some((0xfee0_0000, 0x41)));
        config.write(MSI_MASK, 1, !0);
        assert_eq!(config.message(), None);
        assert_eq!(config.read(MSI_PENDING), 1);
        assert_eq!(config.write(MSI_MASK, 0, !0), Effect::Message);
        assert_eq!(config.read(MSI_PENDING), 0);
    }
}

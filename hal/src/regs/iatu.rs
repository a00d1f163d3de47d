//! Address translation between BARs and device addresses (hardware.md section 2).
//!
//! AKD1000: a viewport in configuration space. AKD1500: unrolled registers in BAR0. The region registers have the same
//! meaning, at different offsets.

use super::{Field, registers};

/// Viewport bit 31: the selected region is inbound \[K\].
pub const VIEWPORT_INBOUND: Field = Field::bit(31);
/// Viewport: region number \[K\].
pub const VIEWPORT_REGION: Field = Field::bits(7, 0);

registers! {
    /// Configuration offset of the viewport of the AKD1000 \[K\]\[S\].
    VIEWPORT = 0x900;
    /// Configuration offset: control 1 of the selected region \[K\].
    VIEWPORT_CONTROL1 = 0x904;
    /// Configuration offset: control 2 \[K\].
    VIEWPORT_CONTROL2 = 0x908;
    /// Configuration offset: lower base (bus address; unused in BAR match mode) \[D\].
    VIEWPORT_BASE_LOW = 0x90C;
    /// Configuration offset: upper base \[D\].
    VIEWPORT_BASE_HIGH = 0x910;
    /// Configuration offset: limit \[D\].
    VIEWPORT_LIMIT = 0x914;
    /// Configuration offset: lower target (device address) \[K\].
    VIEWPORT_TARGET_LOW = 0x918;
    /// Configuration offset: upper target \[D\].
    VIEWPORT_TARGET_HIGH = 0x91C;
}

/// Control 1: TYPE, 0 = memory \[K\].
pub const CONTROL1_TYPE: Field = Field::bits(4, 0);
/// Control 1: function number \[K\].
pub const CONTROL1_FUNCTION: Field = Field::bits(22, 20);

/// Control 2: region enabled \[K\].
pub const CONTROL2_ENABLE: Field = Field::bit(31);
/// Control 2: match by BAR instead of by address \[K\].
pub const CONTROL2_BAR_MATCH: Field = Field::bit(30);
/// Control 2: configuration shift \[K\].
pub const CONTROL2_CONFIG_SHIFT: Field = Field::bit(28);
/// Control 2: function number must match \[K\].
pub const CONTROL2_FUNCTION_MATCH: Field = Field::bit(19);
/// Control 2: BAR number in BAR match mode \[K\].
pub const CONTROL2_BAR: Field = Field::bits(10, 8);
/// Control 2: message code \[K\].
pub const CONTROL2_MESSAGE: Field = Field::bits(7, 0);

/// Control 2 of an inbound region that shows through BAR `index`: 0xC0080000 for 0, 0xC0080200 for 2 \[K\]\[S\].
pub const fn bar_match(index: u32) -> u32 {
    CONTROL2_ENABLE.mask() | CONTROL2_BAR_MATCH.mask() | CONTROL2_FUNCTION_MATCH.mask() | CONTROL2_BAR.of(index)
}

/// How long the driver waits after programming translation; nothing is polled \[K\].
pub const SETTLE: std::time::Duration = std::time::Duration::from_millis(1000);

/// Unrolled registers of the AKD1500 in BAR0.
pub mod unrolled {
    /// BAR0 offset of region 0 (outbound half) \[K\].
    pub const BASE: u32 = 0x400;
    /// Bytes of one region's slot: outbound half, then inbound half \[D\].
    pub const SLOT: u32 = 0x200;
    /// Offset of the inbound half in a slot \[D\].
    pub const INBOUND: u32 = 0x100;
    /// Regions that fit before the end of the 4 KB the driver knows of \[D\].
    pub const REGIONS: u32 = 6;

    /// Control 1, inside a half \[K\].
    pub const CONTROL1: u32 = 0x00;
    /// Control 2 \[K\].
    pub const CONTROL2: u32 = 0x04;
    /// Lower base \[K\].
    pub const BASE_LOW: u32 = 0x08;
    /// Upper base \[K\].
    pub const BASE_HIGH: u32 = 0x0C;
    /// Limit \[K\].
    pub const LIMIT: u32 = 0x10;
    /// Lower target \[K\].
    pub const TARGET_LOW: u32 = 0x14;
    /// Upper target \[K\].
    pub const TARGET_HIGH: u32 = 0x18;

    /// BAR0 offset of a register of an outbound region.
    pub const fn outbound(region: u32, register: u32) -> u32 {
        BASE + region * SLOT + register
    }

    /// BAR0 offset of a register of an inbound region: region 1 is at 0x700, region 2 at 0x900 \[K\].
    pub const fn inbound(region: u32, register: u32) -> u32 {
        BASE + region * SLOT + INBOUND + register
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The literal values of hardware.md sections 2.1 and 2.2.
    #[test]
    fn values_are_those_of_the_kernel_driver() {
        assert_eq!([bar_match(0), bar_match(2), bar_match(4)], [0xC008_0000, 0xC008_0200, 0xC008_0400]);
        assert_eq!(unrolled::inbound(1, unrolled::CONTROL1), 0x700);
        assert_eq!(unrolled::inbound(2, unrolled::TARGET_LOW), 0x914);
        assert_eq!(unrolled::outbound(0, unrolled::TARGET_HIGH), 0x418);
    }
}

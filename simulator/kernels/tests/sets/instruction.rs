//! Instructions that are emulated: how they are encoded. Source: Intel's manual, volume 2 (VEX prefix, AMX, AVX-VNNI).

/// Where an operand lies in memory: `base + index * scale + displacement`, registers by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// None: relative to the next instruction.
    pub base: Option<u8>,
    /// Register and how often it counts.
    pub index: Option<(u8, u64)>,
    /// Added.
    pub displacement: i32,
}

/// The last operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A register.
    Register(u8),
    /// Memory.
    Memory(Address),
}

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `ldtilecfg`
    Configure(Address),
    /// `tilerelease`
    Release,
    /// `tilezero`
    Zero(u8),
    /// `tileloadd`, `tileloaddt1`
    Load(u8, Address),
    /// `tilestored`
    Store(u8, Address),
    /// `tdpbusd`: sums, unsigned, signed.
    Products(u8, u8, u8),
    /// `vpdpbusd`, VEX: sums, unsigned, signed; whether 256 bits.
    Dot(u8, u8, Operand, bool),
    /// `vpdpwssd`, the same of pairs of 16 bits, both signed.
    Pairs(u8, u8, Operand, bool),
    /// `vpbroadcastd` of 256 bits. Processors have it, but it is met between the products of these.
    Broadcast(u8, Address),
}

/// The instruction that code begins with, and how many bytes it has. None where it is none of these. No more is read than
/// an instruction has.
pub fn decode(mut byte: impl FnMut(usize) -> u8) -> Option<(Instruction, usize)> {
    if byte(0) != 0xC4 {
        return None;
    }
    let (first, second) = (byte(1), byte(2));
    // Prefix bits that extend register numbers are inverted.
    let high = |bit: u8| u8::from(first & bit == 0) << 3;
    let (reg_high, index_high, base_high) = (high(0x80), high(0x40), high(0x20));
    let (map, wide_operand, long, prefix) = (first & 31, second & 0x80 != 0, second & 4 != 0, second & 3);
    let middle = !(second >> 3) & 15;
    if map != 2 || wide_operand {
        return None;
    }
    let (opcode, modrm) = (byte(3), byte(4));
    let (mode, reg, rm) = (modrm >> 6, modrm >> 3 & 7 | reg_high, modrm & 7);
    let mut len = 5;
    let operand = if mode == 3 {
        Operand::Register(rm | base_high)
    } else {
        let (mut base, mut index) = (Some(rm | base_high), None);
        let mut wide = mode == 2;
        if rm == 4 {
            let sib = byte(len);
            len += 1;
            let number = sib >> 3 & 7 | index_high;
            index = (number != 4).then_some((number, 1 << (sib >> 6)));
            base = Some(sib & 7 | base_high);
            if sib & 7 == 5 && mode == 0 {
                // No base: an absolute address, which code of today does not have.
                return None;
            }
        } else if rm == 5 && mode == 0 {
            (base, wide) = (None, true);
        }
        let mut displacement = 0;
        if wide {
            displacement = i32::from_le_bytes(std::array::from_fn(|i| byte(len + i)));
            len += 4;
        } else if mode == 1 {
            displacement = i32::from(byte(len) as i8);
            len += 1;
        }
        Operand::Memory(Address { base, index, displacement })
    };
    /// Prefixes, by number.
    const NONE: u8 = 0;
    const P66: u8 = 1;
    const PF3: u8 = 2;
    const PF2: u8 = 3;
    let instruction = match (opcode, prefix, operand) {
        (0x49, NONE, Operand::Memory(at)) if !long => Instruction::Configure(at),
        (0x49, NONE, Operand::Register(0)) if !long && reg == 0 => Instruction::Release,
        (0x49, PF2, Operand::Register(0)) if !long => Instruction::Zero(reg),
        (0x4B, PF2 | P66, Operand::Memory(at)) if !long => Instruction::Load(reg, at),
        (0x4B, PF3, Operand::Memory(at)) if !long => Instruction::Store(reg, at),
        (0x5E, P66, Operand::Register(a)) if !long => Instruction::Products(reg, a, middle),
        (0x50, P66, operand) => Instruction::Dot(reg, middle, operand, long),
        (0x52, P66, operand) => Instruction::Pairs(reg, middle, operand, long),
        (0x58, P66, Operand::Memory(at)) if long && middle == 0 => Instruction::Broadcast(reg, at),
        _ => return None,
    };
    Some((instruction, len))
}

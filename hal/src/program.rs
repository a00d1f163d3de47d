//! What a device is programmed with: tracks of config packets in passes, event-generator words, where input enters and
//! what the output looks like (hardware.md sections 9, 10.2 and 13).

use crate::mesh::{NpAddress, Version};

/// Words of one or several config packets, played by one config descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Track {
    /// Packets back to back: two header words and a payload each.
    pub words: Vec<u32>,
}

/// Weights that stay in device memory and are read by an FNP2 while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalWeights {
    /// Which FNP2 (its id selects the address register TOP + 0x10 + 4 * id).
    pub np: NpAddress,
    /// The weights as the NP reads them.
    pub words: Vec<u32>,
}

/// One configuration of the mesh. A program with several passes reconfigures the mesh while it runs (multi-pass).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Pass {
    /// Played in order.
    pub tracks: Vec<Track>,
    /// External weights of this pass.
    pub external: Vec<ExternalWeights>,
}

/// A 32-bit write into the event packet generator block (TOP + 0x40000).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpgWrite {
    /// Byte offset inside the block.
    pub offset: u32,
    /// Value.
    pub value: u32,
}

/// How inputs enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// Raw bytes in (height, width, channels) order through the HRC DMA.
    Dense,
    /// Events through the event DMA, as a CNP takes them (x, y, channel, value).
    CnpEvents,
    /// Events through the event DMA, as an FNP takes them (linear index, value).
    FnpEvents,
}

/// What a job is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputPort {
    /// (height, width, channels).
    pub shape: [u32; 3],
    /// Bits per element: 1, 2, 4 or 8; one byte per element in memory.
    pub bits: u8,
    /// Whether bytes are signed.
    pub signed: bool,
    /// Road in.
    pub kind: InputKind,
    /// (height, width) of the HRC window, 0 when the HRC only passes the input on.
    pub window: [u32; 2],
}

/// How outputs leave (hardware.md section 12.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// Every element, row-major (height, width, channels): bytes up to 8 bits, 32-bit words above.
    Dense,
    /// Events of a CNP.
    CnpEvents,
    /// Events of an FNP.
    FnpEvents,
    /// Events of the HRC: as a CNP's with the two coordinates exchanged.
    HrcEvents,
}

/// What a job gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputPort {
    /// (height, width, channels).
    pub shape: [u32; 3],
    /// Bits per element: 1, 2, 4, 8 for activations, 32 for potentials.
    pub bits: u8,
    /// Whether elements are signed.
    pub signed: bool,
    /// Format.
    pub kind: OutputKind,
}

impl OutputPort {
    /// Bytes of a dense payload, without the 32-byte header.
    pub fn dense_bytes(&self) -> usize {
        let elements: usize = self.shape.iter().map(|&d| d as usize).product();
        elements * if self.bits > 8 { 4 } else { 1 }
    }
}

/// Everything that turns a mesh into a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The hardware this was made for; refused on any other.
    pub version: Version,
    /// What a job is given.
    pub input: InputPort,
    /// What a job gives.
    pub output: OutputPort,
    /// At least one; more than one means multi-pass.
    pub passes: Vec<Pass>,
    /// Written after the tracks.
    pub epg: Vec<EpgWrite>,
}

impl Program {
    /// Bytes of all tracks and external weights: what is moved to the device to program it.
    pub fn size(&self) -> usize {
        let words: usize = self
            .passes
            .iter()
            .map(|p| {
                p.tracks.iter().map(|t| t.words.len()).sum::<usize>()
                    + p.external.iter().map(|e| e.words.len()).sum::<usize>()
            })
            .sum();
        words * 4
    }
}

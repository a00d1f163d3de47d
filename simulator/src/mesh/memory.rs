//! SRAM of one component.

use akida_hal::mesh::NpAddress;

/// Words of an SRAM. Ranges are checked by the packet dispatch before they get here.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    name: &'static str,
    np: NpAddress,
    len: usize,
    /// Empty until it is written to: most memories of a mesh never are.
    words: Vec<u32>,
}

/// What memories hold that were not written to: as many words as the largest has.
static ZEROS: [u32; 1 << 14] = [0; 1 << 14];

impl Memory {
    pub(super) fn new(name: &'static str, np: NpAddress, bytes: u32) -> Self {
        let len = bytes as usize / 4;
        Self { name, np, len, words: if len > ZEROS.len() { vec![0; len] } else { Vec::new() } }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn write(&mut self, start: usize, words: &[u32]) {
        self.words.resize(self.len, 0);
        self.words[start..][..words.len()].copy_from_slice(words);
    }

    fn words(&self) -> &[u32] {
        if self.words.is_empty() { &ZEROS[..self.len] } else { &self.words }
    }

    pub(super) fn read(&self, start: usize, len: usize) -> &[u32] {
        &self.words()[start..][..len]
    }

    /// Words that a layer says it needs, or that they are more than there are.
    pub(super) fn needed(&self, start: usize, len: usize) -> Result<&[u32], super::MeshError> {
        self.words().get(start..start + len).ok_or(super::MeshError::DoesNotFit {
            np: self.np,
            memory: self.name,
            needed: (start + len) * 4,
            size: self.len() * 4,
        })
    }
}

//! The first 64 bytes.

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U32, U64},
};

/// Not ASCII, so that no text is mistaken for it; the line ends and the control character are there to be damaged by
/// whatever takes the file for text.
pub const MAGIC: [u8; 8] = *b"\x89AKM\r\n\x1a\n";
/// Version of the format of a model.
pub const VERSION: u32 = 1;
/// Version of the format of a network of several parts.
pub const HYBRID_VERSION: u32 = 2;
/// Of the metadata, the blob area and every blob.
pub const ALIGNMENT: u64 = 64;
/// Most bytes of metadata.
pub const METADATA_LIMIT: u64 = 64 << 20;
/// Where the metadata begins.
pub const SIZE: u64 = 64;

/// The header; all integers little-endian.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    pub magic: [u8; 8],
    pub version: U32,
    /// CRC-32 (IEEE 802.3) of the whole file with this field zero.
    pub checksum: U32,
    /// Bytes of the whole file.
    pub file_len: U64,
    pub metadata_offset: U64,
    pub metadata_len: U64,
    pub blob_offset: U64,
    pub reserved: [U64; 2],
}

const _: () = assert!(size_of::<Header>() as u64 == SIZE);

/// The next multiple of [`ALIGNMENT`].
pub const fn align(offset: u64) -> u64 {
    offset.next_multiple_of(ALIGNMENT)
}

/// Where the blob area begins after so much metadata.
pub const fn blob_offset(metadata_len: u64) -> u64 {
    align(SIZE + metadata_len)
}

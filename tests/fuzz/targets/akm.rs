//! The bytes of a model file, of one part or of several: read, mapped to every board of its target, run by the reference. Length and checksum are
//! put right first, as whoever makes a file in bad faith would.
#![no_main]

use akida_fuzz::road;
use akida_runtime::hybrid::HybridModel;
use akida_runtime::model::{Blob, Model};

/// Where the header has the checksum, the length of the file, that of the metadata, and the offset of the weights.
const CHECKSUM: usize = 12;
const FILE: usize = 16;
const METADATA: usize = 32;
const BLOBS: usize = 40;
const HEADER: usize = 64;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= HEADER {
        let len = bytes.len() as u64;
        bytes[FILE..FILE + 8].copy_from_slice(&len.to_le_bytes());
        let metadata = u64::from_le_bytes(bytes[METADATA..METADATA + 8].try_into().expect("eight bytes"));
        let blobs = (HEADER as u64).saturating_add(metadata).checked_next_multiple_of(64).unwrap_or(0);
        bytes[BLOBS..BLOBS + 8].copy_from_slice(&blobs.to_le_bytes());
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes[..CHECKSUM]);
        hasher.update(&[0; 4]);
        hasher.update(&bytes[CHECKSUM + 4..]);
        bytes[CHECKSUM..CHECKSUM + 4].copy_from_slice(&hasher.finalize().to_le_bytes());
    }
    if let Ok(model) = Model::read(Blob::new(bytes.clone())) {
        road::model(&model);
    }
    if let Ok(network) = HybridModel::read(Blob::new(bytes)) {
        network.validate().expect("a reader gives valid networks only");
        network.boards().for_each(|(_, model)| road::model(model));
    }
});

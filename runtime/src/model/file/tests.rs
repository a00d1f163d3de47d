use std::fs;

use proptest::prelude::*;

use super::{super::sample, *};
use crate::model::{Blob, Model};

fn bytes_of(model: &Model) -> Vec<u8> {
    let mut bytes = Vec::new();
    model.write(&mut bytes).expect("memory takes every write");
    bytes
}

/// Bytes changed by `change` and then given a right checksum, as an attacker would.
fn forged(mut bytes: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut bytes);
    let sum = read::checksum(&bytes);
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    bytes
}

#[test]
fn what_is_saved_is_opened() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for model in sample::all() {
        let path = folder.path().join("model.akm");
        model.save(&path).expect("valid");
        let opened = Model::open(&path).expect("just saved");
        assert_eq!(opened, model);
        assert_eq!(fs::read(&path).expect("saved"), bytes_of(&opened), "the same model has the same bytes");
        for weights in opened.layers.iter().flat_map(|layer| layer.kind.weights()) {
            assert_eq!(weights.data.as_bytes().as_ptr() as usize % 64, 0, "weights are aligned where they lie");
        }
    }
    let left: Vec<_> = fs::read_dir(folder.path()).expect("there").map(|e| e.expect("entry").file_name()).collect();
    assert_eq!(left, ["model.akm"], "no temporary file stays");
}

#[test]
fn an_invalid_model_is_not_saved() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.akm");
    let mut model = sample::akida2();
    model.save(&path).expect("valid");
    let before = fs::read(&path).expect("saved");
    model.outputs.clear();
    assert!(matches!(model.save(&path), Err(FileError::Model { .. })));
    assert_eq!(fs::read(&path).expect("still there"), before);
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert!(matches!(Model::open(folder.path()), Err(FileError::NotAFile(_))));
    assert!(matches!(Model::open("/dev/zero"), Err(FileError::NotAFile(_))));
    assert!(matches!(Model::open(folder.path().join("none")), Err(FileError::Io { .. })));
    let empty = folder.path().join("empty");
    fs::write(&empty, []).expect("written");
    let error = Model::open(&empty).expect_err("nothing in it");
    assert!(
        matches!(&error, FileError::Content { source, .. } if matches!(**source, FormatError::NotAModel)),
        "{error}"
    );
    assert!(matches!(sample::akida2().save(folder.path().join("none/model.akm")), Err(FileError::Io { .. })));
}

#[test]
fn every_cut_is_refused() {
    let bytes = bytes_of(&sample::akida2());
    for len in 0..bytes.len() {
        assert!(Model::read(Blob::new(bytes[..len].to_vec())).is_err(), "cut at {len}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(matches!(Model::read(Blob::new(longer)), Err(FormatError::Length { .. })));
}

#[test]
fn forged_headers_are_refused() {
    let bytes = bytes_of(&sample::akida2());
    let put = |offset: usize, value: u64| {
        forged(bytes.clone(), |bytes| bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes()))
    };
    let cases = [
        (24, 65, "metadata offset"),
        (24, u64::MAX, "metadata offset"),
        (32, u64::MAX, "bytes of metadata"),
        (32, header::METADATA_LIMIT, "blob area offset"),
        (32, 0, "blob area offset"),
        (40, 0, "blob area offset"),
        (40, u64::MAX, "blob area offset"),
        (48, 1, "reserved"),
        (56, 1, "reserved"),
    ];
    for (offset, value, names) in cases {
        let error = Model::read(Blob::new(put(offset, value))).expect_err("forged").to_string();
        assert!(error.contains(names), "{offset}, {value}: {error}");
    }
}

#[test]
fn forged_metadata_is_refused() {
    let bytes = bytes_of(&sample::akida2());
    let replace = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).expect("is in the metadata");
        Model::read(Blob::new(forged(bytes.clone(), |b| b[at..at + to.len()].copy_from_slice(to.as_bytes()))))
            .expect_err("forged")
    };
    let blob = replace("{\"offset\":0,", "{\"offset\":1,");
    assert!(matches!(blob, FormatError::Blob { index: 0, offset: 1, expected: 0, .. }), "{blob}");
    let unknown = replace("\"target\"", "\"tarkut\"");
    assert!(matches!(unknown, FormatError::Metadata { .. }), "{unknown}");
    let shape = replace("\"stride\":[2,2]", "\"stride\":[0,2]");
    assert!(matches!(shape, FormatError::Model(_)), "{shape}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_flipped_bit_is_refused(position in any::<prop::sample::Index>()) {
        let mut bytes = bytes_of(&sample::akida2());
        let bit = position.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Model::read(Blob::new(bytes)).is_err(), "bit {}", bit);
    }

    /// With a right checksum anything may be found inside: an error or a valid model, never a panic.
    #[test]
    fn forged_bytes_do_no_harm(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let bytes = forged(bytes_of(&sample::akida2()), |bytes| {
            for (position, value) in &changes {
                let at = position.index(bytes.len());
                bytes[at] = *value;
            }
        });
        if let Ok(model) = Model::read(Blob::new(bytes)) {
            prop_assert_eq!(model.validate(), Ok(()));
        }
    }

    #[test]
    fn scales_keep_every_bit(bits in any::<u32>()) {
        let scale = f32::from_bits(bits).abs();
        prop_assume!(scale.is_finite() && scale > 0.0);
        let mut model = sample::akida2();
        model.outputs[0].dequantizer.as_mut().expect("has one").scale = vec![scale];
        let read = Model::read(Blob::new(bytes_of(&model))).expect("valid");
        prop_assert_eq!(read.outputs[0].dequantizer.as_ref().expect("has one").scale[0].to_bits(), scale.to_bits());
    }
}
